"""SkipRec against its controls on public logs and the simulated shop; `routed` says what is trained and shown.

    python benchmarks/skiprec.py --logs DIR --work DIR [--only shop-nextitnet ...] [--seeds 0 1 2] [--extra depth]

With ``--extra depth`` also stochastic depth: the full model alone, from the same start and for as long as the routed one, every
block kept with the routed one's mean rate in training, all of them at test time.
"""

from __future__ import annotations

from leanrec.build import OpenRun
from leanrec.config import RunConfig, override, parse
from leanrec.tasks import Evaluation
from routed import SAMPLED, Case, Plan, main

NEXTITNET = ["backbone.name=nextitnet"]
SASREC = ["backbone.name=sasrec", "backbone.rezero=true"]
SHAPES = {
    "nextitnet": ["backbone.name=nextitnet", "backbone.dilations=[1, 4]", "backbone.rezero=true"],
    "sasrec": ["backbone.name=sasrec", "backbone.heads=2", "backbone.rezero=true"],
}
DEEP = ["backbone.width=128", "backbone.layers=16", "backbone.max_length=50", "train.learning_rate=1e-3"]
LOGS = {
    "shop": [*DEEP, "train.epochs=30", "train.learning_rate=3e-3", "backbone.dropout=0.1"],
    "games": [*DEEP, *SAMPLED, "train.epochs=12", "train.batch_users=128", "backbone.dropout=0.5"],
    "online-retail": [*DEEP, "train.epochs=6", "train.batch_users=32", "train.window=all"],
    "ml-1m": [
        *(*DEEP, "backbone.width=64", "backbone.max_length=200"),
        *("train.epochs=10", "train.batch_users=32", "train.window=all"),
    ],
}
CASES = {
    f"{data}-{backbone}": Case(data, [*shape, *settings])
    for data, settings in LOGS.items()
    for backbone, shape in SHAPES.items()
}


def stochastic_depth(run: OpenRun, found: Evaluation) -> RunConfig:
    """The routed run's training with blocks dropped at random, at the rate the routed one skips them."""
    blocks = len(run.model.backbone.blocks)
    kept = min(max(float(found.blocks_kept(blocks).mean()), 1 / blocks), 1 - 1 / blocks)
    return parse(
        override(run.config.tree(), ["technique.skiprec.training=depth", f"technique.skiprec.keep={kept:.3f}"])
    )


PLAN = Plan("skiprec", "skiprec", CASES, ("hr@10", "ndcg@10", "mrr@5"), {"depth": stochastic_depth}, margin=0.01)

if __name__ == "__main__":
    main(PLAN, __doc__)
