"""Is what was written the student it came from, and does it answer the same for a text whatever stands beside it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.torch_model import load_sentence_transformer
from factory.encoders.windows import window_tokenizer, windows_of
from factory.errors import ExportError
from factory.logistic import probabilities
from factory.predict.load import load_export
from factory.predict.predictors import GraphPredictor
from factory.result import Progress, no_progress
from factory.students.base import Student, TextsAndVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Answer = Callable[[Sequence[str]], NDArray[np.float32]]

FP32_TOLERANCE = 1e-4
"""The most that an export in fp32 may differ from its student."""
ALONE_TOLERANCE = 1e-5
"""The most that a text's answer may depend on the texts beside it, in any precision."""
CLEAR_MARGIN = 0.2
"""A decision is clear if the best label is ahead of the next by so much; int8 must agree on 98 % of the clear ones."""
MOST_ALONE = 24
"""Texts that are also asked about alone, in twos and padded."""


def check_parity(
    student: Student, folder: Path, kind: str, texts: Sequence[str], inference: Mapping[str, Any],
    progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Compare what was written with the student it came from.

    Args:
        student: The student in memory.
        folder: The export.
        kind: `transformer`, `hybrid`, `static` or `linear`.
        texts: What to compare on.
        inference: What stands in `inference.json`: sentence-transformers reads `max_length` tokens, so longer texts are not
            compared with it.

    Returns:
        `{"texts", "fp32_max_difference_below", "alone_max_difference_below", "int8_label_agreement", ...}`, rounded so that
        noise does not show.

    Raises:
        ExportError: They disagree.
    """
    trained = student.predict_proba(list(texts))
    wanted = exact_answers(student, texts, trained)
    clear = _clear(wanted, student.multi)
    found: dict[str, Any] = {"texts": len(texts), "alone_max_difference_below": ALONE_TOLERANCE}
    ways = _ways(folder, kind, student.multi)
    for number, (name, answer) in enumerate(ways.items()):
        progress(number, len(ways), "ways of reading the export compared with the student")
        compared = np.ones(len(texts), bool)
        if name == "sentence_transformers":
            tokens = (folder / "tokenizer.json").read_text(encoding="utf-8")
            cut = windows_of(
                window_tokenizer(tokens, inference["max_length"]), [inference["prompt"] + t for t in texts]
            )
            compared = np.array([len(windows) == 1 for windows in cut])
        probs = answer([text for text, fits in zip(texts, compared, strict=True) if fits])
        difference = float(np.abs(probs - wanted[compared]).max())
        if name == "int8":
            same = _labels(probs, student.multi) == _labels(wanted, student.multi)
            found["int8_max_difference"] = round(difference, 2)
            found["int8_label_agreement"] = round(float(same.mean()), 3)
            if trained is not wanted:
                found["int8_max_difference_to_evaluate"] = round(float(np.abs(probs - trained).max()), 3)
            if not np.isfinite(probs).all() or (clear.any() and same[clear].mean() < 0.98):
                cases = f"{int((~same[clear]).sum())} of {int(clear.sum())} clear cases"
                raise ExportError(f"the int8 graph decides otherwise than the student in {cases}", where=folder)
        elif not difference <= FP32_TOLERANCE:
            words = f"the {name} export disagrees with the student by {difference:.2g} (at most {FP32_TOLERANCE:g})"
            raise ExportError(words, where=folder)
        else:
            found[f"{name}_max_difference_below"] = FP32_TOLERANCE
        if name != "sentence_transformers":
            _check_alone(answer, name, texts, folder)
    progress(len(ways), len(ways), "ways of reading the export compared with the student")
    return found


def exact_answers(student: Student, texts: Sequence[str], trained: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a student answers without int8, as graphs in fp32 and sentence-transformers must; `trained` where it has none."""
    encoder = student.encoder
    if encoder is None or not encoder.calibrated:
        return trained
    return student.predict_proba(TextsAndVectors(list(texts), encoder.exact.encode(list(texts))))


def dependence(answer: Answer, texts: Sequence[str]) -> float:
    """How much a text's answer depends on the texts beside it: all of them, one other, and one that is far longer.

    Args:
        answer: Probabilities of texts, float32 [n, k].
        texts: n of them.

    Returns:
        The largest difference of a probability to that of the text alone.
    """
    alone = np.concatenate([answer([text]) for text in texts])
    long, n = " ".join(["further"] * 300), len(texts)
    orders = [list(range(n)), list(range(n))[::-1], *([at, (at + 1) % n] for at in range(0, n, 2))]
    together = [(order, answer([texts[at] for at in order])) for order in orders]
    together += [([at], answer([texts[at], long])[:1]) for at in range(min(n, 4))]
    return max((float(np.abs(probs - alone[rows]).max()) for rows, probs in together), default=0.0)


def _check_alone(answer: Answer, name: str, texts: Sequence[str], folder: Path) -> None:
    found = dependence(answer, texts[:MOST_ALONE])
    if not found <= ALONE_TOLERANCE:
        words = f"the {name} export's answer for a text depends on the texts beside it, by {found:.2g}"
        raise ExportError(f"{words} (at most {ALONE_TOLERANCE:g})", where=folder)


def _ways(folder: Path, kind: str, multi: bool) -> dict[str, Answer]:
    """The ways of reading an export, by name."""
    if kind in ("transformer", "hybrid"):
        ways: dict[str, Answer] = {name: _together(folder, name) for name in ("fp32", "int8")}
        if kind == "transformer":
            ways["sentence_transformers"] = lambda texts: probabilities(
                load_sentence_transformer(folder).encode(list(texts), show_progress_bar=False), multi
            )
        return ways
    ways = {"fp32": load_export(folder).predict_proba}
    if kind == "static":
        from factory.export.static_graph import answer_by_graph

        ways["onnx"] = answer_by_graph(folder)
    return ways


def _together(folder: Path, precision: str) -> Answer:
    """Answers of one graph, however many texts there are in one batch: all are padded to the longest."""
    predictor = load_export(folder, precision=precision).predictor
    assert isinstance(predictor, GraphPredictor)
    return lambda texts: predictor(texts, tokens=1 << 40)[0]


def _one_window(folder: Path, texts: Sequence[str], inference: Mapping[str, Any]) -> NDArray[np.bool_]:
    tokenizer = window_tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"), inference["max_length"])
    said = [inference["prompt"] + text for text in texts]
    return np.array([len(windows) == 1 for windows in windows_of(tokenizer, said)])


def _clear(probs: NDArray[np.float32], multi: bool) -> NDArray[np.bool_]:
    """Where a decision is not close: texts [n], or texts and labels [n, k] for a multi task."""
    if multi or probs.shape[1] == 1:
        return np.abs(probs - 0.5) > CLEAR_MARGIN / 2 if multi else np.ones(len(probs), bool)
    top = np.sort(probs, axis=1)
    return np.asarray(top[:, -1] - top[:, -2] > CLEAR_MARGIN)


def _labels(probs: NDArray[np.float32], multi: bool) -> NDArray[Any]:
    return np.asarray(probs >= 0.5 if multi else probs.argmax(axis=1))
