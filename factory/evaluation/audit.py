"""Quality without gold: how often systems agree with the annotator on the audit slice. That is no accuracy: it errs too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.systems import LabelSpace, label_model_systems, student_systems
from factory.warehouse.tables.anchors import Anchor, read_anchors
from factory.warehouse.tables.labels import MIXTURE, label_models
from factory.warehouse.tables.texts import hashes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.warehouse.file import Warehouse

LEAST = 10
"""Texts of which a share is told."""
LEAST_PEOPLE = 50
"""Answers of people, from which on the annotator's own error is told."""


@dataclass(frozen=True)
class Agreed:
    """How often two say the same.

    Attributes:
        n: Texts.
        share: On which they do, 0 to 1.
        low, high: Its 95 % interval (Wilson 1927).
    """

    n: int
    share: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """As `86% (78% to 91%) of 100`."""
        return f"{self.share:.0%} ({self.low:.0%} to {self.high:.0%}) of {self.n}"


def agreed(same: int, n: int) -> Agreed:
    """The share with its interval.

    Example:
        >>> agreed(86, 100).words
        '86% (78% to 91%) of 100'
    """
    z = 1.959964
    share, spread = same / n, z * z / n
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return Agreed(n, share, max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0))


def audit_of(warehouse: Warehouse) -> dict[str, Any] | None:
    """What the audit slice tells; None where there is none, or less than ten texts of it.

    Returns:
        `n`; `systems`: for each student, the chosen label model and the mixture `system`, `n`, `share`, `low`, `high` and
        `labels` (by the annotator's label: how often, and how often the system says the same); `people`: the annotator against
        people, or None; `shares` of the labels by the annotator; `sentences` for a person.
    """
    audit = read_anchors(warehouse, "audit", "model")
    if len(audit) < LEAST:
        return None
    labels = warehouse.query("SELECT name, active FROM labels ORDER BY label_no")
    multi = warehouse.scalar("SELECT kind FROM tasks ORDER BY task_no DESC LIMIT 1") == "multi"
    shape = LabelSpace([name for name, _ in labels], np.array([active for _, active in labels], bool), multi)
    said = _said(warehouse, np.array([one.text_no for one in audit], np.int32), shape)
    systems = []
    for name, given in said.items():
        same = [one.labels == of for one, of in zip(audit, given, strict=True)]
        found = agreed(sum(same), len(same))
        by_label = {
            label: [sum(number in one.labels for one in audit),
                    sum(number in one.labels and number in of for one, of in zip(audit, given, strict=True))]
            for number, label in enumerate(shape.names)
        }  # fmt: skip
        systems.append({"system": name, **vars(found), "words": found.words, "labels": by_label})
    people = _people(audit, read_anchors(warehouse, "audit", "person"))
    shares = {
        label: round(sum(number in one.labels for one in audit) / len(audit), 4)
        for number, label in enumerate(shape.names)
    }
    return {
        "n": len(audit), "systems": systems, "people": None if people is None else {**vars(people), "words": people.words},
        "shares": shares, "sentences": _sentences(systems, people),
    }  # fmt: skip


def _said(warehouse: Warehouse, text_nos: NDArray[np.int32], shape: LabelSpace) -> dict[str, list[frozenset[int]]]:
    """What each system says of some training texts, by its name."""
    from factory.encoders.vectors import vectors_of
    from factory.students.base import TextsAndVectors
    from factory.students.stored import texts_of

    found = hashes_of(warehouse, text_nos)
    hashes, texts = [found[int(number)] for number in text_nos], texts_of(warehouse, text_nos.tolist())
    students = student_systems(
        warehouse, hashes, shape,
        lambda encoder: texts if encoder is None else TextsAndVectors(texts, vectors_of(warehouse, encoder, text_nos)),
    )  # fmt: skip
    models = label_model_systems(warehouse, text_nos, hashes, shape)
    wanted = [row.name for row in label_models(warehouse) if row.chosen or row.name == MIXTURE]
    systems = {**students, **{name: models[name] for name in wanted if name in models}}
    if shape.multi:
        return {name: [frozenset(np.flatnonzero(row).tolist()) for row in of.labels] for name, of in systems.items()}
    return {name: [frozenset([int(label)]) for label in of.labels] for name, of in systems.items()}


def _people(audit: Sequence[Anchor], people: Sequence[Anchor]) -> Agreed | None:
    """The annotator against people, on the texts that both answered."""
    theirs = {one.text_no: one.labels for one in people}
    same = [one.labels == theirs[one.text_no] for one in audit if one.text_no in theirs]
    return agreed(sum(same), len(same)) if same else None


def _sentences(systems: Sequence[Mapping[str, Any]], people: Agreed | None) -> list[str]:
    said = [f"`{row['system']}` agrees with the language model on {row['words']} texts." for row in systems]
    if people is None or people.n < LEAST_PEOPLE:
        answered = 0 if people is None else people.n
        said.append(
            "This is agreement, not accuracy: the language model errs too, and how often is not known until people have answered"
            f" some {LEAST_PEOPLE} of these texts ({answered} so far)."
        )
    if people is not None:
        said.append(f"The language model agrees with people on {people.words} of these texts.")
    return said
