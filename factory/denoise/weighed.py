"""What one vote counts in the label model that the student learns from, where that model weighs votes one by one; and what a
program's votes would change in its answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.models.base import coin_weights
from factory.denoise.problems import Problem, Voter, problems_of, voters_of
from factory.task import current_card, label_names
from factory.warehouse.tables.labels import chosen_params
from factory.warehouse.tables.votes import dense_votes

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

STRENGTH, ACCURACY = 10.0, 0.7
"""A program that the model has not weighed yet counts by its accuracy where labels are known, drawn towards 0.7 by 10 texts."""


def vote_odds(warehouse: Warehouse) -> dict[tuple[int, int], float]:
    """What a program's vote multiplies the odds of its label by, against the next likeliest label after that vote.

    Returns:
        By program number and vote, of the programs that voted when the label model was fitted; empty where it has no such
        weights.
    """
    found = dict[tuple[int, int], float]()
    for problem, voters, weights, _ in _weighed(warehouse):
        for column, voter in enumerate(voters):
            for vote, at in problem.class_of.items():
                row = weights[column, at]
                found[voter.number, vote] = math.exp(row[at] - np.delete(row, at).max())
    return found


@dataclass(frozen=True)
class Before:
    """What a label model's votes say of some texts without one program.

    Attributes:
        scores: float64 [n, k], by the votes of the others.
        voted: bool [n], whether any of them votes.
        own: float64 [k, k], the weights of the program's votes; None where the model has not weighed it.
        class_of: Vote to class.
    """

    scores: np.ndarray
    voted: np.ndarray
    own: np.ndarray | None
    class_of: Mapping[int, int]

    def changed(self, votes: np.ndarray, before: np.ndarray | None, right: int, judged: int) -> int:
        """Of how many texts the likeliest label is another, or is there alone, with these votes than with those before.

        Args:
            votes: int [n], what the program would say, -1 abstain.
            before: What it says now; None where it has not voted.
            right, judged: Its votes on texts whose label is known.
        """
        k = self.scores.shape[1]
        estimate = np.array([max((right + STRENGTH * ACCURACY) / (judged + STRENGTH), 1 / k)])
        own = coin_weights(estimate, k) if self.own is None else self.own
        then = self._labels(np.full(len(votes), -1) if before is None else before, own)
        return int((then != self._labels(votes, own)).sum())

    def _labels(self, votes: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The likeliest class, -1 where nothing votes."""
        classes = np.array([self.class_of.get(int(vote), -1) for vote in votes], np.int64)
        speaks = classes >= 0
        scores = self.scores.copy()
        scores[speaks] += own[classes[speaks]]
        return np.where(speaks | self.voted, scores.argmax(axis=1), -1)


def before_program(
    warehouse: Warehouse, text_nos: Sequence[int], *, program_no: int | None = None, target_no: int | None = None
) -> Before | None:
    """What the label model says of texts without a program; None where it does not weigh votes one by one.

    The text's own side of the joint model and people's answers are left out.

    Args:
        text_nos: n texts.
        program_no: The program that is left out; None for one that does not vote yet.
        target_no: In a `multi` task the label that it speaks of.
    """
    with warehouse.read():
        for problem, voters, weights, bias in _weighed(warehouse):
            if problem.label != target_no:
                continue
            still = {voter.number for voter in voters_of(warehouse)}
            votes = dense_votes(warehouse, [voter.number for voter in voters], text_nos)
            scores, voted, own = np.tile(bias, (len(text_nos), 1)), np.zeros(len(text_nos), bool), None
            for column, voter in enumerate(voters):
                if voter.number == program_no:
                    own = weights[column]
                if voter.number == program_no or voter.number not in still:
                    continue
                for vote, at in problem.class_of.items():
                    rows = votes[:, column] == vote
                    scores[rows] += weights[column, at]
                    voted |= rows
            return Before(scores, voted, own, problem.class_of)
    return None


def _weighed(warehouse: Warehouse) -> Iterator[tuple[Problem, Sequence[Voter], np.ndarray, np.ndarray]]:
    """The problems whose votes are weighed: voters in column order, weights [m, k, k] and bias [k]."""
    params = chosen_params(warehouse)
    if not params:
        return
    for problem in problems_of(current_card(warehouse), label_names(warehouse), voters_of(warehouse, then=True), None):
        told = _inner(params.get(problem.title))
        weights, k = told.get("weights") or [], problem.classes
        programs = [voter for voter in problem.voters if not voter.person]
        voters = next((each for each in (problem.voters, programs) if len(each) * k == len(weights)), ())
        if voters:
            bias = np.asarray(told.get("bias") or [0.0] * k, np.float64)
            yield problem, voters, np.asarray(weights, np.float64).reshape(len(voters), k, k), bias


def _inner(told: Any) -> Mapping[str, Any]:
    """What a label model tells of itself that weighs votes, or of the model inside it."""
    if not isinstance(told, Mapping):
        return {}
    inner = told.get("votes")
    return told if isinstance(told.get("weights"), list) else inner if isinstance(inner, Mapping) else {}
