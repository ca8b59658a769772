"""Runs the real command line in this process, and stands still at one moment of it so that a test can kill it there.

    python driver.py --stop 1.author/answer/3 --pipe 7 -- run pipeline.yaml --folder run
    python driver.py --census moments.jsonl --snapshots DIR -- run pipeline.yaml --folder run

A moment is STEP/KIND/NTH: the step as NUMBER.VERB, and the nth time that something of the kind happens in it (with
`--between LOW HIGH`: the nth time that it happens with more than LOW and fewer than HIGH of the step's rows done):

    begin      the step starts
    insert     rows were put into the transaction that is open
    gold       rows were put into the file of test and reference gold
    commit     everything of a transaction is in it, and COMMIT comes next
    committed  a transaction has been committed
    answer     an answer has come and is not stored yet
    progress   the step says how far it is
    file       a file of the run's folder is about to be opened for writing, or renamed

Nothing of the factory is changed by this: the functions that are watched do what they do.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

_ANSWERS = "(SELECT count(*) FROM answers WHERE request_key IN (SELECT request_key FROM requests WHERE stage = '{}'))"
ROWS = {
    "ingest": "SELECT count(*) FROM occurrences",
    "buy": "SELECT (SELECT count(*) FROM answers) + (SELECT count(*) FROM purchases)",
    "author": f"SELECT {_ANSWERS.format('author')} + (SELECT count(*) FROM programs)",
    "vote": "SELECT count(*) FROM vote_blocks",
    "synthesize": f"SELECT {_ANSWERS.format('synthesize')} + (SELECT count(*) FROM synthetic)",
    "annotate": f"SELECT {_ANSWERS.format('annotate')} + (SELECT count(*) FROM annotations)",
    "denoise": "SELECT (SELECT count(*) FROM soft_labels) + (SELECT count(*) FROM label_models)",
    "distill": "SELECT (SELECT count(*) FROM model_rows) + (SELECT count(*) FROM models)",
    "evaluate": "SELECT count(*) FROM evaluations",
    "export": "SELECT 0",
    "report": "SELECT 0",
}
"""What counts as the rows of a step: 0 before it, more inside it, all after it."""


class Watch:
    """Counts what happens, and stops the process at the moment that is asked for.

    Args:
        stop: The moment, or None.
        between: Count only what happens with more than so many and fewer than so many of the step's rows done.
        pipe: File descriptor that is told of it.
        census: File to which every moment is written, or None.
        snapshots: Folder into which the run's folder is copied at the start of every step, or None.
        folder: The run's folder.
    """

    def __init__(
        self,
        stop: str | None,
        between: tuple[int, int] | None,
        pipe: int,
        census: Path | None,
        snapshots: Path | None,
        folder: Path,
    ) -> None:
        self.between, self.rows, self.committed = between, 0, 0
        self.stop, self.pipe, self.snapshots, self.folder = stop, pipe, snapshots, folder
        self.census = census.open("w", encoding="utf-8", buffering=1) if census else None
        self.step = "before"
        self.counts: Counter[str] = Counter()
        self.lock = threading.RLock()
        self.busy = False
        self.held: Any = None
        self.unstored = 0

    def happened(self, kind: str, db: Any = None, told: tuple[int, int] = (0, 0)) -> None:
        """Something happened; `db` is the open transaction, if it happened in one; `told` is progress (done, total)."""
        with self.lock:
            if self.busy:
                return
            self.busy = True
            try:
                if db is not None:
                    self.rows = self._rows(db)
                if kind == "committed":
                    self.committed = self.rows
                if kind == "insert" and self.rows <= self.committed:
                    return  # rows of another table than the step's own
                if self.between is not None and not self.between[0] < self._done(kind, told) < self.between[1]:
                    return
                self.counts[kind] += 1
                moment = f"{self.step}/{kind}/{self.counts[kind]}"
                if moment != self.stop and self.census is None:
                    return
                seen = {"moment": moment, "done": self._done(kind, told), "open": db is not None, "told": told}
                seen |= {"files": self._files(), "unstored": self.unstored}
                if self.census is not None:
                    self.census.write(json.dumps(seen) + "\n")
                if moment == self.stop:
                    os.write(self.pipe, json.dumps(seen).encode() + b"\n")
                    os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                self.busy = False

    def starts(self, number: int, verb: str) -> None:
        """A step starts."""
        with self.lock:
            self.step = f"{number}.{verb}"
            self.counts.clear()
            self.rows = 0
            self.committed = self.between[0] if self.between is not None else 0
        if self.snapshots is not None:
            shutil.copytree(self.folder, self.snapshots / self.step)
        self.happened("begin")

    def _done(self, kind: str, told: tuple[int, int]) -> int:
        """How much of the step is done: as it says itself, as files, or as rows (in the open or the last transaction)."""
        return {"progress": told[0], "file": self._files()}.get(kind, self.rows)

    def _rows(self, db: Any) -> int:
        """The rows of this step in the open transaction."""
        return int(db.execute(ROWS.get(self.step.partition(".")[2], "SELECT 0")).fetchall()[0][0])

    def _files(self) -> int:
        kept = (path for path in self.folder.rglob("*") if path.is_file() and path.name != "run.lock")
        return sum(".duckdb" not in path.name for path in kept)


def install(watch: Watch, store_every_s: float) -> None:
    """Watch the warehouse, the ledger, the steps and the run's files."""
    import factory.llm.ledger
    import factory.llm.storing
    import factory.pipeline.run
    import factory.warehouse.file as warehouse

    put = warehouse.insert

    @functools.wraps(put)
    def insert(db: Any, table: str, columns: Any) -> int:
        rows = put(db, table, columns)
        if db is watch.held:
            watch.happened("insert", db)
        else:
            watch.happened("gold")
        return rows

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("factory") and getattr(module, "insert", None) is put:
            module.insert = insert  # type: ignore[attr-defined]

    lease = warehouse.Warehouse.lease

    @contextlib.contextmanager
    def watched_lease(self: Any, **named: Any) -> Iterator[Any]:
        outermost = self._file.depth == 0
        with lease(self, **named) as db:
            if outermost:
                watch.held = db
            yield db
            if outermost:
                watch.happened("commit", db)
        if outermost:
            watch.happened("committed")

    warehouse.Warehouse.lease = watched_lease  # type: ignore[method-assign]

    add = factory.llm.ledger.Ledger.add

    @functools.wraps(add)
    def watched_add(self: Any, *args: Any, **named: Any) -> Any:
        taken = add(self, *args, **named)
        watch.unstored += len(taken[0])  # the answers, and beside them what they cost
        watch.happened("answer")
        return taken

    settle = factory.llm.ledger.Ledger.settle

    @functools.wraps(settle)
    def watched_settle(self: Any, batch: Any) -> None:
        settle(self, batch)
        watch.unstored -= len(batch.answers)

    factory.llm.ledger.Ledger.add = watched_add  # type: ignore[method-assign]
    factory.llm.ledger.Ledger.settle = watched_settle  # type: ignore[method-assign]
    factory.llm.storing.STORE_EVERY_S = factory.llm.storing.STORE_MOST_S = store_every_s

    call, number = factory.pipeline.run.call_step, [0]

    @functools.wraps(call)
    def watched_call(step: Any, held: Any, context: Any, progress: Callable[[int, int, str], None]) -> Any:
        watch.starts(number[0], step.verb)
        number[0] += 1

        def told(done: int, total: int, what: str) -> None:
            progress(done, total, what)
            watch.happened("progress", told=(done, total))

        return call(step, held, context, told)

    factory.pipeline.run.call_step = watched_call
    folder = str(watch.folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(folder):
            mode = arguments[1]
            if isinstance(mode, str) and set(mode) & set("wxa+"):
                watch.happened("file")
        elif event in {"os.rename", "os.mkdir"} and str(arguments[0]).startswith(folder):
            watch.happened("file")

    sys.addaudithook(hook)


def main() -> None:
    """Run the command line under watch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop")
    parser.add_argument("--between", type=int, nargs=2, metavar=("LOW", "HIGH"))
    parser.add_argument("--pipe", type=int, default=-1)
    parser.add_argument("--census", type=Path)
    parser.add_argument("--snapshots", type=Path)
    parser.add_argument("--store-every", type=float, default=0.05)
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    rest = given.rest[1:] if given.rest[:1] == ["--"] else given.rest
    folder = Path(rest[rest.index("--folder") + 1]).absolute()
    install(Watch(given.stop, given.between, given.pipe, given.census, given.snapshots, folder), given.store_every)
    from factory.cli import main as command_line

    sys.argv = ["factory", *rest]
    command_line()


if __name__ == "__main__":
    main()
