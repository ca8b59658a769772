"""Reading one source into a staging file, and taking that file into the warehouse as the difference to what is there."""

from __future__ import annotations

import errno
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.corpus.splits import add_text_keys
from factory.errors import WarehouseError
from factory.files.base import BATCH_ROWS, BadRow, OpenSource
from factory.files.rows import Cleaner, LeftOut, drawn_per_label, usable_rows
from factory.result import Progress
from factory.warehouse.file import first_row, insert, next_no
from factory.warehouse.tables.gold import replace_gold

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Arrival:
    """One source, read and staged.

    Attributes:
        path: A Parquet file of row_no, content_hash, text, fields, labels, own.
        n_rows: Usable rows in it.
        bad: Unusable rows, by row number.
        left_out: How many rows each rule left out.
        exemplars: Row numbers of marked rule exemplars.
        content_digest: SHA-256 over number and content hash of every usable row, in order; it knows no label.
    """

    path: Path
    n_rows: int
    bad: tuple[BadRow, ...]
    left_out: Mapping[str, int]
    exemplars: tuple[int, ...]
    content_digest: str

    @property
    def n_bad(self) -> int:
        """How many rows are lost: more than there are unusable ones where rows could not be told apart."""
        return sum(row.lines for row in self.bad)


def stage_source(source: OpenSource, cleaner: Cleaner, folder: Path, *, progress: Progress, what: str) -> Arrival:
    """Read one source in bounded memory into a Parquet file in `folder`.

    Raises:
        InputError: Too many unusable rows.
        WarehouseError: The disk is full.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("row_no", pa.int64()), ("content_hash", pa.binary()), ("text", pa.string()), ("fields", pa.string()),
            ("labels", pa.list_(pa.int32())), ("own", pa.string()),
        ]
    )  # fmt: skip
    path = folder / "arrival.parquet"
    bad: list[BadRow] = []
    left: list[LeftOut] = []
    summed = hashlib.sha256()
    n_rows = 0
    with disk(path):
        writer = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False)
    try:
        batches = usable_rows(source, cleaner, bad=bad, left=left, progress=progress, what=what)
        if cleaner.spec.per_label is not None and cleaner.columns.label is not None:
            batches = drawn_per_label(batches, cleaner.spec.per_label, cleaner.spec.sample_seed)
        for rows in batches:
            for row in rows:
                summed.update(row.row_no.to_bytes(8, "big") + row.content_hash)
            n_rows += len(rows)
            for first in range(0, len(rows), BATCH_ROWS):
                part = rows[first : first + BATCH_ROWS]
                columns = [
                    [row.row_no for row in part], [row.content_hash for row in part], [row.text for row in part],
                    [row.fields for row in part], [list(row.labels) for row in part], [row.own for row in part],
                ]  # fmt: skip
                with disk(path):
                    writer.write_table(pa.table(columns, schema=schema))
    finally:
        with disk(path):
            writer.close()
    counts = Counter(row.reason for row in left)
    exemplars = tuple(row.row_no for row in left if row.reason == "exemplar")
    return Arrival(path, n_rows, tuple(bad), counts, exemplars, summed.hexdigest())


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WarehouseError("the disk is full", where=path.parent, fix="Free some space and run again") from error
        raise WarehouseError(
            f"cannot be written: {error.strerror or error}",
            where=path.parent,
            fix="Choose a folder where you may write",
        ) from error


def take_in(
    db: duckdb.DuckDBPyConnection, source_no: int, split: str, arrival: Arrival, *, gold: bool
) -> dict[str, int]:
    """Make the warehouse hold exactly the rows of an arrival for this source, writing the difference alone.

    Args:
        db: A lease's connection.
        source_no: The source's number.
        split: Its split.
        arrival: What was read.
        gold: Whether its labels go into `gold` (of `seed` and `dev`, never of another split).

    Returns:
        Counts: `new_texts`, `new_occurrences`, `gone_occurrences`, `own_changes`, `gold_changes`, `bad_changes`.

    Raises:
        ValueError: Gold of another split.
    """
    if gold and split not in ("seed", "dev"):
        raise ValueError(f"the gold of {split} does not belong in the warehouse")
    path = str(arrival.path).replace("'", "''")
    db.execute(f"CREATE OR REPLACE TEMP VIEW incoming AS SELECT * FROM read_parquet('{path}')")
    try:
        db.execute(
            """CREATE OR REPLACE TEMP TABLE fresh AS
               SELECT content_hash, first_row, ? - 1 + row_number() OVER (ORDER BY first_row) AS text_no
               FROM (SELECT content_hash, min(row_no) AS first_row FROM incoming GROUP BY content_hash) AS firsts
               WHERE NOT EXISTS (FROM texts WHERE texts.content_hash = firsts.content_hash)""",
            [next_no(db, "texts", "text_no")],
        )
        counts = {"new_texts": _changes(db, "SELECT count(*) FROM fresh")}
        for first, last in _stretches(db):
            db.execute(
                """INSERT INTO texts (text_no, content_hash, text, fields, origin)
                   SELECT fresh.text_no, incoming.content_hash, incoming.text, incoming.fields, 'corpus'
                   FROM incoming JOIN fresh ON incoming.row_no = fresh.first_row
                   WHERE incoming.row_no BETWEEN ? AND ? AND fresh.first_row BETWEEN ? AND ? ORDER BY fresh.text_no""",
                [first, last, first, last],
            )
        db.execute(
            """CREATE OR REPLACE TEMP TABLE located AS
               SELECT incoming.row_no, texts.text_no, incoming.labels, incoming.own
               FROM incoming JOIN texts USING (content_hash)"""
        )
        counts["gone_occurrences"] = _changes(
            db,
            """DELETE FROM occurrences WHERE source_no = $source AND NOT EXISTS
               (FROM located l WHERE l.row_no = occurrences.row_no AND l.text_no = occurrences.text_no)""",
            {"source": source_no},
        )
        counts["new_occurrences"] = _changes(
            db,
            """INSERT INTO occurrences (source_no, row_no, text_no, split, kept)
               SELECT $source, l.row_no, l.text_no, $split, true FROM located l WHERE NOT EXISTS
               (FROM occurrences o WHERE o.source_no = $source AND o.row_no = l.row_no) ORDER BY l.row_no""",
            {"source": source_no, "split": split},
        )
        add_text_keys(db)
        counts["own_changes"] = _take_own(db, source_no)
        counts["gold_changes"] = replace_gold(db, source_no, "located") if gold else 0
        counts["bad_changes"] = _take_bad(db, source_no, arrival)
    finally:
        db.execute("DROP VIEW IF EXISTS incoming")
        db.execute("DROP TABLE IF EXISTS fresh")
        db.execute("DROP TABLE IF EXISTS located")
    return counts


def _stretches(db: duckdb.DuckDBPyConnection) -> list[tuple[int, int]]:
    """Row numbers of the new texts in stretches small enough to be sorted in memory."""
    return db.execute(
        """SELECT min(first_row), max(first_row) FROM
           (SELECT first_row, (row_number() OVER (ORDER BY first_row) - 1) // 50000 AS part FROM fresh)
           GROUP BY part ORDER BY 1"""
    ).fetchall()


def _take_own(db: duckdb.DuckDBPyConnection, source_no: int) -> int:
    """The user's own columns of each row."""
    same = "new.row_no = occurrence_fields.row_no AND new.own = occurrence_fields.fields::VARCHAR"
    gone = _changes(
        db,
        f"DELETE FROM occurrence_fields WHERE source_no = $source AND NOT EXISTS (FROM located AS new WHERE {same})",
        {"source": source_no},
    )
    added = _changes(
        db,
        f"""INSERT INTO occurrence_fields (source_no, row_no, fields) SELECT $source, row_no, own FROM located AS new
            WHERE own IS NOT NULL AND NOT EXISTS (FROM occurrence_fields WHERE source_no = $source AND {same}) ORDER BY row_no""",
        {"source": source_no},
    )
    return gone + added


def _take_bad(db: duckdb.DuckDBPyConnection, source_no: int, arrival: Arrival) -> int:
    why = ("exemplar", "a hand-labelled rule example among the unlabelled texts")
    wanted = sorted(
        [(row.row_no, row.reason, row.detail) for row in arrival.bad] + [(row_no, *why) for row_no in arrival.exemplars]
    )
    present = db.execute(
        "SELECT row_no, drop_reason, detail FROM bad_rows WHERE source_no = ? ORDER BY ALL", [source_no]
    ).fetchall()
    if wanted == present:
        return 0
    db.execute("DELETE FROM bad_rows WHERE source_no = ?", [source_no])
    columns = {name: [row[at] for row in wanted] for at, name in enumerate(("row_no", "drop_reason", "detail"))}
    insert(db, "bad_rows", {"source_no": [source_no] * len(wanted), **columns})
    return len(set(wanted) ^ set(present))


def _changes(db: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
    row = first_row(db.execute(sql, parameters))
    return int(row[0]) if row else 0
