"""One process at a time writes a DuckDB file, or several read it: DuckDB's lock, and one of our own beside it.

DuckDB locks with `fcntl`, and POSIX drops such a lock as soon as the process closes any handle of the file. On a busy machine two
processes that write in turn lost one row in some 500 that way. `flock` belongs to the open file itself and has no such gap.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from factory.private import FILE_MODE

if TYPE_CHECKING:
    import duckdb


class Turn:
    """A connection to a file, and the lock that is held for as long as it is open."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, guard: int | None) -> None:
        self.connection, self._guard = connection, guard

    def close(self) -> None:
        """Close the connection, then free the lock."""
        try:
            self.connection.close()
        finally:
            guard, self._guard = self._guard, None
            if guard is not None:
                _free(guard)


def connect(path: str, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that never draws a progress bar: on stdout it would stand between a `--json` object and its reader.

    Raises:
        duckdb.Error: As `duckdb.connect` does.
    """
    import duckdb

    file = Path(path)
    is_new = path != ":memory:" and not file.exists()
    connection = duckdb.connect(path, read_only=read_only)
    if is_new:
        file.chmod(FILE_MODE)
    connection.execute("SET enable_progress_bar = false")
    return connection


def take_turn(path: str, *, read_only: bool = False, patience_s: float) -> Turn:
    """Open a file that another process may have open: it is waited for, but no longer than `patience_s` seconds.

    Raises:
        duckdb.Error: As `connect` does, or the other process still has it.
    """
    import duckdb

    deadline, pause = time.monotonic() + patience_s, 0.005
    while True:
        late = time.monotonic() > deadline
        free, guard = _guarded(path, shared=read_only)
        if free or late:
            try:
                turn = Turn(connect(path, read_only=read_only), guard)
            except duckdb.Error as error:
                if guard is not None:
                    _free(guard)
                if not is_lock_conflict(error) or late:
                    raise  # DuckDB says which process has the file
            else:
                if free:
                    return turn
                turn.close()
                raise duckdb.IOException("could not set lock on file: conflicting lock is held by another process")
        if free:  # a process that knows nothing of our lock: DuckDB is asked, which takes milliseconds
            pause = min(pause * 1.5, 0.25)
        time.sleep((pause if free else 0.002) * random.uniform(0.5, 1.5))


def is_lock_conflict(error: Exception) -> bool:
    """Whether DuckDB says that another process has the file."""
    text = str(error).lower()
    return "lock" in text and ("conflicting" in text or "could not set lock" in text)


def _guarded(path: str, *, shared: bool) -> tuple[bool, int | None]:
    """Whether the file is free for us, and the handle that holds our lock (None where there is no file yet, or no such locks)."""
    try:
        import fcntl

        file = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return True, None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False, None
    except OSError:
        os.close(file)
        return True, None
    return True, file


def _free(guard: int) -> None:
    """Unlock before closing: a process that was forked meanwhile has the handle too."""
    import fcntl

    try:
        fcntl.flock(guard, fcntl.LOCK_UN)
    finally:
        os.close(guard)
