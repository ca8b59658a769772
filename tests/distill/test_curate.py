"""Which texts a student learns from: a share of each label, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest

from factory.distill.curate import NOT_DRAWN, Candidates, Curated, Rules, curate, drawn


def curated(sizes: list[int], *, seeds: int = 0) -> Curated:
    """So many corpus texts of each label, and some seeds."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    probs = np.eye(len(sizes))[labels] * 0.9 + 0.1 / len(sizes)
    groups = [Candidates.labelled("corpus", list(range(len(labels))), probs)]
    if seeds:
        groups.append(Candidates.labelled("seed", list(range(10_000, 10_000 + seeds)), np.eye(len(sizes))[[0] * seeds]))
    return curate(groups, Rules())


def keys(rows: Curated) -> np.ndarray:
    return np.random.default_rng(0).permutation(20_000).astype(np.uint64)[rows.text_nos]


def test_few_texts_are_all_kept() -> None:
    rows = curated([10, 20])
    assert drawn(rows, 30, keys(rows)) is rows


@pytest.mark.parametrize("sizes", [[4000, 900, 100, 3], [500, 500], [2, 3000, 0]])
def test_a_share_of_each_label_is_drawn_and_a_rare_one_is_not_lost(sizes: list[int]) -> None:
    rows = curated(sizes, seeds=5)
    found = drawn(rows, 400, keys(rows))
    corpus = np.array(found.origins) == "corpus"
    assert int((found.kept & corpus).sum()) == 400
    assert int((found.kept & ~corpus).sum()) == 5, "seeds are never left out"
    assert found.counts()[f"dropped: {NOT_DRAWN}"] == sum(sizes) - 400
    taken = np.bincount(rows.probs[found.kept & corpus].argmax(axis=1), minlength=len(sizes))
    least = 400 // (2 * sum(size > 0 for size in sizes))
    assert all(took >= min(size, least) for took, size in zip(taken, sizes, strict=True))
    mass = [found.weights[corpus & (rows.probs.argmax(axis=1) == label)].sum() for label in range(len(sizes))]
    np.testing.assert_allclose(np.array(mass) / 400, np.array(sizes) / sum(sizes), atol=1e-9)


def test_the_draw_depends_on_texts_and_not_on_their_order() -> None:
    rows = curated([300, 200])
    turned = Curated(
        rows.text_nos[::-1], rows.origins[::-1], rows.probs[::-1], rows.weights[::-1], rows.reasons[::-1], rows.unseen
    )
    first, second = drawn(rows, 100, keys(rows)), drawn(turned, 100, keys(turned))
    assert set(first.text_nos[first.kept]) == set(second.text_nos[second.kept])


def test_in_a_multi_task_a_text_is_drawn_for_its_rarest_label() -> None:
    probs = np.zeros((1000, 3))
    probs[:, 0] = 1.0
    probs[:20, 1] = 1.0
    probs[900:, 0] = 0.0
    rows = curate([Candidates.labelled("corpus", list(range(1000)), probs)], Rules(), multi=True)
    found = drawn(rows, 160, keys(rows), multi=True)
    assert int(found.kept.sum()) == 160
    assert int(found.kept[:20].sum()) == 20
    assert int(found.kept[900:].sum()) >= 20, "texts without any label have a part of their own"
