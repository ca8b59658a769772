"""Which texts a student learns from, with what target and weight, and why not.

Pure decisions on plain arrays: every candidate comes out again, kept with a weight or dropped with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


NOT_DRAWN = "not drawn"
"""Why a labelled text is left that a student does not need."""


@dataclass(frozen=True)
class Candidates:
    """Texts of one origin that might enter.

    Attributes:
        origin: `corpus`, `synthetic` or `seed`.
        text_nos: int64 [n].
        probs: float64 [n, k] over the model's labels; NaN where a multi label is unknown.
        covered: bool [n], whether any vote speaks of the text; always true for seeds and synthetic texts.
        tie: bool [n].
    """

    origin: str
    text_nos: NDArray[np.int64]
    probs: NDArray[np.float64]
    covered: NDArray[np.bool_]
    tie: NDArray[np.bool_]

    @classmethod
    def labelled(cls, origin: str, text_nos: Sequence[int], probs: NDArray[np.float64]) -> Candidates:
        """Candidates whose labels were given rather than voted."""
        n = len(text_nos)
        return cls(origin, np.asarray(text_nos, np.int64), probs, np.ones(n, bool), np.zeros(n, bool))


@dataclass(frozen=True)
class Rules:
    """How to decide.

    Attributes:
        uncovered: What becomes of texts that no program speaks of: `drop`, or `keep` with the target they were given.
        confidence: Corpus texts whose largest probability lies below this are dropped (single tasks).
        confidence_weight: Weight corpus texts by how far their largest probability is above chance, rather than by 1.
        drop_ties: Drop texts whose best labels are tied.
        synthetic_weight: Weight of a synthetic text; 0 leaves them out.
        synthetic_cap: At most so many synthetic texts per label, the first ones in order of number.
        synthetic_agreement: A covered synthetic text whose own label gets less than this from the label model is dropped.
        seed_weight: Weight of a seed.
        balanced: Weight the labels' totals to be equal (single tasks).
        unknown: What a label of a covered corpus text is taken for where no program speaks of it (multi tasks): `no`, or
            `mask`, which leaves it out of the loss. Programs that are silent have mostly seen nothing of their label.
    """

    uncovered: str = "drop"
    confidence: float = 0.0
    confidence_weight: bool = False
    drop_ties: bool = False
    synthetic_weight: float = 0.5
    synthetic_cap: int = 500
    synthetic_agreement: float = 0.0
    seed_weight: float = 1.0
    balanced: bool = False
    unknown: str = "no"


@dataclass(frozen=True)
class Curated:
    """Every candidate with its decision.

    Attributes:
        text_nos: int64 [n], ascending within an origin; seeds first, then corpus, then synthetic.
        origins: n strings.
        probs: float64 [n, k], the targets.
        weights: float64 [n]; 0 where dropped.
        reasons: n strings, None where kept.
        unseen: Columns of labels that no kept text speaks for.
    """

    text_nos: NDArray[np.int64]
    origins: list[str]
    probs: NDArray[np.float64]
    weights: NDArray[np.float64]
    reasons: list[str | None]
    unseen: tuple[int, ...] = ()

    @property
    def kept(self) -> NDArray[np.bool_]:
        """bool [n]."""
        return np.asarray(self.weights > 0)

    def counts(self) -> dict[str, int]:
        """How many entered by origin, and how many were dropped by reason."""
        found: dict[str, int] = {}
        for origin, reason in zip(self.origins, self.reasons, strict=True):
            name = origin if reason is None else f"dropped: {reason}"
            found[name] = found.get(name, 0) + 1
        return dict(sorted(found.items()))


def curate(
    groups: Sequence[Candidates],
    rules: Rules,
    *,
    multi: bool = False,
    votes_on_synthetic: dict[int, NDArray[np.float64]] | None = None,
    barred: Sequence[int] = (),
    barred_reason: str = "stands in dev",
) -> Curated:
    """Decide on every candidate.

    Args:
        groups: Candidates of each origin. A text of an earlier group is dropped from later ones, in the order seed, corpus,
            synthetic.
        rules: How to decide.
        multi: Whether the task is multi.
        votes_on_synthetic: text_no -> the label model's probabilities [k] for covered synthetic texts.
        barred: Texts that must not enter (those the choices are made on).
        barred_reason: What to call that.

    Returns:
        All candidates, in order.
    """
    rank = {"seed": 0, "corpus": 1, "synthetic": 2}
    seen: set[int] = set()
    bar = set(barred)
    text_nos, origins, probs, weights, reasons = [], [], [], [], []
    for group in sorted(groups, key=lambda g: rank.get(g.origin, 3)):
        taken: dict[int, int] = {}
        group = _with_no(group) if multi and rules.unknown == "no" and group.origin == "corpus" else group
        for index in np.argsort(group.text_nos, kind="stable"):
            text_no, target = int(group.text_nos[index]), group.probs[index]
            reason, weight = _decide(group, int(index), rules, multi, taken, votes_on_synthetic or {})
            if reason is None and text_no in bar:
                reason = barred_reason
            elif reason is None and text_no in seen:
                reason = "already in"
            if reason is None:
                seen.add(text_no)
                if group.origin == "synthetic":
                    label = int(np.nanargmax(target))
                    taken[label] = taken.get(label, 0) + 1
            text_nos.append(text_no)
            origins.append(group.origin)
            probs.append(target)
            weights.append(weight if reason is None else 0.0)
            reasons.append(reason)
    k = groups[0].probs.shape[1] if groups else 0
    matrix = np.asarray(probs, np.float64).reshape(len(probs), k)
    mass = np.asarray(weights, np.float64)
    unseen = unseen_labels(matrix[mass > 0], multi)
    if unseen and not multi:
        matrix[mass > 0] = _without(matrix[mass > 0], unseen)
    if rules.balanced and not multi and mass.any():
        totals = (matrix * mass[:, None]).sum(axis=0)
        scale = np.divide(totals.sum() / k, totals, out=np.zeros(k), where=totals > 0)
        mass = mass * (matrix @ scale)
    return Curated(np.asarray(text_nos, np.int64), origins, matrix, mass, reasons, unseen)


def drawn(rows: Curated, most: int, keys: NDArray[np.uint64], *, multi: bool = False) -> Curated:
    """Keep at most so many texts of the corpus: a share of each label, drawn by the texts' own numbers.

    A label keeps all of its texts up to half of an equal part, so that rare ones are not lost; what a drawn text stands for
    is put into its weight. Labels are the likeliest ones, in a multi task the rarest that holds of a text.

    Args:
        rows: From `curate`.
        most: Texts of the corpus that are kept.
        keys: uint64 [n], fixed for each text, so that the draw depends on no order; the lowest are drawn.
        multi: Whether the task is multi.

    Returns:
        The same rows; those that were not drawn are dropped with that reason.
    """
    own = np.flatnonzero(rows.kept & (np.array(rows.origins) == "corpus"))
    if len(own) <= most:
        return rows
    strata = _strata(rows.probs[own], multi)
    sizes = np.bincount(strata)
    takes = _takes(sizes, most)
    weights, reasons = rows.weights.copy(), list(rows.reasons)
    for stratum in np.flatnonzero(sizes):
        mine = own[strata == stratum]
        order = mine[np.lexsort((rows.text_nos[mine], keys[mine]))]
        kept, left = order[: takes[stratum]], order[takes[stratum] :]
        weights[kept] *= len(mine) / max(len(kept), 1)
        weights[left] = 0.0
        for row in left.tolist():
            reasons[row] = NOT_DRAWN
    weights[own] *= most / len(own)
    return replace(rows, weights=weights, reasons=reasons)


def _strata(probs: NDArray[np.float64], multi: bool) -> NDArray[np.int64]:
    """The label that a text is drawn for; in a multi task one more for texts without any."""
    known = np.nan_to_num(probs)
    if not multi:
        return np.asarray(known.argmax(axis=1), np.int64)
    holds = known >= 0.5
    common = np.where(holds, holds.sum(axis=0), len(known) + 1)
    return np.asarray(np.where(holds.any(axis=1), common.argmin(axis=1), probs.shape[1]), np.int64)


def _takes(sizes: NDArray[np.integer[Any]], most: int) -> NDArray[np.int64]:
    """How many of each stratum: all up to half of an equal part, and of what is above that the same share."""
    floor = np.minimum(sizes, most // (2 * max(int((sizes > 0).sum()), 1)))
    above = sizes - floor
    rest = most - int(floor.sum())
    exact = above * (rest / max(int(above.sum()), 1))
    takes = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - takes), kind="stable")
    takes[order[: rest - int(takes.sum())]] += 1
    return np.asarray(floor + takes, np.int64)


def unseen_labels(probs: NDArray[np.float64], multi: bool) -> tuple[int, ...]:
    """Labels that no text speaks for: none gives them more than chance, 1 / k, or in a multi task at least one half.

    What smoothing or a label model's prior leaves for a label is no evidence of it.

    Args:
        probs: float64 [n, k], NaN where unknown.
        multi: Whether a text may have any number of labels.

    Returns:
        Columns; all of them where there is no text.
    """
    known, chance = np.nan_to_num(probs), 1.0 / max(probs.shape[1], 1)
    seen = known >= 0.5 if multi else known > chance + 1e-6
    return tuple(np.flatnonzero(~seen.any(axis=0)).tolist())


def _without(probs: NDArray[np.float64], columns: Sequence[int]) -> NDArray[np.float64]:
    """Rows of a single task that give nothing to some labels and sum to 1 again; a row that has nothing else stays."""
    rest = probs.copy()
    rest[:, list(columns)] = 0.0
    total = rest.sum(axis=1, keepdims=True)
    return np.where(total > 0, rest / np.where(total > 0, total, 1.0), probs)


def _with_no(group: Candidates) -> Candidates:
    """Covered texts with a no for each label that nobody speaks of; a label of which nobody ever speaks stays unknown."""
    open_ = np.isnan(group.probs)
    silent = open_ & group.covered[:, None] & ~open_.all(axis=0)
    return replace(group, probs=np.where(silent, 0.0, group.probs))


def _decide(
    group: Candidates,
    index: int,
    rules: Rules,
    multi: bool,
    taken: dict[int, int],
    votes: dict[int, NDArray[np.float64]],
) -> tuple[str | None, float]:
    target = group.probs[index]
    if np.isnan(target).all():
        return "no label", 0.0
    if group.origin == "seed":
        return (None, rules.seed_weight) if rules.seed_weight > 0 else ("seeds left out", 0.0)
    if group.origin == "synthetic":
        label = int(np.nanargmax(target))
        if rules.synthetic_weight <= 0:
            return "synthetic left out", 0.0
        if taken.get(label, 0) >= rules.synthetic_cap:
            return "over the cap of its label", 0.0
        said = votes.get(int(group.text_nos[index]))
        if said is not None and not np.isnan(said[label]) and said[label] < rules.synthetic_agreement:
            return "programs disagree", 0.0
        return None, rules.synthetic_weight
    if not group.covered[index] and rules.uncovered == "drop":
        return "uncovered", 0.0
    if multi:
        return None, 1.0
    if group.tie[index] and rules.drop_ties:
        return "tie", 0.0
    best = float(target.max())
    if group.covered[index] and best < rules.confidence:
        return "unsure", 0.0
    if not rules.confidence_weight:
        return None, 1.0
    chance = 1.0 / len(target)
    weight = (best - chance) / (1.0 - chance)
    return (None, weight) if weight > 1e-6 else ("unsure", 0.0)


def one_hot(labels: Sequence[int], k: int, smoothing: float = 0.0) -> NDArray[np.float64]:
    """One-hot rows, optionally smoothed: float64 [n, k]; a label of -1 gives a row of zeros (a multi text with none)."""
    out = np.full((len(labels), k), smoothing / k)
    for row, label in enumerate(labels):
        if label >= 0:
            out[row, label] += 1.0 - smoothing
    return out


def as_json(rules: Rules) -> dict[str, Any]:
    """The rules as plain values."""
    from dataclasses import asdict

    return asdict(rules)
