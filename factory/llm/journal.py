"""What is in flight, and what came and is not stored yet, in a file beside the warehouse: a kill loses no answer.

A line is written for each call before it is sent, and one with the rows of each reply as it comes (some microseconds; a lease on
the warehouse is 19 ms). Lines whose attempts are stored are dropped when the file is rewritten. A file is held with a lock by the
process that writes it; one without a lock was left by a process that was killed.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import orjson

Line = tuple[int, str, int, int, str]
"""Attempt number, request key, first sample, last sample, engine."""

_REWRITE_BYTES = 16 << 20


@dataclass
class Recovered:
    """What a journal tells of a process that is gone.

    Attributes:
        in_flight: Calls of which nobody knows what came of them.
        attempts, answers, requests: Rows of these tables, of replies that came.
    """

    in_flight: list[Line] = field(default_factory=list)
    attempts: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[tuple[Any, ...]] = field(default_factory=list)
    requests: list[tuple[Any, ...]] = field(default_factory=list)


class Journal:
    """The calls that one process has in flight, in files `STEM-PID-...`; for a warehouse in memory (None) nothing is kept."""

    def __init__(self, stem: Path | None) -> None:
        self._stem = stem
        self._path: Path | None = None
        self._file: int | None = None
        self._open: dict[int, bytes] = {}
        self._size = 0

    def note(self, number: int, key: str, first: int, last: int, engine: str) -> None:
        """A call goes out now."""
        if self._stem is not None:
            self._append(number, f"{number} {key} {first} {last} {engine}\n".encode())

    def came(
        self, number: int, attempt: Iterable[Any], answers: Iterable[Iterable[Any]], request: Iterable[Any] | None
    ) -> None:
        """A reply came: its rows of `attempts`, `answers`, and of `requests` if an earlier line has not told it."""
        if self._stem is not None:
            self._append(number, orjson.dumps([attempt, answers, request]) + b"\n")

    def _append(self, number: int, line: bytes) -> None:
        self._open[number] = line
        if self._file is None:
            self._start()
        assert self._file is not None
        os.write(self._file, line)
        self._size += len(line)

    def stored(self, numbers: Iterable[int]) -> None:
        """These attempts are in the warehouse."""
        for number in numbers:
            self._open.pop(number, None)
        if self._size > _REWRITE_BYTES:
            self._rewrite()

    def close(self) -> None:
        """End the journal; the file goes if nothing in it is open."""
        if self._file is None or self._path is None:
            return
        if self._open:
            self._rewrite()
            os.close(self._file)
        else:
            _remove(self._path, self._file)
        self._file, self._path = None, None

    def left_over(self) -> Mapping[Path, Recovered]:
        """What journals tell whose process is gone."""
        found: dict[Path, Recovered] = {}
        if self._stem is None:
            return found
        for path in journals(self._stem):
            if path == self._path:
                continue
            try:
                file = os.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                if _locked(file):
                    found[path] = _read(_content(file))
            except OSError:
                continue
            finally:
                os.close(file)
        return found

    def forget(self, paths: Iterable[Path]) -> None:
        """Remove journals whose lines are counted."""
        for path in paths:
            path.unlink(missing_ok=True)

    def _start(self) -> None:
        assert self._stem is not None
        for number in count():
            self._path = self._stem.with_name(f"{self._stem.name}-{os.getpid()}-{number}")
            try:
                self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
            except FileExistsError:
                continue
            _locked(self._file)
            self._size = 0
            return

    def _rewrite(self) -> None:
        """Replace the file by one with the open lines alone. The sender's thread may note lines meanwhile: they are open too."""
        assert self._file is not None
        lines = b"".join(list(self._open.values()))
        old, old_path = self._file, self._path
        self._file = None
        self._start()
        assert self._file is not None
        os.write(self._file, lines)
        self._size = len(lines)
        if old_path is not None:
            _remove(old_path, old)


def journals(stem: Path) -> list[Path]:
    """The journals beside a warehouse, of processes alive and gone: `stem` is its path with the suffix `.inflight`."""
    return sorted(stem.parent.glob(f"{glob.escape(stem.name)}-*"))


def _remove(path: Path, file: int) -> None:
    """Remove a journal of our own and close it, in this order where that can be done: nobody finds it without its lock."""
    try:
        path.unlink(missing_ok=True)
        os.close(file)
    except PermissionError:  # Windows removes no file that is open
        os.close(file)
        path.unlink(missing_ok=True)


def _content(file: int) -> bytes:
    return b"".join(iter(lambda: os.read(file, 1 << 20), b""))


def _locked(file: int) -> bool:
    """Take the lock of an open file without waiting. False if another process has it."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(content: bytes) -> Recovered:
    """Every whole line; what a kill cut off is left out."""
    left, sent = Recovered(), dict[int, Line]()
    for line in content.split(b"\n"):
        if not line.startswith(b"["):
            if (call := _parse(line)) is not None:
                sent[call[0]] = call
            continue
        try:
            attempt, answers, request = orjson.loads(line)
        except ValueError:
            continue
        sent.pop(attempt[0], None)
        left.attempts.append(tuple(attempt))
        left.answers += map(tuple, answers)
        left.requests += [] if request is None else [tuple(request)]
    left.in_flight = list(sent.values())
    return left


def _parse(line: bytes) -> Line | None:
    found = re.fullmatch(r"(\d+) (\S{64}) (\d+) (\d+) (\S*)", line.decode("utf-8", "replace"))
    return None if found is None else (int(found[1]), found[2], int(found[3]), int(found[4]), found[5])
