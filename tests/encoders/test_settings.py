"""Prompt, window and dimension: the model's own unless named, part of a vector's key, and the same wherever a text is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.encoders.encoder import load_encoder
from factory.encoders.settings import own_of, wanted
from factory.errors import InputError
from factory.export.spec import ExportSpec
from factory.export.write import write_export
from factory.predict.load import load_export
from factory.students import fit_student
from tests.models import PROMPTS, write_tiny
from tests.topics import sentences

SPEC = ExportSpec("toy", "a sentence", {"a": "one", "b": "two", "c": "three"}, False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), sentences(1, 300)[0], prompts=True)


def test_prompt_length_and_dimension_are_the_models_own(tiny: Path) -> None:
    own = own_of(tiny)
    assert (own.prompt, own.length, own.dimension) == (PROMPTS["Classification"], 32, 32)
    encoder = load_encoder(str(tiny))
    assert (encoder.prompt, encoder.length, encoder.dimension) == (own.prompt, 32, 32)
    assert encoder.settings == {"name": str(tiny), "precision": encoder.settings["precision"]}


def test_each_of_them_makes_another_key_and_the_own_ones_by_name_do_not(tiny: Path) -> None:
    own = load_encoder(str(tiny))
    others: list[dict[str, Any]] = [{"prompt": ""}, {"prompt": "query: "}, {"length": 16}, {"dimension": 8}]
    for other in others:
        other["precision"] = "fp32"  # no graph is made for each
    keys = {load_encoder({"path": str(tiny), **other}).key for other in others}
    assert len({own.key, *keys}) == 5
    named = {"path": str(tiny), "prompt": PROMPTS["Classification"], "length": 32, "dimension": 32}
    assert load_encoder(named).key == own.key
    for other in others:
        encoder = load_encoder({"path": str(tiny), **other})
        assert load_encoder(encoder.settings).key == encoder.key, "what a student keeps gives the encoder again"


def test_a_prompt_stands_before_the_text(tiny: Path) -> None:
    texts = ["the bank raised its rates", "the match"]
    bare = load_encoder({"path": str(tiny), "prompt": "", "precision": "fp32"})
    said = load_encoder({"path": str(tiny), "precision": "fp32"})
    wanted_vectors = bare.encode([PROMPTS["Classification"] + text for text in texts])
    np.testing.assert_allclose(said.encode(texts), wanted_vectors, atol=1e-6)
    np.testing.assert_allclose(said.body().encode(texts, normalize_embeddings=True), wanted_vectors, atol=1e-6)


def test_a_smaller_dimension_is_the_beginning_of_the_vector(tiny: Path) -> None:
    texts = ["the bank raised its rates", "the match"]
    whole = load_encoder({"path": str(tiny), "precision": "fp32"}).encode(texts)[:, :8]
    cut = load_encoder({"path": str(tiny), "dimension": 8, "precision": "fp32"})
    np.testing.assert_allclose(cut.encode(texts), whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"prompt": "x"}, "`path` or `name`"),
        ({"path": "a", "name": "b"}, "only one"),
        ({"path": "a", "promt": "x"}, "did you mean .prompt."),
    ],
)
def test_a_mapping_that_is_no_encoder_is_one_clear_error(named: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        wanted(named)


def test_more_than_the_encoder_has_is_refused(tiny: Path) -> None:
    for key in ("dimension", "length"):
        with pytest.raises(InputError, match="this encoder has 32"):
            load_encoder({"path": str(tiny), key: 64})


def test_a_prompt_that_pooling_leaves_out_is_refused(tiny: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "encoder"
    shutil.copytree(tiny, folder)
    config = folder / "1_Pooling" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "include_prompt": False}))
    with pytest.raises(InputError, match="leaves the tokens of a prompt out"):
        load_encoder(str(folder))
    assert load_encoder({"path": str(folder), "prompt": ""}).prompt == ""


@pytest.mark.parametrize(
    "kind", ["hybrid", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("embedding", "finetune"))]
)
def test_an_export_reads_with_its_encoders_prompt(tiny: Path, tmp_path: Path, kind: str) -> None:
    """sentence-transformers' own `encode`, both graphs and the student in memory put the prompt before each text."""
    texts, labels = sentences(1, 40)
    encoder = load_encoder({"path": str(tiny), "dimension": 16})
    config: dict[str, Any] = {"finetune": {"epochs": 1, "max_steps": 2}}.get(kind, {"c": 10.0})
    student = fit_student(kind, texts, np.eye(3)[labels], encoder=encoder, config=config)
    write_export(student, encoder, SPEC, tmp_path / "out", texts[:10])
    assert json.loads((tmp_path / "out" / "inference.json").read_text())["prompt"] == PROMPTS["Classification"]
    found = load_export(tmp_path / "out", precision="fp32").predict_proba(texts)
    frozen = kind != "finetune" and encoder.calibrated
    repeated = load_export(tmp_path / "out", precision="int8" if frozen else "fp32").predict_proba(texts)
    np.testing.assert_allclose(repeated, student.predict_proba(texts), atol=1e-3)
    if kind != "hybrid":
        from sentence_transformers import SentenceTransformer

        theirs = SentenceTransformer(str(tmp_path / "out"))
        logits = theirs.encode(texts)
        assert theirs.default_prompt_name == "classification"
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), found, atol=1e-4)
