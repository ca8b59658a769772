"""A graph of an encoder at work, in the factory and in what a user takes home: texts to unit vectors by ONNX Runtime alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.windows import (
    TOKENS_PER_THREAD,
    Windows,
    batches,
    feed_of,
    join,
    open_session,
    window_tokenizer,
    windows_of,
)
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 1024
"""Texts cut into tokens at a time."""


class GraphModel:
    """A graph with its tokenizer, asked for unit vectors. A text's vector does not depend on the texts beside it.

    Args:
        graph: The graph, or its path.
        tokens: Its tokenizer as JSON.
        pad: The token that pads.
        prompt: Put before each text.
        length: Tokens of a window.
        threads: Of onnxruntime; 0 lets it choose.
    """

    def __init__(
        self, graph: bytes | str, tokens: str, *, pad: int, prompt: str, length: int, threads: int = 0
    ) -> None:
        self._session = open_session(graph, threads)
        self._cutter = window_tokenizer(tokens, length)
        self._pad, self._prompt = pad, prompt
        self._tokens = TOKENS_PER_THREAD * (threads or os.cpu_count() or 1)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Unit vectors of n texts, one or more: float32 [n, d]; long texts by windows."""
        tell, found = progress or no_progress, []
        for start in range(0, len(texts), CHUNK):
            cut = windows_of(self._cutter, [self._prompt + text for text in texts[start : start + CHUNK]])
            found.append(join(self._rows([ids for windows in cut for ids in windows]), cut))
            tell(min(start + CHUNK, len(texts)), len(texts), "texts encoded")
        return np.concatenate(found)

    def _rows(self, rows: Windows) -> NDArray[np.float32]:
        """Unit vectors of windows."""
        out: NDArray[np.float32] | None = None
        for part in batches([(1, len(ids)) for ids in rows], self._tokens):
            vectors = self._session.run(["vectors"], feed_rows([rows[index] for index in part], self._pad))[0]
            out = np.zeros((len(rows), vectors.shape[1]), np.float32) if out is None else out
            out[part] = vectors
        assert out is not None
        return out


def feed_rows(rows: Windows, pad: int) -> dict[str, NDArray[Any]]:
    """What a graph of vectors is given for windows: `input_ids` and `attention_mask`, int64 [w, t]."""
    feed = feed_of([rows], pad)
    return {name: feed[name] for name in ("input_ids", "attention_mask")}
