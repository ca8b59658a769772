"""How much each member of a mixture counts: weights by EM on the likelihood of anchors that the members have not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRICHLET = 2.0
"""Of the prior on the weights: as if each member had explained one anchor by itself already."""
ROUNDS = 500


def mixing_weights(
    likelihood: NDArray[np.floating[Any]], worth: NDArray[np.float64], dirichlet: float = DIRICHLET
) -> NDArray[np.float64]:
    """The likeliest weights of a mixture under a Dirichlet prior.

    Args:
        likelihood: [members, anchors], the probability that each member gives to each anchor's label.
        worth: float64 [anchors], how much each counts; only in proportion.
        dirichlet: Concentration of the prior, 1 or more; above 1 no weight is 0.

    Returns:
        float64 [members], adding up to 1.

    Example:
        >>> mixing_weights(np.array([[0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]]), np.ones(4)).round(2).tolist()
        [0.8, 0.2]
    """
    found = np.maximum(np.asarray(likelihood, np.float64), 1e-9)
    mass = worth / worth.mean()
    weights = np.full(len(found), 1 / len(found))
    for _ in range(ROUNDS):
        shares = weights[:, None] * found
        shares /= shares.sum(axis=0)
        new = shares @ mass + dirichlet - 1
        new /= new.sum()
        if np.abs(new - weights).max() < 1e-6:
            break
        weights = new
    return np.asarray(new)
