"""One at a time in a run's folder: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from factory.errors import InputError
from factory.private import FILE_MODE, private_folder

LOCK = "run.lock"
FAR = 1 << 20
"""The byte that is locked on Windows."""


@contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Be the only one at work in a run's folder, which is made if it is not there.

    The file's lock counts, never the file: one that a killed process left behind is taken over. Where no lock can be had (a
    folder that cannot be written, a file system without locks) the work goes on without: the warehouse tells what is wrong,
    and guards each of its transactions by itself.

    Args:
        folder: Where the warehouse is; None (a warehouse in memory) needs no lock.

    Raises:
        InputError: Another process, or another call in this one, is at work there.
    """
    path = (folder or Path()) / LOCK
    file = None if folder is None else _taken(path)
    if file is None:
        yield
        return
    try:
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(file)


def at_work(folder: Path | None) -> int | None:
    """The number of another process that is at work in a run's folder, as far as its lock file tells; None if there is none.

    It takes no lock, so that nobody is kept from beginning: whoever writes asks `alone_in`.
    """
    if folder is None:
        return None
    try:
        number = int((folder / LOCK).read_bytes()[:20])
    except (OSError, ValueError):
        return None
    import psutil

    return number if number != os.getpid() and psutil.pid_exists(number) else None


def _taken(path: Path) -> int | None:
    """The locked file, or None where there are no locks."""
    while True:
        try:
            private_folder(path.parent)
            file = os.open(path, os.O_CREAT | os.O_RDWR, FILE_MODE)
        except OSError:
            return None
        try:
            if not _locked(file):
                raise _in_use(path, file)
        except (OSError, ImportError):
            os.close(file)
            return None
        if _is_at(file, path):
            return file
        os.close(file)  # a run that ended meanwhile has removed this one


def _locked(file: int) -> bool:
    """Lock a file for as long as it is open; False if somebody else has. OSError or ImportError where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return _locked_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked_on_windows(file: int) -> bool:
    """One byte far beyond the process id, since a byte that is locked there cannot be read by others."""
    import msvcrt

    windows: Any = msvcrt  # its functions are declared on Windows alone
    os.lseek(file, FAR, os.SEEK_SET)
    try:
        windows.locking(file, windows.LK_NBLCK, 1)
    except PermissionError:
        return False
    finally:
        os.lseek(file, 0, os.SEEK_SET)
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _in_use(path: Path, file: int) -> InputError:
    with os.fdopen(file) as held:
        number = held.read(20).strip()
    who = f"process {number}" if number.isdigit() else "another process"
    stop = f" (kill {number})" if number.isdigit() else ""
    fix = f"Wait until it has ended, or stop it{stop} and run again; --folder makes a run of its own elsewhere"
    return InputError(f"{who} is at work on a run in this folder", where=path.parent, fix=fix)
