"""The worker process: sealed itself, it forks one sealed child per program and chunk, and watches it.

It is started with an empty environment in a session of its own and speaks with the host in length-prefixed `marshal` frames (the
host never reads anything but integers and short JSON from it).
"""

from __future__ import annotations

import bisect
import gc
import json
import marshal
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from . import child, facades, layers, policy

HARD_CPU_S = 1.0
HARD_WALL_S = 15.0
LOAD_S = 6.0
MAX_DEATHS = 4
MAX_NOTES = 8192
RETIRED_FOR = ("timeout", "memory", "state")
ROW_FAILURES = ("exception", "bad value", "timeout", "memory")


class Worker:
    """Holds a chunk of texts and runs programs over it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.memory = int(settings["memory"])
        self.refuse = frozenset(settings["refuse"])
        self.builtins = facades.build()
        self.texts: list[str] = []
        self.refused: dict[str, str] = {}
        self.statm = _open_statm()
        self._seal()
        self.standing = layers.standing() if "seccomp" in self.refused else []
        gc.collect()
        gc.freeze()
        gc.disable()

    def _put_on(self, layer: str, seal: Callable[[], str | None]) -> None:
        reason = "refused for a test" if layer in self.refuse else seal()
        if reason is not None:
            self.refused[layer] = reason

    def _seal(self) -> None:
        """What holds for the worker itself; a child adds limits and a narrower filter."""
        self._put_on("namespaces", self._enter_namespaces)
        self._put_on("unprivileged", layers.seal_unprivileged)
        layers.drop_capabilities()
        self._put_on("no_new_privs", layers.seal_no_new_privs)
        if "namespaces" not in self.refused:  # changing the user has undone it
            layers.die_with_parent()
        self._put_on("landlock", layers.seal_landlock)
        self._put_on("seccomp", lambda: layers.seal_seccomp(None))
        self._put_on("limits", lambda: None)

    def _enter_namespaces(self) -> str | None:
        """Go on as the second process of a new process namespace; its first, and what remains outside, end when we do."""
        reason = layers.seal_namespaces()
        if reason is not None:
            return reason
        for _ in range(2):
            pid = os.fork()
            if pid:
                os.closerange(0, 3)
                os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
            layers.die_with_parent()
        self.statm = _open_statm()
        return layers.seal_root()

    # ----------------------------------------------------------------------------------------------------------------------
    def serve(self, read_fd: int, write_fd: int) -> None:
        """Answer frames until the host closes."""
        while True:
            frame = _read_frame(read_fd)
            if frame is None:
                return
            kind, payload = marshal.loads(frame)
            if kind == "texts":
                self.texts = payload
                gc.freeze()
                continue
            if kind == "probe":
                _write_frame(write_fd, json.dumps(self._probe()).encode())
                continue
            codes, notes = self._run(payload)
            _write_frame(write_fd, json.dumps(notes).encode())
            _write_frame(write_fd, codes)

    def _enter_child(self, status_fd: int, cpu_s: int) -> None:
        """Close everything but the status pipe and put the narrow layers on."""
        layers.die_with_parent()
        memory = self.memory + self._size()
        os.closerange(0, status_fd)
        os.closerange(status_fd + 1, 4096)
        if "limits" not in self.refuse:
            layers.seal_limits(memory, cpu_s)
        if "seccomp" not in self.refuse:
            layers.seal_seccomp(status_fd)

    def _size(self) -> int:
        """Address space of this process, in bytes."""
        if self.statm < 0:
            return 1 << 30
        return int(os.pread(self.statm, 64, 0).split()[0]) * mmap.PAGESIZE

    def _probe(self) -> dict[str, Any]:
        """What a sealed child can still do by raw system call."""
        read_fd, write_fd = os.pipe()
        victim = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._enter_child(write_fd, 10)
                os.write(write_fd, bytes(layers.try_everything(victim)) if layers.LINUX else b"")
            finally:
                os._exit(0)
        os.close(write_fd)
        data = b""
        while len(data) < 64:
            part = os.read(read_fd, 64)
            if not part:
                break
            data += part
        os.close(read_fd)
        os.waitpid(pid, 0)
        self.standing = layers.standing() if "seccomp" in self.refused else []
        possible = [name for name, worked in zip(layers.ATTEMPTS, data, strict=False) if worked]
        tried = len(data) == len(layers.ATTEMPTS)
        return {"refused": self.refused, "possible": possible if tried else list(layers.ATTEMPTS), "tried": tried}

    # ----------------------------------------------------------------------------------------------------------------------
    def _run(self, task: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """One program over the chunk, restarted behind every row that kills it."""
        n = len(self.texts)
        shared = mmap.mmap(-1, max(4 * n, 4))
        shared[: 4 * n] = struct.pack("i", child.UNREACHED) * n
        codes = memoryview(shared).cast("i")
        notes: dict[str, Any] = {"rows": []}
        start = deaths = 0
        deadline = time.monotonic() + 60 + n * 0.01
        while start < n or "loaded" not in notes:
            end = self._one_child(task, start, codes, notes, deadline)
            if end == "done":
                break
            reached = _first_unreached(codes, n)
            if "loaded" not in notes:
                if "refused" not in notes:
                    said = "loading the program " + ("hangs" if end == "slow" else "ends the process")
                    notes["refused"], notes["words"] = end, said
                _fill(codes, 0, n, child.REJECTED)
                break
            if end in ("timeout", "crash") and reached < n:
                codes[reached] = child.TIMEOUT if end == "timeout" else child.CRASH
                notes["rows"].append({"row": reached, "status": end, "words": ""})
                deaths += 1
            start = reached + 1
            if notes.get("retired") == "state":  # no vote of the chunk depends on its text alone
                _fill(codes, 0, n, child.RETIRED)
                break
            if end in ("retired", "over") or deaths >= MAX_DEATHS:
                notes.setdefault("retired", "timeout" if end != "crash" else "crash")
                _fill(codes, _first_unreached(codes, n), n, child.RETIRED)
                break
        data = codes.tobytes()[: 4 * n]
        codes.release()
        shared.close()
        return data, notes

    def _one_child(
        self, task: dict[str, Any], start: int, codes: memoryview, notes: dict[str, Any], deadline: float
    ) -> str:
        """Fork, watch and reap one child.

        Returns:
            done, retired (by its own bound), timeout, crash, slow (loading hung) or over (the chunk's time is up).
        """
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self._enter_child(write_fd, int(deadline - time.monotonic()) + 5)
                child.run(task, self.texts, start, codes, write_fd, self.builtins, policy.compile_program)
            finally:
                os._exit(0)
        os.close(write_fd)
        outcome, buffer = "", b""
        size, last, n = 0, start, len(self.texts)
        cpu_mark, wall_mark = 0.0, time.monotonic()
        poller = select.poll()
        poller.register(read_fd, select.POLLIN)
        loaded = False
        while True:
            if poller.poll(100):
                part = os.read(read_fd, 4096)
                if not part:
                    break
                size += len(part)
                if size > MAX_NOTES * 2:
                    outcome = outcome or "crash"
                    _kill(pid)
                buffer += part
                loaded = loaded or b'"loaded"' in buffer
                continue
            now, cpu = time.monotonic(), _cpu_time(pid)
            reached = _first_unreached(codes, n)
            if reached > last:
                last, cpu_mark, wall_mark = reached, cpu, now
            if now > deadline:
                outcome = outcome or "over"
            elif not loaded and (cpu > LOAD_S or now - wall_mark > 5 * LOAD_S):
                outcome = outcome or "slow"
            elif loaded and reached < n:
                limit = HARD_CPU_S + len(self.texts[reached]) / 2e6
                if cpu - cpu_mark > limit or now - wall_mark > HARD_WALL_S:
                    outcome = outcome or "timeout"
            if outcome:
                _kill(pid)
        os.close(read_fd)
        used = os.wait4(pid, 0)[2]
        notes["cpu_s"] = notes.get("cpu_s", 0.0) + used.ru_utime + used.ru_stime
        self._stand()
        said = _notes(buffer, notes, n)
        return outcome or said or "crash"

    def _stand(self) -> None:
        """Where a child could change our limits or priority: end if one did, so that nothing but its own votes is lost."""
        if self.standing and layers.standing() != self.standing:
            os._exit(1)


def _notes(buffer: bytes, notes: dict[str, Any], n: int) -> str:
    """Take the child's JSON lines, distrusting every one of them; returns done, retired or nothing."""
    said = ""
    for line in buffer[:MAX_NOTES].splitlines():
        try:
            note = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(note, dict):
            continue
        if note.get("loaded") is True:
            notes["loaded"] = True
            notes["returns"] = str(note.get("returns") or "")[:300]
            notes.pop("refused", None)
        elif note.get("done") is True:
            said = "done"
        elif note.get("retired") in RETIRED_FOR:
            notes["retired"], said = note["retired"], "retired"
            notes["words"] = str(note.get("words", ""))[:60]
        elif isinstance(note.get("refused"), str) and "loaded" not in notes:
            notes["refused"], notes["words"] = note["refused"][:40], str(note.get("words", ""))[:300]
        elif (
            type(note.get("row")) is int
            and 0 <= note["row"] < n
            and note.get("status") in ROW_FAILURES
            and len(notes["rows"]) < 4 * child.NOTES
        ):
            words = str(note.get("words", ""))[:120]
            notes["rows"].append({"row": note["row"], "status": note["status"], "words": words})
    return said


def _first_unreached(codes: memoryview, n: int) -> int:
    """Index of the first text without a code; they are reached in order."""
    return bisect.bisect_left(range(n), True, key=lambda at: codes[at] == child.UNREACHED)


def _fill(codes: memoryview, start: int, end: int, code: int) -> None:
    codes[start:end] = memoryview(struct.pack("i", code) * (end - start)).cast("i")


def _cpu_time(pid: int) -> float:
    """CPU seconds a process has used."""
    try:
        return time.clock_gettime(((~pid) << 3) | 2)
    except OSError:
        return time.monotonic()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _read_exactly(fd: int, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(fd, min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _read_frame(fd: int) -> bytes | None:
    head = _read_exactly(fd, 8)
    return None if head is None else _read_exactly(fd, struct.unpack("<Q", head)[0])


def _write_frame(fd: int, data: bytes) -> None:
    view = memoryview(struct.pack("<Q", len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


def main(settings: str) -> None:
    """The process's entry: settings as JSON, frames on standard input and output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setrecursionlimit(1000)
    Worker(json.loads(settings)).serve(0, 1)


def _open_statm() -> int:
    """The descriptor that this process's address space is read from, or -1."""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return -1
