"""Self-training: sure texts with agreeing neighbours, in equal numbers and of bounded weight; a bad round is thrown away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.distill.self_training import Pseudo, SelfTraining, choose_pseudo, neighbours_of, self_train
from factory.students import fit_student


def _clouds(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors in two clouds, with their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    points = rng.normal(0, 0.35, (n, 8))
    points[:, 0] += np.where(labels == 0, 1.0, -1.0)
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), labels


def _fitter(vectors: NDArray[Any], targets: NDArray[Any], rest: NDArray[Any]) -> Any:
    def fit(rows: NDArray[np.int64], pseudo: Pseudo | None) -> Any:
        x, y, w = vectors[rows], targets[rows], np.ones(len(rows))
        if pseudo is not None:
            x, y = np.concatenate([x, rest[pseudo.rows]]), np.concatenate([y, np.eye(2)[pseudo.labels]])
            w = np.concatenate([w, np.full(len(pseudo.rows), pseudo.weight)])
        student = fit_student("embedding", x, y, w, config={"c": 1.0})
        return lambda rows, *, unlabelled: student.predict_proba((rest if unlabelled else vectors)[rows])

    return fit


def test_more_texts_help_where_their_labels_are_clear() -> None:
    vectors, labels = _clouds(40, 0)
    rest, truth = _clouds(400, 1)
    targets = np.eye(2)[labels]
    pseudo, trials = self_train(_fitter(vectors, targets, rest), targets, np.ones(40), vectors, rest, SelfTraining())
    assert pseudo is not None
    assert (truth[pseudo.rows] == pseudo.labels).mean() > 0.95
    assert min(loss for _, loss in trials) < trials[0][1]


def test_a_round_that_agrees_less_with_held_out_labels_is_thrown_away() -> None:
    vectors, labels = _clouds(60, 0)
    rest, _ = _clouds(200, 1)
    targets = np.eye(2)[labels]
    honest = _fitter(vectors, targets, rest)
    fitted: list[Pseudo | None] = []

    def worse_with_pseudo(rows: NDArray[np.int64], pseudo: Pseudo | None) -> Any:
        fitted.append(pseudo)
        ask = honest(rows, None)
        return ask if pseudo is None else lambda rows, *, unlabelled: ask(rows, unlabelled=unlabelled)[:, ::-1]

    pseudo, trials = self_train(worse_with_pseudo, targets, np.ones(60), vectors, rest, SelfTraining(rounds=5))
    assert pseudo is None
    assert len(trials) == 2
    assert len(fitted) == 2


def test_pseudo_labels_are_balanced_sure_and_of_bounded_weight() -> None:
    probs = np.array([[0.95, 0.05], [0.9, 0.1], [0.85, 0.15], [0.1, 0.9], [0.45, 0.55]])
    near = np.array([[1, 2], [0, 2], [0, 1], [5, 6], [3, 5]])
    pseudo = choose_pseudo(probs, near, np.array([1, 1]), 2.0, SelfTraining(weight=0.5))
    assert pseudo.rows.tolist() == [0, 3]
    assert pseudo.labels.tolist() == [0, 1]
    assert pseudo.weight == 0.5


def test_texts_whose_neighbours_disagree_are_left() -> None:
    probs = np.array([[0.95, 0.05], [0.05, 0.95]])
    near = np.array([[2, 3], [2, 3]])
    pseudo = choose_pseudo(probs, near, np.array([1, 1]), 2.0, SelfTraining())
    assert pseudo.rows.tolist() == [1]


def test_a_text_is_not_its_own_neighbour() -> None:
    vectors, _ = _clouds(30, 3)
    near = neighbours_of(vectors[:10], vectors[10:], 5)
    assert near.shape == (10, 5)
    assert not (near == np.arange(10)[:, None]).any()


def test_without_unlabelled_texts_nothing_is_done() -> None:
    vectors, labels = _clouds(20, 0)
    targets = np.eye(2)[labels]
    found = self_train(
        _fitter(vectors, targets, vectors[:0]), targets, np.ones(20), vectors, vectors[:0], SelfTraining()
    )
    assert found == (None, [])
