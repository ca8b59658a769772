"""What is to be solved for a task: one problem, or one per label; who votes in it, and on which texts there is dev gold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.people import is_person
from factory.task import TaskCard
from factory.warehouse.tables.labels import THEN
from factory.warehouse.tables.texts import Texts

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Voter:
    """An accepted program: its number, the one label it speaks of (multi tasks) or None, and whether it is a person's answers."""

    number: int
    name: str
    target: int | None
    person: bool = False


@dataclass(frozen=True)
class Problem:
    """A classification problem of its own.

    Attributes:
        title: For people.
        voters: Whose votes count, in column order.
        class_of: Label number, or vote 0 and 1, to class.
        classes: Number of classes.
        balance: Class shares [k], or None.
        label: The label number that a `multi` task is asked about, or None.
    """

    title: str
    voters: Sequence[Voter]
    class_of: Mapping[int, int]
    classes: int
    balance: Sequence[float] | None
    label: int | None

    @property
    def people(self) -> tuple[int, ...]:
        """Columns of people's answers."""
        return tuple(at for at, voter in enumerate(self.voters) if voter.person)

    @property
    def shares(self) -> np.ndarray:
        """float64 [k]: the balance, uniform if none is given."""
        shares = np.asarray([1.0] * self.classes if self.balance is None else self.balance, np.float64)
        return np.asarray(shares / shares.sum())

    def dev_rows(self, texts: Texts, dev: Mapping[int, Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the dev texts, and their classes."""
        rows, labels = [], []
        for text_no, gold in dev.items():
            if self.label is not None:
                label: int | None = int(self.label in gold)
            else:
                label = self.class_of.get(gold[0]) if len(gold) == 1 else None
            if label is not None:
                rows.append(int(texts.rows(np.array([text_no]))[0]))
                labels.append(label)
        return np.array(rows, np.int64), np.array(labels, np.int64)


@dataclass(frozen=True)
class Features:
    """Vectors [n, d] of all texts, and the number that fixes each text's fold and ties, uint64 [n]."""

    vectors: np.ndarray
    keys: np.ndarray

    def of(self, rows: np.ndarray) -> dict[str, Any]:
        """As `joint` takes them, for some texts."""
        return {"features": self.vectors[rows], "keys": self.keys[rows]}


def voters_of(warehouse: Warehouse, *, then: bool = False) -> list[Voter]:
    """The accepted programs, in order of their number; with `then` those that were when the label model was fitted."""
    which = f"program_no IN {THEN}" if then else "state = 'accepted'"
    rows = warehouse.query(
        f"SELECT program_no, name, target_label_no, kind FROM programs WHERE {which} ORDER BY program_no"
    )
    return [Voter(int(number), str(name), target, is_person(kind, name)) for number, name, target, kind in rows]


def problems_of(
    card: TaskCard, names: Sequence[str], voters: Sequence[Voter], shares: Mapping[str, float] | None
) -> Iterator[Problem]:
    """The task itself if it is `single`, else yes or no for each label.

    Args:
        names: Label names by number.
        voters: Who votes.
        shares: Class shares by label name, or None.
    """
    number = {name: at for at, name in enumerate(names)}
    if card.kind == "single":
        class_of = {number[name]: at for at, name in enumerate(card.label_names)}
        balance = None if shares is None else [shares[name] for name in card.label_names]
        yield Problem("the task", voters, class_of, len(class_of), balance, None)
        return
    for name in card.label_names:
        mine = [voter for voter in voters if voter.target == number[name]]
        balance = None if shares is None or name not in shares else [1 - shares[name], shares[name]]
        yield Problem(f"label {name!r}", mine, {0: 0, 1: 1}, 2, balance, number[name])
