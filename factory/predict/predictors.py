"""What computes an export's answers: onnxruntime and tokenizers (or numpy alone), nothing else, and nothing slow to import.

Each kind is a function from the export's checked files to a predictor, which gives probabilities and what scope is judged on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Answers = tuple[NDArray[np.float32], NDArray[np.float32]]
    Predictor = Callable[[Sequence[str]], Answers]

KINDS = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64, "I32": np.int32, "I8": np.int8}
"""Names that safetensors gives to kinds of numbers."""
TOKENS = 4096
"""Tokens per batch: long texts go in small batches, short ones in large ones."""


def make_predictor(
    read: Callable[[str], bytes], facts: Mapping[str, Any], *, graph: str = "model_int8.onnx", threads: int = 0
) -> Predictor:
    """The predictor of an export.

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
        return _linear(read, facts)
    if facts["kind"] == "static":
        return _static(read, facts)
    return _graph(read, facts, graph, threads)


def _graph(read: Callable[[str], bytes], facts: Mapping[str, Any], name: str, threads: int) -> Predictor:
    graph, tokens = read(name), read("tokenizer.json")
    import onnxruntime

    from factory.encoders.windows import shares, window_tokenizer, windows_of

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    tokenizer = window_tokenizer(tokens.decode("utf-8"), facts["max_length"])
    pad = int(facts["pad_id"])

    def predict(texts: Sequence[str]) -> Answers:
        cut = windows_of(tokenizer, texts)
        probs = np.zeros((len(cut), len(facts["labels"])), np.float32)
        vectors: NDArray[np.float32] | None = None
        for part in batches([(len(windows), max(map(len, windows))) for windows in cut]):
            mine = [cut[index] for index in part]
            rows = [ids for windows in mine for ids in windows]
            ids = np.full((len(rows), max(4, *map(len, rows))), pad, np.int64)
            mask = np.zeros_like(ids)
            for row, known in enumerate(rows):
                ids[row, : len(known)] = known
                mask[row, : len(known)] = 1
            asked = {"input_ids": ids, "attention_mask": mask, "windows": shares(mine)}
            probs[part], some = session.run(["probabilities", "sentence_embedding"], asked)
            vectors = np.zeros((len(cut), some.shape[1]), np.float32) if vectors is None else vectors
            vectors[part] = some
        assert vectors is not None
        return probs, vectors

    return predict


def batches(sizes: Sequence[tuple[int, int]], tokens: int = TOKENS) -> Iterator[list[int]]:
    """Texts that go through a graph together: alike in length, and not too many tokens.

    Args:
        sizes: Windows of each text, and tokens of its longest one.
        tokens: In a batch, padding included; a text alone may have more.

    Yields:
        Row numbers; each once.

    Example:
        >>> list(batches([(1, 8), (1, 30), (1, 8), (4, 32)], tokens=64))
        [[0, 2], [1], [3]]
    """
    part: list[int] = []
    rows = 0
    for index in sorted(range(len(sizes)), key=lambda index: (sizes[index][1], sizes[index][0], index)):
        windows, longest = sizes[index]
        if part and (rows + windows) * longest > tokens:
            yield part
            part, rows = [], 0
        part.append(index)
        rows += windows
    if part:
        yield part


def _linear(read: Callable[[str], bytes], facts: Mapping[str, Any]) -> Predictor:
    from factory.students.terms import terms_of

    arrays = read_safetensors(read("linear.safetensors"))
    terms = json.loads(read("terms.json"))
    columns = {term: index for index, term in enumerate(terms)}
    weight = np.ascontiguousarray(arrays["weight"].T) * arrays["idf"][:, None]
    idf2 = arrays["idf"].astype(np.float64) ** 2
    bias = arrays["bias"].astype(np.float64)
    words, characters = tuple(facts["words"]), tuple(facts["characters"])

    def predict(texts: Sequence[str]) -> Answers:
        logits = np.zeros((len(texts), len(bias)))
        for row, text in enumerate(texts):
            counts: dict[int, int] = {}
            for term in terms_of(text, words, characters):
                column = columns.get(term)
                if column is not None:
                    counts[column] = counts.get(column, 0) + 1
            if counts:
                held = np.fromiter(counts, np.int64, len(counts))
                values = 1.0 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))
                logits[row] = (values @ weight[held]) / np.sqrt((values**2 * idf2[held]).sum())
        logits += bias
        return _squash(logits, facts["multi"]), np.zeros((len(texts), 0), np.float32)

    return predict


def _static(read: Callable[[str], bytes], facts: Mapping[str, Any]) -> Predictor:
    arrays = read_safetensors(read("static.safetensors"))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(read("tokenizer.json").decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    from factory.students.pooling import static_answers

    def predict(texts: Sequence[str]) -> Answers:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        logits, vectors = static_answers(arrays, ids, int(facts["max_length"]))
        return _squash(logits, facts["multi"]), vectors

    return predict


def _squash(logits: NDArray[np.floating[Any]], multi: bool) -> NDArray[np.float32]:
    if multi:
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -80, 80))), np.float32)
    z = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True), np.float32)


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
