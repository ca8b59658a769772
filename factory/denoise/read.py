"""Reading votes out of a warehouse into a `VoteSet`, program after program, without a sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from factory.denoise.votes import VoteSet

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

BLOCK = 131_072
ASKED = "asked answers"
PERSON = f"(kind = 'trusted' AND (name = '{ASKED}' OR starts_with(name, '{ASKED} by ')))"
"""Condition in SQL: the program is people's answers."""

CHOSEN = "(SELECT min(label_model_no) FROM label_models WHERE chosen AND config->>'systems' LIKE '%\"student\"%')"
"""In SQL: the number of the label model that the student learned from."""


@dataclass(frozen=True)
class Texts:
    """All texts of a warehouse, in order of their number.

    Attributes:
        numbers: int32 [n], ascending text_no.
        train: bool [n], whether the text is in the split train.
    """

    numbers: np.ndarray
    train: np.ndarray

    def rows(self, text_nos: np.ndarray) -> np.ndarray:
        """Row of each text number."""
        first = int(self.numbers[0]) if len(self.numbers) else 0
        if len(self.numbers) and int(self.numbers[-1]) - first + 1 == len(self.numbers):
            return text_nos - first
        return np.searchsorted(self.numbers, text_nos)

    def known(self, rows: np.ndarray, text_nos: np.ndarray) -> np.ndarray:
        """Whether each row, as `rows` gave it, is that text's: bool."""
        inside = (rows >= 0) & (rows < len(self.numbers))
        if not inside.all():
            return inside & (self.numbers[np.where(inside, rows, 0)] == text_nos)
        same: np.ndarray = self.numbers[rows] == text_nos
        return same


@dataclass(frozen=True)
class Program:
    """An accepted program: its number, the one label it speaks of (multi tasks) or None, and whether it is a person's answers."""

    number: int
    name: str
    target: int | None
    person: bool = False


def accepted_programs(warehouse: Warehouse) -> list[Program]:
    """Accepted programs, in order of their number."""
    rows = warehouse.query(
        f"SELECT program_no, name, target_label_no, {PERSON} FROM programs WHERE state = 'accepted' ORDER BY program_no"
    )
    return [Program(int(number), str(name), target, bool(person)) for number, name, target, person in rows]


def read_texts(warehouse: Warehouse) -> Texts:
    """Every text but passages (they are read, never labelled), and which are in train."""
    with warehouse.read() as db:
        found = db.execute(
            "SELECT t.text_no, s.text_no IS NOT NULL AS train FROM texts t"
            " LEFT JOIN (SELECT DISTINCT text_no FROM split_texts WHERE split = 'train') s USING (text_no)"
            " WHERE t.origin <> 'passage' ORDER BY t.text_no"
        ).fetchnumpy()
    return Texts(np.asarray(found["text_no"]), np.asarray(found["train"], bool))


def read_votes(
    warehouse: Warehouse, texts: Texts, programs: Sequence[Program], *, classes: int, class_of: Mapping[int, int]
) -> VoteSet:
    """The votes of some programs on all texts.

    Args:
        warehouse: Where the votes are.
        texts: From `read_texts`.
        programs: The labelling functions, in column order.
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
    lengths = np.zeros(size, np.uint16 if len(programs) < 65_536 else np.int32)
    with warehouse.read() as db:
        for program in programs:
            found = db.execute(
                "SELECT text_no, vote::USMALLINT AS vote FROM votes WHERE program_no = ? AND vote BETWEEN 0 AND ?",
                [program.number, min(len(value_map) - 1, 65_535)],
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
    width = len(programs) * classes
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
    return VoteSet(codes, indptr, len(programs), classes)


def votes_digest(warehouse: Warehouse) -> list[str]:
    """What a label model depends on, apart from its configuration: counts and order-free hashes, for a stage's key."""
    queries = (
        "SELECT count(*), bit_xor(hash(p.program_key, p.program_no, p.target_label_no)) FROM programs p WHERE state = 'accepted'",
        "SELECT count(*), coalesce(sum(hash(v.program_no, v.text_no, v.vote)::HUGEINT), 0)::VARCHAR FROM votes v"
        " WHERE program_no IN (SELECT program_no FROM programs WHERE state = 'accepted')",
        "SELECT count(*), coalesce(sum(hash(text_no, content_hash)::HUGEINT), 0)::VARCHAR FROM texts",
        "SELECT count(*), coalesce(sum(hash(split, text_no)::HUGEINT), 0)::VARCHAR FROM split_texts WHERE split = 'train'",
        "SELECT string_agg(label_no || ':' || name || ':' || active, ',' ORDER BY label_no) FROM labels",
    )
    with warehouse.read() as db:
        return [str(db.execute(query).fetchone()) for query in queries]
