"""Blocks of texts and the programs that vote on them: what the stage `vote` reads, runs (here or elsewhere) and writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from factory.programs.pool import Pool, ProgramRun
    from factory.programs.recognise import Applier


@dataclass(frozen=True)
class Live:
    """An accepted program."""

    number: int
    source: str
    target: str | None


@dataclass(frozen=True)
class Gap:
    """A range of text numbers that some programs have not voted on."""

    first: int
    last: int
    programs: tuple[Live, ...]


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
    programs: tuple[Live, ...]
    numbers: np.ndarray
    texts: Sequence[str]


class Voter:
    """Runs programs over blocks, and keeps what was learnt of each set of programs.

    Attributes:
        pool: The sandbox.
        in_one_pass: Most programs of a block that ran as plain tests.
    """

    def __init__(self, pool: Pool, labels: Sequence[str], sample: Sequence[str]) -> None:
        """Nothing is started yet.

        Args:
            pool: The sandbox.
            labels: Label names; votes are their indices.
            sample: Texts on which a program that runs as plain tests must vote as it does in Python; without any, none is
                looked for.
        """
        self.pool = pool
        self.in_one_pass = 0
        self._labels, self._sample = list(labels), list(sample)
        self._appliers: dict[tuple[int, ...], Applier] = {}

    def run(self, programs: Sequence[Live], texts: Sequence[str]) -> ProgramRun:
        """What the programs say of the texts.

        Raises:
            SandboxError: No sandbox, or the pool is strict and a layer is missing.
        """
        from factory.programs.recognise import Applier

        key = tuple(program.number for program in programs)
        if key not in self._appliers:
            sources, targets = [p.source for p in programs], [p.target for p in programs]
            self._appliers[key] = Applier(
                self.pool, sources, self._labels, targets=targets, sample=self._sample, recognise=bool(self._sample)
            )
        applier = self._appliers[key]
        self.in_one_pass = max(self.in_one_pass, len(applier.recognised))
        return applier.run(texts)


Voted = tuple[Block, "ProgramRun", int]
"""A block, what its programs said of it, and how many of them ran as plain tests at most so far."""


def votes_here(blocks: Iterator[Block], voter: Voter) -> Iterator[Voted]:
    """Run one block after the other in this process's sandbox.

    Args:
        blocks: Read one at a time.
        voter: The sandbox.

    Yields:
        Each block with its run.
    """
    for block in blocks:
        run = voter.run(block.programs, block.texts)
        yield block, run, voter.in_one_pass
