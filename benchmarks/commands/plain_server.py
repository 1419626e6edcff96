"""What people write without leanrec's server: a FastAPI handler that calls the engine once per request. A yardstick, not for use.

python benchmarks/commands/plain_server.py RUN_OR_EXPORT PORT
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from leanrec.tasks import open_answering

engine = open_answering(Path(sys.argv[1])).engine
app = FastAPI()


class Request(BaseModel):
    history: list[str]
    k: int = 10
    budget: float | None = None


class Item(BaseModel):
    item: str
    title: str
    score: float


class Answer(BaseModel):
    items: list[Item]
    route: str
    flops_ratio: float
    unknown: list[str]


@app.post("/v1/recommend")
def recommend(request: Request) -> Answer:
    (found,) = engine.recommend([request.history], request.k, budget=request.budget)
    items = [Item(item=one.item, title=one.title, score=one.score) for one in found.items]
    return Answer(items=items, route=found.route, flops_ratio=found.flops_ratio, unknown=found.unknown)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
