"""Reading votes out of a warehouse into a `VoteSet`, program after program, without a sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from factory.labels.votes import VoteSet

if TYPE_CHECKING:
    from factory.warehouse import Warehouse


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


@dataclass(frozen=True)
class Program:
    """An accepted program: its number and the one label it speaks of (multi tasks), or None."""

    number: int
    name: str
    target: int | None


def accepted_programs(warehouse: Warehouse) -> list[Program]:
    """Accepted programs, in order of their number."""
    rows = warehouse.query(
        "SELECT program_no, name, target_label_no FROM programs WHERE state = 'accepted' ORDER BY program_no"
    )
    return [Program(int(number), str(name), target) for number, name, target in rows]


def read_texts(warehouse: Warehouse) -> Texts:
    """Every text, and which are in train."""
    with warehouse.read() as db:
        found = db.execute(
            "SELECT t.text_no, s.text_no IS NOT NULL AS train FROM texts t"
            " LEFT JOIN (SELECT DISTINCT text_no FROM split_texts WHERE split = 'train') s USING (text_no) ORDER BY t.text_no"
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
    value_map = np.full(max(class_of, default=0) + 1, -1, np.int64)
    for value, number in class_of.items():
        value_map[value] = number
    rows: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    lengths = np.zeros(len(texts.numbers), np.int64)
    with warehouse.read() as db:
        for program in programs:
            found = db.execute("SELECT text_no, vote FROM votes WHERE program_no = ?", [program.number]).fetchnumpy()
            vote = np.asarray(found["vote"], np.int64)
            inside = (vote >= 0) & (vote < len(value_map))
            label = np.where(inside, value_map[np.where(inside, vote, 0)], -1)
            kept = label >= 0
            row = texts.rows(np.asarray(found["text_no"])[kept]).astype(np.int32)
            lengths[row] += 1
            rows.append(row)
            labels.append(label[kept].astype(np.int16))
    indptr = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    width = len(programs) * classes
    codes = np.empty(int(indptr[-1]), np.uint16 if width <= 65_536 else np.int32)
    place = indptr[:-1].copy()
    for column, (row, label) in enumerate(zip(rows, labels, strict=True)):
        codes[place[row]] = column * classes + label.astype(np.int64)
        place[row] += 1
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
