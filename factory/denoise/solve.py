"""Solving a problem: votes in, fitted and chosen label models out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.calibrate import LEAST_DEV, Tempered, best_temperature, reliability, temper
from factory.denoise.choose import Choice, attempt, choose, fit_all, predict
from factory.denoise.models.base import LabelModel
from factory.denoise.models.majority import Majority
from factory.denoise.models.table import fit_label_model
from factory.denoise.on_dev import CANDIDATES, choose_on_dev, worse_than_chance
from factory.denoise.people import Answered, crowd_of
from factory.denoise.problems import Features, Problem
from factory.errors import InputError
from factory.label_matrix import CHUNK, VoteSet
from factory.spread import Work, spread
from factory.warehouse.tables.texts import Texts
from factory.warehouse.tables.votes import read_votes

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

ALWAYS = ("majority", "snorkel")
"""Models that are fitted and stored whatever is chosen."""
PART = 8 * CHUNK
"""Rows whose probabilities are one item of work. Whole chunks: a row's last bits do not depend on how many there are."""
FAR = 5.0
"""A given class share that the votes contradict by this factor is warned of."""


@dataclass(frozen=True)
class Solved:
    """A problem with its votes and fitted models.

    Attributes:
        problem: What was solved.
        everything: The votes, a row per text.
        votes: The same, a row per pattern.
        pattern: int64 [texts], the pattern of each text.
        models: Fitted models by name.
        refused: Why others could not be fitted, by name.
        choices: Name and choice by system: `student`, and with dev gold `student_dev`.
        warnings: For the user.
        features: Vectors of the texts, if there are any.
        reliability: On dev, before and after calibration.
    """

    problem: Problem
    everything: VoteSet
    votes: VoteSet
    pattern: np.ndarray
    models: Mapping[str, LabelModel]
    refused: Mapping[str, str]
    choices: Mapping[str, tuple[str, Choice]]
    warnings: tuple[str, ...]
    features: Features | None
    reliability: Mapping[str, Any]

    def table(self, name: str) -> tuple[np.ndarray, VoteSet, np.ndarray]:
        """Probabilities [rows, k] by a model, the votes of the rows, and the row of each text: patterns where votes tell all."""
        model = self.models[name]
        if model.name != "joint" or self.features is None:
            return predict_parts(model, self.votes), self.votes, self.pattern
        rows = np.arange(len(self.everything))
        return predict_parts(model, self.everything, self.features), self.everything, rows


class Predicting:
    """What gives the probabilities of a part: called with its votes and what stands beside them (see `Features.of`)."""

    def __init__(self, model: LabelModel) -> None:
        self._model = model

    def __call__(self, part: tuple[VoteSet, Mapping[str, Any]]) -> np.ndarray:
        """float32 [rows, k]."""
        votes, beside = part
        return predict(self._model, votes, **beside)


def predict_parts(model: LabelModel, votes: VoteSet, features: Features | None = None) -> np.ndarray:
    """Probabilities float32 [rows, k] by a model, part by part, here or elsewhere (`factory.spread`)."""
    starts = range(0, len(votes), PART)

    def parts() -> Iterator[tuple[int, tuple[VoteSet, Mapping[str, Any]]]]:
        for start in starts:
            rows = np.arange(start, min(start + PART, len(votes)))
            part = votes if len(starts) == 1 else votes.take(rows)
            yield start, (part, {} if features is None else features.of(rows))

    with closing(spread(Work(Predicting, (model,)), parts(), len(starts))) as found:
        return np.concatenate([np.zeros((0, model.classes), np.float32), *(probs for _, probs in found)])


def solve(
    warehouse: Warehouse, texts: Texts, problem: Problem, model: str, settings: Mapping[str, Mapping[str, Any]],
    dev: Mapping[int, tuple[int, ...]] | None, features: Features | None,
) -> Solved:  # fmt: skip
    """Read a problem's votes, fit label models on those of train texts, and choose.

    Args:
        problem: What to solve.
        model: A key of `MODELS`, or `auto`.
        settings: Parameters by model name.
        dev: Gold label numbers of dev texts by number, or None.
        features: Vectors of the texts, or None.

    Raises:
        InputError: The model asked for cannot be fitted.
    """
    numbers = [voter.number for voter in problem.voters]
    everything = read_votes(warehouse, texts, numbers, classes=problem.classes, class_of=problem.class_of)
    votes, pattern = everything.patterns()
    train = votes.weighted(np.bincount(pattern[texts.train], minlength=len(votes)).astype(np.float64))
    people = problem.people
    judging = {name: {**settings.get(name, {}), "people": people} for name in ("dawid_skene_prior", "joint")}
    if train.lengths.any():
        names = [*ALWAYS, *(CANDIDATES if model == "auto" and dev is not None else ())]
        learn = np.flatnonzero(texts.train)
        beside = {} if features is None else features.of(learn)
        by_text = train if features is None else everything.take(learn)
        models, refused, choice = _fitted(problem, model, names, train, by_text, beside, {**settings, **judging})
    else:  # nobody votes on a train text: the class shares are all that there is
        shares = Majority(problem.classes, len(problem.voters), problem.shares)
        models, refused = {"majority": shares}, {}
        choice = Choice("majority", shares, f"no program votes on {problem.title}")
    choices = {"student": (choice.key, choice)}
    warnings = [] if problem.balance is None else _balance_warnings(train, problem)
    figures: dict[str, Any] = {}
    if dev is not None:
        choices["student_dev"] = choices["student"]
        rows, gold = problem.dev_rows(texts, dev)
        if len(rows):
            on_dev, beside = everything.take(rows), {} if features is None else features.of(rows)
            if model == "auto":
                choice = choose_on_dev(choice, models, (on_dev, gold), **beside)
            choices["student_dev"], figures = _calibrated(choice, models, on_dev, gold, beside)
            warnings += [
                f"program {problem.voters[lf].name!r} is worse than chance on dev: right on {accuracy:.0%} of {said}"
                for lf, accuracy, said in worse_than_chance(on_dev, gold)
            ]
    if people:
        crowd = crowd_of(train, people)
        models = {name: Answered(fitted, people, crowd) for name, fitted in models.items()}
    return Solved(problem, everything, votes, pattern, models, refused, choices, tuple(warnings), features, figures)


def _fitted(
    problem: Problem, model: str, names: Sequence[str], train: VoteSet, by_text: VoteSet, beside: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, LabelModel], dict[str, str], Choice]:  # fmt: skip
    """The models of these names, why others could not be fitted, and the one that was asked for or chosen.

    `train` has a row per pattern; `by_text` a row per text if there are features (`beside`) of the texts.
    """
    given: dict[str, Any] = {"classes": problem.classes, "balance": problem.balance}
    others = [name for name in dict.fromkeys(names) if name != model]
    models, refused = fit_all(train, others, options=settings, **given)
    if model == "auto":
        choice = choose(by_text, options=settings, people=problem.people, **given, **beside)
        return {**models, choice.key: choice.model}, {**refused, **choice.refused}, choice
    on, more = (by_text, beside) if model == "joint" else (train, {})

    def fit() -> LabelModel:
        return fit_label_model(model, on, **given, **settings.get(model, {}), **more)

    if problem.label is None:
        try:
            asked: LabelModel | None = fit()
        except MemoryError as error:
            raise InputError(
                f"label model `{model}` needs more memory than there is", fix="Use `model: auto`"
            ) from error
    else:
        asked = attempt(model, fit, refused)  # of many labels, some may be too rare for it
    if asked is not None:
        return {**models, model: asked}, refused, Choice(model, asked, "asked for")
    why = f"{model} cannot be fitted here ({refused[model]})"
    return models, refused, Choice("majority", models["majority"], why)


def _calibrated(
    choice: Choice, models: dict[str, LabelModel], votes: VoteSet, gold: np.ndarray, beside: Mapping[str, Any]
) -> tuple[tuple[str, Choice], dict[str, Any]]:
    """The choice on dev with its reliability there, and a temperature where dev is large enough to find one."""
    covered = np.flatnonzero(votes.covered)
    if len(covered) < LEAST_DEV:
        return (choice.key, choice), {}
    more = {name: values[covered] for name, values in beside.items()}
    probs = predict(choice.model, votes.take(covered), **more)
    temperature = best_temperature(probs, gold[covered])
    name = f"{choice.key}_calibrated"
    models[name] = Tempered(choice.model, temperature)
    after = reliability(temper(probs, temperature), gold[covered])
    return (name, choice), {"before": reliability(probs, gold[covered]), "after": after}


def _balance_warnings(train: VoteSet, problem: Problem) -> list[str]:
    """A given class balance that the votes contradict by a factor of five or more."""
    counts, prior = train.class_votes()[train.covered], problem.shares
    if not len(counts):
        return []
    share = (counts / counts.sum(axis=1, keepdims=True) * train.times[train.covered, None]).sum(axis=0)
    share = np.maximum(share / share.sum(), 1e-9)
    return [
        f"{problem.title}: the balance given for class {at} is {prior[at]:.3f}, and the votes say {share[at]:.3f}"
        for at in range(len(prior))
        if share[at] / prior[at] > FAR or prior[at] / share[at] > FAR
    ]
