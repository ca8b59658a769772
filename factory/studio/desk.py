"""The run at hand: reading it, writing to it while nobody else is at work, and the command that does the same."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from factory.errors import InputError
from factory.pipeline.load import load_pipeline
from factory.pipeline.lock import alone_in, at_work
from factory.pipeline.place import USUAL, Place, pipeline_of, place_of
from factory.programs.sandbox.host.pool import Sandbox
from factory.studio.runner import Runner
from factory.task import TaskCard, current_card, label_names

if TYPE_CHECKING:
    from factory.pipeline.load import Pipeline
    from factory.warehouse.file import Warehouse

T = TypeVar("T")
Undo = tuple[str, Mapping[str, str]]
"""Where a form that takes something back is posted, and its fields."""
MOST_KEPT = 16
"""Results that are kept at once."""
PATIENCE_S = 5.0
"""Seconds that a page waits for a run that is writing."""


class Desk:
    """One run, and the person at it.

    Attributes:
        run: As it was named on the command line.
        person: Who labels and decides, or None.
        sandbox: What Python programs run in.
        place: Where the run is or will be; None as long as there is neither a run nor a pipeline.
        settings: Values for the pipeline's variables.
        runner: The command that was begun from the pages.
        own_folder: The run's folder, where one was named beside the pipeline.
        said: What the next page tells of what was done, each with the form that takes it back, if there is one.
    """

    def __init__(
        self, warehouse: Warehouse | None, run: Path, person: str | None = None, sandbox: Sandbox = "kernel", *,
        place: Place | None = None, settings: Mapping[str, str] | None = None, own_folder: Path | None = None,
    ) -> None:  # fmt: skip
        """At a run that is there (`warehouse`), or at the place of one that is not begun."""
        self.run, self.person, self.sandbox, self.settings = run, person, sandbox, dict(settings or {})
        self.place = place if warehouse is None or warehouse.path is None else place or Place(None, warehouse.path)
        self.runner, self.own_folder = Runner(), own_folder
        self.said: list[tuple[str, Undo | None]] = []
        self._one_writes = threading.Lock()
        self._kept: dict[Any, tuple[Any, Any]] = {}
        self._warehouse: Warehouse | None = None
        if warehouse is not None:
            self._take(warehouse)

    @classmethod
    def at(
        cls, where: Path, *, folder: Path | None = None, person: str | None = None, sandbox: Sandbox = "kernel",
        settings: Mapping[str, str] | None = None,
    ) -> Desk:  # fmt: skip
        """At what an argument means: see `place_of`; a folder without a run and a pipeline is where one begins.

        Raises:
            InputError: There is nothing, or no warehouse of that name.
        """
        if where.is_dir() and not any(where.glob("*.duckdb")) and not (where / USUAL).is_file():
            return cls(None, where, person, sandbox, settings=settings)
        place = place_of(where, folder)
        if place.pipeline is None and not place.warehouse.is_file():
            raise InputError(
                "no such warehouse", where=place.warehouse, fix="Run the pipeline first: factory run PIPELINE"
            )
        return cls(None, where, person, sandbox, place=place, settings=settings, own_folder=folder)

    @property
    def begun(self) -> bool:
        """Whether there is a warehouse."""
        return self._warehouse is not None or (self.place is not None and self.place.warehouse.is_file())

    @property
    def warehouse(self) -> Warehouse:
        """The run's warehouse.

        Raises:
            InputError: Nothing was run yet.
        """
        if self._warehouse is None:
            from factory.warehouse.file import Warehouse

            if self.place is None or not self.begun:
                raise InputError("nothing was run yet", fix="The page `Run` starts it")
            self._take(Warehouse.open(self.place.warehouse))
        assert self._warehouse is not None
        return self._warehouse

    def _take(self, warehouse: Warehouse) -> None:
        warehouse.patience_s = min(warehouse.patience_s, PATIENCE_S)
        self._warehouse = warehouse

    @property
    def pipeline(self) -> Path | None:
        """The pipeline file: the one that was named, or by which the run was run last."""
        if self.place is not None and self.place.pipeline is not None:
            return self.place.pipeline
        if not self.begun:
            return None
        path, variables = self.kept("pipeline", lambda: pipeline_of(self.warehouse))
        self.settings = {**variables, **self.settings}
        return path

    def loaded(self) -> Pipeline:
        """The pipeline, read and checked.

        Raises:
            InputError: It is not known which it is, or it cannot be used.
        """
        path = self.pipeline
        if path is None:
            raise InputError(
                "it is not known which pipeline this run is of",
                fix="Name it: factory studio PIPELINE; or run it once more: factory run PIPELINE",
            )
        return load_pipeline(path, self.settings)

    def begin(self, verb: str, *more: str) -> None:
        """Begin `factory VERB PIPELINE` (of a group: `GROUP VERB`) in a process of its own, unless somebody else is at work.

        Raises:
            InputError: Another process is at work on the run, or the pipeline cannot be used.
        """
        words = self.words(verb, *more)
        self.loaded()
        with self.writing_place():
            pass
        self.runner.start(words, self.folder)

    def words(self, verb: str, *more: str) -> list[str]:
        """The words after `factory` of a command on the pipeline."""
        given = [word for name, value in self.settings.items() for word in ("--set", f"{name}={value}")]
        return [*verb.split(), str(self.pipeline or "PIPELINE"), "--folder", str(self.folder), *given, *more]

    @property
    def actor(self) -> str:
        """Who stands beside a decision about a program."""
        return self.person or "hand"

    @property
    def folder(self) -> Path:
        """The run's folder; before there is one, the folder that was named."""
        return self.run if self.place is None else self.place.folder

    @contextmanager
    def writing(self) -> Iterator[Warehouse]:
        """Hold the run as a command does that writes.

        Raises:
            InputError: Another process is at work on it.
        """
        warehouse = self.warehouse
        with self.writing_place():
            yield warehouse

    @contextmanager
    def writing_place(self) -> Iterator[None]:
        """The same before there is a warehouse."""
        with self._one_writes, alone_in(None if self.place is None else self.place.folder):
            yield

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
        path = self.warehouse.path
        if path is None:
            return None
        files = (path, path.with_name(path.name + ".wal"))
        return [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists()]

    def command(self, *words: str | int | None, who: bool = False) -> str:
        """The command that does the same; the run takes the place of `RUN`. With `who` it says who answers."""
        listed = [str(self.run) if word == "RUN" else str(word) for word in words if word is not None]
        return shlex.join(["factory", *listed, *(["--as", self.person] if who and self.person else [])])

    def tell(self, words: str, undo: Undo | None = None) -> None:
        """Tell the person on the next page, with the way back."""
        self.said = [*self.said[-4:], (words, undo)]

    def head(self) -> dict[str, Any]:
        """What every page says at its top."""
        said, self.said = self.said, []
        return {"run": str(self.run), "person": self.person, "said": said, "busy": self.busy, "begun": self.begun}

    @property
    def busy(self) -> int | None:
        """The process that is at work on the run."""
        return self.runner.pid or at_work(None if self.place is None else self.place.folder)

    def card(self) -> TaskCard:
        """The task card of the warehouse."""
        return self.kept("card", lambda: current_card(self.warehouse))

    def labels(self) -> list[str]:
        """The labels of the card, in order."""
        return self.card().label_names

    def names(self) -> list[str]:
        """Label names by number."""
        return self.kept("names", lambda: label_names(self.warehouse))
