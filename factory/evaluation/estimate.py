"""How often a system is right, from a few answers of people and many of a model: prediction-powered inference.

Angelopoulos, Bates, Fannjiang, Jordan, Zrnic: Prediction-powered inference. Science 382, 2023; the weight of the model's answers
as in Angelopoulos, Duchi, Zrnic: PPI++: efficient prediction-powered inference. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.intervals import Z90, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """An estimated share.

    Attributes:
        share: 0 to 1.
        low, high: Its 90 % interval.
        alone: The interval that people's answers give without the model's.
        n: Texts that people answered.
    """

    share: float
    low: float
    high: float
    alone: tuple[float, float]
    n: int

    @property
    def words(self) -> str:
        """As `83% (90% interval 75% to 89%)`."""
        return f"{self.share:.0%} (90% interval {self.low:.0%} to {self.high:.0%})"


def estimated(
    right: NDArray[np.bool_], signs: Sequence[tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]]
) -> Estimate:
    """The share of texts on which a system says what people say.

    Signs of being right are known of more texts than people answered: whether the system says what the model says, and how sure
    it is. They are weighed so that the variance is least; the interval is Wilson's for as many answers as would give that
    variance.

    Args:
        right: bool [n], on the texts that people answered: whether the system says what they say.
        signs: For each sign its values on those texts [n], and on others [m] that were drawn as they were. The others of one sign
            are among those of any that has more.
    """
    n, share = len(right), float(right.mean())
    alone = wilson(share, n, Z90)
    signs = [(here, there) for here, there in signs if len(there) > 1 and here.std() > 0]
    if n < len(signs) + 3 or not signs or not right.std():
        return Estimate(share, *alone, alone, n)
    covariance = np.cov(np.stack([right, *(here for here, _ in signs)]).astype(float))
    sizes = np.array([len(there) for _, there in signs])
    spread = covariance[1:, 1:] * (1 / n + 1 / np.maximum.outer(sizes, sizes))
    weights = np.linalg.pinv(spread) @ covariance[0, 1:] / n
    told = 1 - float(weights @ covariance[0, 1:]) / covariance[0, 0]
    ratio = max(told, 0.0) * (n - 1) / (n - 1 - len(signs))
    if ratio >= 1:
        return Estimate(share, *alone, alone, n)
    moved = share + float(weights @ np.array([there.mean() - here.mean() for here, there in signs]))
    moved = min(max(moved, 0.0), 1.0)
    return Estimate(moved, *wilson(moved, n / max(ratio, 0.01), Z90), alone, n)
