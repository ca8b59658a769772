"""From what the systems say and what the gold says to rows of the table: figures, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.metrics import (
    accuracy_of,
    exact_match_of,
    interval,
    macro_f1_of,
    macro_f1_of_sets,
    micro_f1_of,
    paired,
    score_multi,
    score_single,
)
from factory.evaluation.systems import LabelSpace, Predictions
from factory.warehouse.tables.gold import Gold

if TYPE_CHECKING:
    from numpy.typing import NDArray

PUBLISHED = "published"
DISTINCT = "distinct"
MOST_CELL_TEXTS = 200
"""Text numbers that are kept of one cell of the confusion."""
MOST_DRAWS_OF_SETS = 500
"""Resamples of the intervals that need every row's whole set of labels."""


@dataclass(frozen=True)
class Scored:
    """One row of the table.

    Attributes:
        system: Its name.
        variant: `published` (every row of test) or `distinct` (each text once).
        n: Rows of the variant.
        n_scored: Rows that this system was scored on.
        coverage: Share of those where the system itself spoke.
        metrics: Figures; `ci95_NAME` is the interval of the figure NAME, and `ci95` that of the headline (`metric`).
            `accuracy_top` is that of the topmost labels, where labels have parents.
        detail: Confusion matrix, its cells with their text numbers, figures by class, calibration bins, ties, paired difference
            to the student.
    """

    system: str
    variant: str
    n: int
    n_scored: int
    coverage: float
    metrics: Mapping[str, Any]
    detail: Mapping[str, Any]


def score_system(
    system: str, variant: str, gold: Gold, rows: NDArray[np.int64], said: Predictions, shape: LabelSpace, *,
    positive: str | None, draws: int, seed: int,
) -> Scored:  # fmt: skip
    """Score one system on some rows of the gold.

    Args:
        system: Its name.
        variant: What the rows are.
        gold: All rows.
        rows: Which of them count.
        said: The system's predictions, one for each row of the gold.
        positive: The class whose F1 is the task's published metric, or None.
        draws: Resamples of the intervals.
        seed: Of the resampling.
    """
    here = rows[said.asked[rows]]
    probs = None if said.probs is None else said.probs[here]
    k = len(shape.names)
    truth: Any
    if shape.multi:
        truth, says = gold.labels[here], said.labels[here]
        figures = score_multi(truth, says, shape.names, probs=probs)
        sets = np.concatenate([truth, says], axis=1).astype(np.int8)
        few = min(draws, MOST_DRAWS_OF_SETS)
        intervals: dict[str, tuple[Any, Any, int]] = {
            "micro_f1": (_outcomes(truth, says), micro_f1_of(), draws),
            "macro_f1": (sets, macro_f1_of_sets(k), few),
            "accuracy": (sets, exact_match_of(k), few),
        }
    else:
        truth, says = gold.single[here], said.labels[here]
        figures = score_single(truth, says, shape.names, probs=probs, positive=positive)
        kinds = np.stack([truth, says], axis=1)
        intervals = {"accuracy": (kinds, accuracy_of(), draws), "macro_f1": (kinds, macro_f1_of(k), draws)}
        if shape.above and len(here):
            figures["accuracy_top"] = float((shape.tops[truth] == shape.tops[says]).mean())
    figures["metric"] = headline_metric(shape.multi)
    spoke, tied = said.spoke[here], said.tied[here]
    apart = ("per_class", "confusion", "reliability")
    detail: dict[str, Any] = {key: figures.pop(key) for key in apart if key in figures}
    if "confusion" in detail:
        detail["label_names"] = list(shape.names)
    if variant == PUBLISHED:
        detail["cells"] = cells_of(gold.texts[here], truth, says)
    detail |= {"ties": int(tied.sum()), "silent": int((~spoke).sum()), **said.facts}
    if len(here):
        for name, (of, score, times) in intervals.items():
            figures[f"ci95_{name}"] = list(interval(of, score, draws=times, seed=seed))
        figures["ci95"] = figures[f"ci95_{figures['metric']}"]
        if not spoke.all() and spoke.any() and not shape.multi:
            figures["accuracy_covered"] = float((truth == says)[spoke].mean())
    return Scored(system, variant, len(rows), len(here), float(spoke.mean()) if len(here) else 0.0, figures, detail)


def compare(
    gold: Gold, rows: NDArray[np.int64], a: Predictions, b: Predictions, shape: LabelSpace, *, draws: int, seed: int
) -> dict[str, float] | None:
    """The paired difference of two systems, A minus B, on the rows that both were asked: accuracy, or micro-F1 in `multi`."""
    both = rows[a.asked[rows] & b.asked[rows]]
    if not len(both):
        return None
    said = a.labels[both], b.labels[both]
    if shape.multi:
        kinds = np.concatenate([_outcomes(gold.labels[both], each) for each in said], axis=1)
        scores = micro_f1_of(0), micro_f1_of(3)
    else:
        kinds, scores = np.stack([gold.single[both], *said], axis=1), (accuracy_of(1), accuracy_of(2))
    return {**paired(kinds, *scores, draws=draws, seed=seed), "n": len(both)}


def headline_metric(multi: bool) -> str:
    """The figure that systems are compared by: accuracy, or micro-F1 where a text may have several labels."""
    return "micro_f1" if multi else "accuracy"


def cells_of(text_nos: NDArray[np.int32], truth: NDArray[Any], says: NDArray[Any]) -> list[dict[str, Any]]:
    """The cells of a confusion with the texts in them.

    Args:
        text_nos: int32 [n].
        truth: Label numbers [n], or bool [n, k] of a multi task.
        says: Likewise; -1 where a single system gave no label.

    Returns:
        `{"gold", "said", "n", "texts"}` for each pair of labels that occurs, `said` None for no label. Multi: `{"label",
        "gold", "said", "n", "texts"}` with yes and no, for each label, without texts that rightly lack it. At most 200 text
        numbers of each, in the order of the rows.
    """
    found: list[dict[str, Any]] = []

    def add(rows: NDArray[np.bool_], **cell: Any) -> None:
        if rows.any():
            found.append({**cell, "n": int(rows.sum()), "texts": text_nos[rows][:MOST_CELL_TEXTS].tolist()})

    if truth.ndim == 2:
        for label in range(truth.shape[1]):
            for gold, said in ((True, True), (True, False), (False, True)):
                add((truth[:, label] == gold) & (says[:, label] == said), label=label, gold=gold, said=said)
        return found
    for gold_no in np.unique(truth):
        for said_no in np.unique(says[truth == gold_no]):
            cell = {"gold": int(gold_no), "said": None if said_no < 0 else int(said_no)}
            add((truth == gold_no) & (says == said_no), **cell)
    return found


def headline(gold: Gold, said: Predictions, shape: LabelSpace) -> float:
    """Accuracy on every row of the gold, or micro-F1 in `multi`."""
    if shape.multi:
        return float(score_multi(gold.labels, said.labels, shape.names)["micro_f1"])
    return float((gold.single == said.labels).mean())


def headline_of(
    gold: Gold, rows: NDArray[np.int64], labels: NDArray[Any], shape: LabelSpace, *, draws: int, seed: int
) -> tuple[float, list[float]]:
    """Accuracy, or micro-F1 in `multi`, of labels for some rows of the gold, one for each of them; and its 95 % interval."""
    if shape.multi:
        kinds, score = _outcomes(gold.labels[rows], labels), micro_f1_of()
    else:
        kinds, score = np.stack([gold.single[rows], labels], axis=1), accuracy_of()
    unique, counts = np.unique(kinds, axis=0, return_counts=True)
    return float(score(unique, counts[None, :])[0]), list(interval(kinds, score, draws=draws, seed=seed))


def _outcomes(truth: NDArray[np.bool_], says: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(true positives, false positives, false negatives) of each row, int64 [n, 3]."""
    return np.stack([(truth & says).sum(axis=1), (~truth & says).sum(axis=1), (truth & ~says).sum(axis=1)], axis=1)
