"""Votes of programs: what each says of a text, which ranges of texts each has read, and the texts that failed.

`votes` is narrow and has no key; abstentions are left out. `vote_blocks` says what was done: one row per program and range of
text numbers, written with its votes in one transaction. `vote_failures` names some of the texts on which a program failed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.label_matrix import VoteSet
from factory.warehouse.file import first_row, insert
from factory.warehouse.tables.texts import Texts, texts_digest

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from factory.warehouse.file import Warehouse

TABLES = ("votes", "vote_blocks", "vote_failures")
BLOCK = 131_072

TALLIES = (
    "(SELECT v.text_no, coalesce(p.target_label_no, -1) AS target, v.vote, p.kind, count(*) AS n FROM votes v"
    " JOIN programs p USING (program_no) WHERE p.state = 'accepted' GROUP BY ALL)"
)
"""In SQL: how many accepted programs of each kind say what of a text; `target` is -1 where a program may say any label."""

_VOTES_ON = "votes WHERE text_no IN (SELECT unnest(?::INTEGER[])) AND program_no IN (SELECT unnest(?::INTEGER[]))"


@dataclass(frozen=True)
class Said:
    """What one program said of a range of texts.

    Attributes:
        program_no: Its number.
        text_nos: int32 [v], the texts that it voted on.
        votes: int32 [v], a label number, or 0 and 1 of the one label it speaks of.
        counts: How its calls ended, by status, abstentions included.
        failures: `(text_no, status, words)` of some that failed.
    """

    program_no: int
    text_nos: NDArray[np.int32]
    votes: NDArray[np.int32]
    counts: Mapping[str, int]
    failures: Sequence[tuple[int, str, str | None]] = ()


# Reading --------------------------------------------------------------------------------------------------------------------
def read_votes(
    warehouse: Warehouse, texts: Texts, program_nos: Sequence[int], *, classes: int, class_of: Mapping[int, int]
) -> VoteSet:
    """The votes of some programs on all texts, program after program and without a sort.

    Args:
        warehouse: Where the votes are.
        texts: From `labelled_texts`.
        program_nos: The labelling functions, in column order.
        classes: Number of classes.
        class_of: Vote value to class; votes with other values count as abstentions.
    """
    value_map = np.full(256 if max(class_of, default=0) < 256 else max(class_of) + 1, -1, np.int16)
    for value, number in class_of.items():
        value_map[value] = number
    plain = bool((value_map[: len(class_of)] == np.arange(len(class_of))).all())
    size = len(texts.numbers)
    rows: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    lengths = np.zeros(size, np.uint16 if len(program_nos) < 65_536 else np.int32)
    with warehouse.read() as db:
        for program_no in program_nos:
            found = db.execute(
                "SELECT text_no, vote::USMALLINT AS vote FROM votes WHERE program_no = ? AND vote BETWEEN 0 AND ?",
                [program_no, min(len(value_map) - 1, 65_535)],
            ).fetchnumpy()
            row, label = texts.rows(np.asarray(found["text_no"])), np.asarray(found["vote"])
            known = texts.known(row, np.asarray(found["text_no"]))
            if not known.all():  # votes on texts that are not labelled (passages)
                row, label = row[known], label[known]
            if not plain or (len(label) and int(label.max()) >= len(class_of)):
                label = value_map[label]
                row, label = row[label >= 0], label[label >= 0]
            if len(row) > 1 and not (row[1:] > row[:-1]).all():
                order = np.argsort(row, kind="stable")
                row, label = row[order], label[order]
            lengths[row] += 1
            rows.append(row.astype(np.int32, copy=False))
            labels.append(label.astype(np.uint8 if classes <= 256 else np.uint16))
    indptr = np.zeros(size + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    width = len(program_nos) * classes
    codes = np.empty(int(indptr[-1]), np.uint16 if width <= 65_536 else np.int32)
    starts = np.arange(0, size + BLOCK, BLOCK)
    bounds = [np.searchsorted(row, starts) for row in rows]
    for block in range(len(starts) - 1):  # a block of texts at a time, so that what is written to stays in cache
        low = block * BLOCK
        base = int(indptr[low])
        place = indptr[low : low + BLOCK] - base
        out = codes[base : int(indptr[min(low + BLOCK, size)])]
        for column, (row, label, bound) in enumerate(zip(rows, labels, bounds, strict=True)):
            part = slice(bound[block], bound[block + 1])
            here = row[part] - low
            at = place[here]
            out[at] = label[part].astype(codes.dtype) + codes.dtype.type(column * classes)
            place[here] = at + 1
    return VoteSet(codes, indptr, len(program_nos), classes)


def dense_votes(
    warehouse: Warehouse, program_nos: Sequence[int], text_nos: Sequence[int] | NDArray[np.integer]
) -> NDArray[np.int32]:
    """The votes of some programs on some texts as they are stored, int32 [n, m], -1 where there is none."""
    numbers, inverse = np.unique(np.asarray(text_nos, np.int32), return_inverse=True)
    programs, column = np.unique(np.asarray(program_nos, np.int32), return_index=True)
    votes = np.full((len(numbers), len(program_nos)), -1, np.int32)
    with warehouse.read() as db:
        found = db.execute(
            f"SELECT text_no, program_no, vote FROM {_VOTES_ON}", [numbers, list(map(int, program_nos))]
        ).fetchnumpy()
    rows, at = (np.asarray(found[name], np.int32) for name in ("text_no", "program_no"))
    votes[np.searchsorted(numbers, rows), column[np.searchsorted(programs, at)]] = found["vote"]
    return votes[inverse]


def votes_on(
    warehouse: Warehouse, text_nos: Sequence[int] | NDArray[np.integer], program_nos: Sequence[int]
) -> list[tuple[int, int, int]]:
    """`(text_no, program_no, vote)` of some programs on some texts, ordered by text and program."""
    with warehouse.read() as db:
        return db.execute(
            f"SELECT text_no, program_no, vote FROM {_VOTES_ON} ORDER BY ALL",
            [np.asarray(text_nos, np.int32), list(program_nos)],
        ).fetchall()


def voted_texts(warehouse: Warehouse, program_nos: Sequence[int]) -> NDArray[np.int32]:
    """Numbers of the texts that any of these programs votes on, ascending."""
    with warehouse.read() as db:
        found = db.execute(
            "SELECT DISTINCT text_no FROM votes WHERE program_no IN (SELECT unnest(?::INTEGER[])) ORDER BY text_no",
            [list(program_nos)],
        ).fetchnumpy()
    return np.asarray(found["text_no"], np.int32)


def conflicting_texts(warehouse: Warehouse, most: int | None = None) -> list[int]:
    """Training texts on which accepted programs say different things of the same label or labels, in an order by content.

    Args:
        warehouse: Where they are.
        most: At most so many; all by default.
    """
    rows = warehouse.query(
        f"SELECT text_no FROM texts WHERE text_no IN (SELECT text_no FROM {TALLIES} WHERE kind <> 'prompted'"
        " GROUP BY text_no, target HAVING count(DISTINCT vote) > 1)"
        " AND text_no IN (SELECT text_no FROM split_texts WHERE split = 'train') "
        " ORDER BY md5(hex(content_hash)), text_no LIMIT ?",
        [most if most is not None else 1 << 40],
    )
    return [int(number) for (number,) in rows]


def votes_changed(warehouse: Warehouse, old_no: int, new_no: int) -> int | None:
    """On how many texts two programs say something else; None as long as one of them has not voted."""
    voted = warehouse.scalar(
        "SELECT count(DISTINCT program_no) FROM vote_blocks WHERE program_no IN (?, ?)", [old_no, new_no]
    )
    changed = warehouse.scalar(
        "WITH a AS (SELECT text_no, vote FROM votes WHERE program_no = ?),"
        " b AS (SELECT text_no, vote FROM votes WHERE program_no = ?)"
        " SELECT count(*) FROM a FULL JOIN b USING (text_no) WHERE a.vote IS DISTINCT FROM b.vote",
        [old_no, new_no],
    )
    return int(changed) if voted == 2 else None


def votes_digest(warehouse: Warehouse) -> list[str]:
    """What a label model depends on, apart from its configuration: counts and order-free hashes, for a stage's key."""
    queries = (
        "SELECT count(*), bit_xor(hash(p.program_key, p.program_no, p.target_label_no)) FROM programs p WHERE state = 'accepted'",
        "SELECT count(*), coalesce(sum(hash(v.program_no, v.text_no, v.vote)::HUGEINT), 0)::VARCHAR FROM votes v"
        " WHERE program_no IN (SELECT program_no FROM programs WHERE state = 'accepted')",
        "SELECT string_agg(label_no || ':' || name || ':' || active, ',' ORDER BY label_no) FROM labels",
    )
    with warehouse.read() as db:
        return [*(str(first_row(db.execute(query))) for query in queries), *texts_digest(warehouse)]


def lost_votes(warehouse: Warehouse) -> dict[int, int]:
    """On how many texts each program that has voted failed."""
    lost: Counter[int] = Counter()
    for number, counts in warehouse.query("SELECT program_no, counts FROM vote_blocks"):
        lost[number] += sum(n for status, n in json.loads(counts).items() if status not in ("ok", "abstain"))
    return dict(lost)


# What was done --------------------------------------------------------------------------------------------------------------
def shares_voted(warehouse: Warehouse) -> dict[int, float]:
    """Of each program that has voted, by number, on which share of what it read."""
    sql = "SELECT program_no, sum(n_votes) / sum(n_texts) FROM vote_blocks GROUP BY ALL ORDER BY ALL"
    return {int(number): float(share) for number, share in warehouse.query(sql)}


def done_blocks(warehouse: Warehouse, program_nos: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """The ranges of text numbers that each program has read, in order."""
    done: dict[int, list[tuple[int, int]]] = {number: [] for number in program_nos}
    for number, first, last in warehouse.query(
        "SELECT program_no, first_text_no, last_text_no FROM vote_blocks WHERE program_no IN (SELECT unnest(?::INTEGER[]))"
        " ORDER BY 1, 2",
        [list(program_nos)],
    ):
        done[number].append((first, last))
    return done


def forget_stale(warehouse: Warehouse, program_nos: Sequence[int]) -> int:
    """Take away blocks whose votes are not all there (a deleted vote, a doubled one, texts that joined later).

    Programs are compared by their totals first, so that a whole warehouse costs one pass over its votes.

    Returns:
        How many blocks.
    """
    suspects = [
        row[0]
        for row in warehouse.query(
            "WITH b AS (SELECT program_no, sum(n_votes) AS n, sum(n_texts) AS t, max(last_text_no) AS last FROM vote_blocks"
            " GROUP BY ALL), v AS (SELECT program_no, count(*) AS n FROM votes WHERE program_no IN (SELECT program_no FROM b)"
            " GROUP BY ALL)"
            " SELECT b.program_no FROM b LEFT JOIN v USING (program_no) WHERE b.program_no IN (SELECT unnest(?::INTEGER[]))"
            " AND (b.n <> coalesce(v.n, 0)"
            " OR b.t <> (SELECT count(*) FROM texts WHERE origin <> 'passage' AND text_no <= b.last))"
            " ORDER BY 1",
            [list(program_nos)],
        )
    ]
    if not suspects:
        return 0
    with warehouse.lease() as db:
        bad = db.execute(
            "SELECT program_no, first_text_no, last_text_no FROM vote_blocks b WHERE program_no IN (SELECT unnest(?::INTEGER[]))"
            " AND (n_votes <> (SELECT count(*) FROM votes v WHERE v.program_no = b.program_no"
            " AND v.text_no BETWEEN b.first_text_no AND b.last_text_no)"
            " OR n_texts <> (SELECT count(*) FROM texts WHERE origin <> 'passage'"
            " AND text_no BETWEEN b.first_text_no AND b.last_text_no))"
            " ORDER BY ALL",
            [suspects],
        ).fetchall()
        for program, first, last in bad:
            for table in ("votes", "vote_failures"):
                db.execute(
                    f"DELETE FROM {table} WHERE program_no = ? AND text_no BETWEEN ? AND ?", [program, first, last]
                )
            db.execute(
                "DELETE FROM vote_blocks WHERE program_no = ? AND first_text_no = ? AND last_text_no = ?",
                [program, first, last],
            )
        # votes outside of any block belong to none of them
        db.execute(
            "DELETE FROM votes WHERE program_no IN (SELECT unnest(?::INTEGER[])) AND NOT EXISTS (SELECT 1 FROM vote_blocks b"
            " WHERE b.program_no = votes.program_no AND votes.text_no BETWEEN b.first_text_no AND b.last_text_no)",
            [suspects],
        )
    return len(bad)


# Writing --------------------------------------------------------------------------------------------------------------------
def put_block(db: duckdb.DuckDBPyConnection, first: int, last: int, n_texts: int, said: Sequence[Said]) -> None:
    """Store what some programs said of the texts numbered `first` to `last`, `n_texts` of which may be labelled."""
    columns = {
        "program_no": _joined([np.full(len(one.votes), one.program_no, np.int32) for one in said]),
        "text_no": _joined([one.text_nos for one in said]),
        "vote": _joined([one.votes for one in said]),
    }
    insert(db, "votes", columns)
    _put_failures(db, said)
    rows = [(one.program_no, first, last, n_texts, len(one.votes), json.dumps(dict(one.counts))) for one in said]
    _put_blocks(db, rows)


def put_single(db: duckdb.DuckDBPyConnection, said: Sequence[Said]) -> None:
    """Store votes on texts here and there: each text is a block of its own, in place of what the program said of it before."""
    for one in said:
        number, text_nos = (
            one.program_no,
            sorted({*one.text_nos.tolist(), *(text_no for text_no, _, _ in one.failures)}),
        )
        forget_single(db, number, text_nos)
        columns: dict[str, Any] = {"program_no": np.full(len(one.votes), number, np.int32)}
        insert(db, "votes", {**columns, "text_no": one.text_nos, "vote": one.votes})
        voted = set(one.text_nos.tolist())
        status = {text_no: name for text_no, name, _ in one.failures}
        _put_blocks(
            db, [(number, at, at, 1, int(at in voted), json.dumps({status.get(at, "ok"): 1})) for at in text_nos]
        )
    _put_failures(db, said)


def forget_single(db: duckdb.DuckDBPyConnection, program_no: int, text_nos: Sequence[int]) -> None:
    """Take away what a program said of texts here and there, each a block of its own."""
    for table, column in (("votes", "text_no"), ("vote_blocks", "first_text_no"), ("vote_failures", "text_no")):
        db.execute(
            f"DELETE FROM {table} WHERE program_no = ? AND {column} IN (SELECT unnest(?::INTEGER[]))",
            [program_no, list(text_nos)],
        )


def forget_votes(db: duckdb.DuckDBPyConnection, program_no: int) -> None:
    """Take away everything that a program said."""
    for table in TABLES:
        db.execute(f"DELETE FROM {table} WHERE program_no = ?", [program_no])


def _put_blocks(db: duckdb.DuckDBPyConnection, rows: Sequence[tuple[int, int, int, int, int, str]]) -> None:
    names = ("program_no", "first_text_no", "last_text_no", "n_texts", "n_votes", "counts")
    insert(db, "vote_blocks", {name: [row[at] for row in rows] for at, name in enumerate(names)})


def _put_failures(db: duckdb.DuckDBPyConnection, said: Sequence[Said]) -> None:
    rows = [(one.program_no, *failure) for one in said for failure in one.failures]
    names = ("program_no", "text_no", "status", "detail")
    insert(db, "vote_failures", {name: [row[at] for row in rows] for at, name in enumerate(names)})


def _joined(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
