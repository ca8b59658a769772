"""Deferral: an export answers what it is sure of; the rest is asked of a model, written as requests, or left to people."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.files.write import check_output, open_writer
from factory.predict.decide import sureness
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.files.base import ReadOptions
    from factory.predict.annotator import Answerer
    from factory.predict.load import Labeller

COLUMNS = {"deferred": "yes_no", "answered_by": "words"}
MODEL, ENGINE, NOBODY = "model", "engine", "nobody"


@dataclass(frozen=True)
class Deferring:
    """What is deferred: by exactly one of the two.

    Attributes:
        share: So much of the texts, the least sure of them, in (0, 1).
        below: Every text whose probability lies below this, in (0, 1].
    """

    share: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if (self.share is None) == (self.below is None):
            raise InputError(
                "what is deferred is a share of the texts, or what lies below a probability", fix="Give one"
            )
        if self.share is not None and not 0 < self.share < 1:
            raise InputError(f"the share that is deferred lies between 0 and 1, not {self.share:g}", fix="Use 0.1")
        if self.below is not None and not 0 < self.below <= 1:
            raise InputError(f"a probability lies between 0 and 1, not {self.below:g}", fix="Use 0.8")

    def chosen(self, sure: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which texts are deferred, bool [n].

        Args:
            sure: How sure the export is of each, [n], from `sureness`; NaN for a row without a text, which never is.
        """
        if self.below is not None:
            return np.asarray(sure < self.below)
        assert self.share is not None
        chosen = np.zeros(len(sure), bool)
        chosen[least_sure(sure, self.share)] = True
        return chosen


def least_sure(sure: NDArray[np.floating[Any]], share: float) -> NDArray[np.int64]:
    """The rows of the least sure share, the least sure first; of equally sure ones the first, and none that is NaN.

    Example:
        >>> least_sure(np.array([0.9, 0.5, np.nan, 0.7, 0.5]), 0.5).tolist()
        [1, 4]
    """
    known = int((~np.isnan(sure)).sum())
    return np.argsort(sure, kind="stable")[: round(share * known)]


def defer_file(
    labeller: Labeller, options: ReadOptions, out: Path | None, how: Deferring, *, answer: Answerer | None = None,
    write: Callable[[Sequence[str]], int] | None = None, force: bool = False, progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Label a file, and defer what the export is not sure of. The rows keep their order.

    The output has two columns more: `deferred`, and `answered_by` (`model`, `engine` or `nobody`). A deferred text has no label
    unless the engine gave one; its probabilities are the export's own. Everything is computed once and kept in a temporary file
    until it is known what is deferred.

    Args:
        labeller: The export, opened.
        options: The file, which is read three times.
        out: As `predict_file` takes it.
        how: What is deferred.
        answer: Who is asked; nobody by default.
        write: Writes requests for these texts, and says how many.
        force: As `predict_file` takes it.
        progress: Told how many lines (or rows) are done, then how many answers.

    Returns:
        `{"rows", "no_text", "deferred", "answered", "seconds", ...}`; `requests` is how many were written.

    Raises:
        InputError: The file cannot be used, or is stdin.
        FactoryError: What asking the engine raises. Its answers are stored, and nothing is written: run again.
    """
    started = time.perf_counter()
    if str(options.path) == "-":
        raise InputError("stdin is read once, and deferral reads its file again", fix="Write it to a file first")
    if out is not None:
        check_output(out, inputs=[options.path], force=force)
    columns = {**labeller.columns, **COLUMNS}
    with _Spool(len(labeller.labels)) as spool:
        sure = []
        for _, said, probs in labeller.rows(options, progress):
            spool.add(said, probs)
            sure.append(sureness(probs, labeller.multi))
        every = np.concatenate(sure) if sure else np.zeros(0)
        deferred = how.chosen(every)
        texts = _texts(labeller, options, deferred)
        written = write(texts) if write is not None and texts else 0
        answers = iter(answer(texts, progress) if answer is not None and texts else [None] * len(texts))
        counts = dict.fromkeys((MODEL, ENGINE, NOBODY), 0)
        opened = labeller.open(options)
        with open_writer(
            out, labeller.labels, columns, opened.source.columns, inputs=[options.path], force=force
        ) as writer:
            at, kept = 0, spool.rows()
            for chunk in labeller.chunks(opened):
                said, probs = next(kept)
                for row, words in enumerate(said):
                    mine = next(answers) if deferred[at + row] else None
                    words |= verdict(words, labeller.multi, bool(deferred[at + row]), mine)
                    if not np.isnan(every[at + row]):
                        counts[words["answered_by"]] += 1
                writer.write(chunk, said, probs)
                at += len(said)
    without = int(np.isnan(every).sum())
    found: dict[str, Any] = {
        "rows": len(every),
        "no_text": without,
        "deferred": int(deferred.sum()),
        "answered": counts[ENGINE],
    }
    found |= {"nobody": counts[NOBODY], "requests": written, "out": None if out is None else str(out)}
    found |= {"read": list(labeller.said), "never_seen": labeller.never_seen}
    return {**found, "seconds": round(time.perf_counter() - started, 3)}


def verdict(said: Mapping[str, Any], multi: bool, deferred: bool, answer: Sequence[str] | None) -> dict[str, Any]:
    """What deferral changes of what is said of a text: its label, whether it was deferred, and who answered.

    Args:
        said: What the export says.
        multi: Whether a text may have any number of labels.
        deferred: Whether the export is not sure.
        answer: The engine's labels, or None where it gave none.
    """
    name = "labels" if multi else "label"
    if not deferred:
        return {"deferred": False, "answered_by": NOBODY if said[name] is None else MODEL}
    label = None if answer is None else list(answer) if multi else answer[0]
    return {name: label, "deferred": True, "answered_by": NOBODY if answer is None else ENGINE}


def _texts(labeller: Labeller, options: ReadOptions, deferred: NDArray[np.bool_]) -> list[str]:
    """The texts that are deferred, in order."""
    found: list[str] = []
    at = 0
    for chunk in labeller.chunks(labeller.open(options)):
        found += [text for row, text in enumerate(chunk.texts) if deferred[at + row]]
        at += len(chunk.texts)
    return found


class _Spool:
    """What was said of each chunk, in a temporary file: lines of JSON, and probabilities as they are in memory."""

    def __init__(self, labels: int) -> None:
        self._labels = labels
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by `__exit__`
        self._probs = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._said.close()
        self._probs.close()

    def add(self, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        self._said.write(json.dumps(list(said)) + "\n")
        self._probs.write(np.ascontiguousarray(probs, np.float32).tobytes())

    def rows(self) -> Iterator[tuple[list[dict[str, Any]], NDArray[np.float32]]]:
        """What was added, chunk by chunk."""
        self._said.seek(0)
        self._probs.seek(0)
        for line in self._said:
            said = json.loads(line)
            held = self._probs.read(len(said) * self._labels * 4)
            yield said, np.frombuffer(held, np.float32).reshape(len(said), self._labels)
