"""Processes that a test has started: those that still run, by their command line."""

from __future__ import annotations

from collections.abc import Iterator

import psutil


def command_lines() -> Iterator[tuple[psutil.Process, str]]:
    """The processes below this one with their command lines, less those that have ended and wait to be collected."""
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:  # it ended between the two calls
            continue
        yield process, line


def actors() -> list[psutil.Process]:
    """The Ray actors of the session of this process."""
    return [process for process, line in command_lines() if "ray::Seat" in line]


def lives(pid: int) -> bool:
    """Whether a process still runs: one that has ended and that nobody has collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
