"""Texts by number, by split and by content hash: the one place that asks for them.

A text is stored once, whatever its number of occurrences, and everything joins on its number. A split's texts are those with
an occurrence that is kept in it. Texts of origin `passage` are read, never labelled, and are in no split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from factory.files.rows import content_hash
from factory.warehouse.file import Warehouse, first_row, insert, next_no

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Texts:
    """All texts that may be labelled, in order of their number.

    Attributes:
        numbers: int32 [n], ascending text_no.
        train: bool [n], whether the text is in the split train.
    """

    numbers: NDArray[np.int32]
    train: NDArray[np.bool_]

    def rows(self, text_nos: NDArray[np.integer]) -> NDArray[np.integer]:
        """Row of each text number; see `known` for numbers that may be none of these."""
        first = int(self.numbers[0]) if len(self.numbers) else 0
        if len(self.numbers) and int(self.numbers[-1]) - first + 1 == len(self.numbers):
            return text_nos - first
        return np.searchsorted(self.numbers, text_nos)

    def known(self, rows: NDArray[np.integer], text_nos: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each row, as `rows` gave it, is that text's: bool."""
        inside: NDArray[np.bool_] = (rows >= 0) & (rows < len(self.numbers))
        if not inside.all():
            return np.asarray(inside & (self.numbers[np.where(inside, rows, 0)] == text_nos))
        same: NDArray[np.bool_] = self.numbers[rows] == text_nos
        return same


def labelled_texts(warehouse: Warehouse) -> Texts:
    """Every text but passages, and which are in train."""
    with warehouse.read() as db:
        found = db.execute(
            "SELECT t.text_no, s.text_no IS NOT NULL AS train FROM texts t"
            " LEFT JOIN (SELECT text_no FROM split_texts WHERE split = 'train') s USING (text_no)"
            " WHERE t.origin <> 'passage' ORDER BY t.text_no"
        ).fetchnumpy()
    return Texts(np.asarray(found["text_no"], np.int32), np.asarray(found["train"], bool))


def texts_of(warehouse: Warehouse, numbers: Sequence[int] | NDArray[np.integer]) -> dict[int, str]:
    """Texts by number; numbers that no text has are left out."""
    return {number: text for number, _, text in _by_number(warehouse, numbers)}


def hashes_of(warehouse: Warehouse, numbers: Sequence[int] | NDArray[np.integer]) -> dict[int, bytes]:
    """Content hashes (16 bytes) by text number; numbers that no text has are left out."""
    return {number: content for number, content, _ in _by_number(warehouse, numbers, "NULL")}


def split_hashes(warehouse: Warehouse, split: str) -> dict[int, bytes]:
    """Content hashes (16 bytes) of a split's texts by number, in order of number."""
    rows = warehouse.query(
        "SELECT text_no, content_hash FROM texts JOIN split_texts USING (text_no) WHERE split = ? ORDER BY text_no",
        [split],
    )
    return {int(number): bytes(content) for number, content in rows}


def split_numbers(warehouse: Warehouse, split: str) -> NDArray[np.int64]:
    """Numbers of a split's texts, int64 [n] ascending."""
    table = warehouse.arrow("SELECT text_no FROM split_texts WHERE split = ? ORDER BY text_no", [split])
    return np.asarray(table.column("text_no"), np.int64)


def in_split(warehouse: Warehouse, split: str, numbers: Sequence[int]) -> set[int]:
    """Those of some text numbers that are in a split."""
    rows = warehouse.query(
        "SELECT text_no FROM split_texts WHERE split = ? AND text_no IN (SELECT unnest(?::INTEGER[]))",
        [split, list(numbers)],
    )
    return {int(number) for (number,) in rows}


def sample_texts(
    warehouse: Warehouse, count: int, salt: str, *, split: str | None = "train", exclude: Sequence[int] = (),
    drawn_by: Literal["sha256", "md5"] = "sha256",
) -> list[tuple[int, str]]:  # fmt: skip
    """Numbers and texts, drawn by a hash of their content: the same texts wherever and whenever they were ingested.

    Args:
        warehouse: Where they are.
        count: Most texts.
        salt: What makes this draw another than the others.
        split: Of which split; None for every text that may be labelled.
        exclude: Text numbers that are left out.
        drawn_by: The hash. Recorded answers depend on it, so each use keeps its own.
    """
    here = (
        "origin <> 'passage'" if split is None else "text_no IN (SELECT text_no FROM split_texts WHERE split = $split)"
    )
    rows = warehouse.query(
        f"SELECT text_no, text FROM texts WHERE {here} AND text_no NOT IN (SELECT unnest($exclude::INTEGER[]))"
        f" ORDER BY {drawn_by}(concat($salt::VARCHAR, hex(content_hash))), content_hash LIMIT $count",
        {"exclude": list(exclude), "salt": salt, "count": max(count, 0)} | ({} if split is None else {"split": split}),
    )
    return [(int(number), text) for number, text in rows]


def numbers_of(warehouse: Warehouse, hashes: Sequence[bytes]) -> dict[bytes, int]:
    """Text numbers by content hash; hashes that no text has are left out."""
    with warehouse.read() as db:
        return _numbers(db, hashes)


def add_texts(db: duckdb.DuckDBPyConnection, texts: Sequence[str], origin: str) -> list[int]:
    """Text numbers of some texts; those that the warehouse lacks are added with this origin, in order.

    Args:
        db: A connection from `Warehouse.lease`.
        texts: Plain texts, without fields.
        origin: `synthetic` or `passage`.
    """
    import pyarrow as pa

    hashes = [content_hash(text) for text in texts]
    known = _numbers(db, hashes)
    number = next_no(db, "texts", "text_no")
    fresh: dict[bytes, str] = {}
    for content, text in zip(hashes, texts, strict=True):
        if content not in known:
            known[content] = number + len(fresh)
            fresh[content] = text
    insert(
        db,
        "texts",
        {
            "text_no": pa.array(range(number, number + len(fresh)), pa.int32()), "content_hash": list(fresh),
            "text": list(fresh.values()), "origin": [origin] * len(fresh),
        },
    )  # fmt: skip
    return [known[content] for content in hashes]


def texts_digest(warehouse: Warehouse) -> list[str]:
    """Counts and order-free hashes of all texts and of train, for a stage's key."""
    queries = (
        "SELECT count(*), coalesce(sum(hash(text_no, content_hash)::HUGEINT), 0)::VARCHAR FROM texts WHERE origin <> 'passage'",
        "SELECT count(*), coalesce(sum(hash(text_no)::HUGEINT), 0)::VARCHAR FROM split_texts WHERE split = 'train'",
    )
    with warehouse.read() as db:
        return [str(first_row(db.execute(query))) for query in queries]


def _by_number(
    warehouse: Warehouse, numbers: Sequence[int] | NDArray[np.integer], text: str = "text"
) -> list[tuple[int, bytes, str]]:
    wanted = np.unique(np.asarray(numbers, np.int32))
    if not len(wanted):
        return []
    with warehouse.read() as db:
        return db.execute(
            f"SELECT text_no, content_hash, {text} FROM texts WHERE text_no IN (SELECT unnest(?::INTEGER[]))", [wanted]
        ).fetchall()


def _numbers(db: duckdb.DuckDBPyConnection, hashes: Sequence[bytes]) -> dict[bytes, int]:
    rows = db.execute(
        "SELECT content_hash, text_no FROM texts WHERE content_hash IN (SELECT unnest(?::BLOB[]))",
        [sorted(set(hashes))],
    ).fetchall()
    return {bytes(content): int(number) for content, number in rows}
