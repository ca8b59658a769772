"""How many texts a second something answers on this machine: measured once, and kept beside the warehouse.

Speeds are no part of the warehouse, whose tables never depend on how fast a machine is. `evaluate` and `export` measure; a report
reads what is known.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.students.stored import artefacts, load_student

if TYPE_CHECKING:
    from pathlib import Path

    from factory.students.stored import StoredModel
    from factory.warehouse.file import Warehouse

    Answer = Callable[[Sequence[str]], Any]

ENOUGH_S = 0.5
"""Seconds after which a speed is known well enough."""
MOST_TEXTS = 512
FILE = "speeds.json"


def rate(answer: Answer, texts: Sequence[str], first: int = 32) -> float:
    """Texts per second of a function, measured on growing parts until they take half a second or there are no more.

    Args:
        answer: Takes texts.
        texts: What to ask about; a few of them warm it up first.
        first: Texts of the first part: many where each call costs something of its own, as programs in the sandbox do.
    """
    answer(texts[:8])
    size = min(first, len(texts))
    while True:
        started = time.perf_counter()
        answer(texts[:size])
        seconds = time.perf_counter() - started
        if seconds >= ENOUGH_S or size == len(texts):
            return size / max(seconds, 1e-9)
        size = min(size * 4, len(texts))


class Speeds:
    """The speeds that are on record beside a warehouse, and, where asked to, those that are measured now.

    Attributes:
        texts: What is measured on: texts of test, or of train where there is no test.
        threads: Of this machine.
    """

    def __init__(self, warehouse: Warehouse, *, measure: bool) -> None:
        """Read what is known.

        Args:
            warehouse: Whose texts, and beside which.
            measure: Whether to measure what is not known.
        """
        self.measure, self.threads = measure, os.cpu_count() or 1
        self.texts: list[str] = next(filter(None, (_texts(warehouse, split) for split in ("test", "train"))), [])
        self._path: Path = artefacts(warehouse) / FILE
        self._known = self._read()

    def of(self, what: Any, answer: Callable[[], Answer], first: int = 32) -> float | None:
        """The speed of what `answer()` gives, which depends on `what`; None where it is neither known nor to be measured."""
        key = digest([what, self.threads])
        if key not in self._known and self.measure and self.texts:
            found = float(f"{rate(answer(), self.texts, first):.3g}")
            self._known = {**self._read(), key: found}  # another process may have written meanwhile
            partial = self._path.with_name(f".{FILE}.draft")
            partial.write_text(json.dumps(self._known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            partial.replace(self._path)
        return self._known.get(key)

    def of_student(self, model: StoredModel) -> float | None:
        """The speed of a student as it was trained.

        A tuned body or a table of tokens is as fast as any other of its kind: only the kind, the encoder and the labels count.
        """
        what = ["student", model.student, model.params.get("encoder_key"), len(model.labels)]
        return self.of(what, lambda: load_student(model).predict_proba)

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(key): float(value) for key, value in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # not there yet, or not ours: measured again


def _texts(warehouse: Warehouse, split: str) -> list[str]:
    rows = warehouse.query(
        "SELECT text FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = ?)"
        f" ORDER BY content_hash LIMIT {MOST_TEXTS}",
        [split],
    )
    return [text for (text,) in rows]
