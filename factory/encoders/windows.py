"""Texts longer than an encoder's window: cut into windows of tokens, each encoded on its own, and joined to one vector.

The rule, the same in training, in an export's graph and in the example on its card: a text's tokens are cut into runs that fill
the window together with the special tokens around each (what `tokenizers` calls truncation with `overflowing`, no stride), at
most `MOST_WINDOWS` of them; a text's vector is the mean of its windows' unit vectors, weighted by their tokens, scaled to length
1. A text that fits has one window, and so the vector that the encoder itself would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_WINDOWS = 32
"""Windows of a text that count; with 256 tokens each, some 6,000 words."""

TOKENS_PER_THREAD = 512
"""Tokens in a batch for each thread: long texts go in small batches, short ones in large ones. What a layer computes of more
would leave the processor's cache, which halves the speed (measured from 256 to 4,096)."""

Windows = list[list[int]]
"""One text: the token ids of each of its windows, special tokens included."""


def window_tokenizer(source: Any, max_length: int) -> Any:
    """A tokenizer that cuts into windows.

    Args:
        source: A `tokenizers.Tokenizer`, or its JSON.
        max_length: Tokens of a window, special ones included.

    Returns:
        A copy; the source keeps its own settings.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(source if isinstance(source, str) else source.to_str())
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer


def windows_of(tokenizer: Any, texts: Sequence[str]) -> list[Windows]:
    """Cut texts into windows.

    Args:
        tokenizer: From `window_tokenizer`.
        texts: n strings.

    Returns:
        n texts, each with one window or more.
    """
    encodings = tokenizer.encode_batch_fast(list(texts))
    return [[part.ids for part in (first, *first.overflowing[: MOST_WINDOWS - 1])] for first in encodings]


def shares(texts: Sequence[Windows]) -> NDArray[np.float32]:
    """How much each window counts for each text: what joins windows, and an input of an export's graph.

    Returns:
        float32 [n, w], w windows in all, text after text: the tokens of a text's own windows, 0 elsewhere.

    Example:
        >>> shares([[[101, 7, 102]], [[101, 7, 8, 102], [101, 9, 102]]]).tolist()
        [[3.0, 0.0, 0.0], [0.0, 4.0, 3.0]]
    """
    out = np.zeros((len(texts), sum(map(len, texts))), np.float32)
    column = 0
    for row, windows in enumerate(texts):
        for ids in windows:
            out[row, column] = len(ids)
            column += 1
    return out


def feed_of(texts: Sequence[Windows], pad: int) -> dict[str, NDArray[Any]]:
    """What a graph is given for texts that were cut into windows: `input_ids` and `attention_mask` [w, t], `windows` [n, w]."""
    ids, mask = padded([ids for windows in texts for ids in windows], pad, least=4)
    return {"input_ids": ids, "attention_mask": mask, "windows": shares(texts)}


def padded(rows: Sequence[Sequence[int]], pad: int, *, least: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids of windows in one array [w, t], and which of them are tokens; t is the longest window, or `least`."""
    ids = np.full((len(rows), max(least, *map(len, rows))), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, known in enumerate(rows):
        ids[row, : len(known)] = known
        mask[row, : len(known)] = 1
    return ids, mask


def open_session(graph: bytes | str, threads: int = 0) -> Any:
    """A graph, or the path of one, in onnxruntime, which says nothing but errors; 0 threads: as many as it chooses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def batches(sizes: Sequence[tuple[int, int]], tokens: int) -> Iterator[list[int]]:
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


def join(vectors: NDArray[np.floating[Any]], texts: Sequence[Windows]) -> NDArray[np.float32]:
    """Unit vectors of windows to unit vectors of texts.

    Args:
        vectors: [w, d], one for each window, text after text.
        texts: Their windows.

    Returns:
        float32 [n, d].
    """
    sizes = np.array([len(ids) for windows in texts for ids in windows], np.float32)
    starts = np.cumsum([0, *(len(windows) for windows in texts[:-1])])
    sums = np.add.reduceat(np.asarray(vectors, np.float32) * sizes[:, None], starts, axis=0)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), np.float32)


def encode_windows(model: Any, texts: Sequence[Windows], *, batch_tokens: int = 8192) -> NDArray[np.float32]:
    """Encode texts by their windows.

    Args:
        model: A `SentenceTransformer`.
        texts: n texts as windows.
        batch_tokens: Tokens in a batch, padding included.

    Returns:
        float32 [n, d], unit vectors.
    """
    import torch

    flat = [ids for windows in texts for ids in windows]
    order = sorted(range(len(flat)), key=lambda index: (-len(flat[index]), index))
    pad = int(model.tokenizer.pad_token_id or 0)
    vectors: NDArray[np.float32] | None = None
    start = 0
    with torch.inference_mode():
        while start < len(order):
            longest = len(flat[order[start]])
            part = order[start : start + max(batch_tokens // max(longest, 1), 1)]
            ids = np.full((len(part), longest), pad, np.int64)
            mask = np.zeros_like(ids)
            for row, index in enumerate(part):
                ids[row, : len(flat[index])] = flat[index]
                mask[row, : len(flat[index])] = 1
            features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            found = model({name: value.to(model.device) for name, value in features.items()})["sentence_embedding"]
            units = torch.nn.functional.normalize(found.float(), dim=1).cpu().numpy()
            if vectors is None:
                vectors = np.zeros((len(flat), units.shape[1]), np.float32)
            vectors[part] = units
            start += len(part)
    assert vectors is not None, "there is no text to encode"
    return join(vectors, texts)
