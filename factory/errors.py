"""The errors a person can see. Each says what was wrong, where, and what to do.

The command line prints one line for any `FactoryError` and exits with its `exit_code`; a bug (any other exception) keeps its
traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class FactoryError(Exception):
    """A mistake or a condition that a person can mend.

    Args:
        what: What was wrong, in one sentence without a final stop.
        where: The file, and the line or row in it, if there is one: `"labels.csv:14"`.
        fix: What to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        line = f"{head}{'' if head.endswith('?') else '.'} {self.fix}" if self.fix else head
        return " ".join(line.split())


class InputError(FactoryError):
    """A file, a row, a card or a parameter that cannot be used."""


class WarehouseError(FactoryError):
    """The warehouse file is locked, newer than this program, damaged, or cannot be written."""


class EngineError(FactoryError):
    """A language model cannot be asked: no server, no recorded answer, no such model."""


class BudgetError(FactoryError):
    """The budget would be passed by the next request. Everything answered so far is stored."""

    exit_code = 3


class SandboxError(FactoryError):
    """The sandbox cannot give what `strict` asks for, or its pool cannot start."""


class ClusterError(FactoryError):
    """Ray is not installed, cannot be started or reached, or lost a worker for good."""


class ExportError(FactoryError):
    """An export is refused: it disagrees with the model it came from, was tampered with, or cannot be read."""


def nearest(given: str, known: Iterable[str]) -> str:
    """`"; did you mean `KNOWN`?"` with the known name that is nearest to what was given, or nothing if none is near."""
    import difflib

    found = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean `{found[0]}`?" if found else ""
