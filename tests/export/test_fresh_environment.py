"""Every export loads and agrees in an environment that has the public libraries of its card and nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distribution, version
from pathlib import Path

import numpy as np
import pytest

from factory.predict.load import load_export

from .test_examples import TEXTS, blocks_of, probabilities, run

pytestmark = pytest.mark.slow


def environment(folder: Path, *packages: str, linked: Sequence[str] = ()) -> Path:
    """A fresh virtual environment with these packages, at the versions that are installed here unless told.

    Those in `linked` are not fetched again: they are the folders that are installed here, and nothing beside them.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python3.*/site-packages")
    for name in linked:
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files if not file.parts[0].startswith(("..", "__pycache__"))}:
            (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    wanted = [name if "==" in name else f"{name}=={version(name)}" for name in packages]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *wanted]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode and "No matching distribution" not in done.stderr:
        pytest.skip(f"pip cannot reach its index: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    there = [*linked, *(name.partition("==")[0] for name in packages)]
    for ours in ("factory", "torch", "sentence_transformers", "onnxruntime"):
        known = subprocess.run([python, "-I", "-c", f"import {ours}"], capture_output=True).returncode == 0
        assert known == (ours.replace("_", "-") in there), ours
    return python


def differences(folder: Path, block: str, python: Path, texts: list[str]) -> float:
    found = probabilities(block, folder, texts, python)
    return float(np.abs(found - load_export(folder, precision="fp32").predict_proba(texts)).max())


def test_graphs_need_onnxruntime_and_tokenizers_alone(transformer: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", "onnxruntime", "tokenizers")
    assert differences(transformer, blocks_of(transformer)[0], python, TEXTS) < 1e-4


@pytest.mark.long
def test_the_folder_is_a_sentence_transformers_model_by_itself(transformer: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", "sentence-transformers", linked=["torch"])
    short = [text for text in TEXTS if len(text) < 500]
    assert differences(transformer, blocks_of(transformer)[1], python, short) < 1e-4


@pytest.mark.long
def test_static_and_linear_exports_need_numpy_safetensors_and_tokenizers_alone(
    static: Path, linear: Path, tmp_path: Path
) -> None:
    python = environment(tmp_path / "env", "numpy", "safetensors", "tokenizers")
    for folder in (static, linear):
        assert differences(folder, blocks_of(folder)[-1], python, TEXTS) < 1e-4


@pytest.mark.long
def test_the_oldest_versions_that_a_card_names_are_enough(transformer: Path, static: Path, tmp_path: Path) -> None:
    """onnxruntime 1.18.0 with the numpy and tokenizers of its day, both precisions; and the graph of a static student."""
    python = environment(
        tmp_path / "env", "onnxruntime==1.18.0", "tokenizers==0.15.0", "numpy==1.26.0", "safetensors==0.4.0"
    )
    assert differences(transformer, blocks_of(transformer)[0], python, TEXTS) < 1e-4
    assert differences(static, blocks_of(static)[0], python, TEXTS) < 1e-4
    assert any(name in run(blocks_of(transformer)[0], transformer, python) for name in ("sport", "money", "food"))
