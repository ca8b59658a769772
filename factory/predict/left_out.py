"""On which words of a text an export's answer rests, for any export: what its probability loses when a word is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.predict.exported import Exported

MOST_PIECES, MOST_WORDS = 80, 5
"""Words of a text that are tried, and those that are told."""
LEAST = 0.005
"""What a word must take away to be told."""


def words_that_matter(
    model: Exported, texts: Sequence[str], probs: NDArray[np.float32]
) -> list[list[tuple[str, float]]]:  # fmt: skip
    """For each text the words without which its likeliest label is less probable, what matters most first.

    Args:
        model: The export.
        texts: n of them; of a longer one the first 80 words are tried.
        probs: What it says of them, float32 [n, k].

    Returns:
        `(word, loss of probability)`, up to five for each text.
    """
    spans = [[match.span() for match in re.finditer(r"\S+", text)][:MOST_PIECES] for text in texts]
    without = [text[:a] + text[b:] for text, own in zip(texts, spans, strict=True) for a, b in own]
    said, _ = model.answer(without)
    found, at = [], 0
    for text, own, row in zip(texts, spans, probs, strict=True):
        best = int(row.argmax())
        loss = row[best] - said[at : at + len(own), best]
        at += len(own)
        order = [int(piece) for piece in np.argsort(-loss, kind="stable")[:MOST_WORDS] if loss[piece] >= LEAST]
        found.append([(text[own[piece][0] : own[piece][1]], float(loss[piece])) for piece in order])
    return found
