"""The graph of an encoder: made once, kept, near torch, the same beside any neighbours; torch where there can be none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from factory.encoders import encoder as encoders
from factory.encoders.encoder import TransformerEncoder
from factory.encoders.settings import wanted
from tests.models import write_tiny
from tests.topics import sentences

TEXTS = ["the bank", "", "our striker scored a late goal", "the oven " * 60]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), sentences(1, 300)[0], prompts=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABEL_FACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoders, "has_accelerator", lambda: False)
    return tmp_path / "cache"


def fresh(folder: Path) -> TransformerEncoder:
    return TransformerEncoder(folder, wanted(str(folder)), "encoder: tiny")


def test_it_is_made_once_and_said_then(tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fresh(tiny)
    vectors = first.encode(TEXTS)
    assert "made into a graph" in first.says
    monkeypatch.setattr(TransformerEncoder, "body", lambda self: pytest.fail("torch is not asked again"))
    second = fresh(tiny)
    np.testing.assert_array_equal(second.encode(TEXTS), vectors)
    assert second.says == "encoder: tiny"
    assert second.key == first.key
    (kept,) = (cache / "encoders").iterdir()
    assert {path.name for path in kept.iterdir()} == {"graph.json", "model.onnx", "tokenizer.json"}


def test_vectors_are_near_torch_and_depend_on_no_neighbour(tiny: Path) -> None:
    encoder = fresh(tiny)
    found = encoder.encode(TEXTS)
    assert (found * encoder.exact.encode(TEXTS)).sum(axis=1).min() > 0.99
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, found, atol=1e-6)
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_what_cannot_be_a_graph_is_encoded_by_torch_and_it_is_said_once_and_for_all(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory.encoders import onnx_graph

    def refuse(body: object, path: Path) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onnx_graph, "write_body", refuse)
    encoder = fresh(tiny)
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.exact.encode(TEXTS))
    assert encoder.says == "encoder: tiny; by torch: it cannot be a graph (RuntimeError: no such operator)"
    assert encoder.key == encoder.exact.key, "vectors of torch are vectors of torch"
    (kept,) = (cache / "encoders").glob("*/graph.json")
    assert "refused" in json.loads(kept.read_text())


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(tiny: Path, cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    encoder = fresh(tiny)
    assert encoder.encode(TEXTS).shape == (4, 32)
    assert "by torch: no graph can be kept" in encoder.says
