"""The mixture of a warehouse: fitted where there are anchors enough, and kept beside the label models as one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.canonical import digest
from factory.denoise.problems import Problem, problems_of, voters_of
from factory.distill.mixture.compact import compact_agreement
from factory.distill.mixture.keep import Answered, keep
from factory.distill.mixture.members import LEAST_OF_CLASS, Fitted, Material
from factory.distill.mixture.mix import LEAST_ANCHORS, Mixed, folds_by_key, mix
from factory.distill.write import path_of
from factory.encoders.vectors import vectors_of
from factory.predict.glass_box import FACTS
from factory.programs.blocks import accepted_programs
from factory.students.base import TextsAndVectors, fit_student, student_class
from factory.students.stored import artefacts
from factory.task import current_card, label_names
from factory.warehouse.tables import labels
from factory.warehouse.tables.anchors import Anchor, read_anchors, teaching_digest
from factory.warehouse.tables.labels import soft_labels
from factory.warehouse.tables.texts import Texts, labelled_texts
from factory.warehouse.tables.votes import read_votes, votes_digest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from factory.distill.mixture.members import Teach
    from factory.distill.system import Plan
    from factory.encoders.base import Encoder
    from factory.result import Progress

VERSION = 2
"""Raised when the same input would give another mixture."""
PERSON_WORTH = 3.0
"""How much a person's answer counts, in answers of the model."""
MOST_WORTH = 5.0
"""How much more than the mean an anchor may count that was unlikely to be drawn; and how much less."""


@dataclass(frozen=True)
class Stuff:
    """What the mixture of a warehouse is fitted on.

    Attributes:
        texts: All but those of the corpus that are more than `encode_at_most`.
        folds: int64 [n], the part of each.
        problems: The task itself, or in a `multi` task yes or no for each label.
        materials: Of each problem.
    """

    texts: Texts
    folds: NDArray[np.int64]
    problems: Sequence[Problem]
    materials: Sequence[Material]


def mixture_of(
    plan: Plan, progress: Progress, begin: Callable[[], None]
) -> tuple[labels.LabelModelRow | None, tuple[str, ...]]:
    """The mixture's answers, fitted now if they are not on record.

    Args:
        plan: What `distill` was asked for.
        progress: Called with (done, total, what).
        begin: Called before anything is computed.

    Returns:
        The mixture as a label model, None where there is none (too few anchors, or no program), and lines for a person.
    """
    warehouse = plan.warehouse
    anchors = [] if plan.chosen is None else read_anchors(warehouse, "teach")
    voters = [voter for voter in voters_of(warehouse) if not voter.person]
    if plan.chosen is None or len(anchors) < LEAST_ANCHORS or not voters:
        labels.forget_mixture(warehouse)
        why = f"no mixture: {len(anchors)} anchors teach, and it takes {LEAST_ANCHORS}"
        return None, (why,) if anchors and voters else ()
    kind, options = _student(plan)
    taught, by, taught_options = plan.taught_by_mixture()
    key = digest(
        {
            "version": VERSION, "votes": votes_digest(warehouse), "anchors": teaching_digest(warehouse), "student": kind,
            "options": options, "encoder": plan.encoder.key, "voters": [voter.number for voter in voters],
            "multi": plan.soft[plan.chosen.number] if plan.classes.multi else None, "at_most": plan.encode_at_most,
            "taught": [taught, by.key, taught_options],
        }
    )  # fmt: skip
    folder = artefacts(warehouse) / path_of(key)
    known = labels.mixture(warehouse, key)
    if known is not None and (not known.config.get("glass_box") or (folder / FACTS).is_file()):
        return known, ()
    begin()
    stuff = stuff_of(plan, anchors, progress)
    numbers = stuff.texts.numbers
    wide = np.full((len(numbers), len(label_names(warehouse))), np.nan if plan.classes.multi else 0.0, np.float32)
    says: list[str] = []
    facts: dict[str, Any] = {}
    parts: list[Answered] = []
    for problem, material in zip(stuff.problems, stuff.materials, strict=True):
        counts = np.bincount(material.labels[material.labels >= 0], minlength=2)
        if problem.label is not None and counts.min() < LEAST_OF_CLASS:
            soft = soft_labels(warehouse, plan.chosen.number, text_nos=numbers.tolist())
            if soft.probs.shape[1] > problem.label:
                wide[stuff.texts.rows(soft.text_nos), problem.label] = soft.probs[:, problem.label]
            says.append(
                f"{problem.title} keeps its label model: of the anchors that teach, {counts[1]} say yes and {counts[0]} no,"
                f" and a mixture takes {LEAST_OF_CLASS} of each"
            )
            continue
        found = mix(material, stuff.folds, progress)
        retired = {problem.voters[lf].name: reason for lf, reason in found.retired.items()}
        facts[problem.title] = {**found.facts, "retired": retired}
        classes = current_card(warehouse).label_names if problem.label is None else ("no", "yes")
        name = None if problem.label is None else label_names(warehouse)[problem.label]
        parts.append(Answered(name, classes, [voter.number for voter in problem.voters], found))
        says += [f"program {name!r} is retired from the mixture: {reason}" for name, reason in retired.items()]
        if problem.label is None:
            wide[:, list(plan.classes.numbers)] = found.probs
        else:
            wide[:, problem.label] = found.probs[:, 1]
    if not facts:
        labels.forget_mixture(warehouse)
        return None, ("no mixture: no label has anchors enough of yes and of no", *says)
    boxed = len(parts) == len(stuff.problems)
    whole: dict[str, Any] = {"labels": facts} if plan.classes.multi else next(iter(facts.values()))
    if boxed:
        if not plan.classes.multi:
            whole["compact"] = _compact(plan, stuff, parts[0].mixed, progress)
            says += _of_compact(whole["compact"])
        _keep(plan, folder, parts, {**whole, "anchors": len(anchors)})
    told = f"{len(anchors)} anchors, seen by no member that is judged by them, say how much each of its members counts"
    model = labels.NewLabelModel(
        key,
        labels.MIXTURE,
        (),
        told,
        {"uncovered": "drop", "encoder": plan.encoder.name, "glass_box": path_of(key) if boxed else None},
        {**whole, "anchors": len(anchors)},
    )
    labels.put_mixture(warehouse, model, numbers, wide, ~np.isnan(wide))
    return labels.mixture(warehouse, key), (_in_words(facts, len(anchors)), *says)


def stuff_of(plan: Plan, anchors: Sequence[Anchor], progress: Progress) -> Stuff:
    """Read what a mixture is fitted on; texts that have no vector are encoded.

    Args:
        plan: What `distill` was asked for.
        anchors: Those that teach.
        progress: Called with (done, total, what).
    """
    warehouse, encoder, (kind, options) = plan.warehouse, plan.encoder, _student(plan)
    voters = [voter for voter in voters_of(warehouse) if not voter.person]
    problems = list(problems_of(current_card(warehouse), label_names(warehouse), voters, None))
    texts = labelled_texts(warehouse)
    keys = plan.keys(texts.numbers.astype(np.int64))
    kept = ~texts.train | np.isin(texts.numbers, warehouse.arrow("SELECT text_no FROM anchors")["text_no"].to_numpy())
    order = np.flatnonzero(texts.train)[np.argsort(keys[texts.train], kind="stable")]
    kept[order[: plan.encode_at_most]] = True
    texts, keys = Texts(texts.numbers[kept], texts.train[kept]), keys[kept]
    numbers = texts.numbers.tolist()
    inputs = plan.inputs(kind, encoder, numbers, progress)
    vectors = inputs if kind == "embedding" else vectors_of(warehouse, encoder, numbers, progress)

    teach = _teacher(kind, inputs, options, encoder)
    votes = [
        read_votes(warehouse, texts, [voter.number for voter in problem.voters], classes=problem.classes,
                   class_of=problem.class_of)
        for problem in problems
    ]  # fmt: skip
    spoken = np.logical_or.reduce([part.covered for part in votes]) if plan.classes.multi else None
    materials = [
        Material(part, *_as_rows(anchors, texts, problem), texts.train, vectors, teach, spoken)
        for problem, part in zip(problems, votes, strict=True)
    ]
    return Stuff(texts, folds_by_key(keys), problems, materials)


def _student(plan: Plan) -> tuple[str, dict[str, Any]]:
    """The kind of the members that are students, and their options."""
    kind = "linear" if plan.encoder.folder is None else "embedding"
    strength = student_class(kind).strength_for_programs
    return kind, {} if strength is None else {"c": strength}


def _teacher(kind: str, inputs: Any, options: Mapping[str, Any], encoder: Encoder) -> Teach:
    """Trains a kind of student on rows of these inputs."""

    def take(rows: NDArray[np.int64]) -> Any:
        if isinstance(inputs, TextsAndVectors):
            return inputs.take(rows)
        return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[row] for row in rows.tolist()]

    def teach(rows: NDArray[np.int64], targets: NDArray[np.float64]) -> Fitted:
        student = fit_student(kind, take(rows), targets, config=options, encoder=encoder)
        return Fitted(student, lambda some: student.predict_proba(take(some)))

    return teach


def _keep(plan: Plan, folder: Path, parts: Sequence[Answered], facts: Mapping[str, Any]) -> None:
    """Write the fitted members and their programs as a glass box."""
    warehouse, names = plan.warehouse, label_names(plan.warehouse)
    voting = {number for part in parts for number in part.voters}
    programs = [program for program in accepted_programs(warehouse, names) if program.number in voting]
    told = {
        "labels": list(current_card(warehouse).label_names), "names": names, "multi": plan.classes.multi,
        "encoder": dict(plan.encoder.settings), "encoder_key": plan.encoder.key,
    }  # fmt: skip
    keep(folder, parts, programs, {**told, **({} if plan.classes.multi else facts)})


def _compact(plan: Plan, stuff: Stuff, found: Mixed, progress: Progress) -> dict[str, float]:
    """How often the student that the mixture teaches says what anchors say; nothing where it takes long to train."""
    kind, encoder, options = plan.taught_by_mixture()
    if student_class(kind).slow:
        return {}
    progress(0, 1, "students that the mixture teaches, in parts")
    seen = plan.inputs(kind, encoder, stuff.texts.numbers.tolist(), progress)
    return compact_agreement(stuff.materials[0], stuff.folds, found, _teacher(kind, seen, options, encoder))


def _of_compact(estimate: Mapping[str, float]) -> tuple[str, ...]:
    """That the student which the mixture teaches agrees less often than it does."""
    if not estimate or estimate["ahead"] <= 0:
        return ()
    return (
        f"the student that the mixture teaches agrees with {estimate['agreement']:.0%} of these anchors, less often than"
        f" the mixture by {100 * estimate['ahead']:.1f} points (standard error {100 * estimate['error']:.1f})",
    )


def _in_words(facts: Mapping[str, Mapping[str, Any]], anchors: int) -> str:
    """How often the mixture says what anchors say, and what its members count; of many labels the mean of both."""
    n, first = len(facts), next(iter(facts.values()))
    means = {
        part: {name: sum(one[part][name] for one in facts.values()) / n for name in first[part]}
        for part in ("agreement", "weights")
    }
    members = ", ".join(f"{name} {value:.2f}" for name, value in means["weights"].items())
    of = "" if n == 1 else f" yes and no for each of {n} labels, on"
    return (
        f"mixture: agrees with {means['agreement']['mixture']:.0%} of{of} {anchors} anchors that it has not seen;"
        f" weights: {members}"
    )


def _as_rows(
    anchors: Sequence[Anchor], texts: Texts, problem: Problem
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The class of each text's anchor (-1: none) and how much it counts: by the inverse of its probability of being drawn."""
    known, worth = np.full(len(texts.numbers), -1), np.ones(len(texts.numbers))
    inverse = [1 / anchor.p for anchor in anchors if anchor.p]
    mean = float(np.mean(inverse)) if inverse else 1.0
    for anchor in anchors:
        number = np.array([anchor.text_no])
        row = texts.rows(number)
        single = problem.label is None
        if (single and len(anchor.labels) != 1) or not texts.known(row, number).all() or not texts.train[row[0]]:
            continue
        known[row[0]] = problem.class_of.get(min(anchor.labels), -1) if single else problem.label in anchor.labels
        drawn = 1.0 if not anchor.p else min(max(1 / anchor.p / mean, 1 / MOST_WORTH), MOST_WORTH)
        worth[row[0]] = drawn * (PERSON_WORTH if anchor.source == "person" else 1.0)
    return known, worth
