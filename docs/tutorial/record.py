"""Run the tutorial as its reader would, and write what came out into it and into its picture: ``python docs/tutorial/record.py``.

Takes some minutes, and port 8000. The figures of time are those of the machine it runs on, so run it on a quiet one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leanrec.tasks.report.frontier import PLAIN, FrontierPoint, frontier, standalone

PAGE = Path(__file__).with_name("first-lean-model.md")
PICTURE = PAGE.with_suffix(".svg")
BLOCK = re.compile(r"```(sh|curl|output)\n(.*?)```", re.DOTALL)
LEANREC = (sys.executable, "-m", "leanrec")

Run = Callable[[list[str]], str]
"""From the words of a command behind ``leanrec`` to what it prints."""
Ask = Callable[[list[str], str, Any], str]
"""From the words of ``serve``, a path and a body to what that server replies."""


def recorded(text: str, run: Run, ask: Ask) -> str:
    """The page with every output block as its commands make it now."""
    came: list[str] = []
    serve: list[str] = []

    def follow(block: re.Match[str]) -> str:
        language, body = block.groups()
        if language == "output":
            return f"```output\n{came.pop().rstrip()}\n```"
        for line in body.splitlines():
            words = shlex.split(line)
            if language == "curl":
                reply = ask(serve, words[1].partition(":8000")[2], json.loads(words[3]))
                came[:] = [json.dumps(json.loads(reply), indent=4)]  # as json.tool prints it
            elif words[1] == "serve":
                serve[:] = words[1:]
            else:
                came[:] = [run(words[1:])]
        return block[0]

    return BLOCK.sub(follow, text)


def picture(found: dict[str, Any]) -> str:
    """The models that a search judged: what they keep of the full model's quality, against FLOPs."""
    points = [FrontierPoint("full", PLAIN, found["baseline"]["flops_per_user"], 100.0)]
    for tried in found["candidates"]:
        for point in tried["points"]:
            loss = point["loss"]
            name = tried["name"] if point["budget"] is None else f"{tried['name']} at {point['budget']:g}"
            curve = " and ".join(tried["techniques"]) or PLAIN
            kept = [100 * (1 - loss[end]) for end in ("mean", "high", "low")]
            points.append(FrontierPoint(name, curve, point["flops"], *kept))
    told = "; ".join(f"{point.name} keeps {point.quality:.0f} % at {point.cost:,.0f} FLOPs" for point in points)
    return standalone(frontier(points, "FLOPs per user", "NDCG@10 kept, %", f"Quality kept against FLOPs: {told}"))


def _run(words: list[str]) -> str:
    print("leanrec", *words, flush=True)
    return subprocess.run([*LEANREC, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def _ask(serve: list[str], path: str, body: Any) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:8000{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with subprocess.Popen([*LEANREC, *serve]) as server:
        try:
            for _ in range(600):
                try:
                    return urllib.request.urlopen(request).read().decode()
                except urllib.error.URLError:
                    time.sleep(0.1)
            raise TimeoutError("the server does not answer")
        finally:
            server.terminate()


def main() -> None:
    """Run all of it in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        text = recorded(PAGE.read_text("utf-8"), _run, _ask)
        PICTURE.write_text(picture(json.loads(Path("lean/slim.json").read_text("utf-8"))), "utf-8")
        PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
