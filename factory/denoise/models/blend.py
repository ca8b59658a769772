"""A label model averaged with majority vote: what most functions agree on stays, the model decides the rest.

Where all votes on a text agree, their share is 1, so the average can never overturn them; where they are split, the model
needs to be the surer the clearer the split is. Models of error rates gain most on split votes and lose most where they
overrule agreement, so half of each keeps most of the gain and little of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models.base import Around, LabelModel


@dataclass(frozen=True)
class Blended(Around):
    """The mean of two models' probabilities.

    Attributes:
        inner: The model that estimates error rates.
        base: Majority vote, as shares of votes.
    """

    base: LabelModel

    def predict_proba(self, votes: Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        mean: np.ndarray = (self.inner.predict_proba(votes, **more) + self.base.predict_proba(votes)) / 2
        return mean

    def params(self) -> Mapping[str, Any]:
        """The model's, and what it is averaged with."""
        return {**self.inner.params(), "averaged_with": self.base.name}
