"""Blocks of texts and the programs that vote on them: what the stage `vote` reads, runs (here or elsewhere) and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from factory.programs.sandbox.host.pool import Pool, ProgramRun


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


Voted = tuple[Block, "ProgramRun"]
"""A block, and what its programs said of it."""


def run_live(pool: Pool, programs: Sequence[Live], texts: Sequence[str], labels: Sequence[str]) -> ProgramRun:
    """What programs say of texts.

    Args:
        pool: The sandbox.
        programs: The columns of the run.
        texts: The texts.
        labels: Label names; votes are their indices.

    Raises:
        SandboxError: No sandbox, or the pool is strict and a layer is missing.
    """
    return pool.run([p.source for p in programs], texts, labels, target=[p.target for p in programs])
