"""What every system says of the test texts, read from the warehouse: no gold here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.decide import decide, tie_keys
from factory.result import Progress, no_progress
from factory.warehouse.tables.gold import gold_digest

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
    """

    names: Sequence[str]
    active: NDArray[np.bool_]
    multi: bool


def from_probs(
    probs: NDArray[np.floating[Any]],
    hashes: Sequence[bytes],
    shape: LabelSpace,
    *,
    covered: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels and ties of probabilities [n, k] by label number.

    Single: the most probable label; a tie goes by the text's content hash. Multi: every label of .5 and more; unknown is no.
    """
    if shape.multi:
        return np.nan_to_num(probs, nan=0.0) >= 0.5, np.zeros(len(probs), bool)
    open_to = np.where(shape.active[None, :], np.nan_to_num(probs, nan=0.0), -1.0)
    labels, tied = decide(open_to, tie_keys(hashes) if len(hashes) else np.zeros(0, np.uint64))
    return labels, tied if covered is None else tied & covered


def label_model_systems(
    warehouse: Warehouse, text_nos: NDArray[np.int32], hashes: Sequence[bytes], shape: LabelSpace
) -> dict[str, Predictions]:
    """`majority`, `snorkel`, and whichever other label model is stored, by name."""
    found: dict[str, Predictions] = {}
    for number, name, config, reason in warehouse.query(
        """SELECT label_model_no, name, config::VARCHAR, reason FROM label_models
           WHERE label_model_no IN (SELECT label_model_no FROM soft_labels) ORDER BY label_model_no"""
    ):
        probs, covered = _soft_labels(warehouse, int(number), text_nos, len(shape.names))
        labels, tied = from_probs(probs, hashes, shape)
        facts = {"label_model_no": int(number), "reason": reason, "uncovered": _get(config, "uncovered")}
        found[name] = Predictions(labels, covered, tied & covered, np.ones(len(labels), bool), probs, facts)
    return found


def _soft_labels(
    warehouse: Warehouse, number: int, text_nos: NDArray[np.int32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    import pyarrow as pa

    probs = np.full((len(text_nos), k), np.nan)
    covered = np.zeros(len(text_nos), bool)
    with warehouse.read() as db:
        db.register("wanted_rows", pa.table({"place": np.arange(len(text_nos)), "text_no": text_nos}))
        rows = db.execute(
            "SELECT place, probs, covered FROM soft_labels JOIN wanted_rows USING (text_no) WHERE label_model_no = ?",
            [number],
        ).fetchall()
        db.unregister("wanted_rows")
    for at, values, known in rows:
        probs[at, : len(values)] = [np.nan if value is None else value for value in values]
        covered[at] = known
    return probs, covered


def student_systems(
    warehouse: Warehouse,
    text_nos: NDArray[np.int32],
    hashes: Sequence[bytes],
    shape: LabelSpace,
    inputs_of: Callable[[Encoder | None], Any],
    progress: Progress = no_progress,
) -> dict[str, Predictions]:
    """Every trained student, by the name of its system.

    Args:
        warehouse: Where the students are on record.
        text_nos: The texts [n].
        hashes: Their content hashes.
        shape: What labels there are.
        inputs_of: Gives these texts with their vectors under an encoder, or the texts alone for None.
        progress: Called with (done, total, what).
    """
    from factory.students.stored import encoder_of, load_student, stored_models

    found: dict[str, Predictions] = {}
    models = stored_models(warehouse)
    for done, (system, model) in enumerate(models.items()):
        progress(done, len(models), f"predictions of {system}")
        student = load_student(model)
        columns = student.predict_proba(inputs_of(encoder_of(model) if student.takes != "texts" else None))
        probs = np.zeros((len(text_nos), len(shape.names)))
        probs[:, model.label_nos] = columns
        labels, tied = from_probs(probs, hashes, shape)
        every = np.ones(len(labels), bool)
        facts = {"model_no": model.model_no, "student": model.student, "encoder": model.encoder}
        found[system] = Predictions(labels, every, tied, every, probs, facts)
    return found


def zero_shot_system(
    warehouse: Warehouse,
    text_nos: NDArray[np.int32],
    hashes: Sequence[bytes],
    shape: LabelSpace,
    inputs_of: Callable[[Encoder | None], Any],
) -> dict[str, Predictions]:
    """The encoder of the student with the descriptions of the card alone; nothing where no student stands on an encoder.

    Args:
        warehouse: Where the students and the card are.
        text_nos: The texts [n].
        hashes: Their content hashes.
        shape: What labels there are.
        inputs_of: As `student_systems` takes it.
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
    probs = np.zeros((len(text_nos), len(shape.names)))
    columns = [list(shape.names).index(name) for name in described]
    probs[:, columns] = zero_shot(encoder, inputs_of(encoder).vectors, described, multi=shape.multi)
    labels, tied = from_probs(probs, hashes, shape)
    every = np.ones(len(labels), bool)
    return {ZERO_SHOT: Predictions(labels, every, tied, every, probs, {"encoder": encoder.name})}


def teacher_systems(warehouse: Warehouse, text_nos: NDArray[np.int32], shape: LabelSpace) -> dict[str, Predictions]:
    """The language model's own label for each test text it was asked about; an answer that cannot be read counts as wrong.

    `teacher` is the model as it is, `self_tuned` the same with an adapter that it got from its own data (`tune`).
    """
    found = {}
    for name, tuned in ((TEACHER, False), (SELF_TUNED, True)):
        said = _teacher(warehouse, text_nos, shape, tuned=tuned)
        if said is not None:
            found[name] = said
    return found


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
        said = labels_of.setdefault(int(text_no), set())
        if label_no is not None:
            said.add(int(label_no))
    n = len(text_nos)
    asked = np.array([int(number) in labels_of for number in text_nos], bool)
    spoke = np.array([bool(labels_of.get(int(number))) for number in text_nos], bool)
    if shape.multi:
        labels: NDArray[Any] = np.zeros((n, len(shape.names)), bool)
        for at, number in enumerate(text_nos):
            for label in labels_of.get(int(number), ()):
                if label >= 0:
                    labels[at, label] = True
    else:
        labels = np.array([min(labels_of.get(int(number)) or {-1}) for number in text_nos], np.int64)
    return Predictions(labels, spoke, np.zeros(n, bool), asked, None, {"unreadable": int((asked & ~spoke).sum())})


def systems_digest(warehouse: Warehouse) -> list[Any]:
    """A value that changes when anything that the systems above say of test texts may have changed."""
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
    parts: list[Any] = []
    with warehouse.read() as db:
        for query in queries:
            row = db.execute(
                f"SELECT count(*), coalesce(bit_xor(hash(t)), 0)::VARCHAR, coalesce(sum(hash(t)), 0)::VARCHAR FROM ({query}) t"
            ).fetchone()
            parts.append([str(value) for value in row or ()])
    return [*parts, gold_digest(warehouse, "dev", "seed")]


def _get(config: str | None, key: str) -> Any:
    import json

    return json.loads(config).get(key) if config else None
