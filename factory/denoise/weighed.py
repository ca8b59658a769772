"""What one vote counts in the label model that the student learns from, where that model weighs votes one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.denoise.problems import problems_of, voters_of
from factory.task import current_card, label_names
from factory.warehouse.tables.labels import chosen_params

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def vote_odds(warehouse: Warehouse) -> dict[tuple[int, int], float]:
    """What a program's vote multiplies the odds of its label by, against the next likeliest label after that vote.

    Returns:
        By program number and vote; empty where the label model has no such weights, or where programs were decided on since
        it was fitted, so that its columns are others (people who have answered since do not matter).
    """
    params = chosen_params(warehouse)
    if not params:
        return {}
    card, names, found = current_card(warehouse), label_names(warehouse), dict[tuple[int, int], float]()
    for problem in problems_of(card, names, voters_of(warehouse), None):
        weights = _weights(params.get(problem.title))
        k = problem.classes
        programs = [voter for voter in problem.voters if not voter.person]
        voters = next((each for each in (problem.voters, programs) if len(each) * k == len(weights)), ())
        for column, voter in enumerate(voters):
            for vote, at in problem.class_of.items():
                row_of = weights[column * k + at]
                others = [weight for other, weight in enumerate(row_of) if other != at]
                found[voter.number, vote] = math.exp(row_of[at] - max(others))
    return found


def _weights(told: Any) -> list[list[float]]:
    """The weights of votes in what a label model tells of itself, or of the model inside it."""
    if not isinstance(told, Mapping):
        return []
    inner = told.get("votes")
    found = told.get("weights", inner.get("weights") if isinstance(inner, Mapping) else None)
    return found if isinstance(found, list) else []
