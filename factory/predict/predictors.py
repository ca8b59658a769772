"""What computes an export's answers: onnxruntime and tokenizers (or numpy alone), nothing else, and nothing slow to import.

Each kind is a function from the export's checked files to a predictor, which gives probabilities and what scope is judged on.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.windows import TOKENS_PER_THREAD, batches, feed_of, open_session, window_tokenizer, windows_of
from factory.logistic import probabilities
from factory.students.pooling import static_answers
from factory.students.terms import terms_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Answers = tuple[NDArray[np.float32], NDArray[np.float32]]
    Predictor = Callable[[Sequence[str]], Answers]

KINDS = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64, "I32": np.int32, "I8": np.int8}
"""Names that safetensors gives to kinds of numbers."""


def make_predictor(
    read: Callable[[str], bytes], facts: Mapping[str, Any], *, graph: str = "model_int8.onnx", threads: int = 0
) -> Predictor:
    """The predictor of an exported student.

    Args:
        read: File name to checked content.
        facts: `inference.json`.
        graph: Which of the graphs, for kinds that have them.
        threads: Of onnxruntime; 0 lets it choose.

    Returns:
        n texts to probabilities, float32 [n, k], and the unit vectors that scope is judged on, float32 [n, d] (d = 0 for a linear
        student, which has none).
    """
    if facts["kind"] == "linear":
        return LinearPredictor(read, facts)
    if facts["kind"] == "static":
        return _static(read, facts)
    return GraphPredictor(read(graph), read("tokenizer.json").decode("utf-8"), facts, threads)


class GraphPredictor:
    """An ONNX graph with its tokenizer. A text's answer does not depend on the texts beside it."""

    def __init__(self, graph: bytes, tokens: str, facts: Mapping[str, Any], threads: int) -> None:
        self._session = open_session(graph, threads)
        self._tokenizer = window_tokenizer(tokens, facts["max_length"])
        self._prompt = str(facts.get("prompt", ""))
        self._pad, self._labels = int(facts["pad_id"]), len(facts["labels"])
        self._tokens = TOKENS_PER_THREAD * (threads or os.cpu_count() or 1)

    def __call__(self, texts: Sequence[str], *, tokens: int | None = None) -> Answers:
        """Answer texts, in batches of at most so many tokens."""
        cut = windows_of(self._tokenizer, [self._prompt + text for text in texts])
        probs = np.zeros((len(cut), self._labels), np.float32)
        vectors: NDArray[np.float32] | None = None
        sizes = [(len(windows), max(map(len, windows))) for windows in cut]
        for part in batches(sizes, tokens or self._tokens):
            asked = feed_of([cut[index] for index in part], self._pad)
            probs[part], some = self._session.run(["probabilities", "sentence_embedding"], asked)
            vectors = np.zeros((len(cut), some.shape[1]), np.float32) if vectors is None else vectors
            vectors[part] = some
        assert vectors is not None
        return probs, vectors


class LinearPredictor:
    """Weights of words, by numpy alone."""

    def __init__(self, read: Callable[[str], bytes], facts: Mapping[str, Any]) -> None:
        arrays = read_safetensors(read("linear.safetensors"))
        self._columns = {term: index for index, term in enumerate(json.loads(read("terms.json")))}
        self._weight = np.ascontiguousarray(arrays["weight"].T) * arrays["idf"][:, None]
        self._idf2 = arrays["idf"].astype(np.float64) ** 2
        self._bias = arrays["bias"].astype(np.float64)
        self._words, self._characters = tuple(facts["words"]), tuple(facts["characters"])
        self._multi = bool(facts["multi"])

    def __call__(self, texts: Sequence[str]) -> Answers:
        """Answer texts; there is no vector behind an answer."""
        logits = np.zeros((len(texts), len(self._bias)))
        for row, text in enumerate(texts):
            logits[row] = self.pulls(text)[1].sum(axis=0)
        return probabilities(logits + self._bias, self._multi), np.zeros((len(texts), 0), np.float32)

    def pulls(self, text: str) -> tuple[list[str], NDArray[np.float64]]:
        """The words of a text that it knows, and what each adds to the log-odds of each label: float64 [words, k]."""
        known = (term for term in terms_of(text, self._words, self._characters) if term in self._columns)
        counts = Counter(known)
        if not counts:
            return [], np.zeros((0, len(self._bias)))
        held = np.array([self._columns[term] for term in counts])
        values = 1.0 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))
        return list(counts), values[:, None] * self._weight[held] / np.sqrt((values**2 * self._idf2[held]).sum())


def _static(read: Callable[[str], bytes], facts: Mapping[str, Any]) -> Predictor:
    arrays = read_safetensors(read("static.safetensors"))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(read("tokenizer.json").decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def predict(texts: Sequence[str]) -> Answers:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        logits, vectors = static_answers(arrays, ids, int(facts["max_length"]))
        return probabilities(logits, facts["multi"]), vectors

    return predict


def read_safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, by numpy alone: eight bytes of header length, a JSON header, then the numbers.

    Raises:
        ValueError: It is no such file, or its header does not fit what follows.
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size:
        raise ValueError("the header of the safetensors file is longer than the file")
    found = {}
    for name, facts in json.loads(content[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        first, last = facts["data_offsets"]
        if facts["dtype"] not in KINDS or not 0 <= first <= last <= len(content) - 8 - size:
            raise ValueError(f"the array {name!r} of the safetensors file cannot be read")
        kind = np.dtype(KINDS[facts["dtype"]])
        flat = np.frombuffer(content, kind, count=(last - first) // kind.itemsize, offset=8 + size + first)
        found[name] = flat.reshape(facts["shape"])
    return found
