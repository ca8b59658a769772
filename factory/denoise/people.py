"""People's answers among the votes: what they say of a text counts, whatever the functions say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models.base import Around
from factory.denoise.votes import VoteSet, as_votes

MODEL_SHARE = 0.1
"""Weight of the label model's belief on an answered text, in answers: it decides where people contradict each other."""


@dataclass(frozen=True)
class Answered(Around):
    """A label model that believes people on the texts they answered.

    Attributes:
        inner: What is believed of all other texts.
        people: Which of the voters are people.
    """

    people: tuple[int, ...]

    def predict_proba(self, votes: VoteSet | Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        data = as_votes(votes, self.classes)
        return believed(self.inner.predict_proba(data, **more), data, self.people).astype(np.float32)

    def params(self) -> Mapping[str, Any]:
        """The model's, and which voters are people."""
        return {**self.inner.params(), "people": list(self.people)}


def answers(votes: VoteSet, people: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of people's answers [n, k], 0 where nobody answered, and how many answered [n, 1]."""
    said = votes.keep_lfs(people).class_votes()
    count = said.sum(axis=1, keepdims=True)
    return said / np.maximum(count, 1), count


def believed(probs: np.ndarray, votes: VoteSet, people: Sequence[int]) -> np.ndarray:
    """Probabilities [n, k] with the shares of people's answers on the texts they answered."""
    shares, count = answers(votes, people)
    mixed: np.ndarray = np.where(count > 0, (count * shares + MODEL_SHARE * probs) / (count + MODEL_SHARE), probs)
    return mixed
