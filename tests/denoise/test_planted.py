"""Planted situations, each with a stated outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory.denoise.choose import Choice, choose
from factory.denoise.copies import find_copies, merge_copies
from factory.denoise.models.dawid_skene import halfway_shares
from factory.denoise.models.table import MODELS, fit_label_model
from factory.denoise.on_dev import worse_than_chance
from factory.errors import InputError
from factory.label_matrix import VoteSet

N = 2000


def planted(
    accuracies: list[float], coverages: list[float], *, classes: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Independent functions over uniform classes; errors fall evenly. Votes [N, m] and gold [N]."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, classes, N)
    votes = np.full((N, len(accuracies)), -1)
    for lf, (accuracy, coverage) in enumerate(zip(accuracies, coverages, strict=True)):
        wrong = (gold + rng.integers(1, classes, N)) % classes
        said = np.where(rng.random(N) < accuracy, gold, wrong)
        votes[:, lf] = np.where(rng.random(N) < coverage, said, -1)
    return votes, gold


def chosen(votes: np.ndarray, classes: int = 2) -> Choice:
    return choose(VoteSet.from_matrix(votes, classes), classes=classes)


def accuracy(model: Any, votes: np.ndarray, gold: np.ndarray) -> float:
    covered = (votes >= 0).any(axis=1)
    return float((model.predict_proba(votes)[covered].argmax(axis=1) == gold[covered]).mean())


@pytest.mark.parametrize("faithful", [1.0, 0.95])
def test_three_good_functions_beside_ten_copies_of_a_bad_one_do_not_lose(faithful: float) -> None:
    votes, gold = planted([0.85, 0.85, 0.85, 0.55], [1.0] * 4)
    rng = np.random.default_rng(1)
    copies = [np.where(rng.random(N) < faithful, votes[:, 3], rng.integers(0, 2, N)) for _ in range(10)]
    votes = np.column_stack([votes[:, :3], *copies])
    good = accuracy(fit_label_model("majority", votes[:, :3], classes=2), votes[:, :3], gold)
    choice = chosen(votes)
    assert choice.copies == (tuple(range(3, 13)),)
    assert accuracy(choice.model, votes, gold) > good - 0.02
    assert accuracy(fit_label_model("majority", votes, classes=2), votes, gold) < good - 0.2


def test_answers_tell_good_functions_from_bad_ones_that_agree_with_each_other() -> None:
    votes, gold = planted([0.8, 0.7, 0.55], [0.9] * 3)
    rng = np.random.default_rng(1)
    votes = np.column_stack(
        [votes, *(np.where(rng.random(N) < 0.8, votes[:, 2], rng.integers(0, 2, N)) for _ in range(3))]
    )
    people = np.where(np.arange(N) < 100, gold, -1)
    told = np.column_stack([votes, people])
    silent = np.column_stack([votes, np.full(N, -1)])[100:]
    plain = fit_label_model("dawid_skene_prior", told, classes=2)
    asked = fit_label_model("dawid_skene_prior", told, classes=2, people=(6,))
    assert accuracy(asked, silent, gold[100:]) > accuracy(plain, silent, gold[100:]) + 0.05


def test_people_are_found_again_after_copies_were_merged_and_are_never_merged_themselves() -> None:
    votes, gold = planted([0.8, 0.8, 0.55, 0.8], [1.0] * 4)
    told = np.column_stack([votes[:, :3], votes[:, 2], votes[:, 2], gold, gold, votes[:, 3]])
    choice = choose(VoteSet.from_matrix(told, 2), classes=2, people=(5, 6))
    assert choice.copies == ((2, 3, 4),)
    assert accuracy(choice.model, told, gold) == 1.0


def test_good_independent_functions_are_not_taken_for_copies() -> None:
    votes, _ = planted([0.97] * 6 + [0.6], [1.0] * 7)
    assert find_copies(VoteSet.from_matrix(votes, 2)) == []


def test_a_group_of_copies_votes_once_and_keeps_its_coverage() -> None:
    votes = VoteSet.from_matrix(np.array([[0, -1, 1], [-1, 1, 0], [-1, -1, -1]]), 2)
    assert merge_copies(votes, [[0, 1]]).matrix().tolist() == [[0, 1], [1, 0], [-1, -1]]


def test_an_adversarial_function_is_turned_round_without_gold_and_flagged_with_it() -> None:
    votes, gold = planted([0.8, 0.8, 0.8, 0.8, 0.1], [0.9] * 5)
    choice = chosen(votes)
    assert choice.name == "dawid_skene_prior"
    assert (
        accuracy(choice.model, votes, gold)
        > accuracy(fit_label_model("majority", votes, classes=2), votes, gold) + 0.05
    )
    flagged = worse_than_chance(VoteSet.from_matrix(votes[:100], 2), gold[:100])
    assert [lf for lf, _, _ in flagged] == [4]


def test_one_class_functions_keep_majoritys_answers() -> None:
    votes, gold = planted([0.85] * 4, [0.4] * 4)
    for lf in range(4):  # the first two only ever say class 0, the others class 1
        votes[votes[:, lf] != lf // 2, lf] = -1
    base = accuracy(fit_label_model("majority", votes, classes=2), votes, gold)
    assert accuracy(chosen(votes).model, votes, gold) >= base - 0.005


def test_a_function_that_only_ever_says_the_rare_class_does_not_swallow_the_others() -> None:
    rng = np.random.default_rng(0)
    gold = (rng.random(N) < 0.05).astype(int)
    votes = np.where(rng.random((N, 3)) < 0.9, gold[:, None], 1 - gold[:, None])
    rare = np.where((gold == 1) & (rng.random(N) < 0.8) | (rng.random(N) < 0.01), 1, -1)
    votes = np.column_stack([votes, rare])
    said = chosen(votes).model.predict_proba(votes).argmax(axis=1)
    assert 0.02 < said.mean() < 0.10
    assert (said == gold).mean() >= (
        fit_label_model("majority", votes, classes=2).predict_proba(votes).argmax(axis=1) == gold
    ).mean()


def test_no_overlap_at_all_is_majority_vote() -> None:
    votes, _ = planted([0.8, 0.8, 0.8], [1.0] * 3)
    votes[np.arange(N) % 3 != 0, 0] = votes[np.arange(N) % 3 != 1, 1] = votes[np.arange(N) % 3 != 2, 2] = -1
    choice = chosen(votes)
    assert choice.name == "majority"
    assert "two votes" in choice.reason


def test_one_function_is_majority_vote_and_snorkel_says_why_not() -> None:
    votes, _ = planted([0.8], [0.5])
    assert chosen(votes).name == "majority"
    with pytest.raises(InputError, match="three labelling functions"):
        fit_label_model("snorkel", votes, classes=2)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "joint"])
def test_everything_abstains_gives_the_class_shares(name: str) -> None:
    votes = np.full((20, 3), -1)
    probs = fit_label_model(name, votes, classes=2).predict_proba(votes)
    assert np.allclose(probs, 0.5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "joint"])
def test_two_classes_of_which_one_is_never_voted_for_stay_finite_and_keep_the_votes(name: str) -> None:
    votes, _ = planted([0.8, 0.8, 0.8], [0.5] * 3)
    votes[votes == 1] = -1
    probs = fit_label_model(name, votes, classes=2).predict_proba(votes)
    covered = (votes >= 0).any(axis=1)
    assert np.isfinite(probs).all()
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert (probs[covered, 0] >= 0.5 - 1e-6).all()


@pytest.mark.parametrize("name", ["majority", "weighted", "snorkel", "dawid_skene", "dawid_skene_prior", "triplets"])
def test_151_classes_fit_and_never_wrap(name: str) -> None:
    votes, gold = planted([0.9] * 5, [0.9] * 5, classes=151)
    matrix = VoteSet.from_matrix(votes, 151).matrix()
    assert matrix.dtype == np.int16
    assert (matrix == votes).all()
    options = {"max_iter": 20} if name.startswith("dawid") else {}
    assert accuracy(fit_label_model(name, votes, classes=151, **options), votes, gold) > 0.85


def test_predictions_do_not_depend_on_the_order_of_rows() -> None:
    votes, _ = planted([0.8, 0.7, 0.6], [0.6] * 3)
    order = np.random.default_rng(0).permutation(N)
    for name in ("majority", "weighted", "snorkel", "dawid_skene_prior", "triplets"):
        there = fit_label_model(name, votes, classes=2).predict_proba(votes)
        here = fit_label_model(name, votes[order], classes=2).predict_proba(votes[order])
        assert np.allclose(there[order], here, atol=1e-5)


def test_fitting_leaves_the_global_generators_alone() -> None:
    import random

    import torch

    votes, _ = planted([0.8, 0.7, 0.6], [0.6] * 3)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for name in MODELS:
        if name != "joint":
            fit_label_model(name, votes, classes=2)
    chosen(votes)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_an_unknown_model_or_option_is_named() -> None:
    with pytest.raises(InputError, match="majority"):
        fit_label_model("majorty", np.zeros((2, 2), int), classes=2)
    with pytest.raises(InputError, match="sed"):
        fit_label_model("snorkel", np.zeros((2, 3), int), classes=2, sed=1)
    with pytest.raises(InputError, match="run from 0 to 2"):
        fit_label_model("majority", np.array([[0, 2]]), classes=2)


def test_functions_that_mostly_say_the_common_class_are_not_taken_for_copies() -> None:
    rng = np.random.default_rng(0)
    gold = (rng.random(N) < 0.05).astype(int)
    votes = np.column_stack([np.where(rng.random(N) < 0.95, gold, 1 - gold) for _ in range(6)])
    assert (votes[:, 0] == votes[:, 1]).mean() > 0.85
    assert find_copies(VoteSet.from_matrix(votes, 2)) == []


def test_a_pair_of_copies_among_many_keyword_functions_keeps_both_voices() -> None:
    votes, _ = planted([0.85] * 12, [0.3] * 12)
    votes = np.column_stack([votes, votes[:, 0]])
    assert find_copies(VoteSet.from_matrix(votes, 2)) == [[0, 12]]
    assert chosen(votes).copies == ()


def test_the_average_with_majority_vote_never_overturns_votes_that_agree() -> None:
    votes, gold = planted([0.9, 0.9, 0.9, 0.6, 0.1], [0.8] * 5)
    choice = chosen(votes)
    assert choice.blended
    one = ((votes == 0).any(axis=1)) != ((votes == 1).any(axis=1))
    said = choice.model.predict_proba(votes).argmax(axis=1)
    assert (said[one] == votes.max(axis=1)[one]).all()
    base = accuracy(fit_label_model("majority", votes, classes=2), votes, gold)
    assert accuracy(choice.model, votes, gold) > base + 0.02


def test_class_shares_of_a_skewed_task_lie_between_uniform_and_majoritys() -> None:
    rng = np.random.default_rng(1)
    gold = (rng.random(300) < 0.1).astype(int)
    votes = np.column_stack([np.where(rng.random(300) < 0.85, gold, 1 - gold) for _ in range(4)])
    shares = halfway_shares(VoteSet.from_matrix(votes, 2))
    assert (votes == 1).mean() < shares[1] < 0.5
