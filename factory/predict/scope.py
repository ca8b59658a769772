"""Is a text like those of training? Its cosine to the nearest prototype, with a stated share of false alarms.

Prototypes and scores come from `factory.distill.fit_scope`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "scope.safetensors"


def scope_scores(arrays: Mapping[str, NDArray[Any]], vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The cosine of each vector to its nearest prototype: float64 [n]; low is unlike the training texts."""
    return np.asarray((np.asarray(vectors, np.float64) @ arrays["prototypes"].T.astype(np.float64)).max(axis=1))


def limit_for(scores: Sequence[float], rate: float) -> float:
    """The score below which a text is called out of scope: the floor(rate (n + 1))-th smallest, or -1 (never) if there is none.

    Example:
        >>> limit_for([0.1, 0.2, 0.3, 0.4], 0.4)
        0.2
    """
    rank = int(np.floor(rate * (len(scores) + 1) + 1e-9))
    return -1.0 if rank < 1 else float(scores[min(rank, len(scores)) - 1])


def save_scope(arrays: Mapping[str, NDArray[np.float32]], folder: Path) -> None:
    """Write the arrays into a folder, if there are any."""
    from safetensors.numpy import save_file

    if arrays:
        save_file(dict(arrays), str(folder / FILE))


def load_scope(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Read what `save_scope` wrote; empty if there is nothing."""
    from safetensors.numpy import load_file

    return dict(load_file(str(folder / FILE))) if (folder / FILE).is_file() else {}
