"""Self-tuning learns: a tiny model that labels at random becomes right by what it wrote itself, and only by that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from vllm_server import VllmServer, vllm_python

from factory.annotation.stage import annotate
from factory.corpus.stage import ingest
from factory.evaluation.stage import evaluate, store_gold, summary
from factory.llm import EngineSettings, make_engine
from factory.llm.adapters import find_adapter
from factory.programs.manage import add_program
from factory.synthesis.stage import synthesize
from factory.tuning.stage import pairs_of, tune
from factory.tuning.store import examples
from factory.tuning.train import Recipe, train_adapter
from factory.warehouse.file import Warehouse
from tests.tuning.learnable import CARD, MARKERS, PROGRAM, build, line

N_TEST = 100
RECIPE: dict[str, Any] = {"epochs": 14, "rate": 0.004, "batch": 16, "dropout": 0.0, "warmup": 0.1}


@dataclass(frozen=True)
class Learned:
    """A model, a warehouse with what it wrote and the adapter that learned from it, and the same adapter on shuffled answers."""

    model: Path
    warehouse: Warehouse
    own: str
    shuffled: Path
    loss: list[float]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    folder = tmp_path_factory.mktemp("learned")
    model = build(folder / "model")
    rng = random.Random(11)
    names = list(MARKERS)
    seeds = [(line(rng, name), name) for name in names]
    test = [(line(rng, name), name) for _ in range(N_TEST // len(names)) for name in names]
    sources = {
        "train": {"texts": [line(rng, name) for name in names]},
        "seed": {"texts": [text for text, _ in seeds], "labels": [name for _, name in seeds]},
        "test": {"texts": [text for text, _ in test], "labels": [name for _, name in test]},
    }
    warehouse = Warehouse.open(folder / "w.duckdb")
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    add_program(warehouse, PROGRAM, name="markers")
    engine = make_engine(EngineSettings(kind="transformers", model=str(model), batch_size=64))
    written = synthesize(
        warehouse, engine, method="few_shot", name="own", demos=0, contrast=False, per_label=150, candidates=4,
        label_check="programs", sampling={"max_tokens": 40},
    )  # fmt: skip
    assert written.did["accepted"] == dict.fromkeys(sorted(names), 150)
    result = tune(warehouse, base=str(model), name="own", learn_from=["own"], demonstrations=1, **RECIPE)
    kept = examples(warehouse, ["own"])
    answers = [one.label for one in kept]
    random.Random(1).shuffle(answers)
    shown = [{"text": text, "label": name} for text, name in seeds]
    shuffled = [replace(one, label=label) for one, label in zip(kept, answers, strict=True)]
    train_adapter(str(model), pairs_of(CARD, "annotate", shuffled, shown), folder / "shuffled", Recipe(**RECIPE))
    return Learned(model, warehouse, result.did["adapter"], folder / "shuffled", result.did["loss"])


def accuracies(warehouse: Warehouse, engine: Any) -> dict[str, float]:
    """Of the model with the seeds shown (`teacher`), and of the adapter with the same (`self_tuned`), on fresh texts."""
    annotate(warehouse, engine, demonstrations=1)
    annotate(warehouse, engine, adapter="own")
    evaluate(warehouse, draws=20)
    systems = (summary(warehouse) or {})["systems"]
    assert {systems[name]["n_scored"] for name in ("teacher", "self_tuned")} == {N_TEST}
    return {name: systems[name]["accuracy"] for name in ("teacher", "self_tuned")}


def of_shuffled(learned: Learned, engine: Any) -> float:
    """Accuracy of the adapter that learned shuffled answers, in a warehouse where it stands in place of the other."""
    with learned.warehouse.lease() as db:
        ((path, name),) = db.execute("SELECT path, name FROM adapters WHERE alias = 'own'").fetchall()
        db.execute("UPDATE adapters SET path = ?, name = 'shuffled' WHERE alias = 'own'", [str(learned.shuffled)])
    try:
        return accuracies(learned.warehouse, engine)["self_tuned"]
    finally:
        with learned.warehouse.lease() as db:
            db.execute("UPDATE adapters SET path = ?, name = ? WHERE alias = 'own'", [path, name])


def check(learned: Learned, engine: Any) -> None:
    found = accuracies(learned.warehouse, engine)
    shuffled = of_shuffled(learned, engine)
    print({**found, "shuffled": shuffled, "loss": learned.loss})
    assert found["self_tuned"] >= 0.95
    assert found["teacher"] <= 0.60
    assert shuffled <= 0.60
    assert learned.loss[-1] < 0.3 * learned.loss[0]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.vllm  # it needs none, but shares its training with the test below
@pytest.mark.timeout(1800)
def test_it_learns_from_its_own_texts_and_not_from_shuffled_answers(learned: Learned) -> None:
    check(learned, make_engine(EngineSettings(kind="transformers", model=str(learned.model), batch_size=64)))


@pytest.fixture(scope="module")
def served(learned: Learned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    own = find_adapter(learned.warehouse, "own")
    server = VllmServer(
        tmp_path_factory.mktemp("served"), model=learned.model, context=2048,
        adapters={own.name: own.folder, "shuffled": learned.shuffled}, arguments=("--max-loras", "2"),
    )  # fmt: skip
    server.start()
    yield server
    server.stop()


@pytest.mark.long
@pytest.mark.vllm
@pytest.mark.timeout(1800)
@pytest.mark.skipif(vllm_python() is None, reason="no vLLM: set LABEL_FACTORY_VLLM_PYTHON to a Python that has it")
def test_real_vllm_serves_the_adapter_by_name_and_it_has_learned(learned: Learned, served: VllmServer) -> None:
    check(learned, make_engine(EngineSettings(kind="server", url=served.url, model="tiny")))
