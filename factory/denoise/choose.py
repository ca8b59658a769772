"""Choosing a label model by what the votes and the texts alone can tell, without gold (`on_dev` looks at gold).

Copied functions are merged first. Where there are vectors of the texts, and a classifier of them foretells labels of texts it
has not seen, it is the joint model. Else, where most votes come from functions that say several classes and enough texts have
two votes, it is Dawid and Skene's with a prior. Either is averaged with majority vote (`Blended`). Else it is majority vote
alone: of functions that say one class each, votes alone do not tell how often they err.

A label model that nobody asked for never ends a run: what goes wrong in it is a reason to take another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from factory.denoise.copies import find_copies, merge_copies
from factory.denoise.models.base import LabelModel, LogLinear, WrappedModel
from factory.denoise.models.joint import Joint
from factory.denoise.models.prior import SEVERAL, gain_over_shares, several_classes
from factory.denoise.models.table import fit_label_model
from factory.errors import InputError
from factory.label_matrix import VoteSet, as_votes

LEAST_OVERLAP = 30
MODEL_SHARE = 0.35
"""The model's part. On half of the public vote sets .35 scores .1 points more than .5, and its worst set loses less."""


@dataclass(frozen=True)
class Merged(WrappedModel):
    """A label model that first merges copied functions into one voice."""

    groups: tuple[tuple[int, ...], ...]

    def predict_proba(self, votes: VoteSet | Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k] of votes with all the functions."""
        return self.inner.predict_proba(merge_copies(as_votes(votes, self.classes), self.groups), **more)

    def params(self) -> Mapping[str, Any]:
        """The model's, and the groups."""
        return {**self.inner.params(), "copies": [list(group) for group in self.groups]}


@dataclass(frozen=True)
class Blended(WrappedModel):
    """A model averaged with majority vote (`base`): what most functions agree on stays, the model decides the rest.

    Where all votes on a text agree, their share is 1, so the average can never overturn them; where they are split, the model
    needs to be the surer the clearer the split is. Models of error rates gain most on split votes and lose most where they
    overrule agreement, so a part of each keeps most of the gain and little of the loss.
    """

    base: LabelModel

    def predict_proba(self, votes: Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        own = np.float32(MODEL_SHARE) * self.inner.predict_proba(votes, **more)
        mean: np.ndarray = own + np.float32(1 - MODEL_SHARE) * self.base.predict_proba(votes)
        return mean

    def params(self) -> Mapping[str, Any]:
        """The model's, and what it is averaged with."""
        return {**self.inner.params(), "averaged_with": self.base.name, "share": MODEL_SHARE}


@dataclass(frozen=True)
class Choice:
    """A chosen label model.

    Attributes:
        name: Key of `factory.denoise.models.table.MODELS`.
        model: The fitted model.
        reason: Why, in a sentence.
        scores: What the choice looked at, and what else is known of the candidates, chosen or not.
        copies: Groups of functions that were merged.
        blended: Whether it was averaged with majority vote.
        refused: Why candidates could not be fitted, by name.
    """

    name: str
    model: LabelModel
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict)
    copies: tuple[tuple[int, ...], ...] = ()
    blended: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name under which the model is kept: one that merged copies or was averaged is another than the plain one."""
        return self.name + "_merged" * bool(self.copies) + "_blended" * self.blended


def choose(
    votes: VoteSet, *, classes: int, balance: Any = None, features: Any = None, keys: Any = None,
    options: Mapping[str, Any] | None = None, people: Sequence[int] = (),
) -> Choice:  # fmt: skip
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
    found = find_copies(votes)
    groups = tuple(tuple(group) for group in found if _outvotes(group, votes.lfs) and not set(group) & set(people))
    merged = merge_copies(votes, groups)
    gone = np.sort([lf for group in groups for lf in group[1:]])
    known = {"people": [lf - int(np.searchsorted(gone, lf)) for lf in people]}
    settings = dict(options or {})
    settings |= {name: {**settings.get(name, {}), **known} for name in ("dawid_skene_prior", "joint")}
    note = f"; {len(groups)} groups of copied functions count as one each" if groups else ""

    def fitted(name: str, **more: Any) -> LabelModel:
        return fit_label_model(name, merged, classes=classes, balance=balance, **settings.get(name, {}), **more)

    def whole(model: LabelModel) -> LabelModel:
        return Merged(model, groups) if groups else model

    several = several_classes(merged)
    overlap = float(merged.times[merged.lengths >= 2].sum())
    scores = {"several_classes": round(several, 4), "texts_with_two_votes": overlap}
    refused: dict[str, str] = {}
    joint: LabelModel | None = None
    alone: LabelModel | None = None
    if features is not None and merged.lfs >= 2:
        joint = attempt("joint", lambda: fitted("joint", features=features, keys=keys), refused)
    if isinstance(joint, Joint):
        scores |= {"text_agreement": round(joint.agreement, 5), "base_rate": round(joint.base, 5)}
        alone = joint.votes_model
    elif merged.lfs >= 2:
        alone = attempt("dawid_skene_prior", lambda: fitted("dawid_skene_prior"), refused)
    if isinstance(alone, LogLinear):
        gain, error, _ = gain_over_shares(alone, merged)
        scores |= {"held_out_gain": round(gain, 5), "standard_error": round(error, 5)}

    def chosen(name: str, model: LabelModel, reason: str) -> Choice:
        blended = Blended(whole(model), whole(fitted("majority")))
        return Choice(name, blended, f"{reason}, averaged with majority vote{note}", scores, groups, True, refused)

    if isinstance(joint, Joint) and joint.texts_tell:
        told = (
            f"a classifier of the texts foretells the labels of texts it has not seen ({joint.agreement:.2f}, base rate"
        )
        return chosen("joint", joint, f"{told} {joint.base:.2f}), so texts and votes are joined")
    if merged.lfs < 2:
        why = "there is nothing to compare with one function"
    elif several < SEVERAL:
        why = "most functions say one class each, and votes alone do not tell how often such functions err"
    elif overlap < LEAST_OVERLAP:
        why = f"only {overlap:.0f} texts have two votes or more"
    elif alone is None:
        why = f"the functions' error rates could not be estimated ({refused['dawid_skene_prior']})"
    else:
        told = f"functions say several classes, so each one's error rates are estimated, from {overlap:.0f} texts"
        return chosen("dawid_skene_prior", alone, f"{told} with two votes or more")
    return Choice("majority", whole(fitted("majority")), f"{why}: majority vote{note}", scores, groups, refused=refused)


def _outvotes(group: Sequence[int], lfs: int) -> bool:
    """Whether copies are so many that together they outvote others: three or more, or a quarter of all functions.

    Two keyword functions among many that always fire together say twice what is likely right; merging them only loses that.
    """
    return len(group) >= 3 or 4 * len(group) >= lfs


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
        more = dict((options or {}).get(name, {}))
        model = attempt(name, lambda: fit_label_model(name, votes, classes=classes, balance=balance, **more), refused)  # noqa: B023 - called at once
        if model is not None:
            fitted[name] = model
    return fitted, refused


def attempt(name: str, fit: Callable[[], LabelModel], refused: dict[str, str]) -> LabelModel | None:
    """Fit a model that nobody asked for by name; whatever goes wrong is put on record in `refused` and ends nothing."""
    try:
        return fit()
    except InputError as error:
        refused[name] = error.what
    except Exception as error:  # a library's failure, or too little memory: told, and another model is taken
        refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200] or 'no words'}"
    return None
