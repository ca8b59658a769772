"""What it is worth to hand over what a system doubts: its score where the language model answers the least sure of its texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.heard import confidence
from factory.evaluation.scoring import headline_of
from factory.evaluation.systems import TEACHER, LabelSpace, Predictions
from factory.predict.defer import least_sure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.warehouse.tables.gold import Gold

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Shares of the texts that are handed over."""
SYSTEMS = ("student", "student_dev", "combined", "glass_box")
"""Those that are taken home, and so may defer."""


def handed_over(
    said: Predictions, teacher: Predictions, rows: NDArray[np.int64], order: NDArray[np.int64]
) -> Predictions:
    """What a system says with the teacher's label in place of its own where it is not sure, an unreadable one included.

    Args:
        said: The system.
        teacher: The language model.
        rows: Those that are scored.
        order: Places in `rows` of those that are handed over.
    """
    labels = said.labels.copy()
    labels[rows[order]] = teacher.labels[rows[order]]
    asked = np.zeros(len(labels), bool)
    asked[rows] = True
    return replace(said, labels=labels, asked=asked, probs=None)


def deferral_of(
    gold: Gold, said: Predictions, teacher: Predictions, shape: LabelSpace, *, draws: int, seed: int
) -> dict[str, Any] | None:
    """Score against the share deferred, on the rows that have a teacher's answer; None where there is none.

    Returns:
        `n` rows; `teacher`, its own score on them; `points`, for each share `share`, `deferred` rows, `score` and `ci95`.
    """
    rows = np.flatnonzero(said.asked & teacher.asked)
    if said.probs is None or not len(rows):
        return None
    sure = confidence(said, shape)[rows]
    points = []
    for share in SHARES:
        order = least_sure(sure, share)
        mixed = handed_over(said, teacher, rows, order)
        score, ci95 = headline_of(gold, rows, mixed.labels[rows], shape, draws=draws, seed=seed)
        points.append({"share": share, "deferred": len(order), "score": score, "ci95": ci95})
    alone, _ = headline_of(gold, rows, teacher.labels[rows], shape, draws=1, seed=seed)
    return {"n": len(rows), "teacher": alone, "points": points}


def deferrals(
    gold: Gold, systems: Mapping[str, Predictions], shape: LabelSpace, *, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """`deferral_of` each system that is taken home, by its name; nothing without a teacher."""
    if TEACHER not in systems:
        return {}
    found = {
        name: deferral_of(gold, systems[name], systems[TEACHER], shape, draws=draws, seed=seed)
        for name in SYSTEMS
        if name in systems
    }
    return {name: curve for name, curve in found.items() if curve is not None}
