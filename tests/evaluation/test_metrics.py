"""Metrics equal scikit-learn's, intervals behave, and systems that say nothing are wrong rather than absent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.evaluation import metrics
from factory.evaluation.baselines import crossing, label_equivalents, majority_of_votes

NAMES = ["a", "b", "c", "d"]
pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(pairs)
def test_single_figures_equal_scikit_learn(rows: list[tuple[int, int]]) -> None:
    from sklearn import metrics as sk

    gold, said = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    ours = metrics.score_single(gold, said, NAMES, positive="b")
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(gold, said))
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(gold, said, average="macro", zero_division=0))
    assert ours["micro_f1"] == pytest.approx(sk.f1_score(gold, said, average="micro"))
    assert ours["mcc"] == pytest.approx(sk.matthews_corrcoef(gold, said))
    assert ours["f1_positive"] == pytest.approx(sk.f1_score(gold == 1, said == 1, zero_division=0))
    precision, recall, f1, support = sk.precision_recall_fscore_support(gold, said, labels=range(4), zero_division=0)
    for at, name in enumerate(NAMES):
        if name in ours["per_class"]:
            row = ours["per_class"][name]
            assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
                (precision[at], recall[at], f1[at], support[at])
            )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.booleans()] * 6), min_size=1, max_size=40))
def test_multi_figures_equal_scikit_learn(rows: list[tuple[bool, ...]]) -> None:
    from sklearn import metrics as sk

    table = np.array(rows)
    gold, said = table[:, :3], table[:, 3:]
    ours = metrics.score_multi(gold, said, NAMES[:3])
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(gold, said))
    assert ours["micro_f1"] == pytest.approx(sk.f1_score(gold, said, average="micro", zero_division=0))
    present = gold.any(axis=0) | said.any(axis=0)
    expected = sk.f1_score(gold, said, average=None, zero_division=0)[present].mean() if present.any() else 0.0
    assert ours["macro_f1"] == pytest.approx(expected)
    assert ours["hamming"] == pytest.approx(1 - sk.hamming_loss(gold, said))


def test_no_prediction_is_wrong_and_no_class_of_its_own() -> None:
    ours = metrics.score_single(np.array([0, 0, 1, 1]), np.array([0, -1, 1, -1]), ["a", "b"])
    assert ours["accuracy"] == 0.5
    assert ours["per_class"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert ours["confusion"] == [[1, 0, 1], [0, 1, 1]]
    assert ours["micro_f1"] == pytest.approx(2 * 2 / (4 + 2))


def test_calibration_figures_of_a_case_done_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    out = metrics.calibration(probs, np.array([0, 1, 1, 1]))
    assert out["ece"] == pytest.approx(0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.6 - 1.0))
    assert out["brier"] == pytest.approx((0.02 + 1.62 + 0.32 + 0.32) / 4)
    assert out["nll"] == pytest.approx(-(np.log(0.9) + np.log(0.1) + 2 * np.log(0.6)) / 4)


def test_brier_and_log_loss_equal_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(3)
    probs = rng.dirichlet(np.ones(4), size=200)
    gold = rng.integers(0, 4, 200)
    out = metrics.calibration(probs, gold)
    assert out["nll"] == pytest.approx(log_loss(gold, probs, labels=range(4)))
    assert out["brier"] == pytest.approx(((probs - np.eye(4)[gold]) ** 2).sum(axis=1).mean())


def test_the_interval_of_accuracy_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 400)
    said = np.where(rng.random(400) < 0.8, gold, (gold + 1) % 3)
    low, high = metrics.interval(np.stack([gold, said], axis=1), metrics.accuracy_of(), draws=4000)
    right = gold == said
    plain = np.percentile([right[rng.integers(0, 400, 400)].mean() for _ in range(4000)], [2.5, 97.5])
    assert [low, high] == pytest.approx(plain, abs=0.006)


def test_macro_f1_under_resampling_is_that_of_the_resampled_rows() -> None:
    kinds = np.array([[0, 0], [0, 1], [1, 1], [2, 0]])
    counts = np.array([[3, 1, 2, 1], [0, 4, 1, 0]])
    for row, value in zip(counts, metrics.macro_f1_of(3)(kinds, counts), strict=True):
        rows = np.repeat(kinds, row, axis=0)
        assert value == pytest.approx(metrics.score_single(rows[:, 0], rows[:, 1], NAMES[:3])["macro_f1"])


def test_intervals_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 3, (100, 2))
    score = metrics.accuracy_of()
    assert metrics.interval(kinds, score) == metrics.interval(kinds[rng.permutation(100)], score)


def test_a_paired_difference_is_narrower_than_two_intervals_of_like_systems() -> None:
    rng = np.random.default_rng(2)
    gold = rng.integers(0, 2, 300)
    a = np.where(rng.random(300) < 0.8, gold, 1 - gold)
    b = np.where(rng.random(300) < 0.02, 1 - a, a)
    found = metrics.paired(np.stack([gold, a, b], axis=1), metrics.accuracy_of(1), metrics.accuracy_of(2))
    low, high = metrics.interval(np.stack([gold, a], axis=1), metrics.accuracy_of())
    assert found["difference"] == pytest.approx((a == gold).mean() - (b == gold).mean())
    assert found["high"] - found["low"] < 0.5 * (high - low)
    same = metrics.paired(np.stack([gold, a, a], axis=1), metrics.accuracy_of(1), metrics.accuracy_of(2))
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)


def test_a_million_rows_take_no_longer_than_their_kinds() -> None:
    kinds = np.random.default_rng(0).integers(0, 4, (1_000_000, 2))
    low, high = metrics.interval(kinds, metrics.macro_f1_of(4), draws=1000)
    assert 0.24 < low < high < 0.26


def test_majority_breaks_ties_by_row_as_snorkel_does_and_by_content_as_we_do() -> None:
    from snorkel.labeling.model import MajorityLabelVoter

    rng = np.random.default_rng(5)
    votes = rng.integers(-1, 3, (300, 4)).astype(np.int32)
    labels, covered, tied = majority_of_votes(votes, 3, position=np.arange(300), hashes=None)
    theirs = MajorityLabelVoter(cardinality=3).predict(votes, tie_break_policy="random")
    assert (labels == theirs).all()
    assert (covered == (votes >= 0).any(axis=1)).all()
    hashes = [rng.bytes(16) for _ in range(300)]
    ours, _, also_tied = majority_of_votes(votes, 3, position=None, hashes=hashes)
    order = rng.permutation(300)
    shuffled, _, _ = majority_of_votes(votes[order], 3, position=None, hashes=[hashes[i] for i in order])
    assert (ours[order] == shuffled).all()
    assert (tied == also_tied).all()
    assert (ours[covered & ~tied] == labels[covered & ~tied]).all()


def test_row_positions_begin_anew_in_each_file() -> None:
    votes = np.full((4, 2), -1, np.int32)
    one, _, _ = majority_of_votes(votes[:2], 2, position=np.arange(2), hashes=None)
    two, _, _ = majority_of_votes(votes, 2, position=np.array([0, 1, 0, 1]), hashes=None)
    assert two.tolist() == [*one.tolist(), *one.tolist()]


def test_label_equivalents_stop_at_the_target_and_interpolate_on_the_logarithm() -> None:
    asked: list[int] = []

    def score(rows: np.ndarray) -> float:
        asked.append(len(rows))
        return {8: 0.5, 16: 0.6, 32: 0.8}.get(len(rows), 0.9)

    found = label_equivalents(1000, 0.7, score, draws=3)
    assert found is not None
    assert found.sizes == (8, 16, 32)
    assert found.worth == pytest.approx(np.sqrt(16 * 32))
    assert asked == [8] * 3 + [16] * 3 + [32] * 3


def test_label_equivalents_say_more_or_fewer_where_the_curve_does_not_cross() -> None:
    above = label_equivalents(40, 0.9, lambda rows: len(rows) / 100, draws=2)
    assert above is not None
    assert (above.worth, above.above, above.sizes[-1]) == (None, True, 40)
    below = label_equivalents(40, 0.1, lambda rows: 0.5, draws=2)
    assert below is not None
    assert (below.worth, below.above, below.sizes) == (None, False, (8,))
    assert label_equivalents(3, 0.5, lambda rows: 0.0) is None
    assert crossing([10, 100], [0.5, 0.5], 0.5) == 10


def test_draws_are_the_same_each_time_and_differ_from_each_other() -> None:
    seen: list[tuple[int, ...]] = []
    for _ in range(2):
        label_equivalents(50, 2.0, lambda rows: seen.append(tuple(rows)) or 0.0, sizes=(8,), draws=4, seed=1)
    assert seen[:5] == seen[5:]
    assert len(set(seen[:4])) == 4
