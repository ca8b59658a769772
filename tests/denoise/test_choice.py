"""What nobody asked for ends no run, candidates' figures stay whatever is chosen, and people who disagree are told apart."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from factory.denoise import choose as choosing
from factory.denoise.models import table
from factory.denoise.models.dawid_skene import Counted, pooled
from factory.denoise.people import answers, crowd_of
from factory.denoise.stage import denoise
from factory.errors import InputError
from factory.label_matrix import VoteSet
from tests.denoise.test_planted import planted
from tests.denoise.test_stage import make


def one_class_votes(n: int = 300) -> np.ndarray:
    """Six functions that say one class each, right in four of five."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, n)
    votes = np.full((n, 6), -1)
    for lf in range(6):
        right = rng.random(n) < 0.8
        votes[((gold == lf % 2) == right) & (rng.random(n) < 0.5), lf] = lf % 2
    return votes


def test_functions_of_one_class_fall_back_to_majority_and_the_candidates_figures_stay() -> None:
    warehouse = make(one_class_votes(), ["a", "b"])
    found = denoise(warehouse, encoder=None).did
    assert found["chosen"] == {"majority": ["student"]}
    kept = {"several_classes", "texts_with_two_votes", "held_out_gain", "standard_error"}
    assert kept <= set(found["scores"]["the task"])
    ((params,),) = warehouse.query("SELECT params::VARCHAR FROM label_models WHERE chosen")
    assert json.loads(params)["the task"]["scores"] == found["scores"]["the task"]


def test_the_same_figures_are_kept_where_the_choice_does_not_fall_back() -> None:
    votes, _ = planted([0.9, 0.8, 0.7, 0.6, 0.6], [0.8] * 5, classes=3)
    fallen = choosing.choose(VoteSet.from_matrix(one_class_votes(), 2), classes=2)
    chosen = choosing.choose(VoteSet.from_matrix(votes, 3), classes=3)
    assert (fallen.name, chosen.name) == ("majority", "dawid_skene_prior")
    assert set(fallen.scores) == set(chosen.scores)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no convergence"), InputError("cannot be")])
def test_a_label_model_that_nobody_asked_for_ends_no_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    for name in ("snorkel", "dawid_skene_prior"):
        monkeypatch.setitem(table.MODELS, name, broken)
    votes, _ = planted([0.9, 0.8, 0.7, 0.6], [0.8] * 4, classes=3)
    result = denoise(make(votes, ["a", "b", "c"]), encoder=None)
    assert result.did["chosen"] == {"majority": ["student"]}
    assert set(result.did["refused"]) == {"snorkel", "dawid_skene_prior"}
    assert any(line.startswith("snorkel is left out: ") for line in result.says)


def test_labels_that_teach_next_to_nothing_are_warned_of() -> None:
    votes = np.full((200, 4), -1)
    votes[:, 0], votes[:, 1] = 0, 1
    votes[:, 2], votes[:, 3] = 2, 3
    result = denoise(make(votes, ["a", "b", "c", "d"]), encoder=None)
    (line,) = [line for line in result.says if "nearly uniform" in line]
    assert "the likeliest of 4 gets 0.25 on average" in line
    sure = denoise(make(np.zeros((200, 4), int), ["a", "b", "c", "d"]), encoder=None)
    assert not [line for line in sure.says if "nearly uniform" in line]


def test_of_people_who_contradict_each_other_the_one_who_errs_less_counts_more() -> None:
    votes, gold = planted([0.95, 0.9, 0.55], [1.0] * 3, classes=3)
    data = VoteSet.from_matrix(votes, 3)
    crowd = crowd_of(data, [0, 1, 2])
    assert crowd is not None
    torn = (votes[:, 0] != votes[:, 1]) & (votes[:, 1] != votes[:, 2]) & (votes[:, 0] != votes[:, 2])
    shares, _ = answers(data, [0, 1, 2], crowd)
    assert torn.sum() >= 20
    assert (shares[torn].argmax(axis=1) == gold[torn]).mean() > 0.55  # a third by drawing lots
    assert crowd_of(data.take(np.arange(10)), [0, 1, 2]) is None


def test_a_third_of_the_prior_is_what_all_functions_of_several_classes_say() -> None:
    data = VoteSet.from_matrix(np.tile([[0, 1, 1], [1, 0, 0]], (30, 1)), 2)
    seen = np.arange(6)
    found = Counted(np.tile([[0.0, 1e6], [1e6, 0.0]], (3, 1)), seen // 2, seen % 2, 3)  # all say the other class
    held = pooled(data, 0.8, 7.0)(found)
    assert held.strength.tolist() == [7.0] * 3
    assert held.of(np.array([0, 0]), np.array([0, 1])) / 7 == pytest.approx(
        np.array([[0.8, 0.2], [0.2, 0.8]]) * 2 / 3 + np.array([[0.0, 1.0], [1.0, 0.0]]) / 3, abs=1e-4
    )


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("snorkel", marks=(pytest.mark.slow, pytest.mark.long)),
        "triplets",
        pytest.param("dawid_skene_prior", marks=(pytest.mark.slow, pytest.mark.long)),
    ],
)
def test_267_functions_of_151_classes_fit_in_little_memory(model: str) -> None:
    code = f"""
import resource, numpy as np
from factory.denoise.models.table import fit_label_model
from factory.label_matrix import VoteSet
import snorkel.labeling.model
rng = np.random.default_rng(0)
gold = rng.integers(0, 151, 4000)
votes = np.full((4000, 267), -1)
for lf in range(267):
    rows = rng.choice(4000, 60, replace=False)
    votes[rows, lf] = np.where(rng.random(60) < 0.8, gold[rows], rng.integers(0, 4) + lf % 140)
data = VoteSet.from_matrix(votes, 151)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
more = {{"n_epochs": 3}} if {model!r} == "snorkel" else {{"max_iter": 3}} if "dawid" in {model!r} else {{}}
fit_label_model({model!r}, data, classes=151, **more).predict_proba(data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 1.5  # GB; the square of 267 x 151 alone is 6.5 of single numbers
