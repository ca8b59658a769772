"""Label models and the probabilities they gave: stored block by block, visible all at once, read back as arrays.

While blocks are written, the rows of `label_models` are missing and `label_drafts` holds the number of the first, so nobody
reads half of them and a run that was stopped goes on after the last block written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.warehouse.file import insert, next_no

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.warehouse.file import Warehouse

MIXTURE = "mixture"
"""Name of the label model that `distill` makes of programs and anchors; `denoise` neither makes nor chooses it."""
CHOSEN = (
    "(SELECT min(label_model_no) FROM label_models WHERE chosen"
    " AND list_contains((config -> 'systems')::VARCHAR[], 'student'))"
)
"""In SQL: the number of the label model that the student learns from, which was chosen without gold."""
THEN = (
    "(SELECT p.program_no FROM programs p LEFT JOIN program_events e ON e.program_no = p.program_no"
    " GROUP BY p.program_no, p.state HAVING coalesce(arg_max(e.state, e.rowid)"
    f" FILTER (WHERE e.happened_at <= (SELECT created_at FROM label_models WHERE label_model_no = {CHOSEN})),"
    " CASE WHEN count(e.state) = 0 THEN p.state END) = 'accepted')"
)
"""In SQL: the numbers of the programs that were accepted when that model was fitted."""


@dataclass(frozen=True)
class LabelModelRow:
    """A stored label model.

    Attributes:
        number: In the table.
        key: What it was fitted on and how.
        name: Of the table of models, with `_merged`, `_blended` and `_calibrated` where it is so.
        uncovered: What texts without votes were given: `drop`, `prior`, `default` or `ask`.
        chosen: Whether the student learns from it.
        systems: The students that it was chosen for.
        reason: Why, in words.
        config: Its configuration.
    """

    number: int
    key: str
    name: str
    uncovered: str
    chosen: bool
    systems: tuple[str, ...]
    reason: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class NewLabelModel:
    """A label model that is to be stored, but for its number.

    Attributes:
        key, name, systems, reason, config: As of `LabelModelRow`.
        params: What was learned, by problem.
    """

    key: str
    name: str
    systems: tuple[str, ...]
    reason: str
    config: Mapping[str, Any]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class SoftLabels:
    """Probabilities of some texts by one label model.

    Attributes:
        text_nos: int64 [n].
        probs: float64 [n, k] by label number; NaN where nothing is known.
        covered: bool [n], whether anything voted.
        tie: bool [n].
    """

    text_nos: NDArray[np.int64]
    probs: NDArray[np.float64]
    covered: NDArray[np.bool_]
    tie: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.text_nos)


# Reading --------------------------------------------------------------------------------------------------------------------
def label_models(warehouse: Warehouse) -> list[LabelModelRow]:
    """The label models with soft labels, the one that the student learns from first."""
    rows = warehouse.query(
        "SELECT label_model_no, key, name, config::VARCHAR, chosen, coalesce(reason, '') FROM label_models"
        " WHERE label_model_no IN (SELECT DISTINCT label_model_no FROM soft_labels) ORDER BY label_model_no"
    )
    found = []
    for number, key, name, text, chosen, reason in rows:
        config = json.loads(text) or {}
        systems = tuple(config.get("systems", ["student"] if chosen else []))
        fit = bool(chosen) and "student" in systems
        found.append(LabelModelRow(number, key, name, config.get("uncovered", "drop"), fit, systems, reason, config))
    return sorted(found, key=lambda row: (not row.chosen, row.number))


def chosen_params(warehouse: Warehouse) -> Mapping[str, Any]:
    """What the label model that the student learns from has learned, by problem; empty where there is none. It speaks of the
    programs of `THEN`."""
    rows = warehouse.query(f"SELECT params::VARCHAR FROM label_models m WHERE label_model_no = {CHOSEN}")
    return (json.loads(rows[0][0]) if rows and rows[0][0] else None) or {}


def counts_by_label(warehouse: Warehouse) -> dict[int, int]:
    """Of how many covered texts the label model that the student learns from holds each label for the likeliest."""
    rows = warehouse.query(
        "SELECT list_position(probs, list_max(probs)) - 1, count(*) FROM soft_labels"
        f" WHERE covered AND label_model_no = {CHOSEN} GROUP BY 1"
    )
    return {int(number): int(n) for number, n in rows if number is not None}


def chosen_for(warehouse: Warehouse, key: str) -> dict[str, list[str]]:
    """Names of the chosen label models of a key, with the students that they are for; empty if it was not finished."""
    rows = warehouse.query(
        "SELECT name, config ->> 'systems' FROM label_models WHERE key = ? AND chosen ORDER BY label_model_no", [key]
    )
    return {name: json.loads(systems) for name, systems in rows}


def soft_labels(
    warehouse: Warehouse, number: int | None = None, *, split: str | None = None, text_nos: Sequence[int] | None = None
) -> SoftLabels:
    """Probabilities by a label model, in order of text number.

    Args:
        warehouse: Where they are.
        number: Of the label model; None for the one that the student learns from.
        split: Of the texts kept in this split only.
        text_nos: Of these texts only; those that have none are left out.
    """
    model = CHOSEN if number is None else "$number"
    wanted = {"number": number, "split": split, "texts": None if text_nos is None else np.asarray(text_nos, np.int32)}
    parts = [f"label_model_no = {model}"]
    if split is not None:
        parts.append("text_no IN (SELECT text_no FROM split_texts WHERE split = $split)")
    if text_nos is not None:
        parts.append("text_no IN (SELECT unnest($texts::INTEGER[]))")
    with warehouse.read() as db:
        table = db.sql(
            f"SELECT text_no, probs, covered, tie FROM soft_labels WHERE {' AND '.join(parts)} ORDER BY text_no",
            params={name: value for name, value in wanted.items() if value is not None},
        ).to_arrow_table()
    n = table.num_rows
    flat = table.column("probs").combine_chunks().flatten()
    probs = np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(n, -1 if n else 0)
    covered, tie = (np.asarray(table.column(name).to_numpy(zero_copy_only=False), bool) for name in ("covered", "tie"))
    return SoftLabels(np.asarray(table.column("text_no"), np.int64), probs, covered, tie)


def drawn_soft_labels(
    warehouse: Warehouse, most: int, *, covered: bool = False, put_last: NDArray[np.int32] | None = None
) -> tuple[SoftLabels, int]:
    """Of train texts, those that the student learns from, at most so many, drawn by content hash.

    Args:
        warehouse: Where they are.
        most: How many.
        covered: Only of texts that something voted on.
        put_last: Numbers of texts that are drawn only if there is room.

    Returns:
        The probabilities, in order of text number, and of how many texts there are some.
    """
    where = f"s.label_model_no = {CHOSEN} AND s.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
    where += " AND s.covered" if covered else ""
    total = int(warehouse.scalar(f"SELECT count(*) FROM soft_labels s WHERE {where}"))
    with warehouse.read() as db:
        rows = db.execute(
            f"SELECT s.text_no FROM soft_labels s JOIN texts t USING (text_no) WHERE {where}"
            " ORDER BY s.text_no IN (SELECT unnest($last::INTEGER[])), t.content_hash LIMIT $most",
            {"last": [] if put_last is None else put_last, "most": most},
        ).fetchall()
    return soft_labels(warehouse, text_nos=[number for (number,) in rows]), total


def soft_digest(warehouse: Warehouse, number: int) -> str:
    """A digest of a label model's soft labels on the texts of train and on accepted synthetic ones."""
    count, mixed = warehouse.query(
        "SELECT count(*), bit_xor(md5_number(concat_ws('|', s.text_no, s.probs, s.covered, s.tie)))"
        " FROM soft_labels s WHERE s.label_model_no = ? AND (s.text_no IN"
        " (SELECT text_no FROM split_texts WHERE split = 'train') OR s.text_no IN"
        " (SELECT text_no FROM synthetic WHERE state = 'accepted'))",
        [number],
    )[0]
    return f"{count}:{mixed or 0:x}"


# Writing --------------------------------------------------------------------------------------------------------------------
def begin(warehouse: Warehouse, key: str) -> int:
    """The number of the first label model of a key: as reserved by a run that was stopped, else a new one.

    Blocks that a run with another key left behind are deleted.
    """
    with warehouse.lease() as db:
        left = db.execute("SELECT first_no FROM label_drafts WHERE key = ?", [key]).fetchall()
        if left:
            return int(left[0][0])
        first = next_no(db, "label_models", "label_model_no")
        db.execute("DELETE FROM soft_labels WHERE label_model_no >= ?", [first])
        db.execute("DELETE FROM label_drafts")
        db.execute("INSERT INTO label_drafts VALUES (?, ?)", [key, first])
    return first


def written(warehouse: Warehouse, number: int) -> int:
    """How many texts a label model's blocks hold by now."""
    return int(warehouse.scalar("SELECT count(*) FROM soft_labels WHERE label_model_no = ?", [number]))


def put_block(
    warehouse: Warehouse, number: int, text_nos: NDArray[np.int32], probs: NDArray[np.float32],
    known: NDArray[np.bool_] | None, covered: NDArray[np.bool_], tie: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Store a block of probabilities in a transaction of its own.

    Args:
        warehouse: Where to.
        number: Of the label model, from `begin`.
        text_nos: int32 [n].
        probs: float32 [n, label numbers].
        known: bool [n, label numbers], which of them are known; None: all.
        covered: bool [n].
        tie: bool [n].
    """
    import pyarrow as pa

    flat = pa.array(probs.ravel(), pa.float32(), mask=None if known is None else ~known.ravel())
    rows = pa.FixedSizeListArray.from_arrays(flat, probs.shape[1]).cast(pa.list_(pa.float32()))
    columns = {"label_model_no": np.full(len(probs), number, np.int32), "text_no": text_nos, "probs": rows}
    with warehouse.lease() as db:
        insert(db, "soft_labels", pa.table({**columns, "covered": covered, "tie": tie}))


def publish(warehouse: Warehouse, first: int, models: Sequence[NewLabelModel]) -> None:
    """Make the written label models visible, numbered from `first`, and take the probabilities of earlier ones away."""
    with warehouse.lease() as db:
        db.execute("DELETE FROM soft_labels WHERE label_model_no < ?", [first])
        db.execute("UPDATE label_models SET chosen = false WHERE chosen")
        for number, model in enumerate(models, start=first):
            _insert_model(db, number, model)
        db.execute("DELETE FROM label_drafts")


# The mixture ----------------------------------------------------------------------------------------------------------------
def mixture(warehouse: Warehouse, key: str) -> LabelModelRow | None:
    """The mixture on record, if it is the one of this key and its probabilities are there."""
    found = [row for row in label_models(warehouse) if row.name == MIXTURE and row.key == key]
    return found[-1] if found else None


def put_mixture(
    warehouse: Warehouse, model: NewLabelModel, text_nos: NDArray[np.int32], probs: NDArray[np.float32],
    known: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Store the mixture with its probabilities in one transaction, in place of an earlier one; the label models stay.

    Args:
        warehouse: Where to.
        model: What it is.
        text_nos: int32 [n].
        probs: float32 [n, label numbers].
        known: bool [n, label numbers], which of them are known.
    """
    with warehouse.lease() as db:
        forget_mixture(warehouse)
        number = next_no(db, "label_models", "label_model_no")
        db.execute("DELETE FROM label_drafts")
        db.execute("DELETE FROM soft_labels WHERE label_model_no >= ?", [number])
        _insert_model(db, number, model)
        every, none = np.ones(len(probs), bool), np.zeros(len(probs), bool)
        put_block(warehouse, number, text_nos, probs, known, every, none)


def forget_mixture(warehouse: Warehouse) -> None:
    """Take the mixture away, if there is one."""
    if not warehouse.scalar("SELECT count(*) FROM label_models WHERE name = ?", [MIXTURE]):
        return
    with warehouse.lease() as db:
        db.execute(
            "DELETE FROM soft_labels WHERE label_model_no IN (SELECT label_model_no FROM label_models WHERE name = ?)",
            [MIXTURE],
        )
        db.execute("DELETE FROM label_models WHERE name = ?", [MIXTURE])


def _insert_model(db: Any, number: int, model: NewLabelModel) -> None:
    db.execute(
        "INSERT INTO label_models (label_model_no, key, name, config, params, chosen, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            number, model.key, model.name, json.dumps({**model.config, "systems": list(model.systems)}),
            json.dumps(dict(model.params)), bool(model.systems), model.reason,
        ],
    )  # fmt: skip
