"""Scores of predictions against gold: plain functions on arrays.

Single-label predictions are label numbers, -1 where a system gives none (always wrong, never a class of its own). Multi-label
ones are boolean matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.integer[Any]]
    Floats = NDArray[np.floating[Any]]
    Bools = NDArray[np.bool_]


def confusion(gold: Ints, predicted: Ints, classes: int) -> NDArray[np.int64]:
    """Counts, int64 [k, k + 1]: row gold, column predicted, the last column for no prediction.

    Example:
        >>> confusion(np.array([0, 1, 1]), np.array([0, 0, -1]), 2).tolist()
        [[1, 0, 0], [1, 0, 1]]
    """
    columns = np.where(np.asarray(predicted) < 0, classes, predicted)
    flat = np.asarray(gold) * (classes + 1) + columns
    return np.bincount(flat, minlength=classes * (classes + 1)).reshape(classes, classes + 1).astype(np.int64)


def f1(true_positives: Floats, false_positives: Floats, false_negatives: Floats) -> Floats:
    """Element-wise F1, 0 where nothing was there and nothing was said."""
    below = 2 * true_positives + false_positives + false_negatives
    return np.divide(2 * true_positives, below, out=np.zeros(np.shape(below)), where=below > 0)


def score_single(
    gold: Ints, predicted: Ints, names: Sequence[str], *, probs: Floats | None = None, positive: str | None = None
) -> dict[str, Any]:
    """All figures of a single-label system.

    Args:
        gold: Label numbers [n].
        predicted: Label numbers [n], -1 for none.
        names: Label names by number.
        probs: [n, k], for calibration figures; None where the system gives none.
        positive: Name of the class whose F1 is the task's published metric (spam in SMS), or None.

    Returns:
        `accuracy`, `macro_f1` (mean over the classes that stand in gold or predictions, as scikit-learn counts), `micro_f1`,
        `mcc`, `per_class`, `confusion`; with `probs` also `ece`, `brier` and `nll`; with `positive` also `f1_positive`.
    """
    k = len(names)
    table = confusion(gold, predicted, k)
    tp = np.diag(table[:, :k]).astype(float)
    fp, fn = table[:, :k].sum(axis=0) - tp, table.sum(axis=1) - tp
    n, right, answered = int(table.sum()), float(tp.sum()), float(table[:, :k].sum())
    out: dict[str, Any] = {
        "accuracy": right / n if n else 0.0, "micro_f1": 2 * right / (n + answered) if n else 0.0, "mcc": mcc(table),
        "confusion": table.tolist(), **_by_class(tp, fp, fn, names),
    }  # fmt: skip
    if positive is not None:
        at = list(names).index(positive)
        out |= {"f1_positive": float(f1(tp[at], fp[at], fn[at])), "positive": positive}
    if probs is not None and n:
        out |= calibration(probs, np.asarray(gold))
    return out


def score_multi(gold: Bools, predicted: Bools, names: Sequence[str], *, probs: Floats | None = None) -> dict[str, Any]:
    """All figures of a multi-label system.

    Args:
        gold: [n, k].
        predicted: [n, k].
        names: Label names by number.
        probs: [n, k], each entry the probability of yes, or None.

    Returns:
        `accuracy` (the whole set of labels right), `micro_f1`, `macro_f1` (mean over the labels that stand in gold or
        predictions), `hamming` (share of label decisions that are right), `per_class`; with `probs` also `brier` and `ece`
        over all label decisions.
    """
    tp = (gold & predicted).sum(axis=0).astype(float)
    fp = (~gold & predicted).sum(axis=0).astype(float)
    fn = (gold & ~predicted).sum(axis=0).astype(float)
    out: dict[str, Any] = {
        "accuracy": float((gold == predicted).all(axis=1).mean()) if len(gold) else 0.0,
        "micro_f1": float(f1(tp.sum(), fp.sum(), fn.sum())),
        "hamming": float((gold == predicted).mean()) if len(gold) else 0.0,
        **_by_class(tp, fp, fn, names),
    }
    if probs is not None and len(gold):
        flat, truth = np.nan_to_num(np.asarray(probs, float)).ravel(), gold.ravel().astype(float)
        out["brier"] = float(((flat - truth) ** 2).mean())
        out["ece"], out["reliability"] = reliability(flat, truth)
    return out


def _by_class(tp: Floats, fp: Floats, fn: Floats, names: Sequence[str]) -> dict[str, Any]:
    """`macro_f1` and `per_class` from counts [k], over the classes that stand in gold or predictions."""
    scores, present = f1(tp, fp, fn), np.flatnonzero(tp + fp + fn)
    per_class = {
        names[i]: {
            "precision": float(tp[i] / max(tp[i] + fp[i], 1)), "recall": float(tp[i] / max(tp[i] + fn[i], 1)),
            "f1": float(scores[i]), "support": int(tp[i] + fn[i]),
        }
        for i in map(int, present)
    }  # fmt: skip
    return {"macro_f1": float(scores[present].mean()) if len(present) else 0.0, "per_class": per_class}


def mcc(table: NDArray[np.int64]) -> float:
    """Matthews correlation (Gorodkin 2004) of a confusion matrix [k, k + 1]; 0 where it is not defined."""
    k = table.shape[0]
    square = np.zeros((k + 1, k + 1))
    square[:k] = table
    true, said, n = square.sum(axis=1), square.sum(axis=0), square.sum()
    above = np.trace(square) * n - float(true @ said)
    below = np.sqrt(n**2 - float(said @ said)) * np.sqrt(n**2 - float(true @ true))
    return float(above / below) if below else 0.0


def calibration(probs: Floats, gold: Ints) -> dict[str, Any]:
    """How far probabilities may be believed.

    Args:
        probs: [n, k], rows summing to 1.
        gold: [n].

    Returns:
        `ece` (expected calibration error of the top class, 15 equal bins, Guo et al. 2017), `brier` (sum of squared errors
        over classes, 0 to 2), `nll` (mean negative log likelihood, nats), and `reliability`: bins of confidence, accuracy, n.
    """
    probs = np.asarray(probs, float)
    rows = np.arange(len(gold))
    one_hot = np.zeros_like(probs)
    one_hot[rows, gold] = 1
    ece, bins = reliability(probs.max(axis=1), (probs.argmax(axis=1) == gold).astype(float))
    return {
        "ece": ece,
        "brier": float(((probs - one_hot) ** 2).sum(axis=1).mean()),
        "nll": float(-np.log(np.clip(probs[rows, gold], 1e-12, None)).mean()),
        "reliability": bins,
    }


def reliability(confidence: Floats, right: Floats, bins: int = 15) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error, and the bins it is made of.

    Args:
        confidence: [n], in [0, 1].
        right: [n], 0 or 1.
        bins: How many, of equal width.
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sizes = np.bincount(index, minlength=bins)
    said = np.bincount(index, weights=confidence, minlength=bins)
    was = np.bincount(index, weights=right, minlength=bins)
    error = float(np.abs(said - was).sum() / max(len(confidence), 1))
    return error, [
        {"confidence": float(said[i] / sizes[i]), "accuracy": float(was[i] / sizes[i]), "n": int(sizes[i])}
        for i in range(bins)
        if sizes[i]
    ]


# Intervals --------------------------------------------------------------------------------------------------------------
# A bootstrap over rows draws each distinct kind of row (gold, said) with its share, so a multinomial over the kinds is the
# same distribution and costs nothing at a million rows. A pair of systems is one kind of row (gold, said by A, said by B).


def interval(kinds: Ints, score: Any, *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of a figure under resampling of rows.

    Args:
        kinds: [n, c] integers: what a row is, for the figure's purposes.
        score: Takes (distinct kinds [m, c], counts [draws, m]) and gives the figure of each draw, [draws].
        draws: Resamples.
        seed: Of the resampling; the same rows in any order give the same interval.
    """
    unique, counts = np.unique(np.asarray(kinds), axis=0, return_counts=True)
    low, high = np.percentile(score(unique, _draws(counts, draws, seed)), [2.5, 97.5])
    return float(low), float(high)


def paired(kinds: Ints, score_a: Any, score_b: Any, *, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """The difference of two systems on the same rows, A minus B, with its 95 % interval.

    Args:
        kinds: [n, c], what a row is for both.
        score_a: As `interval` takes it and all that follows.
        score_b: Likewise.
        draws: Likewise.
        seed: Likewise.

    Returns:
        `difference`, `low`, `high`, and `p_not_better`: the share of resamples in which A is not above B.
    """
    unique, counts = np.unique(np.asarray(kinds), axis=0, return_counts=True)
    whole, drawn = counts[None, :], _draws(counts, draws, seed)
    here = float((score_a(unique, whole) - score_b(unique, whole))[0])
    both = score_a(unique, drawn) - score_b(unique, drawn)
    low, high = np.percentile(both, [2.5, 97.5])
    return {"difference": here, "low": float(low), "high": float(high), "p_not_better": float((both <= 0).mean())}


def accuracy_of(column: int = 1) -> Any:
    """A score for `interval`: the share of rows whose kind has the same number in columns 0 and `column`."""

    def score(kinds: Ints, counts: Ints) -> Floats:
        right = (kinds[:, 0] == kinds[:, column]).astype(float)
        return np.asarray(counts @ right / counts.sum(axis=1), float)

    return score


def macro_f1_of(classes: int, column: int = 1) -> Any:
    """A score for `interval`: macro-F1 of the labels in `column` against column 0."""

    def score(kinds: Ints, counts: Ints) -> Floats:
        gold, said = kinds[:, 0], kinds[:, column]
        total, present = np.zeros(len(counts)), np.zeros(len(counts))
        for label in range(classes):
            is_it, says_it = gold == label, said == label
            tp, fp, fn = (counts @ part.astype(float) for part in (is_it & says_it, ~is_it & says_it, is_it & ~says_it))
            total += f1(tp, fp, fn)
            present += (tp + fp + fn) > 0
        return total / np.maximum(present, 1)

    return score


def micro_f1_of(first: int = 0) -> Any:
    """A score for `interval`: micro-F1 of rows whose kind holds (tp, fp, fn) from column `first` on."""

    def score(kinds: Ints, counts: Ints) -> Floats:
        tp, fp, fn = (counts @ kinds[:, first + i].astype(float) for i in range(3))
        return f1(tp, fp, fn)

    return score


def exact_match_of(classes: int) -> Any:
    """A score for `interval`: the share of rows whose set of labels is right; a kind holds gold and said, [2 * classes]."""

    def score(kinds: Ints, counts: Ints) -> Floats:
        right = (kinds[:, :classes] == kinds[:, classes:]).all(axis=1)
        return np.asarray(counts @ right.astype(float) / counts.sum(axis=1), float)

    return score


def macro_f1_of_sets(classes: int) -> Any:
    """A score for `interval`: macro-F1 over the labels of a multi task; a kind holds gold and said, [2 * classes]."""

    def score(kinds: Ints, counts: Ints) -> Floats:
        gold, said = kinds[:, :classes] > 0, kinds[:, classes:] > 0
        times = counts.astype(float)
        tp, fp, fn = (times @ part.astype(float) for part in (gold & said, ~gold & said, gold & ~said))
        present = ((tp + fp + fn) > 0).sum(axis=1)
        return np.asarray(f1(tp, fp, fn).sum(axis=1) / np.maximum(present, 1), float)

    return score


def _draws(counts: Ints, draws: int, seed: int) -> Ints:
    n = int(counts.sum())
    return np.random.default_rng(seed).multinomial(n, counts / n, size=draws)
