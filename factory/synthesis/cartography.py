"""Dataset cartography (Swayamdipta et al., EMNLP 2020): how a model's belief in each text's label moves while it learns.

SynthesizRR fine-tunes DistilBERT for 6 epochs and keeps the top 83% of each label by confidence. Here the model is a
softmax layer on frozen sentence embeddings, trained by the same number of epochs, which takes seconds on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from factory.encoders.settings import Named
from factory.synthesis.values import Part


def confidence(
    vectors: NDArray[np.float32],
    labels: Sequence[int],
    classes: int,
    random_seed: int,
    *,
    epochs: int = 6,
    batch: int = 32,
    rate: float = 2.0,
) -> NDArray[np.float64]:
    """Train by mini-batch gradient descent and watch each text's own label: float64 [n], its mean probability, 0 to 1.

    Args:
        vectors: float32 [n, d], unit length.
        labels: Class of each text, below `classes`.
        classes: How many there are.
        random_seed: For the order of the batches.
        epochs: Passes over the data; the belief is read after each.
        batch: Texts per step.
        rate: Step size.
    """
    x = np.asarray(vectors, np.float64)
    y = np.asarray(labels, np.int64)
    weights, bias = np.zeros((x.shape[1], classes)), np.zeros(classes)
    rng = np.random.default_rng([random_seed, 5])
    belief = np.zeros((epochs, len(y)))
    for epoch in range(epochs):
        order = rng.permutation(len(y))
        for first in range(0, len(y), batch):
            rows = order[first : first + batch]
            error = _softmax(x[rows] @ weights + bias)
            error[np.arange(len(rows)), y[rows]] -= 1
            weights -= rate * x[rows].T @ error / len(rows)
            bias -= rate * error.mean(0)
        belief[epoch] = _softmax(x @ weights + bias)[np.arange(len(y)), y]
    return np.asarray(belief.mean(0))


def confidences(parts: Sequence[Part], encoder: Named, random_seed: int) -> dict[tuple[int, int], float]:
    """The confidence of each text in its own label, by `(slot_no, part_no)`; `encoder` names what makes their vectors."""
    from factory.encoders.encoder import load_encoder

    names = sorted({part.label for part in parts})
    vectors = load_encoder(encoder).exact.encode([part.text for part in parts])
    found = confidence(vectors, [names.index(part.label) for part in parts], len(names), random_seed)
    return {(part.slot_no, part.part_no): float(score) for part, score in zip(parts, found, strict=True)}


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))
