"""What an answer is worth by anchors, and what a purchase changed about it."""

from __future__ import annotations

import pytest

from factory.pipeline.auto.judge import Judgement

COMMON, RARE = frozenset({0}), frozenset({1})


def judgement(right: dict[int, float], rare: int = 2, worth: dict[int, float] | None = None) -> Judgement:
    """Of ten anchors, the last of which have the rare label."""
    labels = {number: RARE if number >= 10 - rare else COMMON for number in range(10)}
    return Judgement(right, labels, worth or dict.fromkeys(range(10), 1.0))


def test_half_the_score_is_the_mean_over_labels() -> None:
    found = judgement({number: float(number < 8) for number in range(10)})
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.score == pytest.approx(0.5 * 0.8 + 0.5 * 0.5)
    assert found.of_label(0)[1] == 8
    assert found.of_label(1)[0] == pytest.approx(2 * found.score / 4), "two anchors more, of the usual kind"


def test_an_anchor_that_was_unlikely_to_be_drawn_counts_for_more() -> None:
    right = {number: float(number != 0) for number in range(10)}
    heavy = judgement(right, worth={number: 5.0 if number == 0 else 1.0 for number in range(10)})
    assert heavy.score < judgement(right).score - 0.1


def test_a_gain_is_paired_and_never_known_better_than_by_one_anchor() -> None:
    before = {number: float(number >= 3) for number in range(10)}
    now = judgement({number: float(number >= 1) for number in range(10)})
    gain, error = now.gain(before) or (0.0, 0.0)
    assert gain == pytest.approx(2 * now.weights[0])
    assert error > max(now.weights.values())
    same, still = now.gain(now.right) or (1.0, 0.0)
    assert same == 0
    assert still == pytest.approx(max(now.weights.values()))
    new = now.gain({number: right for number, right in before.items() if number < 5})
    assert new is not None, "anchors that were bought since are left out"
    assert now.gain({77: 1.0}) is None
