"""Students in the warehouse: where their files lie, and how to have one back."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.base import Encoder
from factory.encoders.encoder import load_encoder
from factory.encoders.vectors import vectors_of
from factory.errors import InputError
from factory.result import Progress, no_progress
from factory.spread import Work, spread
from factory.students.base import Student, TextsAndVectors, student_class
from factory.warehouse.tables import texts
from factory.warehouse.tables.labels import MIXTURE, LabelModelRow, label_models

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.warehouse.file import Warehouse

PART = 16_384
"""Texts that a student labels as one item of work."""

_FOLDERS: weakref.WeakKeyDictionary[Any, Path] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class StoredModel:
    """One row of `models`.

    Attributes:
        model_no: Its number.
        key: Identity of what it learned from and how.
        system: `student`, `student_dev`, `programs_only`, `synthesis_only`, `student_setfit`.
        student: A name in `STUDENTS`.
        encoder: Name of the encoder, or None.
        config: What was asked for.
        params: What came of it: `labels`, `label_nos`, `multi`, `chosen`, `trust`, ...
        folder: Where its files lie.
    """

    model_no: int
    key: str
    system: str
    student: str
    encoder: str | None
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    folder: Path

    @property
    def labels(self) -> list[str]:
        """Label names, in the order of the model's columns."""
        return list(self.params["labels"])

    @property
    def label_nos(self) -> list[int]:
        """Label numbers, in the order of the model's columns."""
        return list(self.params["label_nos"])


def artefacts(warehouse: Warehouse) -> Path:
    """The folder of the warehouse's artefacts; a temporary one, gone with the process, for a warehouse in memory."""
    if warehouse.folder is not None:
        return warehouse.folder
    if warehouse not in _FOLDERS:
        folder = Path(tempfile.mkdtemp(prefix="label-factory-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _FOLDERS[warehouse] = folder
    return _FOLDERS[warehouse]


def has_test(warehouse: Warehouse) -> bool:
    """Whether the warehouse has texts of `test`, and so may come to have scores."""
    return bool(warehouse.query("SELECT 1 FROM split_texts WHERE split = 'test' LIMIT 1"))


def stored_models(warehouse: Warehouse) -> dict[str, StoredModel]:
    """The students of the warehouse by system, in order of number; reads no model file."""
    root = artefacts(warehouse)
    rows = warehouse.query(
        "SELECT model_no, key, system, student, encoder, config, params, path FROM models ORDER BY model_no"
    )
    return {
        row[2]: StoredModel(
            row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), json.loads(row[6]), root / row[7]
        )
        for row in rows
    }


def stored_model(warehouse: Warehouse, system: str) -> StoredModel:
    """The student of one system.

    Raises:
        InputError: There is none; says which there are.
    """
    found = stored_models(warehouse)
    if system not in found:
        there = f"There are: {', '.join(found)}" if found else "Run `distill` first"
        raise InputError(f"there is no trained system {system!r}", where=warehouse.path, fix=there)
    return found[system]


def stored_mixture(warehouse: Warehouse) -> tuple[LabelModelRow, Path] | None:
    """The mixture, and the folder of its members (a glass box); None where there is none."""
    for row in label_models(warehouse):
        if row.name == MIXTURE and row.config.get("glass_box"):
            folder = artefacts(warehouse) / str(row.config["glass_box"])
            return (row, folder) if folder.is_dir() else None
    return None


def encoder_of(model: StoredModel) -> Encoder | None:
    """The encoder a student stands on.

    Raises:
        InputError: It is not the one the student was trained with.
    """
    if model.encoder is None:
        return None
    return same_encoder(model.params.get("encoder_settings") or model.encoder, model.params["encoder_key"])


def same_encoder(named: str | Mapping[str, Any], key: str) -> Encoder:
    """The encoder that something was trained with.

    Raises:
        InputError: It is another one now.
    """
    encoder = load_encoder(named)
    if encoder.key != key:
        words = f"the encoder {encoder.name!r} is another one than the student was trained on"
        raise InputError(words, fix="Distill again")
    return encoder


def load_student(model: StoredModel) -> Student:
    """The fitted student itself.

    Raises:
        InputError: Its files are gone.
    """
    if not (model.folder / "student.json").is_file():
        raise InputError("the student's files are gone", where=model.folder, fix="Run `distill` again")
    return student_class(model.student).load(model.folder, encoder_of(model))


def predict_texts(
    warehouse: Warehouse, model: StoredModel, text_nos: Sequence[int], progress: Progress = no_progress
) -> NDArray[np.float32]:
    """What a student says of texts of the warehouse, over the vectors that are cached there.

    Returns:
        float32 [n, k], columns in the order of `model.labels`.
    """
    return ask_student(model, inputs_of(warehouse, model.student, encoder_of(model), text_nos, progress))


def ask_student(model: StoredModel, inputs: Any) -> NDArray[np.float32]:
    """What a student says of texts, part by part, here or elsewhere (`factory.spread`).

    Args:
        model: Whose files lie, on a cluster, in a folder that all nodes share.
        inputs: As `inputs_of` gives them.

    Returns:
        float32 [n, k], columns in the order of `model.labels`.

    Raises:
        InputError: Its files are gone, or its encoder is another one.
    """
    starts, there = range(0, len(inputs), PART), replace(model, folder=model.folder.absolute())

    def parts() -> Iterator[tuple[int, Any]]:
        for start in starts:
            if len(starts) == 1:
                yield start, inputs
            elif isinstance(inputs, TextsAndVectors):
                yield start, inputs.take(np.arange(start, min(start + PART, len(inputs))))
            else:
                yield start, inputs[start : start + PART]

    with closing(spread(Work(_student_answering, (there,)), parts(), len(starts))) as answers:
        return np.concatenate([np.zeros((0, len(model.labels)), np.float32), *(probs for _, probs in answers)])


def _student_answering(model: StoredModel) -> Callable[[Any], NDArray[np.float32]]:
    return load_student(model).predict_proba


def inputs_of(
    warehouse: Warehouse, kind: str, encoder: Encoder | None, text_nos: Sequence[int], progress: Progress = no_progress
) -> Any:
    """What a kind of student is given for texts of the warehouse: texts, cached vectors, or both."""
    takes = student_class(kind).takes
    if takes == "texts":
        return texts_of(warehouse, text_nos)
    assert encoder is not None
    vectors = vectors_of(warehouse, encoder, text_nos, progress)
    return vectors if takes == "vectors" else TextsAndVectors(texts_of(warehouse, text_nos), vectors)


def texts_of(warehouse: Warehouse, text_nos: Sequence[int]) -> list[str]:
    """The strings of texts by number, in the order asked."""
    found = texts.texts_of(warehouse, text_nos)
    return [found[int(number)] for number in text_nos]
