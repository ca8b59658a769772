"""The summary equals Snorkel's, and the rest of the analysis says what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from factory.programs.analysis import correlations, disagreements, summarize


@pytest.mark.parametrize("classes", [2, 6, 151])
def test_figures_equal_snorkels(classes: int) -> None:
    from snorkel.labeling import LabelingFunction, LFAnalysis

    rng = np.random.default_rng(classes)
    votes = np.where(rng.random((400, 9)) < 0.3, rng.integers(0, classes, (400, 9)), -1)
    votes[:, 3] = -1
    gold = rng.integers(0, classes, 400)
    names = [f"p{j}" for j in range(9)]
    for truth in (None, gold):
        functions = [LabelingFunction(name, lambda x: -1) for name in names]
        theirs = LFAnalysis(votes, functions).lf_summary(Y=truth)
        ours = summarize(votes, truth, names)
        for row, (name, line) in zip(ours, theirs.iterrows(), strict=True):
            mine = row.as_snorkel()
            assert name == row.name
            assert list(line.index) == list(mine)
            for column, value in mine.items():
                assert line[column] == pytest.approx(value), column


def test_kappa_is_one_for_a_copy_and_near_none_for_chance() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 4000)
    votes = np.stack([a, a, rng.integers(0, 2, 4000), np.full(4000, -1)], axis=1)
    kappa = correlations(votes)
    assert kappa[0, 1] == 1.0
    assert abs(kappa[0, 2]) < 0.06
    assert np.isnan(kappa[0, 3])


def test_disagreements_name_the_commonest_pair_with_texts() -> None:
    votes = np.array([[0, 1], [0, 1], [1, 0], [1, 1], [-1, 0]])
    assert disagreements(votes, ["a", "b"])[0] == ("a", "b", 0, 1, 2, [0, 1])
