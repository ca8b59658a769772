"""Label models judged by anchors, on votes whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from factory.denoise.models import anchored
from factory.denoise.models.base import LabelModel
from factory.denoise.models.table import fit_label_model
from factory.errors import InputError


def planted(seed: int, n: int = 4000, *, misled: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, eight functions of one class each: five are right in 85%, the last ones err together on class 2."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    votes = np.full((n, 8), -1)
    for lf in range(8 - misled):
        says = lf % 3
        fires = np.where(gold == says, rng.random(n) < 0.5, rng.random(n) < 0.04)
        votes[fires, lf] = says
    trap = (gold == 2) & (rng.random(n) < 0.7)  # a cue that these functions all read wrongly
    for lf in range(8 - misled, 8):
        votes[(trap & (rng.random(n) < 0.9)) | ((gold == 0) & (rng.random(n) < 0.3)), lf] = 0
    return votes, gold


def anchors(gold: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    labels = np.full(len(gold), -1)
    rows = np.random.default_rng(seed).permutation(len(gold))[:count]
    labels[rows] = gold[rows]
    return labels


def accuracy(model: LabelModel, votes: np.ndarray, gold: np.ndarray, labels: np.ndarray) -> float:
    unseen = (labels < 0) & (votes >= 0).any(axis=1)
    return float((model.predict_proba(votes[unseen]).argmax(axis=1) == gold[unseen]).mean())


@pytest.mark.parametrize("by_anchors", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_anchors_undo_what_functions_that_err_together_confirm(seed: int, by_anchors: bool) -> None:
    votes, gold = planted(seed)
    labels = anchors(gold, 150, seed)
    model = anchored.fit(votes, labels, classes=3, by_anchors=by_anchors)
    alone = fit_label_model("dawid_skene_prior", votes, classes=3)
    assert accuracy(model, votes, gold, labels) > accuracy(alone, votes, gold, labels) + 0.05


def test_em_learns_a_function_that_no_anchor_has_a_vote_of() -> None:
    votes, gold = planted(5, misled=0)
    votes[:, 7] = np.where(np.random.default_rng(1).random(len(gold)) < 0.3, (gold + 1) % 3, -1)  # always wrong
    labels = np.full(len(gold), -1)
    rows = np.flatnonzero(votes[:, 7] < 0)[:150]
    labels[rows] = gold[rows]
    wrong = np.zeros((3, 8), int) - 1
    wrong[:, 7] = range(3)
    em = anchored.fit(votes, labels, classes=3).predict_proba(wrong)
    blind = anchored.fit(votes, labels, classes=3, by_anchors=True).predict_proba(wrong)
    assert (blind.argmax(axis=1) == range(3)).all(), "without evidence a vote is believed"
    assert all(em[c, c] < blind[c, c] - 0.1 for c in range(3)), "the other functions contradict it"


def test_the_class_shares_are_those_of_the_anchors_by_their_worth() -> None:
    votes, gold = planted(7)
    labels = anchors(gold, 300)
    rows = np.flatnonzero(labels >= 0)
    drop = rows[(gold[rows] == 0)][::2]
    labels[drop] = -1
    worth = np.where(gold == 0, 2.0, 1.0)  # half of class 0 was drawn, so each counts twice
    plain = anchored.fit(votes, labels, classes=3).params()["balance"]
    mended = anchored.fit(votes, labels, classes=3, worth=worth).params()["balance"]
    truth = np.bincount(gold, minlength=3) / len(gold)
    assert np.abs(np.array(mended) - truth).sum() < 0.15 < np.abs(np.array(plain) - truth).sum()


def test_what_cannot_be_used_is_refused() -> None:
    votes, gold = planted(1, 50)
    with pytest.raises(InputError, match="no anchor"):
        anchored.fit(votes, np.full(50, -1), classes=3)
    with pytest.raises(InputError, match="one class below 3"):
        anchored.fit(votes, gold + 1, classes=3)
    with pytest.raises(InputError, match="weight"):
        anchored.fit(votes, gold, classes=3, weight=0)
