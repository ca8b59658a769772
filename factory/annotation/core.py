"""Which texts are asked, and what the token probabilities of an answer say. Plain values in, plain values out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def sample_order(content_hashes: Sequence[bytes], seed: int) -> list[int]:
    """Positions in a fixed random order that depends on the texts alone.

    The order is that of SHA-256 over seed and content hash: the same texts come in the same order whatever else the corpus
    holds and however it was read, and a larger sample begins with a smaller one.

    Args:
        content_hashes: One hash for each text.
        seed: Another seed is another order.
    """
    salt = f"sample:{seed}:".encode()
    keys = [hashlib.sha256(salt + bytes(content_hash)).digest() for content_hash in content_hashes]
    return sorted(range(len(keys)), key=keys.__getitem__)


def label_probabilities(logprobs: Any, labels: Sequence[str]) -> list[float] | None:
    """The probability of each label from the alternatives to the first token of an answer.

    A token speaks for the label whose name it begins (apart from case and leading blanks). Where the first token is shared by
    several labels the later tokens would have to decide, for which no alternatives were computed: then there is no answer.

    Args:
        logprobs: As an OpenAI-compatible server gives them: `{"content": [{"token", "logprob", "top_logprobs": [...]}]}`.
        labels: The names of the labels.

    Returns:
        One probability for each label, summing to 1; None where the logprobs are missing, speak for no label, or for several
        labels at once with more than a tenth of the mass.
    """
    tokens = _first_tokens(logprobs)
    mass = [0.0] * len(labels)
    undecided = 0.0
    for token, logprob in tokens:
        start = token.strip().strip("\"'").casefold()
        if not start:
            continue
        meant = [i for i, label in enumerate(labels) if label.casefold().startswith(start)]
        if len(meant) == 1:
            mass[meant[0]] += math.exp(logprob)
        elif meant:
            undecided += math.exp(logprob)
    total = sum(mass)
    if total <= 0.0 or undecided > 0.1 * (total + undecided):
        return None
    return [part / total for part in mass]


def calibrated(probs: NDArray[np.floating[Any]], null_probs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Contextual calibration (Zhao et al. 2021, "Calibrate Before Use", section 5, with W = diag(p_cf)^-1 and b = 0).

    Args:
        probs: `[n, k]`, the model's probability of each label for each text.
        null_probs: `[m, k]`, the same for texts without content; their mean is the model's bias.

    Returns:
        `[n, k]`, rows summing to 1.
    """
    import numpy as np

    bias = np.asarray(null_probs, dtype=np.float64).mean(axis=0)
    scaled = np.asarray(probs, dtype=np.float64) / np.maximum(bias, 1e-6)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), dtype=np.float64)


def _first_tokens(logprobs: Any) -> list[tuple[str, float]]:
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not content:
        return []
    first = content[0]
    found = {str(first["token"]): float(first["logprob"])}
    for other in first.get("top_logprobs") or ():
        found[str(other["token"])] = float(other["logprob"])
    return list(found.items())
