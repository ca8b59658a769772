"""Which rows stay in their split: what stands in `test` leaves the others, and gold that contradicts itself is told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from factory.names import folded
from factory.task import label_names
from factory.warehouse.file import Warehouse, first_row, insert
from factory.warehouse.tables.gold import KEPT_ROWS

if TYPE_CHECKING:
    import duckdb

LEFT = {"in_test": "stand in test", "like_test": "differ from a text of test in case, blanks or accents' form alone"}
"""Why an occurrence leaves its split, and in words."""

LikeTest = Literal["leave", "keep"]
"""What becomes of a text that differs from one of `test` in case, blanks or accents' form alone."""

_PAGE = 20_000
_SHOWN = 3


def text_key(text: str) -> int:
    """What two texts are compared by where case, blanks and the form of accents do not count: a signed integer of 64 bits."""
    return int.from_bytes(hashlib.sha256(folded(text).encode()).digest()[:8], "big", signed=True)


def add_text_keys(db: duckdb.DuckDBPyConnection) -> None:
    """Store the key of every text of a split that lacks one, in bounded memory."""
    db.execute(
        "CREATE OR REPLACE TEMP TABLE unkeyed AS SELECT DISTINCT text_no FROM occurrences"
        " WHERE text_no NOT IN (SELECT text_no FROM text_keys)"
    )
    pages = db.execute(
        f"SELECT min(text_no), max(text_no) FROM (SELECT text_no, (row_number() OVER (ORDER BY text_no) - 1) // {_PAGE} AS page"
        " FROM unkeyed) GROUP BY page ORDER BY 1"
    ).fetchall()
    for first, last in pages:
        rows = db.execute(
            "SELECT text_no, text FROM texts WHERE text_no BETWEEN ? AND ? AND text_no IN (FROM unkeyed) ORDER BY text_no",
            [first, last],
        ).fetchall()
        insert(db, "text_keys", {"text_no": [row[0] for row in rows], "folded": [text_key(row[1]) for row in rows]})
    db.execute("DROP TABLE unkeyed")


def settle_splits(db: duckdb.DuckDBPyConnection, *, like_test: LikeTest = "leave") -> int:
    """A text of `test`, and one that is like it but for case and blanks, leaves every other split; it comes back when the one in
    `test` is no longer there.

    Args:
        db: A lease's connection.
        like_test: `keep` lets exact copies leave alone.

    Returns:
        How many occurrences changed.
    """
    add_text_keys(db)
    db.execute("CREATE OR REPLACE TEMP TABLE tested AS SELECT DISTINCT text_no FROM occurrences WHERE split = 'test'")
    db.execute(
        "CREATE OR REPLACE TEMP TABLE like_tested AS SELECT text_no FROM text_keys WHERE folded IN"
        f" (SELECT folded FROM text_keys WHERE text_no IN (FROM tested)) AND {'true' if like_test == 'leave' else 'false'}"
        " UNION FROM tested"
    )
    away = "kept = false, leave_reason = '{0}' WHERE split <> 'test' AND leave_reason IS DISTINCT FROM '{0}'"
    changes = (
        f"{away.format('in_test')} AND text_no IN (FROM tested)",
        f"{away.format('like_test')} AND text_no IN (FROM like_tested) AND text_no NOT IN (FROM tested)",
        "kept = true, leave_reason = NULL WHERE leave_reason IS NOT NULL AND text_no NOT IN (FROM like_tested)",
    )
    changed = [first_row(db.execute(f"UPDATE occurrences SET {change}")) for change in changes]
    db.execute("DROP TABLE tested")
    db.execute("DROP TABLE like_tested")
    return sum(int(row[0]) for row in changed if row)


def is_settled(warehouse: Warehouse, like_test: LikeTest) -> bool:
    """Whether every text has its key (one of an earlier version has none), and texts that are like those of `test` are where
    `like_test` wants them."""
    keyed = "SELECT (SELECT count(*) FROM text_keys) >= (SELECT count(*) FROM texts WHERE origin = 'corpus')"
    if not warehouse.scalar(keyed):
        return False
    if like_test == "keep":
        return not warehouse.scalar("SELECT count(*) FROM occurrences WHERE leave_reason = 'like_test'")
    return not warehouse.scalar(
        """SELECT count(*) FROM occurrences JOIN text_keys USING (text_no) WHERE kept AND split <> 'test' AND folded IN
           (SELECT folded FROM text_keys WHERE text_no IN (SELECT text_no FROM occurrences WHERE split = 'test'))"""
    )


def shared_texts(warehouse: Warehouse) -> int:
    """How many texts of `train` stand in `dev` or `seed`, too, case and blanks apart."""
    return int(
        warehouse.scalar(
            """SELECT count(*) FROM (
                 SELECT DISTINCT folded FROM text_keys JOIN occurrences USING (text_no) WHERE kept AND split = 'train'
                 INTERSECT
                 SELECT folded FROM text_keys JOIN occurrences USING (text_no) WHERE kept AND split IN ('seed', 'dev'))"""
        )
    )


def alike_texts(warehouse: Warehouse) -> int:
    """How many texts of `train` differ from an earlier one of it in case, blanks or accents' form alone."""
    return int(
        warehouse.scalar(
            "SELECT count(DISTINCT text_no) - count(DISTINCT folded) FROM text_keys JOIN split_texts USING (text_no)"
            " WHERE split = 'train'"
        )
    )


def contradictions(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Texts that gold of `dev` or `seed` gives different labels, case and blanks apart.

    Returns:
        For each `text` and `said`: (labels, place) of each row, in the order of the sources.
    """
    rows = warehouse.query(
        f"""WITH labelled AS (
             SELECT k.folded, g.source_no, g.row_no, t.text, p.place, g.label_nos
             FROM {KEPT_ROWS} g JOIN places p USING (source_no, row_no, text_no) JOIN texts t USING (text_no)
                  JOIN text_keys k USING (text_no))
           SELECT folded, text, label_nos, place FROM labelled
           WHERE folded IN (SELECT folded FROM labelled GROUP BY folded HAVING count(DISTINCT label_nos) > 1)
           ORDER BY min(source_no * 1e12 + row_no) OVER (PARTITION BY folded), source_no, row_no"""
    )
    names = label_names(warehouse)
    found: dict[int, dict[str, Any]] = {}
    for key, text, numbers, place in rows:
        said = [names[number] for number in numbers]
        found.setdefault(key, {"text": text, "said": []})["said"].append((said, place))
    return list(found.values())


def contradiction_words(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first contradictions in words, and how many there are in all."""
    says = []
    for one in found[:_SHOWN]:
        said = ", ".join(f"{' and '.join(labels) or 'no label'} in {place}" for labels, place in one["said"][:4])
        says.append(f"gold contradicts itself: {' '.join(one['text'].split())[:60]!r} is {said}")
    if len(found) > _SHOWN:
        says.append(f"gold contradicts itself on {len(found)} texts in all")
    return says
