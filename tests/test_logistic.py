"""The one logistic regression: equal to scikit-learn's, right gradients, two blocks as one, and labels that no text has."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.sparse import csr_matrix

from factory.errors import InputError
from factory.logistic import NEVER, Features, Head, _objective, choose_c, fit_logistic
from factory.students import fit_student


def _problem(seed: int = 0, n: int = 120, d: int = 6, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    gold = (x @ rng.normal(size=(d, k)) + rng.gumbel(size=(n, k))).argmax(axis=1)
    return x, gold


def test_a_softmax_of_hard_labels_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    x, gold = _problem()
    weights = np.random.default_rng(1).uniform(0.2, 2, len(x))
    ours = fit_logistic(x, np.eye(3)[gold], weights, c=2.0, tolerance=1e-12)
    theirs = LogisticRegression(C=2.0, tol=1e-9, max_iter=5000).fit(x, gold, sample_weight=weights)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-3)


def test_sigmoids_are_one_regression_for_each_label() -> None:
    from sklearn.linear_model import LogisticRegression

    x, gold = _problem()
    targets = np.eye(3)[gold]
    ours = fit_logistic(x, targets, np.ones(len(x)), c=0.5, multi=True, tolerance=1e-12).predict_proba(x)
    for label in range(3):
        theirs = LogisticRegression(C=0.5, tol=1e-9, max_iter=5000).fit(x, targets[:, label])
        np.testing.assert_allclose(ours[:, label], theirs.predict_proba(x)[:, 1], atol=1e-3)


def test_a_soft_label_counts_as_its_hard_ones_in_proportion() -> None:
    x, _ = _problem()
    soft = np.random.default_rng(2).dirichlet(np.ones(3), len(x))
    ours = fit_logistic(x, soft, np.ones(len(x)), c=1.0, tolerance=1e-12)
    three = fit_logistic(
        np.repeat(x, 3, axis=0), np.tile(np.eye(3), (len(x), 1)), soft.reshape(-1), c=1.0, tolerance=1e-12
    )
    np.testing.assert_allclose(ours.predict_proba(x), three.predict_proba(x), atol=1e-3)


@pytest.mark.parametrize("blocks", ["dense", "sparse", "both"])
@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("gce", [0.0, 0.7])
def test_the_gradient_is_the_slope_of_the_loss(blocks: str, multi: bool, gce: float) -> None:
    x, _ = _problem(n=30)
    rng = np.random.default_rng(3)
    y = rng.uniform(size=(30, 3)) if multi else rng.dirichlet(np.ones(3), 30)
    mass = rng.uniform(0.1, 2, size=(30, 3)) * (rng.uniform(size=(30, 3)) > 0.2)
    given = {
        "dense": Features(x),
        "sparse": Features(sparse=csr_matrix(x)),
        "both": Features(x[:, :2], csr_matrix(x[:, 2:])),
    }
    objective = _objective(given[blocks], y, mass, 1.5, multi, gce)
    at = rng.normal(size=3 * 7)
    assert check_grad(lambda p: objective(p)[0], lambda p: objective(p)[1], at) < 1e-5


def test_two_blocks_side_by_side_are_one_matrix() -> None:
    x, gold = _problem()
    targets, ones = np.eye(3)[gold], np.ones(len(x))
    whole = fit_logistic(x, targets, ones)
    both = fit_logistic(Features(x[:, :2], csr_matrix(x[:, 2:])), targets, ones)
    np.testing.assert_allclose(both.weight, whole.weight, atol=2e-3)
    np.testing.assert_allclose(
        both.predict_proba(Features(x[:, :2], csr_matrix(x[:, 2:]))), whole.predict_proba(x), atol=1e-3
    )


def test_what_is_unknown_of_a_multi_label_is_left_out_of_the_loss() -> None:
    x, gold = _problem()
    targets = np.eye(3)[gold]
    masked = targets.copy()
    masked[60:, 1] = np.nan
    found = fit_logistic(x, masked, np.ones(len(x)), multi=True, tolerance=1e-12)
    alone = fit_logistic(x[:60], targets[:60, 1:2], np.ones(60), multi=True, tolerance=1e-12)
    np.testing.assert_allclose(found.predict_proba(x)[:, 1], alone.predict_proba(x)[:, 0], atol=1e-3)


def test_weights_may_differ_by_label() -> None:
    x, gold = _problem()
    targets, ones = np.eye(3)[gold], np.ones((len(x), 3))
    plain = fit_logistic(x, targets, ones)
    np.testing.assert_allclose(plain.weight, fit_logistic(x, targets, ones[:, 0]).weight, atol=1e-6)
    ones[:, 2] = 20.0
    heavy = fit_logistic(x, targets, ones)
    assert heavy.predict_proba(x)[:, 2].mean() > plain.predict_proba(x)[:, 2].mean() + 0.2


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("unknown", [0.0, np.nan])
def test_a_label_that_no_text_has_gets_a_probability_of_zero_at_every_temperature(multi: bool, unknown: float) -> None:
    if not multi and np.isnan(unknown):
        pytest.skip("a single task has no unknown entries")
    x, gold = _problem(k=2)
    targets = np.concatenate([np.eye(2)[gold], np.full((len(x), 1), unknown)], axis=1)
    head = fit_logistic(x, targets, np.ones(len(x)), multi=multi)
    assert head.bias[2] == NEVER
    for temperature in (0.05, 1.0, 20.0):
        assert (head.scaled(temperature).predict_proba(x)[:, 2] == 0).all()
    rest = fit_logistic(x, targets[:, :2], np.ones(len(x)), multi=multi)
    np.testing.assert_allclose(head.predict_proba(x)[:, :2], rest.predict_proba(x), atol=1e-6)
    again = fit_logistic(x, targets, np.ones(len(x)), multi=multi, start=head)
    np.testing.assert_allclose(again.predict_proba(x), head.predict_proba(x), atol=1e-3)


def test_without_a_single_yes_nothing_is_fitted_and_every_answer_is_no() -> None:
    x, _ = _problem()
    head = fit_logistic(x, np.zeros((len(x), 3)), np.ones(len(x)), multi=True)
    assert (head.predict_proba(x) == 0).all()


def test_the_strength_is_chosen_by_held_out_labels_and_scaled_to_all_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 40))
    noise = np.eye(2)[rng.integers(0, 2, 90)]
    best, tried = choose_c(x, noise, np.ones(90))
    assert best == min(c for c, _ in tried), "noise asks for the strongest penalty"
    assert choose_c(x[:5], noise[:5], np.ones(5)) == (10.0, [])
    told: list[tuple[int, int]] = []
    choose_c(x, noise, np.ones(90), strengths=(1.0, 2.0), progress=lambda done, total, _: told.append((done, total)))
    assert told == [(number, 6) for number in range(6)]


def test_a_head_takes_dense_and_sparse_matrices() -> None:
    x, gold = _problem()
    head = fit_logistic(x, np.eye(3)[gold], np.ones(len(x)))
    assert isinstance(head, Head)
    np.testing.assert_allclose(head.logits(csr_matrix(x)), head.logits(x), atol=1e-5)


def test_every_linear_student_learns_from_soft_labels_that_are_generalized() -> None:
    texts = ["good film", "great fun", "bad plot", "dull and bad"] * 5
    labels = np.array([[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0]] * 5)
    assert fit_student("linear", texts, labels).predict_proba(["great"]).argmax() == 0
    with pytest.raises(InputError, match="no option `gce`"):
        fit_student("linear", texts, labels, config={"gce": 0.5})
