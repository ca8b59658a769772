"""Trust: temperature, conformal sets that keep their promise, thresholds, scope."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.distill.fit_trust import conformal_scores, fit_temperature
from factory.distill.stage import distill
from factory.evaluation.metrics import calibration
from factory.logistic import probabilities
from factory.predict.trust import Abstain, abstention, conformal_limit
from factory.students.stored import stored_model
from factory.warehouse.file import Warehouse


def _problem(seed: int, n: int, sharpen: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 2
    gold = (rng.random(n)[:, None] > probabilities(logits, False).cumsum(axis=1)[:, :3]).sum(axis=1)
    return probabilities(logits * sharpen, False), gold


@pytest.mark.parametrize("sharpen", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened_the_probabilities(sharpen: float) -> None:
    probs, gold = _problem(0, 4000, sharpen)
    found = fit_temperature(probs, np.eye(4)[gold], False)
    assert found == pytest.approx(sharpen, rel=0.1)
    mended = probabilities(np.log(probs) / found, False)
    assert calibration(mended, gold)["ece"] < 0.03


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.3]))
def test_conformal_sets_miss_no_more_than_they_say(seed: int, error_rate: float) -> None:
    probs, gold = _problem(seed, 12_000, 2.0)
    scores = conformal_scores(probs[:4000], np.eye(4)[gold[:4000]], False)
    limit = conformal_limit(scores, error_rate)
    missed = (probs[4000:][np.arange(8000), gold[4000:]] < limit - 1e-9).mean()
    assert missed <= error_rate + 0.04


def test_too_few_scores_for_an_error_rate_put_every_label_in_the_set() -> None:
    assert conformal_limit([0.1, 0.2], 0.05) == 0.0


def test_the_threshold_gives_the_wanted_precision_or_nothing() -> None:
    probs, gold = _problem(1, 4000, 1.0)
    found = abstention(Abstain.of(probs, np.eye(4)[gold], False), 0.9)
    assert found is not None
    answered = probs.max(axis=1) >= found["threshold"]
    assert (probs.argmax(axis=1) == gold)[answered].mean() >= 0.9
    assert 0 < found["coverage"] < 1
    assert abstention(Abstain.of(np.full((50, 2), 0.5), np.eye(2)[np.ones(50, np.int64)], False), 0.99) is None


@pytest.mark.parametrize("error_rate", [0.05, 0.2])
def test_conformal_sets_of_a_multi_task_miss_each_label_no_more_than_they_say(error_rate: float) -> None:
    rng = np.random.default_rng(3)
    probs = rng.beta(1, 2, size=(4000, 3))
    gold = (rng.random(probs.shape) < probs**2).astype(float)
    scores = conformal_scores(probs[:2000], gold[:2000], True)
    for label in range(3):
        limit = conformal_limit(scores[label], error_rate)
        has = gold[2000:, label] > 0.5
        assert (probs[2000:, label][has] < limit - 1e-9).mean() <= error_rate + 0.04


def test_a_threshold_of_a_multi_task_is_about_pairs_of_text_and_label() -> None:
    rng = np.random.default_rng(4)
    probs = rng.random((3000, 3))
    gold = (rng.random(probs.shape) < probs).astype(float)
    found = abstention(Abstain.of(probs[:2000], gold[:2000], True), 0.8)
    assert found is not None
    said = probs[2000:] >= found["threshold"]
    assert gold[2000:][said].mean() >= 0.78
    assert 0.5 < found["threshold"] < 0.8


def test_what_abstention_is_read_from_survives_the_export() -> None:
    probs, gold = _problem(2, 500, 1.0)
    known = Abstain.of(probs, np.eye(4)[gold], False)
    again = Abstain.read(known.as_json())
    assert abstention(again, 0.8) == pytest.approx(abstention(known, 0.8), abs=1e-5)


def test_student_dev_carries_trust_and_student_carries_nothing_that_comes_from_dev(warehouse: Warehouse) -> None:
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student", "student_dev"])
    carried = stored_model(warehouse, "student_dev").params["trust"]
    assert {"temperature", "conformal", "abstain", "texts"} <= set(carried)
    assert len(carried["conformal"]) == 45
    assert stored_model(warehouse, "student").params["trust"] == {}
