"""A warehouse of two easily told topics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from factory.warehouse.file import Warehouse
from tests.denoise.test_stage import make

WORDS = (("goal match team score", "ball pitch coach win"), ("bank stock market rate", "loan shares profit tax"))


def topics(n: int = 200) -> tuple[list[str], np.ndarray]:
    """Two easily told topics."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, n)
    texts = [
        " ".join(rng.permutation(" ".join(WORDS[label]).split())[:5]) + f" {row}" for row, label in enumerate(gold)
    ]
    return texts, gold


def warehouse(*, wrong: int = 0, silent: int = 0, path: Path | None = None) -> tuple[Warehouse, np.ndarray]:
    """Three functions that are right but for `wrong` planted texts; the last `silent` texts get no votes."""
    texts, gold = topics()
    said = gold.copy()
    said[:wrong] = 1 - said[:wrong]
    votes = np.repeat(said[:, None], 3, axis=1)
    if silent:
        votes[-silent:] = -1
    made = make(votes, ["sport", "money"], dev={}, path=path)
    with made.lease() as db:
        for row, text in enumerate(texts):
            db.execute("UPDATE texts SET text = ? WHERE text_no = ?", [text, row + 1])
    return made, gold
