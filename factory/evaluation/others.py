"""Answers of other systems for the texts of test, from files: a row of the table for each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.evaluation.rivals import BOUGHT, FREE, PREFIX
from factory.evaluation.systems import LabelSpace, Predictions
from factory.files.columns import TEXT_NAMES, Columns, Picker
from factory.files.open import open_source
from factory.files.rows import Cleaner, Row, usable_rows
from factory.files.source import SourceSpec, load_specs
from factory.result import Progress
from factory.warehouse.tables.labels import label_models
from factory.warehouse.tables.places import ids_of, origins
from factory.warehouse.tables.texts import split_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class OtherAnswers:
    """What another system says of the texts of test.

    Attributes:
        name: Of its row: the file's, without its ending.
        path: The file.
        labels: Numbers of the labels, by text number.
    """

    name: str
    path: str
    labels: Mapping[int, frozenset[int]]


def read_others(
    warehouse: Warehouse, card: TaskCard, files: Sequence[Any], base: Path | None, progress: Progress
) -> tuple[list[OtherAnswers], list[str]]:
    """Read predictions, a row for each text: its text or its id in the file of test, and a label.

    Args:
        warehouse: Where the texts of test are.
        card: What labels there are.
        files: Each a path, or a mapping of the keys that a source has.
        base: What relative paths are relative to.
        progress: Called after each batch of rows.

    Returns:
        The answers, and lines for a person: texts without an answer, and texts that were answered in two ways.

    Raises:
        InputError: A file that cannot be read, a row of no text of test, an unknown label, or a name that is taken.
    """
    text_nos = {content: number for number, content in split_hashes(warehouse, "test").items()}
    numbers = dict(warehouse.query("SELECT name, label_no FROM labels WHERE active ORDER BY label_no"))
    students = (name for (name,) in warehouse.query("SELECT system FROM models"))
    taken = {*BOUGHT, *FREE, "label_equivalents", *students, *(row.name for row in label_models(warehouse))}
    found, says = list[OtherAnswers](), list[str]()
    for spec in load_specs({"test": list(files)}, base=base, where="evaluate, rival").get("test", ()):
        name = re.sub(r"[^\w.-]+", "_", Path(spec.path).stem)
        if name in taken or name.startswith(PREFIX):
            raise InputError(f"there is a system `{name}` already", where=spec.name, fix="Give the file another name")
        taken.add(name)
        labels, twice = _read(spec, card, base, text_nos, ids_of(warehouse, "test"), numbers, progress)
        missing = sorted(set(text_nos.values()) - set(labels))
        if missing:
            first = origins(warehouse, missing[:1], "test")[missing[0]].words
            says.append(
                f"{spec.name}: {len(missing)} of {len(text_nos)} texts of test have no answer (first: {first});"
                f" `{name}` is scored on the others"
            )
        if twice:
            says.append(f"{spec.name}: {twice} texts are answered in two ways; the first answer counts")
        found.append(OtherAnswers(name, spec.name, labels))
    return found, says


def _read(
    spec: SourceSpec, card: TaskCard, base: Path | None, text_nos: Mapping[bytes, int], ids: Mapping[str, int],
    numbers: Mapping[str, int], progress: Progress,
) -> tuple[dict[int, frozenset[int]], int]:  # fmt: skip
    """Labels by text number, and how many texts have two different answers."""
    source = open_source(spec.reading(base))
    pick = Picker(spec.name, source)
    there = [pick.find(name) is not None for name in card.fields or TEXT_NAMES]
    by_text = spec.text is not None or (not isinstance(spec.id, str) and (all(there) if card.fields else any(there)))
    own = () if by_text else pick.own(spec.id, (), ())
    if not by_text and not (own and ids):
        raise InputError(
            "there is neither a column of texts nor one of ids that the file of test has too",
            where=spec.name,
            fix="Give each row its `text`, or its `id` as it stands in the file of test",
        )
    text, fields = (pick.text(spec.text, card.fields), card.fields) if by_text else (own, ())
    columns = Columns(text, pick.label(spec.label, text))
    cleaner = Cleaner(spec, source, columns, fields, numbers, card.kind)
    found: dict[int, frozenset[int]] = {}
    unknown: list[Row] = []
    twice: set[int] = set()
    for rows in usable_rows(source, cleaner, bad=[], left=[], progress=progress, what=f"{spec.name} read"):
        for row in rows:
            number = text_nos.get(row.content_hash) if by_text else ids.get(row.text)
            if number is None:
                unknown.append(row)
                continue
            labels = frozenset(label for label in row.labels if label >= 0)
            if found.setdefault(number, labels) != labels:
                twice.add(number)
    if unknown:
        what, like = ("a text", "") if by_text else ("an id", f", whose first id is {next(iter(ids))!r}")
        raise InputError(
            f"{len(unknown)} of the rows have {what} that test does not have (first: {unknown[0].text[:60]!r})",
            where=cleaner.place(unknown[0].row_no),
            fix=f"Keep the rows of test alone{like}",
        )
    return found, len(twice)


def predictions(answers: OtherAnswers, text_nos: NDArray[np.int32], shape: LabelSpace) -> Predictions:
    """The answers in the order of the rows of gold; a text without one was not asked."""
    said = [answers.labels.get(number) for number in text_nos.tolist()]
    asked = np.array([one is not None for one in said], bool)
    if shape.multi:
        labels: NDArray[Any] = np.zeros((len(said), len(shape.names)), bool)
        for row, one in enumerate(said):
            labels[row, sorted(one or ())] = True
    else:
        labels = np.array([min(one) if one else -1 for one in said], np.int64)
    return Predictions(labels, asked, np.zeros(len(said), bool), asked, None, {"rival": answers.path})
