"""What programs said of texts, and how what a worker sends becomes that: integers that are checked, and words that are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.programs.sandbox.host.process import Layers

STATUS = (
    "ok", "abstain", "exception", "bad value", "timeout", "memory", "crash", "retired", "rejected"
)  # fmt: skip
"""Status by code. `retired`: the program was taken out, after five timeouts or four deaths, or for the whole chunk because it
keeps state between texts; `rejected`: it never ran."""


@dataclass(frozen=True)
class ProgramRun:
    """What programs said of texts.

    Attributes:
        votes: `[n, m]`, label index, -1 abstains or failed; int8 up to 127 classes, int16 up to 32,767, int32 beyond. With a
            `target`: 1 yes, 0 no, -1 abstains or failed.
        codes: `[n, m]` uint8, index into `STATUS`.
        layers: What the kernel refuses, as proved; None if nothing ran in the sandbox.
        refusals: Program index to `(code, words)` for each that was rejected.
        notes: For each program, some failures: `{"row", "status", "words"}`; `{"retired", "row", "words"}` where it was retired;
            `{"returns"}`: words on a text in its source that it may return and that is not a label.
        cpu_s: `[m]`, seconds of processor time that each program took, loading included; empty where nobody looked.
    """

    votes: np.ndarray
    codes: np.ndarray
    layers: Layers | None
    refusals: dict[int, tuple[str, str]]
    notes: list[list[dict[str, Any]]]
    cpu_s: Sequence[float] = ()

    @property
    def status(self) -> np.ndarray:
        """`[n, m]`, the status in words."""
        words: np.ndarray = np.array(STATUS, dtype=object)[self.codes]
        return words

    def words(self, at: int) -> dict[int, str]:
        """By row, our words on those failures of a program that some were kept of."""
        return {note["row"]: note["words"] for note in self.notes[at] if note.get("status") and note.get("words")}


def take(raw: np.ndarray | None, votes: np.ndarray, codes: np.ndarray, classes: int) -> None:
    """Check a worker's integers and put them into the columns. What is no known code is a bad value."""
    if raw is None:
        codes[:] = STATUS.index("crash")
        return
    is_vote = (raw >= 0) & (raw < classes)
    votes[:] = np.where(is_vote, raw, -1)
    known = (raw < 0) & (raw >= -8)
    codes[:] = np.where(is_vote, 0, np.where(known, -raw, np.where(raw == -128, 6, 3)))


def note(
    said: dict[str, Any], at: int, rows: range, refusals: dict[int, tuple[str, str]], notes: list[list[dict[str, Any]]]
) -> None:
    """Keep what a worker says of a program and a range of rows, as far as it can be true."""
    if said.get("refused"):
        refusals.setdefault(at, (str(said["refused"])[:40], _printable(said.get("words", ""), 300)))
    if said.get("returns") and rows.start == 0:
        notes[at].append({"returns": _printable(said["returns"], 300)})
    if said.get("retired"):
        words = _printable(said.get("words", ""), 60)
        notes[at].append({"retired": str(said["retired"])[:40], "row": rows.start, "words": words})
    for item in said.get("rows") or []:
        row = item.get("row") if isinstance(item, dict) else None
        if type(row) is int and 0 <= row < len(rows) and len(notes[at]) < 64:
            status, words = str(item.get("status", ""))[:20], _printable(item.get("words", ""), 120)
            notes[at].append({"row": rows[row], "status": status, "words": words})


def seconds(said: dict[str, Any]) -> float:
    """Processor time that a worker says a task took."""
    found = said.get("cpu_s")
    return found if type(found) is float and found >= 0 else 0.0


def _printable(words: object, most: int) -> str:
    return "".join(c for c in str(words) if c.isprintable())[:most]
