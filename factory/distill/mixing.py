"""The mixture of a warehouse: fitted where there are anchors enough, and kept beside the label models as one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.canonical import digest
from factory.denoise.decide import tie_keys
from factory.denoise.problems import problems_of, voters_of
from factory.distill.mixture.compact import compact_agreement
from factory.distill.mixture.keep import Answered, keep
from factory.distill.mixture.members import Fitted, Material
from factory.distill.mixture.mix import LEAST_ANCHORS, folds_by_key, mix
from factory.distill.write import path_of
from factory.encoders.vectors import vectors_of
from factory.predict.glass_box import FACTS
from factory.programs.blocks import accepted_programs
from factory.students.base import TextsAndVectors, fit_student, student_class
from factory.students.stored import artefacts
from factory.task import current_card, label_names
from factory.warehouse.tables import labels
from factory.warehouse.tables.anchors import Anchor, read_anchors, teaching_digest
from factory.warehouse.tables.texts import hashes_of, labelled_texts
from factory.warehouse.tables.votes import read_votes, votes_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.distill.mixture.members import Teach
    from factory.distill.system import Plan
    from factory.encoders.base import Encoder
    from factory.result import Progress
    from factory.warehouse.tables.texts import Texts

VERSION = 1
"""Raised when the same input would give another mixture."""
PERSON_WORTH = 3.0
"""How much a person's answer counts, in answers of the model."""
MOST_WORTH = 5.0
"""How much more than the mean an anchor may count that was unlikely to be drawn; and how much less."""


def mixture_of(
    plan: Plan, progress: Progress, begin: Callable[[], None]
) -> tuple[labels.LabelModelRow | None, tuple[str, ...]]:
    """The mixture's answers, fitted now if they are not on record.

    Args:
        plan: What `distill` was asked for.
        progress: Called with (done, total, what).
        begin: Called before anything is computed.

    Returns:
        The mixture as a label model, None where there is none (too few anchors, no program, or a `multi` task), and lines for a
        person.
    """
    warehouse = plan.warehouse
    anchors = [] if plan.chosen is None else read_anchors(warehouse, "teach")
    voters = [voter for voter in voters_of(warehouse) if not voter.person]
    if plan.classes.multi or len(anchors) < LEAST_ANCHORS or not voters:
        labels.forget_mixture(warehouse)
        return None, _why_not(plan.classes.multi, len(anchors))
    kind, encoder = "linear" if plan.encoder.folder is None else "embedding", plan.encoder
    strength = student_class(kind).strength_for_programs
    options = {} if strength is None else {"c": strength}
    taught, by, taught_options = plan.taught_by_mixture()
    key = digest(
        {
            "version": VERSION, "votes": votes_digest(warehouse), "anchors": teaching_digest(warehouse), "student": kind,
            "options": options, "encoder": encoder.key, "voters": [voter.number for voter in voters],
            "taught": [taught, by.key, taught_options],
        }
    )  # fmt: skip
    folder = artefacts(warehouse) / path_of(key)
    if (known := labels.mixture(warehouse, key)) is not None and (folder / FACTS).is_file():
        return known, ()
    begin()
    card, names, texts = current_card(warehouse), label_names(warehouse), labelled_texts(warehouse)
    (problem,) = problems_of(card, names, voters, None)
    votes = read_votes(
        warehouse, texts, [voter.number for voter in voters], classes=problem.classes, class_of=problem.class_of
    )
    known_classes, worth = _as_rows(anchors, texts, problem.class_of)
    numbers = texts.numbers.tolist()
    inputs = plan.inputs(kind, encoder, numbers, progress)
    vectors = inputs if kind == "embedding" else vectors_of(warehouse, encoder, numbers, progress)

    hashes = hashes_of(warehouse, numbers)
    folds = folds_by_key(tie_keys(hashes[number] for number in numbers))
    material = Material(votes, known_classes, worth, texts.train, vectors, _teacher(kind, inputs, options, encoder))
    found = mix(material, folds, progress)
    estimate: dict[str, Any] = {}
    if not student_class(taught).slow:
        progress(0, 1, "students that the mixture teaches, in parts")
        seen = plan.inputs(taught, by, numbers, progress)
        estimate = compact_agreement(material, folds, found, _teacher(taught, seen, taught_options, by))
    facts = {**found.facts, "anchors": len(anchors), "compact": estimate}
    programs = [
        program
        for program in accepted_programs(warehouse, names)
        if program.number in {voter.number for voter in voters}
    ]
    part = Answered(None, card.label_names, [voter.number for voter in voters], found)
    told_of = {"labels": list(card.label_names), "names": names, "multi": False, "encoder": dict(encoder.settings)}
    keep(folder, [part], programs, {**told_of, "encoder_key": encoder.key, **facts})
    retired = {voters[lf].name: reason for lf, reason in found.retired.items()}
    wide = np.zeros((len(numbers), len(names)), np.float32)
    wide[:, list(plan.classes.numbers)] = found.probs
    told = f"{len(anchors)} anchors, seen by no member that is judged by them, say how much each of its members counts"
    model = labels.NewLabelModel(
        key,
        labels.MIXTURE,
        (),
        told,
        {"uncovered": "drop", "encoder": encoder.name, "glass_box": path_of(key)},
        {**facts, "retired": retired},
    )
    labels.put_mixture(warehouse, model, texts.numbers, wide)
    members = ", ".join(f"{name} {value:.2f}" for name, value in found.weights.items())
    says = (
        f"mixture: agrees with {found.agreement['mixture']:.0%} of {len(anchors)} anchors that it has not seen;"
        f" weights: {members}",
        *_of_compact(estimate),
        *(f"program {name!r} is retired from the mixture: {reason}" for name, reason in retired.items()),
    )
    return labels.mixture(warehouse, key), says


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


def _of_compact(estimate: Mapping[str, float]) -> tuple[str, ...]:
    """That the student which the mixture teaches agrees less often than it does."""
    if not estimate or estimate["ahead"] <= 0:
        return ()
    return (
        f"the student that the mixture teaches agrees with {estimate['agreement']:.0%} of these anchors, less often than"
        f" the mixture by {100 * estimate['ahead']:.1f} points (standard error {100 * estimate['error']:.1f})",
    )


def _why_not(multi: bool, anchors: int) -> tuple[str, ...]:
    if multi and anchors:
        return (
            "no mixture: it is for tasks of one label per text so far, and the anchors are used for estimates alone",
        )
    return (f"no mixture: {anchors} anchors teach, and it takes {LEAST_ANCHORS}",) if anchors else ()


def _as_rows(
    anchors: list[Anchor], texts: Texts, class_of: Mapping[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The class of each text's anchor (-1: none) and how much it counts: by the inverse of its probability of being drawn."""
    known, worth = np.full(len(texts.numbers), -1), np.ones(len(texts.numbers))
    inverse = [1 / anchor.p for anchor in anchors if anchor.p]
    mean = float(np.mean(inverse)) if inverse else 1.0
    for anchor in anchors:
        number = np.array([anchor.text_no])
        row = texts.rows(number)
        if len(anchor.labels) != 1 or not texts.known(row, number).all() or not texts.train[row[0]]:
            continue
        known[row[0]] = class_of.get(min(anchor.labels), -1)
        drawn = 1.0 if not anchor.p else min(max(1 / anchor.p / mean, 1 / MOST_WORTH), MOST_WORTH)
        worth[row[0]] = drawn * (PERSON_WORTH if anchor.source == "person" else 1.0)
    return known, worth
