"""A label model averaged with majority vote: what most functions agree on stays, the model decides the rest.

Where all votes on a text agree, their share is 1, so the average can never overturn them; where they are split, the model
needs to be the surer the clearer the split is. Models of error rates gain most on split votes and lose most where they
overrule agreement, so a part of each keeps most of the gain and little of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models.base import LabelModel, WrappedModel

MODEL_SHARE = 0.35
"""The model's part. On half of the public vote sets .35 scores .1 points more than .5, and its worst set loses less."""


@dataclass(frozen=True)
class Blended(WrappedModel):
    """The weighted mean of two models' probabilities.

    Attributes:
        inner: The model that estimates error rates.
        base: Majority vote, as shares of votes.
    """

    base: LabelModel

    def predict_proba(self, votes: Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        own = np.float32(MODEL_SHARE) * self.inner.predict_proba(votes, **more)
        mean: np.ndarray = own + np.float32(1 - MODEL_SHARE) * self.base.predict_proba(votes)
        return mean

    def params(self) -> Mapping[str, Any]:
        """The model's, and what it is averaged with."""
        return {**self.inner.params(), "averaged_with": self.base.name, "share": MODEL_SHARE}
