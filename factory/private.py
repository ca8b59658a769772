"""What a run writes for itself is readable by its owner alone: it holds texts, gold, requests and answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o600, 0o700


def private_folder(path: Path) -> Path:
    """Make a folder that its owner alone may look into, and those above it as usual; one that is there stays as it is.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return path


@contextmanager
def private_files() -> Iterator[None]:
    """Whatever this process makes meanwhile is its owner's alone, what libraries write included (DuckDB's log, models, reports).

    It holds for the whole process, and so is for the command line.
    """
    before = os.umask(0o777 & ~FOLDER_MODE)
    try:
        yield
    finally:
        os.umask(before)
