"""Blocks of texts and the programs that vote on them: what the stage `vote` reads, runs (here or elsewhere) and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from factory.label_matrix import vote_dtype
from factory.programs.rules import rule_votes
from factory.programs.sandbox.host.result import STATUS, ProgramRun

if TYPE_CHECKING:
    from factory.programs.sandbox.host.pool import Pool, Sandbox
    from factory.warehouse.file import Warehouse

RUNNABLE = ("python", "rules")
"""Kinds of programs that are run on texts: Python in the sandbox, rules in this process."""


@dataclass(frozen=True)
class AcceptedProgram:
    """A program that votes.

    Attributes:
        number: Its number in the warehouse.
        source: Python, or the canonical JSON of a list of rules.
        target: In a task of kind `multi` the one label it speaks of.
        kind: One of `RUNNABLE`.
    """

    number: int
    source: str
    target: str | None
    kind: str = "python"
    name: str = ""


@dataclass(frozen=True)
class Gap:
    """A range of text numbers that some programs have not voted on."""

    first: int
    last: int
    programs: tuple[AcceptedProgram, ...]


@dataclass(frozen=True)
class Block:
    """The texts of a gap, read, with their numbers `[n]`, and those of its programs that shall run on them (the columns)."""

    gap: Gap
    programs: tuple[AcceptedProgram, ...]
    numbers: np.ndarray
    texts: Sequence[str]


Asked = tuple[tuple[AcceptedProgram, ...], Sequence[str]]
"""Programs, and texts that they are to vote on."""


class Voter:
    """What votes on texts, with a sandbox of its own; arguments as of `Pool`, which starts with the first Python program."""

    def __init__(
        self, labels: Sequence[str], strict: bool = False, sandbox: Sandbox = "kernel", refuse: Sequence[str] = ()
    ) -> None:
        from factory.programs.sandbox.host.pool import Pool

        self._pool, self._labels = Pool(workers=1, strict=strict, sandbox=sandbox, refuse=refuse), labels

    def __call__(self, asked: Asked) -> ProgramRun:
        """See `run_accepted`."""
        return run_accepted(self._pool, *asked, self._labels)


def accepted_programs(warehouse: Warehouse, labels: Sequence[str]) -> list[AcceptedProgram]:
    """The accepted programs that can be run, in order of their number; `labels` are the label names by number."""
    from factory.warehouse.tables.programs import accepted  # what runs an export needs no warehouse

    return [
        AcceptedProgram(p.number, p.source, None if p.target_no is None else labels[p.target_no], p.kind, p.name)
        for p in accepted(warehouse, kinds=RUNNABLE)
    ]


def run_accepted(
    pool: Pool, programs: Sequence[AcceptedProgram], texts: Sequence[str], labels: Sequence[str]
) -> ProgramRun:
    """What programs say of texts: rules here, in one pass for all, and Python in the sandbox, which starts if there is any.

    Votes are indices into `labels`, and the programs are the columns of the run.

    Raises:
        SandboxError: Python cannot run here, or the pool is strict and a layer is missing.
    """
    rules, python = ([at for at, p in enumerate(programs) if p.kind == kind] for kind in ("rules", "python"))
    sources, targets = [p.source for p in programs], [p.target for p in programs]
    if not rules:
        return pool.run(sources, texts, labels, target=targets) if python else _nothing(len(texts), 0, labels)
    run = _nothing(len(texts), len(programs), labels)
    found = rule_votes([sources[at] for at in rules], texts, labels, [targets[at] for at in rules])
    run.votes[:, rules] = found
    run.codes[:, rules] = np.where(found < 0, STATUS.index("abstain"), STATUS.index("ok"))
    if not python:
        return run
    ran = pool.run([sources[at] for at in python], texts, labels, target=[targets[at] for at in python])
    run.votes[:, python], run.codes[:, python] = ran.votes, ran.codes
    for at, said in zip(python, ran.notes, strict=True):
        run.notes[at] = said
    return replace(run, layers=ran.layers, refusals={python[at]: why for at, why in ran.refusals.items()})


def _nothing(n: int, m: int, labels: Sequence[str]) -> ProgramRun:
    """A run in which every program abstains."""
    votes = np.full((n, m), -1, dtype=vote_dtype(len(labels)), order="F")
    return ProgramRun(
        votes, np.full((n, m), STATUS.index("abstain"), np.uint8, order="F"), None, {}, [[] for _ in range(m)]
    )
