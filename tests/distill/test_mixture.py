"""The mixture on planted votes and vectors: it mixes what helps, is judged by anchors it has not seen, and retires programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from factory.distill.mixture.members import MEMBERS, Material, fit_members
from factory.distill.mixture.mix import Mixed, mix
from factory.distill.mixture.retire import below_chance
from factory.distill.mixture.weigh import mixing_weights
from factory.label_matrix import VoteSet
from factory.logistic import fit_logistic
from tests.denoise.test_anchored import anchors, planted


def material(seed: int, *, tells: float = 1.0, misled: int = 3, count: int = 200) -> tuple[Material, np.ndarray]:
    """2,000 texts with votes of which three functions err together, and vectors that tell as much as `tells`; the last 500 are
    no training texts."""
    votes, gold = planted(seed, 2000, misled=misled)
    rng = np.random.default_rng(seed + 100)
    vectors = rng.normal(size=(2000, 12)) + tells * 1.5 * np.eye(3, 12)[gold]
    heap = np.arange(2000) < 1500
    labels = np.where(heap, anchors(np.where(heap, gold, -1), 0), -1)
    rows = rng.permutation(1500)[:count]
    labels[rows] = gold[rows]

    def teach(rows: Any, targets: Any) -> Any:
        head = fit_logistic(vectors[rows], targets, np.ones(len(rows)), c=1.0)
        return lambda some: head.predict_proba(vectors[some])

    return Material(VoteSet.from_matrix(votes, 3), labels, np.ones(2000), heap, vectors, teach), gold


def mixed(of: Material) -> Mixed:
    return mix(of, np.arange(len(of.labels)) % 5)


def right(found: Mixed, gold: np.ndarray, rows: Any) -> float:
    return float((found.probs[rows].argmax(axis=1) == gold[rows]).mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_it_beats_its_label_model_and_estimates_itself_by_anchors_it_has_not_seen(seed: int) -> None:
    of, gold = material(seed)
    found = mixed(of)
    others, unseen = np.arange(1500, 2000), np.flatnonzero(of.heap & (of.labels < 0))
    assert found.probs.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert right(found, gold, others) > 0.8
    assert right(found, gold, others) > found.agreement["anchored"] + 0.03
    assert abs(right(found, gold, unseen) - found.agreement["mixture"]) < 0.06, (
        "cross-fitted: no better on anchors than elsewhere"
    )
    assert sum(found.weights.values()) == pytest.approx(1)


def test_an_anchor_does_not_change_what_is_said_of_its_own_part() -> None:
    of, _ = material(3)
    flipped = of.labels.copy()
    part = np.flatnonzero((of.labels >= 0) & (np.arange(2000) % 5 == 2))
    flipped[part] = (flipped[part] + 1) % 3
    before, after = (np.stack([mixed_members(one)[row] for row in part]) for one in (of, replace(of, labels=flipped)))
    assert np.array_equal(before, after)


def mixed_members(of: Material) -> np.ndarray:
    """What the anchored model and the logistic regression say of every text of part 2."""
    members, _ = fit_members(of, of.heap & (np.arange(2000) % 5 != 2))
    out = np.zeros((2000, 6))
    rows = np.arange(2, 2000, 5)
    out[rows] = np.concatenate([members["anchored"](rows), members["logistic"](rows)], axis=1)
    return out


def test_a_rare_class_that_no_anchor_has_is_still_said_where_programs_say_it() -> None:
    of, gold = material(6, misled=0)
    kept = np.flatnonzero((gold != 2) | (np.arange(2000) % 10 == 0))

    def teach(rows: Any, targets: Any) -> Any:
        student = of.teach(kept[rows], targets)
        return lambda some: student(kept[some])

    labels = np.where(of.labels == 2, -1, of.labels)[kept]
    rare = Material(of.votes.take(kept), labels, of.worth[kept], of.heap[kept], of.vectors[kept], teach)  # type: ignore[index]
    members, _ = fit_members(rare, rare.heap)
    found, others = gold[kept][~rare.heap] == 2, np.flatnonzero(~rare.heap)
    for name in ("anchored", "logistic"):
        said = members[name](others).argmax(axis=1) == 2
        assert said[found].mean() > 0.4
        assert said[~found].mean() < 0.05


def test_where_texts_tell_nothing_the_votes_decide_and_the_other_way_round() -> None:
    blind, _ = material(4, tells=0.0, misled=0)
    weights = mixed(blind).weights
    assert weights["anchored"] + weights["anchors_only"] + weights["logistic"] > 0.6
    of, gold = material(5, tells=3.0)
    noise = np.random.default_rng(0).integers(-1, 3, (2000, 4))
    found = mixed(replace(of, votes=VoteSet.from_matrix(noise, 3)))
    assert right(found, gold, np.arange(1500, 2000)) > 0.9


def test_a_program_below_chance_is_retired_with_its_reason_and_one_with_few_votes_is_not() -> None:
    gold = np.array([0] * 60 + [1] * 40)
    votes = np.full((100, 4), -1)
    votes[:, 0] = gold
    votes[:, 1] = 1 - gold
    votes[:3, 2] = 1
    votes[::2, 3] = 0
    found = below_chance(VoteSet.from_matrix(votes, 2), gold, np.ones(100))
    assert set(found) == {1}
    assert found[1] == "right on 0 of 100 anchors, where chance would be 48%"


def test_the_weights_follow_the_likelihood_and_the_prior_keeps_every_member() -> None:
    one, other = np.full(100, 0.9), np.full(100, 0.3)
    weights = mixing_weights(np.stack([one, other]), np.ones(100))
    assert weights[0] > 0.97
    assert weights[1] > 0
    turned = np.where(np.arange(100) < 50, 0.9, 0.1)
    assert mixing_weights(np.stack([turned, 1 - turned]), np.ones(100)) == pytest.approx([0.5, 0.5], abs=1e-3)
    worth = np.where(np.arange(100) < 50, 3.0, 1.0)
    assert mixing_weights(np.stack([turned, 1 - turned]), worth)[0] > 0.7
    assert len(MEMBERS) == 5
