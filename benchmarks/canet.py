"""CANet against its controls on public logs and the simulated shop; `routed` says what is trained and shown.

python benchmarks/canet.py --logs DIR --work DIR [--only online-retail ...] [--seeds 0 1 2] [--recipe canet]
"""

from __future__ import annotations

from routed import SAMPLED, Case, Plan, main

PAPER = ["backbone.width=128", "backbone.layers=8"]
SCALED = [
    "backbone.width=64",
    "backbone.layers=4",
    "technique.canet.widths=[32, 48, 64]",
    "technique.canet.embs=[32, 48, 64]",
]
CASES = {
    "shop": Case("shop", [*PAPER, "train.epochs=30", "train.learning_rate=3e-3", "backbone.dropout=0.1"]),
    "online-retail": Case(
        "online-retail",
        [*PAPER, "train.epochs=8", "train.learning_rate=1e-3", "train.batch_users=32", "train.window=all"],
    ),
    "games": Case(
        "games",
        [
            *PAPER,
            *SAMPLED,
            "train.epochs=16",
            "train.learning_rate=1e-3",
            "train.batch_users=128",
            "backbone.dropout=0.5",
        ],
    ),
    "beauty": Case(
        "beauty",
        [
            *PAPER,
            *SAMPLED,
            "train.epochs=20",
            "train.learning_rate=1e-3",
            "train.batch_users=128",
            "backbone.dropout=0.5",
        ],
    ),
    "ml-1m": Case(
        "ml-1m",
        [
            *SCALED,
            "train.epochs=14",
            "train.learning_rate=1e-3",
            "train.batch_users=32",
            "train.window=all",
            "backbone.max_length=200",
        ],
    ),
    "diginetica": Case(
        "diginetica",
        [
            *PAPER,
            *SAMPLED,
            "technique.canet.embs=[32, 64, 128]",
            "train.epochs=6",
            "train.batch_users=256",
            "backbone.max_length=20",
        ],
    ),
}
PLAN = Plan("canet", "canet", CASES)

if __name__ == "__main__":
    main(PLAN, __doc__)
