"""The run at hand: reading it, writing to it while nobody else is at work, and the command that does the same."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from factory.pipeline.lock import alone_in, at_work
from factory.programs.sandbox.host.pool import Sandbox
from factory.task import TaskCard, current_card, label_names

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

T = TypeVar("T")
MOST_KEPT = 16
"""Results that are kept at once."""
PATIENCE_S = 5.0
"""Seconds that a page waits for a run that is writing."""


@dataclass
class Desk:
    """One run, and the person at it.

    Attributes:
        warehouse: The run's.
        run: As it was named on the command line.
        person: Who labels and decides, or None.
        sandbox: What Python programs run in.
        said: What the next page tells of what was done, each with whether it is an error.
    """

    warehouse: Warehouse
    run: Path
    person: str | None = None
    sandbox: Sandbox = "kernel"
    said: list[tuple[bool, str]] = field(default_factory=list)
    _one_writes: threading.Lock = field(default_factory=threading.Lock)
    _kept: dict[Any, tuple[Any, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.warehouse.patience_s = min(self.warehouse.patience_s, PATIENCE_S)

    @property
    def actor(self) -> str:
        """Who stands beside a decision about a program."""
        return self.person or "hand"

    @property
    def folder(self) -> Path:
        """The run's folder; the working folder for a warehouse in memory."""
        return self.warehouse.folder or Path()

    @contextmanager
    def writing(self) -> Iterator[Warehouse]:
        """Hold the run as a command does that writes.

        Raises:
            InputError: Another process is at work on it.
        """
        with self._one_writes, alone_in(self.warehouse.folder):
            yield self.warehouse

    def kept(self, name: Any, compute: Callable[[], T]) -> T:
        """What `compute` gives, kept until the warehouse's file changes (its time or its size)."""
        stamp = self._stamp()
        found = self._kept.get(name)
        if stamp is None or found is None or found[0] != stamp:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = self._kept[name] = stamp, compute()
        value: T = found[1]
        return value

    def _stamp(self) -> Any:
        if self.warehouse.path is None:
            return None
        files = (self.warehouse.path, self.warehouse.path.with_name(self.warehouse.path.name + ".wal"))
        return [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists()]

    def command(self, *words: str | int | None, who: bool = False) -> str:
        """The command that does the same; the run takes the place of `RUN`. With `who` it says who answers."""
        listed = [str(self.run) if word == "RUN" else str(word) for word in words if word is not None]
        return shlex.join(["factory", *listed, *(["--as", self.person] if who and self.person else [])])

    def tell(self, words: str, *, error: bool = False) -> None:
        """Tell the person on the next page."""
        self.said = [*self.said[-4:], (error, words)]

    def head(self) -> dict[str, Any]:
        """What every page says at its top."""
        said, self.said = self.said, []
        pid = at_work(self.warehouse.folder)
        return {"run": str(self.run), "person": self.person, "said": said, "busy": pid}

    def card(self) -> TaskCard:
        """The task card."""
        return self.kept("card", lambda: current_card(self.warehouse))

    def labels(self) -> list[str]:
        """The labels of the card, in order."""
        return self.card().label_names

    def names(self) -> list[str]:
        """Label names by number."""
        return self.kept("names", lambda: label_names(self.warehouse))
