"""What is to be solved for a task (one problem, or one per label), and solving it: votes in, fitted and chosen models out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise import choose as choosing
from factory.denoise.calibrate import LEAST_DEV, Tempered, best_temperature, reliability, temper
from factory.denoise.decide import tie_keys
from factory.denoise.models.base import LabelModel
from factory.denoise.people import Answered
from factory.denoise.read import Program, Texts, read_votes
from factory.denoise.votes import VoteSet
from factory.errors import InputError
from factory.result import Progress
from factory.task import TaskCard

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

ALWAYS = ("majority", "snorkel")
"""Models that are fitted and stored whatever is chosen."""


@dataclass(frozen=True)
class Problem:
    """A classification problem of its own: which programs, and which label number each class stands for."""

    title: str
    programs: list[Program]
    class_of: Mapping[int, int]
    classes: int
    balance: list[float] | None
    label: int | None


@dataclass(frozen=True)
class Features:
    """Vectors [n, d] of all texts, and the number that fixes each text's fold and ties, uint64 [n]."""

    vectors: np.ndarray
    keys: np.ndarray

    def of(self, rows: np.ndarray) -> dict[str, Any]:
        return {"features": self.vectors[rows], "keys": self.keys[rows]}


@dataclass(frozen=True)
class Solved:
    """A problem with its votes (`everything` per text; `votes` per pattern, `pattern` maps texts to it) and fitted models."""

    problem: Problem
    everything: VoteSet
    votes: VoteSet
    pattern: np.ndarray
    models: Mapping[str, LabelModel]
    refused: Mapping[str, str]
    choices: Mapping[str, tuple[str, choosing.Choice]]
    warnings: tuple[str, ...]
    prior: np.ndarray
    features: Features | None
    reliability: Mapping[str, Any]


def problems_of(
    card: TaskCard, names: list[str], programs: list[Program], shares: Mapping[str, float] | None
) -> Iterator[Problem]:
    number = {name: at for at, name in enumerate(names)}
    if card.kind == "single":
        class_of = {number[name]: at for at, name in enumerate(card.label_names)}
        balance = None if shares is None else [shares[name] for name in card.label_names]
        yield Problem("the task", programs, class_of, len(class_of), balance, None)
        return
    for name in card.label_names:
        mine = [program for program in programs if program.target == number[name]]
        balance = None if shares is None or name not in shares else [1 - shares[name], shares[name]]
        yield Problem(f"label {name!r}", mine, {0: 0, 1: 1}, 2, balance, number[name])


def solve(
    warehouse: Warehouse,
    texts: Texts,
    problem: Problem,
    model: str,
    settings: Mapping[str, Any],
    dev: Mapping[int, tuple[int, ...]] | None,
    features: Features | None,
) -> Solved:
    everything = read_votes(warehouse, texts, problem.programs, classes=problem.classes, class_of=problem.class_of)
    people = tuple(at for at, program in enumerate(problem.programs) if program.person)
    judging = {name: {**settings.get(name, {}), "people": people} for name in ("dawid_skene_prior", "joint")}
    settings = {**settings, **judging}
    votes, pattern = everything.patterns()
    train = votes.weighted(np.bincount(pattern[texts.train], minlength=len(votes)).astype(np.float64))
    learn = np.flatnonzero(texts.train)
    more = {} if features is None else features.of(learn)
    names = [*ALWAYS, *(choosing.ON_DEV if model == "auto" and dev is not None else ())]
    if model not in ("auto", "joint"):
        names.append(model)
    models, refused = choosing.fit_all(
        train, tuple(dict.fromkeys(names)), classes=problem.classes, balance=problem.balance, options=settings
    )
    shown = _dev_rows(texts, problem, dev) if dev is not None else None
    if model == "auto":
        fit_on = train if features is None else everything.take(learn)
        choice = choosing.choose(
            fit_on, classes=problem.classes, balance=problem.balance, options=settings, people=people, **more
        )
        models[choice.key] = choice.model
    elif model == "joint":
        chosen, refused_joint = _fit_joint(everything.take(learn), problem, settings, more)
        models |= chosen
        refused |= refused_joint
        choice = _asked_for(model, models, refused, problem)
    else:
        choice = _asked_for(model, models, refused, problem)
    choices = {"student": (choice.key, choice)}
    figures: dict[str, Any] = {}
    warnings = [] if problem.balance is None else _balance_warnings(train, shares_of(problem), problem)
    if dev is not None:
        choices["student_dev"] = choices["student"]
    if shown is not None:
        rows, gold = shown
        beside = {} if features is None else features.of(rows)
        on_dev = everything.take(rows)
        if model == "auto":
            choice = choosing.choose_on_dev(choice, models, (on_dev, gold), **beside)
        choices["student_dev"], figures = _calibrated(choice, models, on_dev, gold, beside)
        for lf, accuracy, said in choosing.worse_than_chance(on_dev, gold):
            warnings.append(
                f"program {problem.programs[lf].name!r} is worse than chance on dev: right on {accuracy:.0%} of {said}"
            )
    if people:
        models = {name: Answered(fitted, people) for name, fitted in models.items()}
    return Solved(
        problem,
        everything,
        votes,
        pattern,
        models,
        refused,
        choices,
        tuple(warnings),
        shares_of(problem),
        features,
        figures,
    )


def shares_of(problem: Problem) -> np.ndarray:
    if problem.balance is None:
        return np.full(problem.classes, 1 / problem.classes)
    shares = np.asarray(problem.balance, np.float64)
    return shares / shares.sum()


def _asked_for(
    model: str, models: Mapping[str, LabelModel], refused: Mapping[str, str], problem: Problem
) -> choosing.Choice:
    if model in models:
        return choosing.Choice(model, models[model], "asked for")
    if problem.label is None:
        raise InputError(refused.get(model, f"{model} cannot be fitted here"), fix="Use `model: auto` or `majority`")
    return choosing.Choice("majority", models["majority"], f"{model} cannot be fitted here ({refused.get(model, '')})")


def _fit_joint(
    votes: VoteSet, problem: Problem, settings: Mapping[str, Any], more: Mapping[str, Any]
) -> tuple[dict[str, LabelModel], dict[str, str]]:
    options = {"joint": {**settings.get("joint", {}), **more}}
    return choosing.fit_all(votes, ("joint",), classes=problem.classes, balance=problem.balance, options=options)


def _calibrated(
    choice: choosing.Choice, models: dict[str, LabelModel], votes: VoteSet, gold: np.ndarray, beside: Mapping[str, Any]
) -> tuple[tuple[str, choosing.Choice], dict[str, Any]]:
    """The choice on dev with its reliability there, and a temperature where dev is large enough to find one."""
    covered = np.flatnonzero(votes.covered)
    if len(covered) < LEAST_DEV:
        return (choice.key, choice), {}
    more = {name: values[covered] for name, values in beside.items()}
    probs = choosing.predict(choice.model, votes.take(covered), **more)
    temperature = best_temperature(probs, gold[covered])
    name = f"{choice.key}_calibrated"
    models[name] = Tempered(choice.model, temperature)
    figures = {
        "before": reliability(probs, gold[covered]),
        "after": reliability(temper(probs, temperature), gold[covered]),
    }
    return (name, choice), figures


def features_of(warehouse: Warehouse, texts: Texts, encoder: str, at_most: int, progress: Progress) -> Features | None:
    if len(texts.numbers) > at_most:
        return None
    from factory.encoders.encoder import load_encoder, vectors_of

    hashes = [
        row[0] for row in warehouse.query("SELECT content_hash FROM texts WHERE origin <> 'passage' ORDER BY text_no")
    ]
    vectors = vectors_of(warehouse, load_encoder(encoder), texts.numbers.tolist(), progress)
    return Features(vectors, tie_keys(hashes))


def _balance_warnings(train: VoteSet, prior: np.ndarray, problem: Problem) -> list[str]:
    """A given class balance that the votes contradict by a factor of five or more."""
    counts = train.class_votes()[train.covered]
    weights = np.ones(len(train)) if train.counts is None else train.counts
    if not len(counts):
        return []
    share = (counts / counts.sum(axis=1, keepdims=True) * weights[train.covered, None]).sum(axis=0)
    share /= share.sum()
    far = [
        at for at in range(len(prior)) if max(share[at], 1e-9) / prior[at] > 5 or prior[at] / max(share[at], 1e-9) > 5
    ]
    return [
        f"{problem.title}: the balance given for class {at} is {prior[at]:.3f}, and the votes say {share[at]:.3f}"
        for at in far
    ]


def _dev_rows(texts: Texts, problem: Problem, dev: Mapping[int, tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of the dev texts and their classes for one problem."""
    rows, labels = [], []
    for text_no, gold in dev.items():
        if problem.label is not None:
            label: int | None = int(problem.label in gold)
        else:
            label = problem.class_of.get(gold[0]) if len(gold) == 1 else None
        if label is not None:
            rows.append(int(texts.rows(np.array([text_no]))[0]))
            labels.append(label)
    return (np.array(rows), np.array(labels)) if rows else None
