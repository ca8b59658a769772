"""Chunks of texts as workers take them, and tasks about them."""

from __future__ import annotations

import marshal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

CHUNK = 10_000
"""Texts per task. Fixed: what a program with hidden state says must not depend on the number of workers."""


@dataclass(frozen=True)
class Job:
    """One task for a worker.

    Attributes:
        task: What to run: `source`, `labels`, `target`, `static`, perhaps `mode`.
        n: Items in the chunk.
        chunk: Number of the chunk, and the function that gives its frame by number.
    """

    task: dict[str, Any]
    n: int
    chunk: tuple[int, Callable[[int], bytes]]


def frame_of(items: Sequence[Any]) -> bytes:
    """A chunk as a worker takes it."""
    return marshal.dumps(("texts", list(items)))


class Frames:
    """Chunks of texts as frames for the workers; the last two that were asked for are kept."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._kept: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def of(self, start: int) -> bytes:
        """The frame of the chunk that begins there."""
        with self._lock:
            frame = self._kept.pop(start, None)
            if frame is None:
                frame = frame_of([str(text) for text in self._texts[start : start + CHUNK]])
            self._kept[start] = frame
            while len(self._kept) > 2:
                del self._kept[next(iter(self._kept))]
            return frame
