"""A command as a process of its own, one at a time: begun, looked at and stopped from the pages."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from factory.errors import InputError
from factory.private import FILE_MODE, private_folder
from factory.studio.child import GRACE_S

LOG = "studio.log"
"""What the last command said, in the run's folder."""
MOST_LINES, MOST_BYTES = 40, 32_768
ENDS: Mapping[int, str] = {
    0: "it is done", 2: "it was refused", 3: "the budget ended it", 4: "answers are to come by file",
    5: "requests are still without an answer: run it again", 130: "it was stopped: run it again to go on",
}  # fmt: skip
"""How a command ended, by exit code."""


class Runner:
    """The command that the studio began last."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self, words: Sequence[str], folder: Path) -> None:
        """Begin `factory WORDS`; what it says goes into the folder's log.

        Raises:
            InputError: One is at work already, or the folder cannot be written.
        """
        with self._lock:
            if self.pid is not None:
                raise InputError(f"process {self.pid} is at work already", fix="Wait until it has ended, or stop it")
            try:
                private_folder(folder)
                log = os.open(folder / LOG, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, FILE_MODE)
            except OSError as error:
                raise InputError(f"cannot be written: {error.strerror}", where=folder) from error
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "factory.studio.child", *words], stdin=subprocess.PIPE, stdout=log,
                    stderr=subprocess.STDOUT, start_new_session=True,  # Ctrl-C in a terminal is for the studio
                )  # fmt: skip
            finally:
                os.close(log)

    @property
    def pid(self) -> int | None:
        """The number of the process while it is at work."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def stop(self) -> None:
        """End it as Ctrl-C does, and at once where that takes too long."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        with suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        try:
            process.wait(GRACE_S + 5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def standing(self, folder: Path) -> dict[str, Any]:
        """`pid` (of what is at work), `ended` (how the last one ended, in words) and the last `lines` that it said."""
        code = None if self._process is None or self.pid is not None else self._process.returncode
        if code is not None and code < 0:
            code = 130  # killed, and so resumable like one that was stopped
        ended = None if code is None else ENDS.get(code, f"it failed (exit code {code})")
        return {"pid": self.pid, "ended": ended, "wrong": code not in (None, 0, 130), "lines": last_lines(folder / LOG)}


def last_lines(log: Path) -> list[str]:
    """The last lines of a log; none if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - MOST_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-MOST_LINES:]
    except OSError:
        return []
