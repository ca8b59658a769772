"""The interval of a share."""

from __future__ import annotations

import numpy as np
import pytest

from factory.intervals import Z80, Z90, Z95, wilson


def test_an_interval_holds_its_share_and_narrows() -> None:
    low, high = wilson(0.8, 100)
    assert low < 0.8 < high
    assert wilson(0.8, 1000)[0] > low
    assert wilson(0.0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("z", [Z80, Z90, Z95])
def test_an_array_gives_what_each_gives_and_scipy_too(z: float) -> None:
    from scipy.stats import binomtest, norm

    right, n = np.array([0, 3, 9, 90, 50]), np.array([4, 10, 10, 100, 50])
    lows, highs = wilson(right / n, n, z)
    for at, (one, of) in enumerate(zip(right.tolist(), n.tolist(), strict=True)):
        assert wilson(one / of, of, z) == (lows[at], highs[at])
        theirs = binomtest(one, of).proportion_ci(2 * norm.cdf(z) - 1, "wilson")
        assert (lows[at], highs[at]) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
