"""Encoding by sentence-transformers on torch: on a GPU, where a model cannot become a graph, and for bodies that are tuned.

A body carries its prompt as sentence-transformers knows it (`default_prompt_name`), so that a tuned one, its export and whoever
loads that by `encode` read texts the same way.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.settings import Wanted

PROMPT = "classification"
"""The name that the prompt has in a body's configuration."""


def load_sentence_transformer(folder: Path, choice: Wanted | None = None) -> Any:
    """A fresh `SentenceTransformer` in evaluation mode, on the GPU if there is one; never runs code from the folder.

    Args:
        folder: Of the model.
        choice: Prompt, window and dimension that it shall have (from `settled`); its own if None.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = SentenceTransformer(str(folder), trust_remote_code=False, local_files_only=True)
    if choice is not None:
        model.prompts = {PROMPT: choice.prompt} if choice.prompt else {}
        model.default_prompt_name = PROMPT if choice.prompt else None
        model.max_seq_length = choice.length
        if choice.dimension is not None and choice.dimension < int(model.get_embedding_dimension() or 0):
            _cut(model, choice.dimension)
    model.eval()
    return model


def prompt_of(model: Any) -> str:
    """What a `SentenceTransformer` puts before each text by default; often nothing."""
    return str(model.prompts.get(model.default_prompt_name) or "") if model.default_prompt_name else ""


def encode_with(
    model: Any, texts: Sequence[str], *, batch_size: int = 32, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Encode texts with a sentence-transformers model, those that do not fit its window by windows (`encoders.windows`).

    Args:
        model: A `SentenceTransformer`; its default prompt is put before each text.
        texts: Any number of strings.
        batch_size: Texts in a batch.
        progress: Called with (done, total, what).

    Returns:
        float32 [n, d], unit vectors.
    """
    from factory.encoders.windows import encode_windows, windows_of

    tell = progress or no_progress
    cutter = _cutter_of(model)
    prompt = prompt_of(model)
    whole = [prompt + text for text in texts]
    out = np.zeros((len(whole), int(model.get_embedding_dimension())), np.float32)
    order = sorted(range(len(whole)), key=lambda index: (len(whole[index]), index))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        cut = [[[]]] * len(part) if cutter is None else windows_of(cutter, [whole[index] for index in part])
        long = [(index, windows) for index, windows in zip(part, cut, strict=True) if len(windows) > 1]
        short = [index for index, windows in zip(part, cut, strict=True) if len(windows) == 1]
        if short:
            out[short] = model.encode(
                [whole[index] for index in short], prompt="", batch_size=batch_size, show_progress_bar=False,
                convert_to_numpy=True, normalize_embeddings=True,
            )  # fmt: skip
        if long:
            out[[index for index, _ in long]] = encode_windows(model, [windows for _, windows in long])
        tell(min(start + len(part), len(texts)), len(texts), "texts encoded")
    return out


_CUTTERS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _cutter_of(model: Any) -> Any:
    """What cuts texts into windows for a `SentenceTransformer`, or None where it has no window or no fast tokenizer."""
    from factory.encoders.windows import window_tokenizer

    if model not in _CUTTERS:
        backend, window = getattr(model.tokenizer, "backend_tokenizer", None), model.max_seq_length
        _CUTTERS[model] = window_tokenizer(backend, int(window)) if backend is not None and window else None
    return _CUTTERS[model]


def _cut(model: Any, dimension: int) -> None:
    """Keep the first numbers of a vector, by a layer that sentence-transformers and a graph know."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    before = int(model.get_embedding_dimension() or 0)
    first = torch.eye(dimension, before)
    keep = Dense(before, dimension, bias=False, activation_function=torch.nn.Identity(), init_weight=first)
    for module in (keep, Normalize()):
        model.append(module.to(model.device))
