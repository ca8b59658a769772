"""Snorkel's `LabelingFunction`, in and out.

Out: a program of either form is wrapped as a `LabelingFunction` that any Snorkel applier can apply; Python runs in the sandbox,
whole columns at once when `prepare` is given the texts first. In: what was wrapped here comes back as the program that it is. Any
other function object runs in our own process, so it is trusted by whoever passes it and runs on request only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from factory.errors import InputError
from factory.label_matrix import vote_dtype
from factory.programs.blocks import AcceptedProgram, run_accepted
from factory.programs.rules import read_rules
from factory.programs.sandbox.host.pool import Pool, shared_pool
from factory.task import label_names
from factory.warehouse.file import Warehouse, insert
from factory.warehouse.tables.programs import NewProgram, add, known, program_key
from factory.warehouse.tables.votes import forget_votes


def apply_trusted(functions: Sequence[Any], texts: Sequence[str], classes: int, *, trust: bool = False) -> np.ndarray:
    """Run Snorkel labelling functions over texts, in this process.

    Args:
        functions: `snorkel.labeling.LabelingFunction` objects; each is called with an object that has `.text`.
        texts: `[n]`.
        classes: How many labels there are.
        trust: Must be true: the functions run with all the rights of this process.

    Returns:
        `[n, m]` votes, -1 abstains.

    Raises:
        InputError: `trust` is false, or a function returns something other than a label's number.
    """
    if not trust:
        raise InputError(
            "labelling functions given as objects run in this process, outside the sandbox",
            where="apply_trusted",
            fix="Pass trust=True if you wrote them yourself",
        )
    votes = np.full((len(texts), len(functions)), -1, dtype=vote_dtype(classes))
    for at, text in enumerate(texts):
        row = SimpleNamespace(text=text)
        for j, function in enumerate(functions):
            vote = int(function(row))
            if not -1 <= vote < classes:
                name = getattr(function, "name", "a function")
                raise InputError(f"{name} returned {vote}, which is not a label's number", where="votes")
            votes[at, j] = vote
    return votes


def add_trusted(
    warehouse: Warehouse, functions: Sequence[Any], *, trust: bool = False, target: str | None = None
) -> list[dict[str, Any]]:
    """Apply Snorkel labelling functions to every text of a warehouse and store their votes, marked as trusted.

    They run now and here; later stages never run them again, and texts that come later need this call again. A function that
    `as_labeling_function` made is added as the program that it wraps instead, and votes with all others.

    Raises:
        InputError: `trust` is false, a function returns something other than a label's number, or a wrapped program is refused.
    """
    from factory.programs.manage import add_program

    added, others = [], []
    for function in functions:
        wrapped = (getattr(function, "_resources", None) or {}).get("votes")
        if isinstance(wrapped, ProgramVotes):
            one = wrapped.program
            added.append(
                add_program(warehouse, one.source, name=one.name, target=one.target, kind=one.kind, actor="snorkel")
            )
        else:
            others.append(function)
    return added + (_add_votes(warehouse, others, trust=trust, target=target) if others else [])


def _add_votes(
    warehouse: Warehouse, functions: Sequence[Any], *, trust: bool, target: str | None
) -> list[dict[str, Any]]:
    labels = label_names(warehouse)
    rows = warehouse.query("SELECT text_no, text FROM texts WHERE origin <> 'passage' ORDER BY text_no")
    classes = 2 if target is not None else len(labels)
    votes = apply_trusted(functions, [text for _, text in rows], classes, trust=trust)
    numbers = np.array([number for number, _ in rows], dtype=np.int32)
    target_no = None if target is None else labels.index(target)
    added = []
    with warehouse.lease() as db:
        for j, function in enumerate(functions):
            name = str(getattr(function, "name", f"lf{j}"))
            new = NewProgram(name, "trusted", "snorkel", "", program_key("trusted", target, name), target_no=target_no)
            there = known(db, new.key)
            number = add(db, new, actor="snorkel") if there is None else there.number
            forget_votes(db, number)
            given = np.flatnonzero(votes[:, j] >= 0)
            columns = {
                "program_no": np.full(len(given), number, dtype=np.int32),
                "text_no": numbers[given],
                "vote": votes[given, j].astype(np.int32),
            }
            insert(db, "votes", columns)
            added.append({"program_no": number, "name": name, "votes": len(given)})
    return added


def as_labeling_function(
    source: str,
    labels: Sequence[str],
    *,
    name: str,
    kind: str = "python",
    target: str | None = None,
    text_of: Callable[[Any], str] | None = None,
    pool: Pool | None = None,
) -> Any:
    """A program as a `snorkel.labeling.LabelingFunction`; it returns a label's number, or -1 to abstain.

    Args:
        source: The program: Python, or rules as JSON or YAML.
        labels: Label names by number.
        name: The function's name.
        kind: `python` or `rules`.
        target: The one label that it speaks of; it then returns 1 or 0.
        text_of: From a data point to its text; its attribute `text` by default.
        pool: The sandbox for Python; the process's own by default.

    Returns:
        The labelling function. Its resource `votes` has `prepare(texts)`, which runs the program over many texts at once, so that
        an applier's calls are look-ups.

    Raises:
        RulesRefused: The rules cannot be used.
    """
    from snorkel.labeling import LabelingFunction

    if kind == "rules":
        source = read_rules(source, labels, target).source
    votes = ProgramVotes(AcceptedProgram(0, source, target, kind, name), labels, pool)
    read = text_of or (lambda x: x.text)

    def call(x: Any, votes: ProgramVotes) -> int:
        return votes.of(read(x))

    return LabelingFunction(name=name, f=call, resources={"votes": votes})


class ProgramVotes:
    """A program's votes, computed as they are asked for and remembered by text."""

    def __init__(self, program: AcceptedProgram, labels: Sequence[str], pool: Pool | None = None) -> None:
        self.program = program
        self._labels = list(labels)
        self._pool = pool
        self._known: dict[str, int] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        """Run the program over many texts at once."""
        wanted = [text for text in dict.fromkeys(texts) if text not in self._known]
        if wanted:
            run = run_accepted(self._pool or shared_pool(), [self.program], wanted, self._labels)
            self._known.update(zip(wanted, (int(vote) for vote in run.votes[:, 0]), strict=True))

    def of(self, text: str) -> int:
        """The vote on one text."""
        if text not in self._known:
            self.prepare([text])
        return self._known[text]

    def __deepcopy__(self, memo: Any) -> ProgramVotes:
        return self
