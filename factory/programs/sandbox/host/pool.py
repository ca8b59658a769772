"""Worker processes of the sandbox as the host sees them, and `run_programs`, the one call for others.

The host never parses, compiles, unpickles or formats anything that comes from a program: it sends sources and texts, and gets
integers back, which it checks, and short JSON notes, which it treats as text.
"""

from __future__ import annotations

import atexit
import json
import marshal
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np

from factory.errors import InputError, SandboxError
from factory.label_matrix import vote_dtype
from factory.programs.sandbox.host.process import Layers, Process
from factory.programs.sandbox.host.result import ProgramRun, note, seconds, take

Sandbox = Literal["kernel", "process"]
"""What Python programs may run in. On Linux it is always a process that the kernel seals. Other systems cannot, and run them only
where `process` says that a process of their own, with the static check and limits on time, is enough."""

SANDBOX_VARIABLE = "LABEL_FACTORY_SANDBOX"
"""Environment variable that says `process` for all that this process runs."""

CHUNK = 10_000
"""Texts per task. Fixed: what a program with hidden state says must not depend on the number of workers."""


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
        self,
        workers: int | None = None,
        *,
        memory_mb: int = 256,
        strict: bool = False,
        sandbox: Sandbox = "kernel",
        refuse: Sequence[str] = (),
    ) -> None:
        """Describe the pool; nothing is started yet.

        Args:
            workers: Processes; the machine's cores by default, at most 8.
            memory_mb: Address space a program may add, in MiB.
            strict: Refuse to run unless every layer is on and the probe could do nothing.
            sandbox: See `Sandbox`.
            refuse: Kernel layers to leave out, for tests of what still holds.
        """
        self.workers = workers or max(1, min(8, _cores()))
        self.strict = strict
        self._accepts_process = sandbox == "process" or os.environ.get(SANDBOX_VARIABLE) == "process"
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
        _check_system(self._accepts_process)
        self._processes = [p for p in self._processes if p.alive]
        while len(self._processes) < self.workers:
            self._processes.append(Process(self._settings))
        if self._layers is None:
            self._layers = self._processes[0].probe()
        for process in self._processes:
            process.watch_bytes = self.memory_mb << 20 if "limits" in self._layers.missing else 0
        if self.strict and not self._layers.complete:
            self.close()
            said = self._layers.says().removeprefix("sandbox: ") + ", and strict asks for all of them"
            fix = "Run on Linux with seccomp, Landlock and namespaces, or without strict"
            raise SandboxError(said, where="sandbox", fix=fix)

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
        cpu_s = [0.0] * m
        starts = range(0, n, CHUNK) or [0]
        jobs = deque(product(starts, range(m)))
        errors: list[BaseException] = []
        guard = threading.Lock()

        @lru_cache(maxsize=2)
        def frame(start: int) -> bytes:
            return marshal.dumps(("texts", [str(text) for text in texts[start : start + CHUNK]]))

        def work(process: Process) -> None:
            held = -1
            try:
                while not errors:
                    with guard:
                        if not jobs:
                            return
                        start, at = jobs.popleft()
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
                        take(raw, votes[start:end, at], codes[start:end, at], classes)
                        note(said, at, range(start, end), refusals, notes)
                        cpu_s[at] += seconds(said)
            except BaseException as error:
                errors.append(error)

        with self._lock:
            layers = self.layers
            self._drive(work, m * len(starts), errors)
        for said in notes:
            said.sort(key=lambda note: int(note.get("row", -1)))
        return ProgramRun(votes, codes, layers, dict(sorted(refusals.items())), notes, cpu_s)

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
    sandbox: Sandbox = "kernel",
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
        sandbox: See `Sandbox`.
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
    return shared_pool(strict, sandbox).run(sources, texts, labels, target=target, static_checks=static_checks)


_SHARED: dict[tuple[bool, Sandbox], Pool] = {}
_SHARED_LOCK = threading.Lock()


def shared_pool(strict: bool = False, sandbox: Sandbox = "kernel") -> Pool:
    """The process's pool: one worker per core, ended at exit. Nothing starts before a program runs."""
    with _SHARED_LOCK:
        if (strict, sandbox) not in _SHARED:
            pool = _SHARED[strict, sandbox] = Pool(strict=strict, sandbox=sandbox)
            atexit.register(pool.close)
        return _SHARED[strict, sandbox]


def _check_system(accepts_process: bool) -> None:
    if sys.platform == "linux":
        return
    if not hasattr(os, "fork"):
        said = "Python programs need a system that can fork, and this one cannot"
        fix = "Run them on Linux or macOS; lists of rules (`author: {form: rules}`) run everywhere"
        raise SandboxError(said, where="sandbox", fix=fix)
    if not accepts_process:
        said = "this system's kernel cannot seal Python programs: they would run with your rights, held by the static check alone"
        fix = "Write `sandbox: process` into the step (or `--sandbox process`) if you trust them; lists of rules need nothing"
        raise SandboxError(said, where="sandbox", fix=fix)


def _checked_labels(labels: Sequence[str]) -> list[str]:
    names = [str(name) for name in labels]
    if len(set(names)) != len(names):
        raise InputError("a label stands twice", where="labels")
    if len(names) > 2**31 - 1:
        raise InputError("more labels than an integer can number", where="labels")
    return names


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
