"""Worker processes of the sandbox as the host sees them, and `run_programs`, the one call for others.

The host never parses, compiles, unpickles or formats anything that comes from a program: it sends sources and texts, and gets
integers back, which it checks, and short JSON notes, which it treats as text.
"""

from __future__ import annotations

import atexit
import json
import marshal
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from factory.errors import InputError, SandboxError
from factory.programs.sandbox.host.process import Layers, Process

CHUNK = 10_000
"""Texts per task. Fixed: what a program with hidden state says must not depend on the number of workers."""

STATUS = (
    "ok", "abstain", "exception", "bad value", "timeout", "memory", "crash", "retired", "rejected"
)  # fmt: skip
"""Status by code. `retired`: the program was taken out after five timeouts or four deaths; `rejected`: it never ran."""


@dataclass(frozen=True)
class ProgramRun:
    """What programs said of texts.

    Attributes:
        votes: `[n, m]`, label index, -1 abstains or failed; int8 up to 127 classes, int16 up to 32,767, int32 beyond. With a
            `target`: 1 yes, 0 no, -1 abstains or failed.
        codes: `[n, m]` uint8, index into `STATUS`.
        layers: What the kernel refuses, as proved.
        refusals: Program index to `(code, words)` for each that was rejected.
        notes: For each program, some failures: `{"row", "status", "words"}`, and `{"retired": ...}` where it was retired.
    """

    votes: np.ndarray
    codes: np.ndarray
    layers: Layers
    refusals: dict[int, tuple[str, str]]
    notes: list[list[dict[str, Any]]]

    @property
    def status(self) -> np.ndarray:
        """`[n, m]`, the status in words."""
        words: np.ndarray = np.array(STATUS, dtype=object)[self.codes]
        return words


def vote_dtype(classes: int) -> type[np.signedinteger]:
    """The narrowest signed integer that holds every class index and -1."""
    return np.int8 if classes <= 127 else np.int16 if classes <= 32_767 else np.int32


class Pool:
    """Worker processes, started on first use and reused.

    Example:
        >>> source = "def label(text):\\n    return 'spam' if 'win' in text else None"
        >>> with Pool(workers=1) as pool:
        ...     run = pool.run([source], ["win!", "hi"], ["spam", "ham"])
        >>> run.votes.tolist()
        [[0], [-1]]
    """

    def __init__(
        self, workers: int | None = None, *, memory_mb: int = 256, strict: bool = False, refuse: Sequence[str] = ()
    ) -> None:
        """Describe the pool; nothing is started yet.

        Args:
            workers: Processes; the machine's cores by default, at most 8.
            memory_mb: Address space a program may add, in MiB.
            strict: Refuse to run unless every layer is on and the probe could do nothing.
            refuse: Kernel layers to leave out, for tests of what still holds.
        """
        self.workers = workers or max(1, min(8, _cores()))
        self.strict = strict
        self.memory_mb = memory_mb
        self._settings = json.dumps({"memory": memory_mb << 20, "refuse": sorted(refuse)})
        self._processes: list[Process] = []
        self._layers: Layers | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            for process in self._processes:
                process.kill()
            self._processes = []

    @property
    def layers(self) -> Layers:
        """The proved layers. Starts the pool.

        Raises:
            SandboxError: A worker cannot start, or `strict` and something is missing.
        """
        with self._lock:
            self._start()
            assert self._layers is not None
            return self._layers

    def _start(self) -> None:
        if self._processes and all(process.alive for process in self._processes):
            return
        self._processes = [p for p in self._processes if p.alive]
        while len(self._processes) < self.workers:
            self._processes.append(Process(self._settings))
        if self._layers is None:
            self._layers = self._processes[0].probe()
        for process in self._processes:
            process.watch_bytes = self.memory_mb << 20 if "limits" in self._layers.missing else 0
        if self.strict and not self._layers.complete:
            self.close()
            raise SandboxError(
                self._layers.says().removeprefix("sandbox: ") + ", and strict asks for all of them",
                where="sandbox",
                fix="Run on Linux with seccomp, Landlock and namespaces, or without strict",
            )

    def run(
        self,
        sources: Sequence[str],
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        target: str | Sequence[str | None] | None = None,
        static_checks: bool = True,
    ) -> ProgramRun:
        """Run programs over texts; see `run_programs`. `target` may be one for each program."""
        labels = _checked_labels(labels)
        targets = [target] * len(sources) if target is None or isinstance(target, str) else list(target)
        n, m = len(texts), len(sources)
        votes = np.full((n, m), -1, dtype=vote_dtype(len(labels)), order="F")
        codes = np.zeros((n, m), dtype=np.uint8, order="F")
        refusals: dict[int, tuple[str, str]] = {}
        notes: list[list[dict[str, Any]]] = [[] for _ in sources]
        jobs: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        starts = range(0, n, CHUNK) or [0]
        for place in product(starts, range(m)):
            jobs.put(place)
        errors: list[BaseException] = []
        guard = threading.Lock()

        @lru_cache(maxsize=2)
        def frame(start: int) -> bytes:
            return marshal.dumps(("texts", [str(text) for text in texts[start : start + CHUNK]]))

        def work(process: Process) -> None:
            held = -1
            try:
                while not errors:
                    try:
                        start, at = jobs.get_nowait()
                    except queue.Empty:
                        return
                    if held != start or not process.alive:
                        with guard:
                            data = frame(start)
                        process.texts(data)
                        held = start
                    task = {"source": sources[at], "labels": labels, "target": targets[at], "static": static_checks}
                    end = min(start + CHUNK, n)
                    raw, said = process.task(task, end - start)
                    if raw is None:
                        held = -1
                    classes = 2 if targets[at] is not None else len(labels)
                    with guard:
                        _take(raw, votes[start:end, at], codes[start:end, at], classes)
                        _note(said, at, start, refusals, notes)
            except BaseException as error:
                errors.append(error)

        with self._lock:
            layers = self.layers
            self._drive(work, m * len(starts), errors)
        for said in notes:
            said.sort(key=lambda note: int(note.get("row", -1)))
        return ProgramRun(votes, codes, layers, dict(sorted(refusals.items())), notes)

    def _drive(self, work: Callable[[Process], None], jobs: int, errors: list[BaseException]) -> None:
        """Have every worker, or one for a single job, do the work until it is done; the first of the errors is raised."""
        if jobs == 1:
            work(self._processes[0])
        elif jobs:
            threads = [threading.Thread(target=work, args=(process,), daemon=True) for process in self._processes]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            except BaseException:
                errors.append(KeyboardInterrupt())
                self.close()
                raise
        if errors:
            self.close()
            raise errors[0]


def run_programs(
    sources: Sequence[str],
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    target: str | None = None,
    strict: bool = False,
    static_checks: bool = True,
) -> ProgramRun:
    """Run label programs over texts in the sandbox.

    Args:
        sources: Python sources, each defining `label(text)`, which returns a label's name, its index, or None or -1 to abstain;
            with a `target` True, False or None.
        texts: The texts.
        labels: Label names; votes are indices into them.
        target: The one label the programs speak of (tasks of kind `multi`).
        strict: Refuse unless every layer is on and proved.
        static_checks: Whether the static allow-list applies. Without it the kernel layers hold alone.

    Returns:
        Votes, statuses, layers, refusals and notes. A program that fails loses its own vote on that text and nothing else.

    Raises:
        SandboxError: No worker can start, or `strict` and a layer is missing.
        InputError: A label stands twice, or a text is no string.

    Example:
        >>> run = run_programs(["def label(text):\\n    return 1 if 'free' in text else -1"], ["free", "x"], ["ham", "spam"])
        >>> run.votes.tolist(), run.status[:, 0].tolist()
        ([[1], [-1]], ['ok', 'abstain'])
    """
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a text is a string, not {type(text).__name__}", where="run_programs")
    return shared_pool(strict).run(sources, texts, labels, target=target, static_checks=static_checks)


_SHARED: dict[bool, Pool] = {}
_SHARED_LOCK = threading.Lock()


def shared_pool(strict: bool = False) -> Pool:
    """The process's pool: one worker per core, ended at exit."""
    with _SHARED_LOCK:
        if strict not in _SHARED:
            _SHARED[strict] = Pool(strict=strict)
            atexit.register(_SHARED[strict].close)
        return _SHARED[strict]


def _take(raw: np.ndarray | None, votes: np.ndarray, codes: np.ndarray, classes: int) -> None:
    """Check a worker's integers and put them into the columns. What is no known code is a bad value."""
    if raw is None:
        codes[:] = STATUS.index("crash")
        return
    is_vote = (raw >= 0) & (raw < classes)
    votes[:] = np.where(is_vote, raw, -1)
    known = (raw < 0) & (raw >= -8)
    codes[:] = np.where(is_vote, 0, np.where(known, -raw, np.where(raw == -128, 6, 3)))


def _note(
    said: dict[str, Any], at: int, start: int, refusals: dict[int, tuple[str, str]], notes: list[list[dict[str, Any]]]
) -> None:
    if said.get("refused"):
        refusals.setdefault(at, (str(said["refused"])[:40], str(said.get("words", ""))[:300]))
    if said.get("retired"):
        notes[at].append({"retired": str(said["retired"])[:40], "row": start})
    for item in said.get("rows") or []:
        if isinstance(item, dict) and isinstance(item.get("row"), int) and len(notes[at]) < 64:
            words = "".join(c for c in str(item.get("words", "")) if c.isprintable())[:120]
            notes[at].append({"row": start + item["row"], "status": str(item.get("status", ""))[:20], "words": words})


def _checked_labels(labels: Sequence[str]) -> list[str]:
    names = [str(name) for name in labels]
    if len(set(names)) != len(names):
        raise InputError("a label stands twice", where="labels")
    if len(names) > 2**31 - 1:
        raise InputError("more labels than an integer can number", where="labels")
    return names


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
