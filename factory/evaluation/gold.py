"""The gold of `test` and `reference`: how its file is made and read. Only `factory.evaluation.stage` opens that file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.files.rows import NO_LABEL, Row

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

SCHEMA = """
CREATE TABLE IF NOT EXISTS sources (
    split VARCHAR NOT NULL, path VARCHAR NOT NULL, state VARCHAR NOT NULL, n_rows BIGINT NOT NULL, n_unlabelled BIGINT NOT NULL,
    n_elsewhere BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS gold (
    split VARCHAR NOT NULL, path VARCHAR NOT NULL, row_no BIGINT NOT NULL, text_no INTEGER NOT NULL, label_no INTEGER NOT NULL);
-- Published votes of human-written rules on test, abstentions left out; vote is a label number, `rules` how many there are.
CREATE TABLE IF NOT EXISTS human_votes (
    path VARCHAR NOT NULL, row_no BIGINT NOT NULL, rule_no INTEGER NOT NULL, vote INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS human_rules (path VARCHAR NOT NULL, rules INTEGER NOT NULL);
-- Vectors that evaluation alone needed. They lie here so that no table of the warehouse depends on whether there is gold.
CREATE TABLE IF NOT EXISTS vectors (encoder_key VARCHAR NOT NULL, content_hash BLOB NOT NULL, vector FLOAT[] NOT NULL);
"""


@dataclass(frozen=True)
class Gold:
    """The gold of one split, one entry for each row, in the order of the sources and their rows.

    Attributes:
        paths: Index of the source of each row, int32 [n].
        rows: Row number in its source, int64 [n].
        texts: Text number, int32 [n].
        labels: bool [n, k], by label number; in a `single` task exactly one is true in each row.
    """

    paths: NDArray[np.int32]
    rows: NDArray[np.int64]
    texts: NDArray[np.int32]
    labels: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def single(self) -> NDArray[np.int64]:
        """Label numbers [n] of a `single` task."""
        return self.labels.argmax(axis=1)

    def distinct(self) -> NDArray[np.int64]:
        """The first row of each text, ascending: the rows of the distinct variant."""
        return np.sort(np.unique(self.texts, return_index=True)[1])


@dataclass(frozen=True)
class HumanVotes:
    """Published votes on the test rows.

    Attributes:
        votes: int32 [n, m], label number or -1, rows as in the `Gold` of test.
        position: Number of each row within its file, from 0: what WRENCH's tie-break hashes. int64 [n].
    """

    votes: NDArray[np.int32]
    position: NDArray[np.int64]


def write_source(
    db: duckdb.DuckDBPyConnection,
    split: str,
    path: str,
    state: str,
    rows: Sequence[Row],
    text_nos: Mapping[bytes, int],
    vote_numbers: Sequence[int],
) -> dict[str, int]:
    """Replace the gold of one source.

    Args:
        db: The gold file, in a transaction.
        split: `test` or `reference`.
        path: Name of the source.
        state: What it was when it was read.
        rows: Its usable rows.
        text_nos: Content hash to text number, of the texts that count (of test; of kept train texts for reference).
        vote_numbers: Label number of each integer of the votes column.

    Returns:
        Counts: `rows` with gold, `unlabelled`, `elsewhere` (texts that are not in the warehouse's split).
    """
    import pyarrow as pa

    from factory.warehouse.file import insert

    forget_source(db, split, path)
    gold: list[tuple[int, int, int]] = []
    votes: list[tuple[int, int, int]] = []
    unlabelled = elsewhere = labelled = 0
    rules = 0
    for row in rows:
        text_no = text_nos.get(row.content_hash)
        if text_no is None:
            elsewhere += 1
            continue
        if not row.labels:
            unlabelled += 1
            continue
        labelled += 1
        gold += [(row.row_no, text_no, label) for label in row.labels]
        if row.votes is not None:
            rules = max(rules, len(row.votes))
            votes += [
                (row.row_no, rule, vote_numbers[vote])
                for rule, vote in enumerate(row.votes)
                if 0 <= vote < len(vote_numbers)
            ]
    db.execute("INSERT INTO sources VALUES (?, ?, ?, ?, ?, ?)", [split, path, state, labelled, unlabelled, elsewhere])
    insert(
        db,
        "gold",
        {
            "split": pa.array([split] * len(gold)), "path": pa.array([path] * len(gold)),
            "row_no": [g[0] for g in gold], "text_no": [g[1] for g in gold], "label_no": [g[2] for g in gold],
        },
    )  # fmt: skip
    votes = [vote for vote in votes if vote[2] >= 0]
    if rules:
        db.execute("INSERT INTO human_rules VALUES (?, ?)", [path, rules])
        insert(
            db,
            "human_votes",
            {
                "path": pa.array([path] * len(votes)), "row_no": [v[0] for v in votes], "rule_no": [v[1] for v in votes],
                "vote": [v[2] for v in votes],
            },
        )  # fmt: skip
    return {"rows": labelled, "unlabelled": unlabelled, "elsewhere": elsewhere}


def forget_source(db: duckdb.DuckDBPyConnection, split: str, path: str) -> None:
    """Take the gold of one source out."""
    db.execute("DELETE FROM sources WHERE split = ? AND path = ?", [split, path])
    db.execute("DELETE FROM gold WHERE split = ? AND path = ?", [split, path])
    if split == "test":
        db.execute("DELETE FROM human_votes WHERE path = ?", [path])
        db.execute("DELETE FROM human_rules WHERE path = ?", [path])


def read_gold(db: duckdb.DuckDBPyConnection, split: str, labels: int) -> Gold:
    """The gold of one split; empty if there is none.

    Args:
        db: The gold file.
        split: `test` or `reference`.
        labels: Number of label numbers (k).
    """
    table = db.execute(
        """SELECT dense_rank() OVER (ORDER BY path) - 1 AS source, row_no, text_no, label_no FROM gold WHERE split = ?
           ORDER BY path, row_no, label_no""",
        [split],
    ).fetchnumpy()
    source, row_no = np.asarray(table["source"], np.int32), np.asarray(table["row_no"], np.int64)
    if not len(row_no):
        empty = np.zeros(0, np.int32)
        return Gold(empty, np.zeros(0, np.int64), empty, np.zeros((0, labels), bool))
    new = np.ones(len(row_no), bool)
    new[1:] = (row_no[1:] != row_no[:-1]) | (source[1:] != source[:-1])
    index = np.cumsum(new) - 1
    matrix = np.zeros((int(index[-1]) + 1, labels), bool)
    label_no = np.asarray(table["label_no"])
    said = label_no != NO_LABEL
    matrix[index[said], label_no[said]] = True
    return Gold(source[new], row_no[new], np.asarray(table["text_no"], np.int32)[new], matrix)


def read_human_votes(db: duckdb.DuckDBPyConnection, gold: Gold) -> HumanVotes | None:
    """The published votes on the rows of test, or None if no source has any."""
    rules = db.execute("SELECT max(rules) FROM human_rules").fetchone()
    if rules is None or rules[0] is None:
        return None
    table = db.execute(
        """SELECT s.source, v.row_no, v.rule_no, v.vote FROM human_votes v JOIN
           (SELECT path, dense_rank() OVER (ORDER BY path) - 1 AS source
            FROM (SELECT DISTINCT path FROM gold WHERE split = 'test')) s
           USING (path)"""
    ).fetchnumpy()
    at = {(int(p), int(r)): i for i, (p, r) in enumerate(zip(gold.paths, gold.rows, strict=True))}
    votes = np.full((len(gold), int(rules[0])), -1, np.int32)
    for source, row_no, rule, vote in zip(
        table["source"], table["row_no"], table["rule_no"], table["vote"], strict=True
    ):
        votes[at[int(source), int(row_no)], int(rule)] = int(vote)
    position = np.zeros(len(gold), np.int64)
    for source in np.unique(gold.paths):
        mine = gold.paths == source
        position[mine] = np.arange(int(mine.sum()))
    return HumanVotes(votes, position)


def gold_digest(db: duckdb.DuckDBPyConnection) -> list[Any]:
    """A value that changes when any gold or published vote does."""
    parts: list[Any] = []
    for table in ("gold", "human_votes", "human_rules"):
        row = db.execute(
            f"SELECT count(*), coalesce(bit_xor(hash(t)), 0)::VARCHAR, coalesce(sum(hash(t)), 0)::VARCHAR FROM {table} t"
        )
        parts.append([str(value) for value in row.fetchone() or ()])
    return parts
