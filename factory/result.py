"""What a stage hands back: counts for programs, lines for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); total 0 means unknown."""


@dataclass(frozen=True)
class StageResult:
    """What one stage did in this run.

    Attributes:
        stage: The verb.
        skipped: True when there was nothing to do and nothing was written.
        did: JSON-able counts and facts (`{"texts": 600, "duplicates": 20}`).
        says: Short lines for a person: what was done, guessed, left out.
        why: Why it was skipped.
    """

    stage: str
    skipped: bool = False
    did: Mapping[str, Any] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    why: str = "done already"


def no_progress(done: int, total: int, what: str) -> None:
    """A progress callback that shows nothing."""
