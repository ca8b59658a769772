"""What is in flight, and what came and is not stored yet, in a file beside the warehouse: a kill loses no answer.

A line is written for each call before it is sent, and one with the rows of each reply as it comes (some microseconds; a lease on
the warehouse is 19 ms). Lines whose attempts are stored are dropped when the file is rewritten. A file is held with a lock by the
process that writes it; one without a lock was left by a process that was killed.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    attempts: list[list[Any]] = field(default_factory=list)
    answers: list[list[Any]] = field(default_factory=list)
    requests: list[list[Any]] = field(default_factory=list)


class Journal:
    """The calls that one process has in flight."""

    def __init__(self, stem: Path | None) -> None:
        self._stem = stem
        self._path: Path | None = None
        self._file: int | None = None
        self._open: dict[int, bytes] = {}
        self._size = 0

    @classmethod
    def beside(cls, warehouse: Path | None) -> Journal:
        """The journal of a warehouse file (`NAME.inflight-PID`); for a warehouse in memory, one that keeps nothing."""
        return cls(None if warehouse is None else warehouse.with_suffix(".inflight"))

    def note(self, number: int, key: str, first: int, last: int, engine: str) -> None:
        """A call goes out now."""
        if self._stem is None:
            return
        self._append(number, f"{number} {key} {first} {last} {engine}\n".encode())

    def came(
        self, number: int, attempt: Iterable[Any], answers: Iterable[Iterable[Any]], request: Iterable[Any] | None
    ) -> None:
        """A reply came: the rows that it will be in the warehouse.

        Args:
            number: Of the attempt.
            attempt: A row of `attempts`.
            answers: Rows of `answers`.
            request: A row of `requests`, if an earlier line has not told it.
        """
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
        else:
            _remove(self._path, self._file)
            self._file = None
        if self._file is not None:
            os.close(self._file)
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
        number = 0
        while True:
            path = self._stem.with_name(f"{self._stem.name}-{os.getpid()}-{number}")
            try:
                self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
                break
            except FileExistsError:
                number += 1
        _locked(self._file)
        self._path, self._size = path, 0

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
    parts = []
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _locked(file: int) -> bool:
    """Take the lock of an open file without waiting. False if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
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
        left.attempts.append(attempt)
        left.answers += answers
        left.requests += [] if request is None else [request]
    left.in_flight = list(sent.values())
    return left


def _parse(line: bytes) -> Line | None:
    parts = line.decode("utf-8", "replace").split(" ")
    if len(parts) != 5 or not parts[0].isdigit() or len(parts[1]) != 64:
        return None
    try:
        return int(parts[0]), parts[1], int(parts[2]), int(parts[3]), parts[4]
    except ValueError:
        return None
