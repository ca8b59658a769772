"""The interval of a share, wherever one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.floating[Any] | np.integer[Any]]

Z95, Z90, Z80 = 1.959964, 1.644854, 1.281552
"""Normal quantiles of intervals of 95 %, 90 % and 80 %; the last leaves 10 % below."""


@overload
def wilson(share: float, n: float, z: float = Z95) -> tuple[float, float]: ...
@overload
def wilson(share: Numbers, n: Numbers, z: float = Z95) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def wilson(share: Any, n: Any, z: float = Z95) -> tuple[Any, Any]:
    """The interval of a share of n (Wilson 1927), which holds where the share is near 0 or 1 and n is small.

    Args:
        share: 0 to 1: one, or an array of some.
        n: Of how many; no need to be whole. One that is 0 tells nothing: (0, 1).
        z: The normal quantile.

    Example:
        >>> [round(end, 3) for end in wilson(1.0, 50, Z90)]
        [0.949, 1.0]
        >>> wilson(0.0, 0)
        (0.0, 1.0)
    """
    shares, sizes = np.asarray(share, np.float64), np.asarray(n, np.float64)
    known, least = sizes > 0, np.where(sizes > 0, sizes, 1.0)
    spread = z * z / least
    middle = shares + spread / 2
    half = z * np.sqrt(shares * (1 - shares) / least + spread / (4 * least))
    low = np.where(known, np.maximum((middle - half) / (1 + spread), 0.0), 0.0)
    high = np.where(known, np.minimum((middle + half) / (1 + spread), 1.0), 1.0)
    return (low, high) if low.ndim else (float(low), float(high))
