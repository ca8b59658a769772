"""How often the student that a mixture teaches says what anchors say that neither has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from factory.denoise.calibrate import temper

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.distill.mixture.members import Material, Teach
    from factory.distill.mixture.mix import Mixed

MOST_TAUGHT = 2000
"""Texts that a student learns from in each part, evenly spaced, so that five fits of a `hybrid` take a minute or so. More would
make the student a little better, so the comparison leans towards the mixture."""


def compact_agreement(material: Material, folds: NDArray[np.int64], mixed: Mixed, teach: Teach) -> dict[str, float]:
    """Compare the student that a mixture teaches with the mixture, part by part.

    In each part the mixture of the members that have not seen it labels the texts outside of it, a student learns from these, and
    answers for the anchors inside. Only the mixture's weights and its temperature know of those anchors.

    Args:
        material: As `mix` took it.
        folds: Likewise.
        mixed: What `mix` gave.
        teach: Trains the student on some rows with soft labels [r, k].

    Returns:
        `agreement` of the student; `ahead`, how much more often the mixture agrees; and `error`, the standard error of that
        difference: of the same anchors, by their worth.
    """
    anchors = np.flatnonzero(material.labels >= 0)
    gold, worth = material.labels[anchors], material.worth[anchors] / material.worth[anchors].sum()
    right = np.zeros(len(anchors))
    for fold, members in enumerate(mixed.members[:-1]):
        inside = folds[anchors] == fold
        rows = np.flatnonzero(material.heap & (folds != fold))
        rows = rows[:: -(-len(rows) // MOST_TAUGHT) or 1]
        if not inside.any():
            continue
        said = np.sum([weight * members[name](rows) for name, weight in mixed.weights.items()], axis=0)
        student = teach(rows, temper(said, mixed.temperature).astype(np.float64))
        right[inside] = student(anchors[inside]).argmax(axis=1) == gold[inside]
    ahead = (mixed.probs[anchors].argmax(axis=1) == gold) - right
    mean = float(worth @ ahead)
    error = float(np.sqrt(((worth * (ahead - mean)) ** 2).sum()))
    return {"agreement": float(worth @ right), "ahead": mean, "error": error}
