"""The zero-shot baseline: a text gets the label whose description lies nearest to it in the encoder's space. No training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from factory.logistic import probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder

SCALE = 20.0
"""Cosines are multiplied by this before the softmax, as contrastive encoders are trained."""


def zero_shot(
    encoder: Encoder, vectors: NDArray[np.float32], labels: Mapping[str, str], *, multi: bool = False
) -> NDArray[np.float32]:
    """Probabilities from label names and descriptions alone.

    Args:
        encoder: The one that made the vectors.
        vectors: float32 [n, d], unit vectors of the texts.
        labels: Name to description, in order.
        multi: Sigmoids around the mean cosine of all labels rather than a softmax.

    Returns:
        float32 [n, k].
    """
    anchors = encoder.encode([f"{name}: {words}" for name, words in labels.items()])
    cosines = np.asarray(vectors, np.float64) @ anchors.T.astype(np.float64)
    if multi:
        cosines = cosines - cosines.mean(axis=1, keepdims=True) - 0.1
    return probabilities(cosines * SCALE, multi)
