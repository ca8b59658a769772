"""The table `anchors`: training texts labelled by the model or by people, which judge programs and teach, and are never gold.

The audit slice is for estimates alone: whatever trains, weighs or chooses reads the role `teach`. The model's anchors are those
of the plan that was asked for last; people's stay, and take the role of the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from factory.warehouse.file import insert

if TYPE_CHECKING:
    import duckdb

    from factory.warehouse.file import Warehouse

Role = Literal["audit", "teach"]
Source = Literal["model", "person"]


@dataclass(frozen=True)
class Anchor:
    """What was said of one text.

    Attributes:
        text_no: The text.
        labels: Numbers of the labels that apply; exactly one in a `single` task.
        source: Who said it: `person` wherever a person did.
        stratum: What the programs said of the text when it was drawn, or None.
        p: Its probability of being drawn, in (0, 1], or None where nobody drew it.
    """

    text_no: int
    labels: frozenset[int]
    source: Source
    stratum: str | None
    p: float | None


@dataclass(frozen=True)
class NewAnchor:
    """An anchor of the model that is to be stored.

    Attributes:
        text_no, labels, stratum, p: As of `Anchor`.
        role: `audit` or `teach`.
        slot_no: Of its plan.
        prob: What the answer's logprobs give it, or None.
    """

    text_no: int
    labels: frozenset[int]
    role: Role
    stratum: str
    p: float
    slot_no: int
    prob: float | None = None


# Reading --------------------------------------------------------------------------------------------------------------------
def read_anchors(warehouse: Warehouse, role: Role, source: Source | None = None) -> list[Anchor]:
    """The anchors of one role, in order of text number.

    Args:
        warehouse: Where they are.
        role: `audit` or `teach`.
        source: Of the model or of people alone; both by default, a person's answer in place of the model's. Of several people
            the most frequent answer counts, and of equally frequent ones that with the lowest label.
    """
    rows = warehouse.query(
        "SELECT text_no, label_no, yes, source, coalesce(annotator, ''), stratum, p FROM anchors WHERE role = ? ORDER BY ALL",
        [role],
    )
    drawn: dict[int, tuple[str | None, float | None]] = {}
    said: dict[int, dict[str, dict[str, set[int]]]] = {}
    for text_no, label_no, yes, by, annotator, stratum, p in rows:
        if by == "model" or text_no not in drawn:
            drawn[text_no] = (stratum, p)
        labels = said.setdefault(text_no, {}).setdefault(by, {}).setdefault(annotator, set())
        labels |= {label_no} if yes else set()
    found = []
    for text_no, by_source in sorted(said.items()):
        who: Source = source or ("person" if "person" in by_source else "model")
        if who in by_source:
            counts = Counter(frozenset(labels) for labels in by_source[who].values())
            best = min(counts, key=lambda labels: (-counts[labels], sorted(labels)))
            found.append(Anchor(text_no, best, who, *drawn[text_no]))
    return found


def audit_texts(warehouse: Warehouse) -> list[int]:
    """Numbers of the texts of the audit slice, ascending."""
    rows = warehouse.query("SELECT DISTINCT text_no FROM anchors WHERE role = 'audit' AND source = 'model' ORDER BY 1")
    return [int(number) for (number,) in rows]


def model_plan(warehouse: Warehouse) -> int | None:
    """The number of the plan whose answers are the model's anchors, or None."""
    found = warehouse.scalar("SELECT max(plan_no) FROM anchors WHERE source = 'model'")
    return None if found is None else int(found)


def teaching_digest(warehouse: Warehouse) -> str:
    """A digest of the anchors that teach; nothing of the audit slice but which texts it takes away."""
    count, mixed = warehouse.query(
        "SELECT count(*), coalesce(sum(hash(text_no, label_no, yes, source, annotator, p)::HUGEINT), 0)::VARCHAR FROM anchors"
        " WHERE role = 'teach'"
    )[0]
    return f"{count}:{mixed}"


# Writing --------------------------------------------------------------------------------------------------------------------
def put_model(
    db: duckdb.DuckDBPyConnection, plan_no: int, given: Sequence[NewAnchor], multi_labels: Sequence[int] | None
) -> None:
    """Store a plan's answers as the model's anchors, in place of those of another plan.

    Args:
        db: A connection from `Warehouse.lease`.
        plan_no: The plan.
        given: Its anchors.
        multi_labels: In a `multi` task the numbers of all labels, each of which gets a row; None in a `single` one.
    """
    import pyarrow as pa

    db.execute("DELETE FROM anchors WHERE source = 'model'")
    rows = [
        (one.text_no, label, yes, one.role, one.stratum, one.p, one.prob, one.slot_no)
        for one in given
        for label, yes in _by_label(one.labels, multi_labels)
    ]
    names = ("text_no", "label_no", "yes", "role", "stratum", "p", "prob", "slot_no")
    types = (pa.int32(), pa.int32(), pa.bool_(), pa.string(), pa.string(), pa.float64(), pa.float64(), pa.int32())
    columns = zip(names, types, zip(*rows, strict=True), strict=True) if rows else ()
    table = {name: pa.array(values, kind) for name, kind, values in columns}
    if table:
        insert(
            db,
            "anchors",
            {**table, "source": ["model"] * len(rows), "plan_no": pa.array([plan_no] * len(rows), pa.int32())},
        )
    db.execute(
        "UPDATE anchors SET role = CASE WHEN text_no IN (SELECT text_no FROM anchors WHERE source = 'model' AND role = 'audit')"
        " THEN 'audit' ELSE 'teach' END WHERE source = 'person'"
    )


def put_person(
    db: duckdb.DuckDBPyConnection,
    answers: Mapping[int, Collection[int]],
    annotator: str | None,
    multi_labels: Sequence[int] | None,
) -> None:
    """Store a person's answers as anchors, in place of what the same person said of the same texts before.

    Args:
        db: A connection from `Warehouse.lease`.
        answers: Label numbers by text number.
        annotator: The person's name, or None.
        multi_labels: As `put_model` takes them.
    """
    forget_person(db, list(answers), annotator)
    rows = [
        (text_no, label, yes) for text_no, labels in answers.items() for label, yes in _by_label(labels, multi_labels)
    ]
    db.executemany(
        "INSERT INTO anchors (text_no, label_no, yes, role, source, annotator) SELECT $1, $2, $3,"
        " CASE WHEN EXISTS (SELECT 1 FROM anchors WHERE source = 'model' AND role = 'audit' AND text_no = $1)"
        " THEN 'audit' ELSE 'teach' END, 'person', $4",
        [(*row, annotator) for row in rows],
    )


def forget_person(db: duckdb.DuckDBPyConnection, text_nos: Sequence[int], annotator: str | None) -> None:
    """Take away what a person said of these texts."""
    db.execute(
        "DELETE FROM anchors WHERE source = 'person' AND annotator IS NOT DISTINCT FROM ? AND text_no IN"
        " (SELECT unnest(?::INTEGER[]))",
        [annotator, list(text_nos)],
    )


def _by_label(labels: Collection[int], every: Sequence[int] | None) -> list[tuple[int, bool]]:
    return [(label, True) for label in labels] if every is None else [(label, label in labels) for label in every]
