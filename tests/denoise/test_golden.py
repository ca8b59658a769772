"""Published figures, reproduced on the published votes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from factory.denoise.decide import decide
from factory.denoise.models.table import fit_label_model

MAJORITY = {"youtube": 0.8400, "sms": 0.2397, "trec": 0.6080, "semeval": 0.7733, "chemprot": 0.4904, "spouse": 0.2081}
DAWID_SKENE = {"youtube": 0.8320, "sms": 0.0494, "trec": 0.5020, "semeval": 0.7100, "chemprot": 0.3759}
SNORKEL = {
    "youtube": (0.8400, 0.001),
    "sms": (0.2459, 0.001),
    "trec": (0.5548, 0.02),
    "semeval": (0.779, 0.08),
    "chemprot": (0.4648, 0.01),
}
TEST = {"spouse": "wrench_spouse_test"}


def load(data: Path, name: str, split: str) -> tuple[np.ndarray, np.ndarray, int]:
    import pyarrow.parquet as pq

    table = pq.read_table(data / name / f"{split}.parquet")
    names = json.loads(table.schema.metadata[b"label_names"])
    gold = np.array([names.index(label) for label in table["label"].to_pylist()])
    return np.array(table["votes"].to_pylist()), gold, len(names)


def test_votes(data: Path, task: str) -> tuple[np.ndarray, np.ndarray, int]:
    return load(data, TEST.get(task, f"wrench_{task}"), "test")


test_votes.__test__ = False  # type: ignore[attr-defined]


def train_votes(data: Path, task: str) -> np.ndarray:
    """WRENCH's train votes. ChemProt's lie in another split of the same rows: all of them less WRENCH's own dev and test."""
    if task != "chemprot":
        return load(data, f"wrench_{task}", "train")[0]
    splits = ("train", "train_part2", "validation", "test")
    rows = Counter(bytes(row) for split in splits for row in load(data, "cosine_chemprot", split)[0].astype(np.int8))
    rows -= Counter(
        bytes(row)
        for split in ("validation", "test")
        for row in load(data, "wrench_chemprot", split)[0].astype(np.int8)
    )
    return np.array([np.frombuffer(row, np.int8) for row in rows.elements()])


def score(task: str, gold: np.ndarray, predicted: np.ndarray) -> float:
    if task in ("sms", "spouse"):
        hits = float(((predicted == 1) & (gold == 1)).sum())
        return 2 * hits / float((predicted == 1).sum() + (gold == 1).sum())
    return float((predicted == gold).mean())


def scored(task: str, model: object, data: Path) -> float:
    votes, gold, _ = test_votes(data, task)
    return score(task, gold, decide(model.predict_proba(votes), None, tie_break="row")[0])  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", MAJORITY)
def test_majority_gives_wrench_figures_with_its_row_index_tie_break(shared_data: Path, task: str) -> None:
    votes, _, classes = test_votes(shared_data, task)
    model = fit_label_model("majority", votes, classes=classes, hard=True)
    assert round(scored(task, model, shared_data), 4) == MAJORITY[task]


@pytest.mark.parametrize("task", DAWID_SKENE)
def test_dawid_skene_gives_wrench_figures(shared_data: Path, task: str) -> None:
    votes = train_votes(shared_data, task)
    model = fit_label_model("dawid_skene", votes, classes=test_votes(shared_data, task)[2], max_iter=10_000)
    assert round(scored(task, model, shared_data), 4) == DAWID_SKENE[task]


@pytest.mark.parametrize("task", SNORKEL)
def test_snorkel_on_its_defaults_lies_within_its_seed_spread(shared_data: Path, task: str) -> None:
    votes, classes = train_votes(shared_data, task), test_votes(shared_data, task)[2]
    found = [
        scored(task, fit_label_model("snorkel", votes, classes=classes, seed=seed), shared_data) for seed in range(5)
    ]
    figure, spread = SNORKEL[task]
    assert abs(np.mean(found) - figure) <= spread


@pytest.mark.parametrize("task", ["youtube", "sms", "trec", "chemprot"])
def test_snorkel_equals_the_library_within_1e_6(shared_data: Path, task: str) -> None:
    from snorkel.labeling.model import LabelModel

    votes, classes = train_votes(shared_data, task), test_votes(shared_data, task)[2]
    library = LabelModel(cardinality=classes, verbose=False)
    library.fit(votes, seed=3, progress_bar=False)
    ours = fit_label_model("snorkel", votes, classes=classes, seed=3)
    shown = test_votes(shared_data, task)[0]
    assert np.abs(library.predict_proba(shown) - ours.predict_proba(shown)).max() < 1e-6
