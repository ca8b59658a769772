"""What every system says of the test texts, read from the warehouse: no gold here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.decide import decide, tie_keys
from factory.result import Progress, no_progress
from factory.task import TaskCard
from factory.warehouse.tables.gold import gold_digest
from factory.warehouse.tables.labels import MIXTURE, label_models, soft_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse

TEACHER, SELF_TUNED = "teacher", "self_tuned"
ZERO_SHOT = "zero_shot"


@dataclass(frozen=True)
class Predictions:
    """One system's predictions for some texts, one entry per text.

    Attributes:
        labels: `single`: int64 [n], -1 for no readable answer. `multi`: bool [n, k].
        spoke: bool [n], false where a stated rule decided because the system itself had nothing to say.
        tied: bool [n], where the tie-break decided.
        asked: bool [n], false where the system was never asked; such rows are not scored.
        probs: float [n, k] by label number, or None.
        facts: JSON-able: which model or label model this is, and by which rules.
    """

    labels: NDArray[Any]
    spoke: NDArray[np.bool_]
    tied: NDArray[np.bool_]
    asked: NDArray[np.bool_]
    probs: NDArray[np.floating[Any]] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelSpace:
    """What labels there are.

    Attributes:
        names: Label names by number, inactive ones included.
        active: bool [k].
        multi: Whether a text may have any number of labels.
        above: For each label number that has a parent the numbers of its parent, of the parent's parent, and so on.
    """

    names: Sequence[str]
    active: NDArray[np.bool_]
    multi: bool
    above: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def tops(self) -> NDArray[np.int64]:
        """For each label number that of the topmost label above it; its own where there is none. One more, -1, for no label."""
        return np.array([*((self.above.get(at) or (at,))[-1] for at in range(len(self.names))), -1])

    def implied(self, values: NDArray[Any]) -> NDArray[Any]:
        """Yes and no, or probabilities, [n, k], where a label has at least what each label below it has."""
        out = values.copy()
        for at, parents in self.above.items():
            for parent in parents:
                np.fmax(out[:, parent], values[:, at], out=out[:, parent])
        return out


def label_space(warehouse: Warehouse) -> LabelSpace:
    """The labels of a warehouse."""
    rows = warehouse.query("SELECT name, active FROM labels ORDER BY label_no")
    told = warehouse.scalar("SELECT card FROM tasks ORDER BY task_no DESC LIMIT 1")
    card = None if told is None else TaskCard.model_validate_json(told)
    numbers = {name: at for at, (name, _) in enumerate(rows)}
    parents = {} if card is None else card.above
    above = {numbers[name]: tuple(numbers[parent] for parent in line) for name, line in parents.items()}
    active = np.array([active for _, active in rows], bool)
    return LabelSpace(list(numbers), active, card is not None and card.kind == "multi", above)


def taught_by(warehouse: Warehouse) -> dict[str, str]:
    """The label model that taught each student which is told of beside it, by the student's name."""
    chosen = next((row.name for row in label_models(warehouse) if row.chosen), None)
    return {"combined": MIXTURE, **({"student": chosen} if chosen else {})}


def from_probs(
    probs: NDArray[np.floating[Any]], hashes: Sequence[bytes], shape: LabelSpace
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels and ties of probabilities [n, k] by label number.

    Single: the most probable label; a tie goes by the text's content hash. Multi: every label of .5 and more; unknown is no.
    """
    if shape.multi:
        return np.nan_to_num(probs, nan=0.0) >= 0.5, np.zeros(len(probs), bool)
    return decide(np.where(shape.active[None, :], np.nan_to_num(probs, nan=0.0), -1.0), tie_keys(hashes))


def from_columns(
    columns: NDArray[Any], label_nos: Sequence[int], hashes: Sequence[bytes], shape: LabelSpace,
    facts: Mapping[str, Any],
) -> Predictions:  # fmt: skip
    """What a system says that speaks of every text: probabilities [n, columns] of these labels, all others 0."""
    probs = np.zeros((len(hashes), len(shape.names)))
    probs[:, list(label_nos)] = columns
    labels, tied = from_probs(probs, hashes, shape)
    every = np.ones(len(hashes), bool)
    return Predictions(labels, every, tied, every, probs, facts)


def label_model_systems(
    warehouse: Warehouse, text_nos: NDArray[np.int32], hashes: Sequence[bytes], shape: LabelSpace
) -> dict[str, Predictions]:
    """`majority`, `snorkel`, and whichever other label model is stored, by name."""
    found: dict[str, Predictions] = {}
    for row in sorted(label_models(warehouse), key=lambda row: row.number):
        probs = np.full((len(text_nos), len(shape.names)), np.nan)
        covered = np.zeros(len(text_nos), bool)
        known, place = np.unique(text_nos, return_inverse=True)
        soft = soft_labels(warehouse, row.number, text_nos=known.tolist())
        there = np.isin(known, soft.text_nos)[place]
        at = np.searchsorted(soft.text_nos, text_nos[there])
        probs[there, : soft.probs.shape[1]], covered[there] = soft.probs[at], soft.covered[at]
        labels, tied = from_probs(probs, hashes, shape)
        facts = {"label_model_no": row.number, "reason": row.reason, "uncovered": row.config.get("uncovered")}
        found[row.name] = Predictions(labels, covered, tied & covered, np.ones(len(labels), bool), probs, facts)
    return found


def student_systems(
    warehouse: Warehouse, hashes: Sequence[bytes], shape: LabelSpace, inputs_of: Callable[[Encoder | None], Any],
    progress: Progress = no_progress,
) -> dict[str, Predictions]:  # fmt: skip
    """Every trained student, by the name of its system.

    Args:
        hashes: Content hashes of the texts.
        inputs_of: Gives the texts with their vectors under an encoder, or the texts alone for None.
    """
    from factory.students.base import student_class
    from factory.students.stored import ask_student, encoder_of, stored_models

    found: dict[str, Predictions] = {}
    models = stored_models(warehouse)
    for done, (system, model) in enumerate(models.items()):
        progress(done, len(models), f"predictions of {system}")
        reads_vectors = student_class(model.student).takes != "texts"
        columns = ask_student(model, inputs_of(encoder_of(model) if reads_vectors else None))
        facts = {"model_no": model.model_no, "student": model.student, "encoder": model.encoder}
        found[system] = from_columns(columns, model.label_nos, hashes, shape, facts)
    return found


def glass_box_system(
    warehouse: Warehouse, text_nos: NDArray[np.int32], hashes: Sequence[bytes], shape: LabelSpace,
    inputs_of: Callable[[Encoder | None], Any],
) -> dict[str, Predictions]:  # fmt: skip
    """The mixture's members that learned from all anchors, as their export answers: nothing where there is no mixture.

    Its arguments are those of `student_systems`, and text numbers.
    """
    from factory.predict.glass_box import GLASS_BOX, GlassBox
    from factory.students.stored import same_encoder, stored_mixture
    from factory.warehouse.tables.texts import labelled_texts
    from factory.warehouse.tables.votes import read_votes

    found = stored_mixture(warehouse)
    if found is None:
        return {}
    row, folder = found
    box = GlassBox.at(folder)
    label_nos = [list(shape.names).index(name) for name in box.labels]
    class_of = {0: 0, 1: 1} if shape.multi else {number: at for at, number in enumerate(label_nos)}
    texts, numbers = labelled_texts(warehouse), [program.number for program in box.programs]
    votes = read_votes(warehouse, texts, numbers, classes=max(2, len(class_of)), class_of=class_of)
    inputs = inputs_of(same_encoder(box.facts["encoder"], box.facts["encoder_key"]))
    columns = box.answer(votes.take(texts.rows(text_nos)).matrix(), inputs.texts, inputs.vectors)
    facts = {"label_model_no": row.number, "programs": len(numbers)}
    return {GLASS_BOX: from_columns(columns, label_nos, hashes, shape, facts)}


def zero_shot_system(
    warehouse: Warehouse, hashes: Sequence[bytes], shape: LabelSpace, inputs_of: Callable[[Encoder | None], Any]
) -> dict[str, Predictions]:
    """The encoder of the student with the descriptions of the card alone; nothing where no student stands on an encoder.

    Its arguments are those of `student_systems`.
    """
    from factory.students.stored import encoder_of, stored_models
    from factory.students.zero_shot import zero_shot
    from factory.task import current_card

    models = stored_models(warehouse)
    model = models.get("student") or next(iter(models.values()), None)
    encoder = None if model is None else encoder_of(model)
    if encoder is None or encoder.folder is None:
        return {}
    card = current_card(warehouse)
    described = {label.name: label.description for label in card.labels}
    label_nos = [list(shape.names).index(name) for name in described]
    columns = zero_shot(encoder, inputs_of(encoder).vectors, described, multi=shape.multi)
    return {ZERO_SHOT: from_columns(columns, label_nos, hashes, shape, {"encoder": encoder.name})}


def teacher_systems(warehouse: Warehouse, text_nos: NDArray[np.int32], shape: LabelSpace) -> dict[str, Predictions]:
    """The language model's own label for each test text it was asked about; an answer that cannot be read counts as wrong.

    `teacher` is the model as it is, `self_tuned` the same with an adapter that it got from its own data (`tune`).
    """
    both = ((TEACHER, False), (SELF_TUNED, True))
    return {name: said for name, tuned in both if (said := _teacher(warehouse, text_nos, shape, tuned=tuned))}


def _teacher(
    warehouse: Warehouse, text_nos: NDArray[np.int32], shape: LabelSpace, *, tuned: bool
) -> Predictions | None:
    rows = warehouse.query(
        """WITH asked AS (SELECT a.text_no, a.label_no, a.slot_no, a.plan_no FROM annotations a LEFT JOIN plans p USING (plan_no)
               WHERE (p.config ->> '$.adapter' IS NOT NULL) = ?)
           SELECT a.text_no, a.label_no, a.slot_no FROM asked a
           WHERE a.text_no IN (SELECT text_no FROM split_texts WHERE split = 'test')
           AND a.plan_no = (SELECT max(b.plan_no) FROM asked b WHERE b.text_no = a.text_no) ORDER BY ALL""",
        [tuned],
    )
    if not rows:
        return None
    labels_of: dict[int, set[int]] = {}
    for text_no, label_no, _ in rows:
        labels_of.setdefault(text_no, set()).update([] if label_no is None else [label_no])
    said = [labels_of.get(int(number)) for number in text_nos]
    asked = np.array([each is not None for each in said], bool)
    spoke = np.array([bool(each) for each in said], bool)
    if shape.multi:
        labels: NDArray[Any] = np.zeros((len(said), len(shape.names)), bool)
        for at, each in enumerate(said):
            labels[at, [label for label in each or () if label >= 0]] = True
    else:
        labels = np.array([min(each or {-1}) for each in said], np.int64)
    return Predictions(
        labels, spoke, np.zeros(len(said), bool), asked, None, {"unreadable": int((asked & ~spoke).sum())}
    )


def systems_digest(warehouse: Warehouse) -> list[Any]:
    """A value that changes when anything that the systems above say of test texts may have changed."""
    from factory.warehouse.file import fingerprint

    queries = (
        "SELECT text_no, content_hash FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'test')",
        "SELECT split, source_no, row_no, text_no FROM occurrences WHERE split IN ('test', 'dev', 'seed') AND kept",
        "SELECT name, probs, covered, text_no FROM soft_labels JOIN label_models USING (label_model_no)"
        " WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'test')",
        "SELECT system, key, model_no FROM models",
        "SELECT plan_no, text_no, label_no FROM annotations",
        "SELECT label_no, name, active FROM labels",
        "SELECT text_no FROM split_texts WHERE split = 'train'",
    )
    with warehouse.read() as db:
        parts = [fingerprint(db, f"({query})") for query in queries]
    return [*parts, gold_digest(warehouse, "dev", "seed")]
