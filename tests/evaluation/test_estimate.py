"""Estimated accuracy: covers the truth with a biased annotator, and tells more than people's answers alone."""

from __future__ import annotations

import numpy as np
import pytest

from factory.evaluation.estimate import Estimate, estimated
from factory.intervals import Z90, wilson

TEXTS, AUDIT, PEOPLE, SAMPLE, DRAWS = 20_000, 100, 50, 500, 200


def world(accuracy: float, annotator: float, shared: float, seed: int) -> tuple[np.ndarray, ...]:
    """Gold, a system with its confidence, and an annotator of four classes, who never says the last one and errs with the system.

    The system is right with a probability that differs from text to text, and knows little of it.
    """
    rng = np.random.default_rng(seed)
    gold = rng.choice(4, TEXTS, p=[0.4, 0.3, 0.2, 0.1])
    ease = rng.beta(6 * accuracy, 6 * (1 - accuracy), TEXTS)
    sure = 0.5 * ease + 0.5 * rng.random(TEXTS)
    system = np.where(rng.random(TEXTS) < ease, gold, (gold + rng.integers(1, 4, TEXTS)) % 4)
    model = np.where(rng.random(TEXTS) < annotator, gold, (gold + rng.integers(1, 4, TEXTS)) % 4)
    model = np.where((system != gold) & (rng.random(TEXTS) < shared), system, model)
    return gold, system, sure, np.where(model == 3, 2, model)


def draws(gold: np.ndarray, system: np.ndarray, sure: np.ndarray, model: np.ndarray) -> list[Estimate]:
    """What 50 answers out of an audit slice of 100 say, drawn 200 times."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(DRAWS):
        drawn = rng.choice(TEXTS, AUDIT + SAMPLE, replace=False)
        right, agrees = system[drawn] == gold[drawn], (system[drawn] == model[drawn]).astype(float)
        here, audit, sure_of = slice(PEOPLE), slice(PEOPLE, AUDIT), sure[drawn]
        found.append(estimated(right[here], [(agrees[here], agrees[audit]), (sure_of[here], sure_of[PEOPLE:])]))
    return found


@pytest.mark.parametrize(
    ("accuracy", "annotator", "shared"),
    [(0.8, 0.85, 0.0), (0.8, 0.85, 0.4), (0.6, 0.7, 0.2), (0.95, 0.9, 0.3), (0.75, 0.25, 0.0), (0.85, 0.97, 0.1)],
)
def test_the_interval_covers_the_truth_and_is_narrower_than_that_of_people_alone(
    accuracy: float, annotator: float, shared: float
) -> None:
    gold, system, sure, model = world(accuracy, annotator, shared, seed=3)
    truth = float((system == gold).mean())
    found = draws(gold, system, sure, model)
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.85
    width = np.mean([one.high - one.low for one in found])
    alone = np.mean([one.alone[1] - one.alone[0] for one in found])
    assert width < alone
    if annotator >= 0.85 and not shared:
        assert width < 0.92 * alone, "a good annotator's answers are worth something"
    assert abs(np.mean([one.share for one in found]) - truth) < 0.015, "agreement is not taken for accuracy"


def test_answers_that_are_all_right_leave_room_for_errors() -> None:
    every = np.ones(50, bool)
    found = estimated(every, [(every.astype(float), np.array([1.0] * 40 + [0.0] * 10))])
    assert (found.low, found.high) == wilson(1.0, 50, Z90) == found.alone
    assert found.low < 0.96


def test_a_sign_that_tells_nothing_changes_nothing() -> None:
    right = np.array([True, False] * 25)
    found = estimated(right, [(np.array([1.0, 1.0, 0.0, 0.0] * 12 + [1.0, 1.0]), np.ones(50))])
    assert (found.low, found.high) == found.alone
    assert found.share == 0.5
    assert estimated(right, []).share == 0.5
