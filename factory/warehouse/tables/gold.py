"""Gold, the labels that people gave: the one place that reads and writes it.

Gold of `dev` and `seed` is the table `gold` of the warehouse. Gold of `test` and `reference` is a file beside it, which
`factory.evaluation.stage` alone opens (`gold_file`).

Two rules hold for every reader. A row counts only while its occurrence is kept in its split: a dev row whose text also
stands in `test` has left dev. And a text whose rows disagree (one text under two labels, or under two sets of labels in a
`multi` task) has no gold: it is left out wherever gold is read by text, and `disagreements` names it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import WarehouseError
from factory.files.rows import NO_LABEL, Row
from factory.warehouse.file import Warehouse, fingerprint, first_row, insert
from factory.warehouse.turn import connect, take_turn

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

KEPT_ROWS = (
    "(SELECT g.source_no, g.row_no, g.text_no, o.split,"
    " coalesce(list_sort(list(DISTINCT g.label_no) FILTER (WHERE g.label_no >= 0)), []::INTEGER[]) AS label_nos"
    " FROM gold g JOIN occurrences o USING (source_no, row_no, text_no) WHERE o.kept GROUP BY ALL)"
)
"""In SQL: the kept rows of `dev` and `seed` with gold, one per occurrence; `label_nos` ascending, empty for "no label"."""

KEPT_TEXTS = (
    f"(SELECT text_no, any_value(label_nos) AS label_nos, min((source_no, row_no)) AS place FROM {KEPT_ROWS}"
    " WHERE split IN (SELECT unnest($splits)) GROUP BY text_no HAVING count(DISTINCT label_nos) = 1)"
)
"""In SQL, with the parameter `splits`: the texts with gold, those whose rows disagree left out."""


@dataclass(frozen=True)
class GoldText:
    """A text with gold.

    Attributes:
        text_no: Its number.
        content_hash: Of its content, 16 bytes.
        labels: Label numbers, ascending; one in a `single` task, any number in a `multi` one.
    """

    text_no: int
    content_hash: bytes
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Gold:
    """Gold row by row, in the order of the sources and their rows.

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
        return np.asarray(self.labels.argmax(axis=1))

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


# dev and seed, in the warehouse ---------------------------------------------------------------------------------------------
def dev_gold(warehouse: Warehouse) -> dict[int, tuple[int, ...]]:
    """Label numbers of the texts of `dev`, by text number."""
    return {text.text_no: text.labels for text in gold_texts(warehouse, "dev")}


def seed_gold(warehouse: Warehouse) -> list[GoldText]:
    """The texts of `seed` with their gold, in the order of their files."""
    return gold_texts(warehouse, "seed")


def gold_of_text(warehouse: Warehouse, text_no: int) -> list[tuple[str, list[int]]]:
    """The gold of a text in `dev` and `seed`: `(split, label numbers)` of each of its rows that differ."""
    rows = warehouse.query(
        f"SELECT DISTINCT split, label_nos FROM {KEPT_ROWS} WHERE text_no = ? ORDER BY ALL", [text_no]
    )
    return [(str(split), list(labels)) for split, labels in rows]


def gold_texts(warehouse: Warehouse, *splits: str) -> list[GoldText]:
    """The texts of some of `dev` and `seed` with their gold, each once, in the order of their files."""
    rows = warehouse.query(
        f"SELECT text_no, content_hash, label_nos FROM {KEPT_TEXTS} JOIN texts USING (text_no) ORDER BY place",
        {"splits": list(splits)},
    )
    return [GoldText(int(number), bytes(content), tuple(labels)) for number, content, labels in rows]


def gold_rows(warehouse: Warehouse, *splits: str, labels: int) -> Gold:
    """The same row by row, with `labels` label numbers (k): a text that occurs several times counts as often."""
    rows = warehouse.query(
        f"SELECT r.source_no, r.row_no, r.text_no, r.label_nos FROM {KEPT_ROWS} r JOIN {KEPT_TEXTS} USING (text_no)"
        " WHERE r.split IN (SELECT unnest($splits)) ORDER BY ALL",
        {"splits": list(splits)},
    )
    matrix = np.zeros((len(rows), labels), bool)
    for at, (_, _, _, numbers) in enumerate(rows):
        matrix[at, numbers] = True
    sources, places, texts = ([row[at] for row in rows] for at in range(3))
    return Gold(np.array(sources, np.int32), np.array(places, np.int64), np.array(texts, np.int32), matrix)


def gold_digest(warehouse: Warehouse, *splits: str) -> str:
    """A value that changes when the kept gold of some of `dev` and `seed` does; for a stage's key.

    It begins with the number of texts that have gold: `0:` says that there are none.
    """
    found = warehouse.scalar(
        "SELECT md5(string_agg(concat_ws('|', hex(content_hash), r.split, label_nos), ','"
        " ORDER BY content_hash, r.split, label_nos))"
        f" FROM {KEPT_ROWS} r JOIN texts USING (text_no) WHERE r.split IN (SELECT unnest($splits))",
        {"splits": list(splits)},
    )
    return f"{len(gold_texts(warehouse, *splits))}:{found or ''}"


def disagreements(warehouse: Warehouse, *splits: str) -> list[str]:
    """A line for the user if rows of one text disagree within these splits (such texts have no gold), else none."""
    rows = warehouse.query(
        "SELECT list(path || ':' || row_no ORDER BY source_no, row_no)"
        f" FROM {KEPT_ROWS} r JOIN sources USING (source_no) WHERE r.split IN (SELECT unnest($splits))"
        " GROUP BY text_no HAVING count(DISTINCT label_nos) > 1 ORDER BY min((source_no, row_no))",
        {"splits": list(splits)},
    )
    if not rows:
        return []
    texts = "1 text is" if len(rows) == 1 else f"{len(rows)} texts are"
    first = " and ".join(rows[0][0][:2])
    return [
        f"gold of {' and '.join(splits)}: {texts} left out, since rows of one text carry different labels (first: {first})"
    ]


def replace_gold(db: duckdb.DuckDBPyConnection, source_no: int, rows: str) -> int:
    """Make a source's gold equal to a table `row_no, text_no, labels` (lists of numbers); returns how many labels changed."""
    new = f"(SELECT row_no, text_no, unnest(labels) AS label_no FROM {rows}) AS new"
    same = "new.row_no = gold.row_no AND new.text_no = gold.text_no AND new.label_no = gold.label_no"
    gone = first_row(
        db.execute(f"DELETE FROM gold WHERE source_no = ? AND NOT EXISTS (FROM {new} WHERE {same})", [source_no])
    )
    into = f"""INSERT INTO gold (source_no, row_no, text_no, label_no) SELECT $source, row_no, text_no, label_no FROM {new}
            WHERE NOT EXISTS (FROM gold WHERE gold.source_no = $source AND {same}) ORDER BY row_no, label_no"""
    added = first_row(db.execute(into, {"source": source_no}))
    return int((gone or (0,))[0]) + int((added or (0,))[0])


def drop_gold(db: duckdb.DuckDBPyConnection, source_no: int) -> None:
    """Take out the gold of a source of `dev` or `seed`."""
    db.execute("DELETE FROM gold WHERE source_no = ?", [source_no])


# test and reference, in a file of their own ---------------------------------------------------------------------------------
FILE_SPLITS = ("test", "reference")
_SCHEMA = """
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
_MEMORY: weakref.WeakKeyDictionary[Warehouse, Any] = weakref.WeakKeyDictionary()


def has_gold_file(warehouse: Warehouse) -> bool:
    """Whether gold of `test` or `reference` was ever stored."""
    return warehouse in _MEMORY if warehouse.gold_path is None else warehouse.gold_path.exists()


@contextmanager
def gold_file(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """The gold file in one transaction (for a warehouse in memory, a second one in memory). For `factory.evaluation.stage`.

    Raises:
        WarehouseError: The file cannot be opened.
    """
    import duckdb

    path = warehouse.gold_path
    if path is None:
        if warehouse not in _MEMORY:
            _MEMORY[warehouse] = connect(":memory:")
        turn, db = None, _MEMORY[warehouse]
    else:
        try:
            turn = take_turn(str(path), patience_s=warehouse.patience_s)
        except duckdb.Error as error:
            what = f"the gold file cannot be opened ({' '.join(str(error).split())[:200]})"
            raise WarehouseError(what, where=path, fix="Wait and run again") from error
        db = turn.connection
    try:
        db.execute("BEGIN")
        try:
            db.execute(_SCHEMA)
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    finally:
        if turn is not None:
            turn.close()


def write_source(
    db: duckdb.DuckDBPyConnection, split: str, path: str, state: str, rows: Sequence[Row],
    text_nos: Mapping[bytes, int], vote_numbers: Sequence[int],
) -> dict[str, int]:  # fmt: skip
    """Replace the gold of one source.

    Args:
        db: The gold file, in a transaction.
        split, path, state: `test` or `reference`, name of the source, and what it was when it was read.
        rows: Its usable rows.
        text_nos: Content hash to text number, of the texts that count (of test; of kept train texts for reference).
        vote_numbers: Label number of each integer of the votes column.

    Returns:
        Counts: `rows` with gold, `unlabelled`, `elsewhere` (texts that are not in the warehouse's split).
    """
    import pyarrow as pa

    forget_source(db, split, path)
    here = [(text_nos[row.content_hash], row) for row in rows if row.content_hash in text_nos]
    labelled = [(number, row) for number, row in here if row.labels]
    gold = [(row.row_no, number, label) for number, row in labelled for label in row.labels]
    voted = [(row.row_no, row.votes) for _, row in labelled if row.votes is not None]
    votes = [
        (row_no, rule, vote_numbers[vote])
        for row_no, said in voted
        for rule, vote in enumerate(said)
        if 0 <= vote < len(vote_numbers) and vote_numbers[vote] >= 0
    ]
    counts = {"rows": len(labelled), "unlabelled": len(here) - len(labelled), "elsewhere": len(rows) - len(here)}
    db.execute("INSERT INTO sources VALUES (?, ?, ?, ?, ?, ?)", [split, path, state, *counts.values()])
    columns: dict[str, Any] = {"split": pa.array([split] * len(gold)), "path": pa.array([path] * len(gold))}
    columns |= {name: [row[at] for row in gold] for at, name in enumerate(("row_no", "text_no", "label_no"))}
    insert(db, "gold", columns)
    rules = max((len(said) for _, said in voted), default=0)
    if rules:
        db.execute("INSERT INTO human_rules VALUES (?, ?)", [path, rules])
        columns = {"path": pa.array([path] * len(votes))}
        columns |= {name: [row[at] for row in votes] for at, name in enumerate(("row_no", "rule_no", "vote"))}
        insert(db, "human_votes", columns)
    return counts


def forget_source(db: duckdb.DuckDBPyConnection, split: str, path: str) -> None:
    """Take the gold of one source out of the gold file."""
    db.execute("DELETE FROM sources WHERE split = ? AND path = ?", [split, path])
    db.execute("DELETE FROM gold WHERE split = ? AND path = ?", [split, path])
    if split == "test":
        db.execute("DELETE FROM human_votes WHERE path = ?", [path])
        db.execute("DELETE FROM human_rules WHERE path = ?", [path])


def read_gold(db: duckdb.DuckDBPyConnection, split: str, labels: int) -> Gold:
    """The gold of `test` or `reference` with `labels` label numbers (k); empty if there is none."""
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
    matrix[index[label_no != NO_LABEL], label_no[label_no != NO_LABEL]] = True
    return Gold(source[new], row_no[new], np.asarray(table["text_no"], np.int32)[new], matrix)


def read_human_votes(db: duckdb.DuckDBPyConnection, gold: Gold) -> HumanVotes | None:
    """The published votes on the rows of test, or None if no source has any."""
    rules = first_row(db.execute("SELECT max(rules) FROM human_rules"))
    if rules is None or rules[0] is None:
        return None
    table = db.execute(
        """SELECT s.source, v.row_no, v.rule_no, v.vote FROM human_votes v JOIN
           (SELECT path, dense_rank() OVER (ORDER BY path) - 1 AS source
            FROM (SELECT DISTINCT path FROM gold WHERE split = 'test')) s
           USING (path)"""
    ).fetchnumpy()
    at = {place: i for i, place in enumerate(zip(gold.paths.tolist(), gold.rows.tolist(), strict=True))}
    votes = np.full((len(gold), int(rules[0])), -1, np.int32)
    for source, row_no, rule, vote in zip(
        *(table[name] for name in ("source", "row_no", "rule_no", "vote")), strict=True
    ):
        votes[at[int(source), int(row_no)], int(rule)] = int(vote)
    position = np.zeros(len(gold), np.int64)
    for source in np.unique(gold.paths):
        mine = gold.paths == source
        position[mine] = np.arange(int(mine.sum()))
    return HumanVotes(votes, position)


def gold_file_digest(db: duckdb.DuckDBPyConnection) -> list[Any]:
    """A value that changes when any gold or published vote of the gold file does."""
    return [fingerprint(db, table) for table in ("gold", "human_votes", "human_rules")]
