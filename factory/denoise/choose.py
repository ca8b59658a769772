"""Choosing a label model: what the votes alone can tell, and dev gold where there is any.

Without gold: copied functions are merged first. Where there are vectors of the texts, and a classifier of them foretells
labels of texts it has not seen, it is the joint model. Else it is Dawid and Skene's with a prior, if its beliefs predict
held-out votes better than plain vote shares do. Either is averaged with majority vote (`models.blend`). Else it is
majority vote alone. With dev gold every model is a candidate, and takes the place of that choice only if it is better on
covered dev texts by more than one standard error of the paired difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from factory.denoise.copies import find_copies, merge_copies
from factory.denoise.models.base import Around, LabelModel
from factory.denoise.models.blend import Blended
from factory.denoise.models.joint import Joint
from factory.denoise.models.prior import gain_over_shares
from factory.denoise.models.table import fit_label_model
from factory.denoise.votes import VoteSet
from factory.errors import InputError

ON_DEV = ("majority", "weighted", "snorkel", "dawid_skene", "dawid_skene_prior", "triplets")
"""Models that dev gold is asked about, beside the choice made without it."""
LEAST_OVERLAP = 30


@dataclass(frozen=True)
class Merged(Around):
    """A label model that first merges copied functions into one voice."""

    groups: tuple[tuple[int, ...], ...]

    def predict_proba(self, votes: VoteSet | Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k] of votes with all the functions."""
        data = votes if isinstance(votes, VoteSet) else VoteSet.from_matrix(votes, self.classes)
        return self.inner.predict_proba(merge_copies(data, self.groups), **more)

    def params(self) -> Mapping[str, Any]:
        """The model's, and the groups."""
        return {**self.inner.params(), "copies": [list(group) for group in self.groups]}


@dataclass(frozen=True)
class Choice:
    """A chosen label model.

    Attributes:
        name: Key of `factory.denoise.models.table.MODELS`.
        model: The fitted model.
        reason: Why, in a sentence.
        scores: What was compared, by model.
        copies: Groups of functions that were merged.
        blended: Whether it was averaged with majority vote.
    """

    name: str
    model: LabelModel
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict)
    copies: tuple[tuple[int, ...], ...] = ()
    blended: bool = False

    @property
    def key(self) -> str:
        """The name under which the model is kept: one that merged copies or was averaged is another than the plain one."""
        return self.name + "_merged" * bool(self.copies) + "_blended" * self.blended


def choose(
    votes: VoteSet,
    *,
    classes: int,
    balance: Any = None,
    features: Any = None,
    keys: Any = None,
    options: Mapping[str, Any] | None = None,
    people: Sequence[int] = (),
) -> Choice:
    """Fit and choose without any gold.

    Args:
        votes: What to fit on; with `features`, one row per text.
        classes: Number of classes.
        balance: Class balance [k], or None.
        features: Float [n, d], vectors of the same rows, or None.
        keys: uint64 [n], needed with `features`.
        options: Parameters by model name.
        people: Functions that are people's answers: never merged, and the others are judged by them.
    """
    found = [group for group in find_copies(votes) if outvotes(group, votes.lfs) and not set(group) & set(people)]
    groups = tuple(tuple(group) for group in found)
    merged = merge_copies(votes, groups)
    gone = np.sort([lf for group in groups for lf in group[1:]])
    known = {"people": [lf - int(np.searchsorted(gone, lf)) for lf in people]}
    settings = dict(options or {})
    settings |= {name: {**settings.get(name, {}), **known} for name in ("dawid_skene_prior", "joint")}
    note = f"; {len(groups)} groups of copied functions count as one each" if groups else ""

    def fitted(name: str, **more: Any) -> LabelModel:
        model = fit_label_model(name, merged, classes=classes, balance=balance, **settings.get(name, {}), **more)
        return Merged(model, groups) if groups else model

    def blended(model: LabelModel) -> Blended:
        return Blended(model, fitted("majority"))

    def fallback(why: str) -> Choice:
        return Choice("majority", fitted("majority"), f"{why}: majority vote{note}", copies=groups)

    if merged.lfs < 2:
        return fallback("there is nothing to compare with one function")
    alone = fitted("dawid_skene_prior")
    gain, error, rows = gain_over_shares(alone.inner if isinstance(alone, Merged) else alone, merged)
    scores = {"held_out_gain": round(gain, 5), "standard_error": round(error, 5), "texts": rows}
    if features is not None:
        try:
            model = fitted("joint", features=features, keys=keys)
        except InputError:
            pass
        else:
            inner = model.inner if isinstance(model, Merged) else model
            assert isinstance(inner, Joint)
            scores |= {"text_agreement": round(inner.agreement, 5), "base_rate": round(inner.base, 5)}
            if inner.texts_tell:
                reason = (
                    "a classifier of the texts foretells the labels of texts it has not seen"
                    f" ({inner.agreement:.2f}, base rate {inner.base:.2f}), so texts and votes are joined,"
                    " and averaged with majority vote"
                )
                return Choice("joint", blended(model), reason + note, scores, groups, True)
    if rows < LEAST_OVERLAP:
        return fallback(f"only {rows:.0f} texts have two votes or more")
    if gain <= 0:
        return fallback("the functions' estimated error rates do not help to predict each other's votes")
    reason = (
        f"estimated error rates predict held-out votes better than vote shares do (by {gain:.3f} nats); averaged with"
        " majority vote"
    )
    return Choice("dawid_skene_prior", blended(alone), reason + note, scores, groups, True)


def outvotes(group: Sequence[int], lfs: int) -> bool:
    """Whether copies are so many that together they outvote others: three or more, or a quarter of all functions.

    Two keyword functions among many that always fire together say twice what is likely right; merging them only loses that.
    """
    return len(group) >= 3 or 4 * len(group) >= lfs


def choose_on_dev(
    incumbent: Choice,
    candidates: Mapping[str, LabelModel],
    dev: tuple[VoteSet, np.ndarray],
    *,
    features: Any = None,
    keys: Any = None,
) -> Choice:
    """Keep a choice, or take the candidate that is clearly better on dev.

    Args:
        incumbent: What was chosen without gold.
        candidates: Fitted models by name.
        dev: Votes of gold-labelled texts and their labels.
        features: Vectors of those texts, if the incumbent or a candidate is `joint`.
        keys: Their keys.
    """
    rows = np.flatnonzero(dev[0].covered)
    if not len(rows):
        return incumbent
    shown, gold = dev[0].take(rows), dev[1][rows]
    more = {} if features is None else {"features": features[rows], "keys": np.asarray(keys)[rows]}
    pool = {**candidates, incumbent.key: incumbent.model}
    right = {name: soft_hits(predict(model, shown, **more), gold) for name, model in pool.items()}
    scores = {name: round(float(hits.mean()), 6) for name, hits in right.items()}
    best, lead = incumbent.key, 0.0
    for name, hits in right.items():
        gain = hits - right[incumbent.key]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else np.inf
        if gain.mean() > error and gain.mean() > lead:
            best, lead = name, float(gain.mean())
    if best == incumbent.key:
        reason = f"nothing is clearly better on {len(rows)} covered dev texts; {incumbent.reason}"
        return replace(incumbent, reason=reason, scores=scores)
    reason = (
        f"on {len(rows)} covered dev texts {scores[best]:.3f}, against {scores[incumbent.key]:.3f} of {incumbent.key}"
    )
    return Choice(best, pool[best], reason, scores)


def predict(model: LabelModel, votes: VoteSet, **more: Any) -> np.ndarray:
    """`predict_proba`, with vectors only for the model that takes them."""
    return model.predict_proba(votes, **more) if model.name == "joint" else model.predict_proba(votes)


def fit_all(
    votes: VoteSet, names: Sequence[str], *, classes: int, balance: Any = None, options: Mapping[str, Any] | None = None
) -> tuple[dict[str, LabelModel], dict[str, str]]:
    """Fit several models; those that cannot use these votes are left out with the reason.

    Returns:
        Models by name, and reasons by name.
    """
    fitted: dict[str, LabelModel] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            fitted[name] = fit_label_model(
                name, votes, classes=classes, balance=balance, **dict((options or {}).get(name, {}))
            )
        except InputError as error:
            refused[name] = error.what
    return fitted, refused


def worse_than_chance(votes: VoteSet, gold: np.ndarray, *, level: float = 0.01) -> list[tuple[int, float, int]]:
    """Functions that gold shows to be worse than chance.

    Args:
        votes: Of gold-labelled texts.
        gold: int [n], their classes.
        level: One-sided binomial test against 1 / classes.

    Returns:
        (function, accuracy, votes) of each, in order.
    """
    from scipy.stats import binomtest

    row = np.repeat(np.arange(len(votes)), votes.lengths)
    codes = votes.codes.astype(np.int64)
    right = codes % votes.classes == np.asarray(gold)[row]
    said = np.bincount(codes // votes.classes, minlength=votes.lfs)
    hits = np.bincount(codes // votes.classes, weights=right, minlength=votes.lfs).astype(int)
    return [
        (lf, float(hits[lf] / said[lf]), int(said[lf]))
        for lf in range(votes.lfs)
        if said[lf] and binomtest(int(hits[lf]), int(said[lf]), 1 / votes.classes, alternative="less").pvalue < level
    ]


def soft_hits(probs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """1 for a right row, 1/t where the right class shares a tie of t, else 0."""
    tied = np.abs(probs - probs.max(axis=1, keepdims=True)) < 1e-5
    hits: np.ndarray = tied[np.arange(len(gold)), gold] / tied.sum(axis=1)
    return hits
