"""Trust: temperature, conformal sets that keep their promise, thresholds, scope."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.students.calibrate import (
    abstention,
    conformal_limit,
    conformal_scores,
    expected_calibration_error,
    fit_temperature,
    in_scope,
    scope_of,
    wilson_low,
)
from factory.students.head import probabilities
from factory.students.stage import distill
from factory.students.store import stored_model
from factory.warehouse import Warehouse


def _problem(seed: int, n: int, sharpen: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 2
    gold = np.array([rng.choice(4, p=row / row.sum()) for row in probabilities(logits, False).astype(float)])
    return probabilities(logits * sharpen, False), gold


@pytest.mark.parametrize("sharpen", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened_the_probabilities(sharpen: float) -> None:
    probs, gold = _problem(0, 4000, sharpen)
    found = fit_temperature(probs, np.eye(4)[gold], False)
    assert found == pytest.approx(sharpen, rel=0.1)
    mended = probabilities(np.log(probs) / found, False)
    assert expected_calibration_error(mended, gold) < 0.03


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.3]))
def test_conformal_sets_miss_no_more_than_they_say(seed: int, error_rate: float) -> None:
    probs, gold = _problem(seed, 3000, 2.0)
    scores = conformal_scores(probs[:1000], np.eye(4)[gold[:1000]], False)
    limit = conformal_limit(scores, error_rate)
    missed = (probs[1000:][np.arange(2000), gold[1000:]] < limit - 1e-9).mean()
    assert missed <= error_rate + 0.04


def test_too_few_scores_for_an_error_rate_put_every_label_in_the_set() -> None:
    assert conformal_limit([0.1, 0.2], 0.05) == 0.0


def test_the_threshold_gives_the_wanted_precision_or_nothing() -> None:
    probs, gold = _problem(1, 4000, 1.0)
    found = abstention(probs, gold, 0.9)
    assert found is not None
    answered = probs.max(axis=1) >= found["threshold"]
    assert (probs.argmax(axis=1) == gold)[answered].mean() >= 0.9
    assert 0 < found["coverage"] < 1
    assert abstention(np.full((50, 2), 0.5), np.ones(50, np.int64), 0.99) is None


def test_wilsons_lower_end_is_below_the_share_and_rises_with_n() -> None:
    low = wilson_low(np.array([9, 90]), np.array([10, 100]))
    assert low[0] < low[1] < 0.9


def test_texts_unlike_the_training_texts_fall_below_the_limit() -> None:
    rng = np.random.default_rng(0)
    near = np.eye(8)[rng.integers(0, 2, 300)] + rng.normal(size=(300, 8)) * 0.1
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    scope = scope_of(near.astype(np.float32), np.eye(2)[near[:, :2].argmax(axis=1)], np.ones(300))
    far = np.eye(8)[[5, 6, 7]].astype(np.float32)
    assert (in_scope(far, scope) < scope["limits"]["0.01"]).all()
    assert (in_scope(near.astype(np.float32), scope) >= scope["limits"]["0.05"]).mean() > 0.94


def test_student_dev_carries_trust_and_student_carries_nothing_that_comes_from_dev(warehouse: Warehouse) -> None:
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student", "student_dev"])
    carried = stored_model(warehouse, "student_dev").params["trust"]
    assert {"temperature", "conformal", "abstain", "texts"} <= set(carried)
    assert len(carried["conformal"]) == 45
    assert stored_model(warehouse, "student").params["trust"] == {}
