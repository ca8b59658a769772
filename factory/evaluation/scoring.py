"""From what the systems say and what the gold says to rows of the table: figures, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.metrics import (
    accuracy_of,
    interval,
    macro_f1_of,
    micro_f1_of,
    paired,
    score_multi,
    score_single,
)
from factory.evaluation.systems import Said, Shape
from factory.warehouse.tables.gold import Gold

if TYPE_CHECKING:
    from numpy.typing import NDArray

PUBLISHED = "published"
DISTINCT = "distinct"


@dataclass(frozen=True)
class Scored:
    """One row of the table.

    Attributes:
        system: Its name.
        variant: `published` (every row of test) or `distinct` (each text once).
        n: Rows of the variant.
        n_scored: Rows that this system was scored on.
        coverage: Share of those where the system itself spoke.
        metrics: Figures; `ci95` of accuracy (micro-F1 in `multi`) and `ci95_macro_f1`.
        detail: Confusion matrix, figures by class, calibration bins, ties, paired difference to the student.
    """

    system: str
    variant: str
    n: int
    n_scored: int
    coverage: float
    metrics: Mapping[str, Any]
    detail: Mapping[str, Any]


def score_system(
    system: str,
    variant: str,
    gold: Gold,
    rows: NDArray[np.int64],
    said: Said,
    shape: Shape,
    *,
    positive: str | None,
    draws: int,
    seed: int,
) -> Scored:
    """Score one system on some rows of the gold.

    Args:
        system: Its name.
        variant: What the rows are.
        gold: All rows.
        rows: Which of them count.
        said: The system's predictions, one for each row of the gold.
        shape: What labels there are.
        positive: The class whose F1 is the task's published metric, or None.
        draws: Resamples of the intervals.
        seed: Of the resampling.
    """
    here = rows[said.asked[rows]]
    probs = None if said.probs is None else said.probs[here]
    truth: Any
    if shape.multi:
        truth, says = gold.labels[here], said.labels[here]
        figures = score_multi(truth, says, shape.names, probs=probs)
        kinds = _outcomes(truth, says)
        main, extra = micro_f1_of(), None
    else:
        truth, says = gold.single[here], said.labels[here]
        figures = score_single(truth, says, shape.names, probs=probs, positive=positive)
        kinds = np.stack([truth, says], axis=1)
        main, extra = accuracy_of(), macro_f1_of(len(shape.names))
    spoke, tied = said.spoke[here], said.tied[here]
    detail: dict[str, Any] = {
        key: figures.pop(key) for key in ("per_class", "confusion", "reliability") if key in figures
    }
    if "confusion" in detail:
        detail["label_names"] = list(shape.names)
    detail |= {"ties": int(tied.sum()), "silent": int((~spoke).sum()), **said.facts}
    if len(here):
        figures["ci95"] = list(interval(kinds, main, draws=draws, seed=seed))
        if extra is not None:
            figures["ci95_macro_f1"] = list(interval(kinds, extra, draws=draws, seed=seed))
        if not spoke.all() and spoke.any() and not shape.multi:
            figures["accuracy_covered"] = float((truth == says)[spoke].mean())
    return Scored(system, variant, len(rows), len(here), float(spoke.mean()) if len(here) else 0.0, figures, detail)


def compare(
    gold: Gold, rows: NDArray[np.int64], a: Said, b: Said, shape: Shape, *, draws: int, seed: int
) -> dict[str, float] | None:
    """The paired difference of two systems, A minus B, on the rows that both were asked: accuracy, or micro-F1 in `multi`."""
    both = rows[a.asked[rows] & b.asked[rows]]
    if not len(both):
        return None
    if shape.multi:
        kinds = np.concatenate(
            [_outcomes(gold.labels[both], a.labels[both]), _outcomes(gold.labels[both], b.labels[both])], axis=1
        )
        return {**paired(kinds, micro_f1_of(0), micro_f1_of(3), draws=draws, seed=seed), "n": len(both)}
    kinds = np.stack([gold.single[both], a.labels[both], b.labels[both]], axis=1)
    return {**paired(kinds, accuracy_of(1), accuracy_of(2), draws=draws, seed=seed), "n": len(both)}


def headline(gold: Gold, said: Said, shape: Shape) -> float:
    """Accuracy on every row of the gold, or micro-F1 in `multi`."""
    if shape.multi:
        return float(score_multi(gold.labels, said.labels, shape.names)["micro_f1"])
    return float((gold.single == said.labels).mean())


def _outcomes(truth: NDArray[np.bool_], says: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(true positives, false positives, false negatives) of each row, int64 [n, 3]."""
    return np.stack([(truth & says).sum(axis=1), (~truth & says).sum(axis=1), (truth & ~says).sum(axis=1)], axis=1)
