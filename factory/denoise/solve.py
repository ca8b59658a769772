"""Solving a problem: votes in, fitted and chosen label models out."""

from __future__ import annotations

from collections.abc import Mapping
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
from factory.label_matrix import VoteSet
from factory.warehouse.tables.texts import Texts
from factory.warehouse.tables.votes import read_votes

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

ALWAYS = ("majority", "snorkel")
"""Models that are fitted and stored whatever is chosen."""
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
            return model.predict_proba(self.votes), self.votes, self.pattern
        rows = np.arange(len(self.everything))
        return predict(model, self.everything, **self.features.of(rows)), self.everything, rows


def solve(
    warehouse: Warehouse,
    texts: Texts,
    problem: Problem,
    model: str,
    settings: Mapping[str, Mapping[str, Any]],
    dev: Mapping[int, tuple[int, ...]] | None,
    features: Features | None,
) -> Solved:
    """Read a problem's votes, fit label models on those of train texts, and choose.

    Args:
        warehouse: Where the votes are.
        texts: All texts.
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
    fitting = _Fitting(problem, train, everything, texts, {**settings, **judging}, features)
    if not train.lengths.any():
        models, refused, choice = _silent(problem)
    else:
        models, refused, choice = fitting.choice(model, with_dev=dev is not None)
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
    return Solved(
        problem, everything, votes, pattern, models, refused, choices, tuple(warnings), features, figures
    )  # fmt: skip


@dataclass(frozen=True)
class _Fitting:
    """What models of a problem are fitted on."""

    problem: Problem
    train: VoteSet
    everything: VoteSet
    texts: Texts
    settings: Mapping[str, Mapping[str, Any]]
    features: Features | None

    def choice(self, model: str, *, with_dev: bool) -> tuple[dict[str, LabelModel], dict[str, str], Choice]:
        """The fitted models, why others could not be fitted, and the one that was asked for or chosen."""
        problem = self.problem
        names = [*ALWAYS, *(CANDIDATES if model == "auto" and with_dev else ())]
        models, refused = fit_all(
            self.train, [name for name in dict.fromkeys(names) if name != model],
            classes=problem.classes, balance=problem.balance, options=self.settings,
        )  # fmt: skip
        learn = np.flatnonzero(self.texts.train)
        more = {} if self.features is None else self.features.of(learn)
        by_text = self.train if self.features is None else self.everything.take(learn)
        if model == "auto":
            options, people = self.settings, problem.people
            choice = choose(
                by_text, classes=problem.classes, balance=problem.balance, options=options, people=people, **more
            )
            return {**models, choice.key: choice.model}, {**refused, **choice.refused}, choice
        on = by_text if model == "joint" else self.train
        given = {**self.settings.get(model, {}), **(more if model == "joint" else {})}

        def fit() -> LabelModel:
            return fit_label_model(model, on, classes=problem.classes, balance=problem.balance, **given)

        if problem.label is None:
            try:
                fitted = fit()
            except MemoryError as error:
                raise InputError(
                    f"label model `{model}` needs more memory than there is", fix="Use `model: auto`"
                ) from error
            return {**models, model: fitted}, refused, Choice(model, fitted, "asked for")
        fitted_or_none = attempt(model, fit, refused)  # of many labels, some may be too rare for it
        if fitted_or_none is not None:
            return {**models, model: fitted_or_none}, refused, Choice(model, fitted_or_none, "asked for")
        why = f"{model} cannot be fitted here ({refused[model]})"
        return models, refused, Choice("majority", models["majority"], why)


def _silent(problem: Problem) -> tuple[dict[str, LabelModel], dict[str, str], Choice]:
    """Where nobody votes on a train text, the class shares are all that there is."""
    shares = Majority(problem.classes, len(problem.voters), problem.shares)
    return {"majority": shares}, {}, Choice("majority", shares, f"no program votes on {problem.title}")


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
    figures = {
        "before": reliability(probs, gold[covered]),
        "after": reliability(temper(probs, temperature), gold[covered]),
    }
    return (name, choice), figures


def _balance_warnings(train: VoteSet, problem: Problem) -> list[str]:
    """A given class balance that the votes contradict by a factor of five or more."""
    counts, prior = train.class_votes()[train.covered], problem.shares
    weights = np.ones(len(train)) if train.counts is None else train.counts
    if not len(counts):
        return []
    share = (counts / counts.sum(axis=1, keepdims=True) * weights[train.covered, None]).sum(axis=0)
    share = np.maximum(share / share.sum(), 1e-9)
    return [
        f"{problem.title}: the balance given for class {at} is {prior[at]:.3f}, and the votes say {share[at]:.3f}"
        for at in range(len(prior))
        if share[at] / prior[at] > FAR or prior[at] / share[at] > FAR
    ]
