"""People's answers among the votes: what they say of a text counts, whatever the functions say of it.

Where several people answered the same texts, they are annotators who err too: how often each of them is right follows from
their answers alone (Dawid and Skene's model), and where they contradict each other the one who errs less counts more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models.base import LogLinear, WrappedModel
from factory.denoise.models.dawid_skene import FIRM, expectation_maximisation, halfway_shares, pooled
from factory.label_matrix import VoteSet, as_votes
from factory.warehouse.tables.programs import ASKED

MODEL_SHARE = 0.1
"""Weight of the label model's belief on an answered text, in answers: it decides where people contradict each other."""
LEAST_SHARED = 20
"""Texts with answers of two people or more, from which on they are told apart by how often they are right."""
RIGHT = 0.9
"""Chance of a person's answer to be right where nothing tells."""


@dataclass(frozen=True)
class Answered(WrappedModel):
    """A label model that believes people on the texts they answered.

    Attributes:
        inner: What is believed of all other texts.
        people: Which of the voters are people.
        crowd: From `crowd_of`.
    """

    people: tuple[int, ...]
    crowd: LogLinear | None = None

    def predict_proba(self, votes: VoteSet | Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        data = as_votes(votes, self.classes)
        return believed(self.inner.predict_proba(data, **more), data, self.people, self.crowd).astype(np.float32)

    def params(self) -> Mapping[str, Any]:
        """The model's, which voters are people, and what their answers tell of each of them if they share texts."""
        told = {} if self.crowd is None else {"crowd": dict(self.crowd.params())}
        return {**self.inner.params(), "people": list(self.people), **told}


def voter_name(annotator: str | None) -> str:
    """The name of the program that holds a person's answers."""
    return f"{ASKED} by {annotator}" if annotator else ASKED


def is_person(kind: str, name: str) -> bool:
    """Whether a program of this kind and name holds a person's answers."""
    return kind == "trusted" and (name == ASKED or name.startswith(f"{ASKED} by "))


def crowd_of(votes: VoteSet, people: Sequence[int]) -> LogLinear | None:
    """How often each person gives which answer to texts of each class; None where people share fewer than 20 texts."""
    said = votes.keep_lfs(people)
    if said.times[said.lengths >= 2].sum() < LEAST_SHARED:
        return None
    data, _ = said.take(np.flatnonzero(said.covered)).patterns()
    belief = pooled(data, RIGHT, FIRM)
    return expectation_maximisation(data, belief, balance=halfway_shares(data), max_iter=50)


def answers(votes: VoteSet, people: Sequence[int], crowd: LogLinear | None) -> tuple[np.ndarray, np.ndarray]:
    """What people say of each text, rows of [n, k] that add up to 1 (0 where nobody answered), and how many answered [n, 1].

    Args:
        votes: With all voters.
        people: Which of them are people.
        crowd: From `crowd_of`; None: every answer counts the same.
    """
    said = votes.keep_lfs(people)
    counts = said.class_votes()
    count = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(count, 1) if crowd is None else crowd.predict_proba(said) * (count > 0)
    return shares, count


def believed(probs: np.ndarray, votes: VoteSet, people: Sequence[int], crowd: LogLinear | None) -> np.ndarray:
    """Probabilities [n, k] with what people say on the texts they answered."""
    shares, count = answers(votes, people, crowd)
    mixed: np.ndarray = np.where(count > 0, (count * shares + MODEL_SHARE * probs) / (count + MODEL_SHARE), probs)
    return mixed
