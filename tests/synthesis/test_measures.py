from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.synthesis.measures import (
    compression_ratio,
    distinct_n,
    diversity,
    mean_distance,
    self_bleu,
    separability,
)

VOCABULARY = ["oil", "rises", "again", "on", "fears", "of", "war", "in", "gulf", "and", "markets", "fall"]
WORDS = st.lists(
    st.sampled_from(VOCABULARY),
    min_size=5,
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=6))
def test_self_bleu_is_the_mean_of_nltks_sentence_bleu(documents: list[list[str]]) -> None:
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smoothing = bleu.SmoothingFunction().method1
    ours = self_bleu([" ".join(words) for words in documents])
    for n in range(1, 6):
        theirs = [
            bleu.sentence_bleu(
                [other for at, other in enumerate(documents) if at != own],
                documents[own],
                weights=[1 / n] * n,
                smoothing_function=smoothing,
            )
            for own in range(len(documents))
        ]
        assert ours[n - 1] == pytest.approx(np.mean(theirs), abs=1e-9)


def test_repetition_is_seen_by_every_measure() -> None:
    same = ["the cat sat on the mat this morning"] * 20
    varied = [f"word{i} speaks of thing{i * 7} near place{i * 3} while item{i * 11} rests" for i in range(20)]
    assert self_bleu(same)[4] == pytest.approx(1.0)
    assert self_bleu(same)[2] > self_bleu(varied)[2]
    assert distinct_n(same, 2) < distinct_n(varied, 2)
    assert compression_ratio(same) > compression_ratio(varied)


def test_mean_distance_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(12, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [1 - vectors[i] @ vectors[j] for i in range(12) for j in range(i)]
    assert mean_distance(vectors.astype(np.float32)) == pytest.approx(np.mean(pairs), abs=1e-5)


def test_separability_tells_apart_what_can_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    real, alike, unlike = (rng.normal(size=(60, 4)) + shift for shift in (0, 0, 3))
    assert separability(real, unlike) > 0.97
    assert 0.3 < separability(real, alike) < 0.7


def test_too_few_texts_give_no_figure() -> None:
    assert math.isnan(self_bleu(["one"])[0])
    assert diversity(["one"])["self_bleu"] == [None] * 5
