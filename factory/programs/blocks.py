"""Blocks of texts and the programs that vote on them: what the stage `vote` reads, runs (here or elsewhere) and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from factory.programs.rules import rule_votes
from factory.programs.sandbox.host.result import STATUS, ProgramRun, vote_dtype

if TYPE_CHECKING:
    from factory.programs.sandbox.host.pool import Pool
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
        name: For people.
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
    """The texts of a gap, read, and those of its programs that shall run on them.

    Attributes:
        gap: The range.
        programs: The columns of the run.
        numbers: `[n]`, of the texts.
        texts: The texts.
    """

    gap: Gap
    programs: tuple[AcceptedProgram, ...]
    numbers: np.ndarray
    texts: Sequence[str]


Voted = tuple[Block, "ProgramRun"]
"""A block, and what its programs said of it."""


def accepted_programs(warehouse: Warehouse, labels: Sequence[str]) -> list[AcceptedProgram]:
    """The accepted programs that can be run, by number.

    Args:
        warehouse: The warehouse.
        labels: Label names by number.
    """
    rows = warehouse.query(
        "SELECT program_no, source, target_label_no, kind, name FROM programs"
        " WHERE state = 'accepted' AND kind IN (SELECT unnest(?::VARCHAR[])) ORDER BY program_no",
        [list(RUNNABLE)],
    )
    return [
        AcceptedProgram(no, source, None if at is None else labels[at], kind, name)
        for no, source, at, kind, name in rows
    ]


def run_accepted(
    pool: Pool, programs: Sequence[AcceptedProgram], texts: Sequence[str], labels: Sequence[str]
) -> ProgramRun:
    """What programs say of texts: rules here, in one pass for all, and Python in the sandbox, which starts if there is any.

    Args:
        pool: The sandbox.
        programs: The columns of the run.
        texts: The texts.
        labels: Label names; votes are their indices.

    Raises:
        SandboxError: Python cannot run here, or the pool is strict and a layer is missing.
    """
    places = {kind: [at for at, p in enumerate(programs) if p.kind == kind] for kind in RUNNABLE}
    parts = {kind: [programs[at] for at in found] for kind, found in places.items()}
    shape = (len(texts), len(programs))
    votes = np.full(shape, -1, dtype=vote_dtype(len(labels)), order="F")
    codes = np.full(shape, STATUS.index("abstain"), dtype=np.uint8, order="F")
    layers, refusals = None, {}
    notes: list[list[dict[str, object]]] = [[] for _ in programs]
    if parts["rules"]:
        found = rule_votes([p.source for p in parts["rules"]], texts, labels, [p.target for p in parts["rules"]])
        votes[:, places["rules"]] = found
        codes[:, places["rules"]] = np.where(found < 0, STATUS.index("abstain"), STATUS.index("ok"))
    if parts["python"]:
        run = pool.run([p.source for p in parts["python"]], texts, labels, target=[p.target for p in parts["python"]])
        votes[:, places["python"]] = run.votes
        codes[:, places["python"]] = run.codes
        layers = run.layers
        refusals = {places["python"][at]: why for at, why in run.refusals.items()}
        for at, said in zip(places["python"], run.notes, strict=True):
            notes[at] = said
    cpu_s = run.cpu_s if parts["python"] and not parts["rules"] else ()
    return ProgramRun(votes, codes, layers, refusals, notes, cpu_s)
