"""Putting a whole folder in the place of another: one step where the system has one, else two that can be undone."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2


def take_place(draft: Path, path: Path) -> None:
    """Move a draft to a place, whatever is there, and remove that.

    On Linux and macOS the two are exchanged in one step, so that whoever looks sees the old folder or the new one. Elsewhere, and
    on file systems that cannot do it, the old one is moved aside first, and back if the new one cannot take its place.

    Args:
        draft: A folder beside the place.
        path: The place. A link there is replaced, and not what it leads to.

    Raises:
        OSError: It cannot be done; the old folder stands.
    """
    old = path.with_name(f".{path.name}.old")
    if os.path.lexists(old) and not os.path.lexists(path):
        os.replace(old, path)  # a kill came between the two moves
    remove(old)
    if not os.path.lexists(path):
        os.replace(draft, path)
    elif exchange(draft, path):
        remove(draft)
    else:
        os.replace(path, old)
        try:
            os.replace(draft, path)
        except OSError:
            os.replace(old, path)
            raise
        remove(old)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step. False, and nothing done, where the system or the file system cannot."""
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "linux":
            code = ctypes.CDLL(None).renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
        elif sys.platform == "darwin":
            code = ctypes.CDLL(None).renamex_np(first, second, _RENAME_SWAP)
        else:
            return False
    except (OSError, AttributeError):  # a C library without it
        return False
    return bool(code == 0)


def remove(path: Path) -> None:
    """Remove a folder, or a link or file, as far as it can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
