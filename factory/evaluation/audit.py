"""Quality without gold: how often systems agree with the annotator on the audit slice, and what people's answers make of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.definitions import definitions_of
from factory.evaluation.estimate import estimated
from factory.evaluation.heard import beside_anchors, confidence, grouped, heard, inputs_of, labels_of, named
from factory.evaluation.rivals import combination, model_labels, spent_on, teacher_labels
from factory.evaluation.systems import label_space, taught_by
from factory.intervals import wilson
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.texts import hashes_of, texts_of

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

LEAST = 10
"""Texts of which a share is told."""
LEAST_PEOPLE = 50
"""Answers of people, from which on accuracy is estimated."""
RIVALS = (100, 300, 600, 2000)
"""Numbers of labels that rivals learn from where there is no test."""


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
    def as_json(self) -> dict[str, Any]:
        """With `words`, as `86% (78% to 91%) of 100`."""
        return {**vars(self), "words": f"{self.share:.0%} ({self.low:.0%} to {self.high:.0%}) of {self.n}"}


def agreed(same: int, n: int) -> Agreed:
    """The share with its interval.

    Example:
        >>> agreed(86, 100).as_json["words"]
        '86% (78% to 91%) of 100'
    """
    return Agreed(n, same / n, *wilson(same / n, n))


def audit_of(warehouse: Warehouse, *, rivals: bool = False) -> dict[str, Any] | None:
    """What the audit slice tells; None where there is none, or less than ten texts of it.

    Args:
        warehouse: Where it is.
        rivals: Whether to train rivals on the model's other labels, for a report that has no other table.

    Returns:
        `n`; `systems`: for each student, the chosen label model, the mixture and each rival `system`, `n`, `share`, `low`,
        `high`, `labels` (by the annotator's label: how often, and how often the system says the same), `spent`, `accuracy` (an
        `Estimate`, or None without answers of people enough); `people`: the annotator against people, or None; `mine`, the
        combination, and the label model that it was `taught_by`; `shares` of the
        labels by the annotator; `pairs` of what it and the combination say where they differ; `definitions`, pairs of labels that
        people read otherwise than the annotator; `sentences` for a person.
    """
    audit = read_anchors(warehouse, "audit", "model")
    if len(audit) < LEAST:
        return None
    shape, numbers = label_space(warehouse), np.array([one.text_no for one in audit], np.int32)
    theirs, people = (
        [one.labels for one in audit],
        {one.text_no: one.labels for one in read_anchors(warehouse, "audit", "person")},
    )
    said = heard(warehouse, numbers, shape)
    mine, spent = combination(said), {name: one.as_json for name, one in spent_on(warehouse, list(said)).items()}
    if rivals and mine is not None:
        found = hashes_of(warehouse, numbers)
        more = teacher_labels(
            warehouse, lambda encoder, of: inputs_of(warehouse, encoder, of), model_labels(warehouse, but=numbers.tolist()),
            numbers, [found[number] for number in numbers.tolist()], shape, RIVALS, spent[mine]["tokens"],
        )  # fmt: skip
        said, spent = said | more, spent | {name: one.facts["spent"] for name, one in more.items()}
    answered = np.array([one.text_no in people for one in audit])
    elsewhere = {}
    if answered.sum() >= LEAST_PEOPLE and (beside := list(beside_anchors(warehouse))):
        sure = heard(warehouse, np.array(beside, np.int32), shape)
        elsewhere = {name: confidence(one, shape) for name, one in sure.items()}
    systems = []
    for name, one in said.items():
        given = labels_of(one)
        same = np.array([a == b for a, b in zip(theirs, given, strict=True)])
        row = {"system": name, **agreed(int(same.sum()), len(same)).as_json, "spent": spent.get(name), "accuracy": None}
        row["labels"] = {
            label: [sum(no in of for of in theirs), sum(no in a & b for a, b in zip(theirs, given, strict=True))]
            for no, label in enumerate(shape.names)
        }
        if answered.sum() >= LEAST_PEOPLE:
            right = np.array([given[at] == people[audit[at].text_no] for at in np.flatnonzero(answered)])
            sure_here = confidence(one, shape)
            signs = [(same[answered].astype(float), same[~answered].astype(float)),
                     (sure_here[answered], np.concatenate([sure_here[~answered], elsewhere.get(name, [])]))]  # fmt: skip
            told = estimated(right, signs)
            row["accuracy"] = {**vars(told), "words": told.words}
        systems.append(row)
    both = [one.labels == people[one.text_no] for one in audit if one.text_no in people]
    judged = agreed(sum(both), len(both)).as_json if both else None
    differ = [] if mine is None else zip(numbers.tolist(), theirs, labels_of(said[mine]), strict=True)
    texts = texts_of(warehouse, numbers)
    return {
        "n": len(audit), "systems": systems, "people": judged, "mine": mine, "taught_by": taught_by(warehouse).get(mine or ""),
        "shares": {name: round(sum(no in of for of in theirs) / len(audit), 4) for no, name in enumerate(shape.names)},
        "pairs": grouped(
            (f"{named(a, shape)} to the language model, {named(b, shape)} to `{mine}`", texts[no])
            for no, a, b in differ if a != b
        ),
        "sentences": _sentences(systems, judged), "definitions": definitions_of(warehouse),
    }  # fmt: skip


def _sentences(systems: Sequence[Mapping[str, Any]], people: Mapping[str, Any] | None) -> list[str]:
    said = [f"`{row['system']}` agrees with the language model on {row['words']} texts." for row in systems]
    if people is None or people["n"] < LEAST_PEOPLE:
        said.append(
            "This is agreement, not accuracy: the language model errs too, and how often is not known until people have answered"
            f" some {LEAST_PEOPLE} of these texts ({people['n'] if people else 0} so far):"
            " `factory ask RUN --strategy audit --budget 50 --out audit.csv`."
        )
    if people is not None:
        said.append(f"The language model agrees with people on {people['words']} of these texts.")
    for row in systems:
        if row["accuracy"] is not None:
            low, high = row["accuracy"]["alone"]
            said.append(
                f"`{row['system']}` is right on an estimated {row['accuracy']['words']}, by {row['accuracy']['n']} answers of"
                f" people and what the language model said of {row['n']}; those answers alone would say {low:.0%} to {high:.0%}."
            )
    return said
