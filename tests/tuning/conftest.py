"""A tiny random model, pairs about the words in a text, and a warehouse of Self-Guide texts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.corpus.stage import ingest
from factory.llm.request import Request
from factory.synthesis.stage import synthesize
from factory.tuning.pairs import Pair
from factory.warehouse import Warehouse
from tests.synthesis.conftest import CARD, ScriptedEngine, sentence, writer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tiny_model import build
    from transformers import AutoModelForCausalLM

    folder = build(tmp_path_factory.mktemp("tiny_for_tuning") / "model", context=2048)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():  # an adapter leaves the output layer as it is, and the random one cannot be sure of anything
        model.lm_head.weight *= 10
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def pairs() -> list[Pair]:
    return [
        Pair(
            (
                {"role": "system", "content": "Say the label."},
                {"role": "user", "content": f"the {word} jumps over {at}"},
            ),
            label,
        )
        for at in range(10)
        for word, label in (("fox", "sports"), ("dog", "science"))
    ]


def votes(request: Request, sample: int) -> str:
    """Writes texts about pets and cars, and labels them by their words."""
    if request.prompt == "self_guide_input":
        return writer()(request, sample)
    text = request.messages[-1]["content"].lower()
    pets = sum(word in text for word in ("cat", "dog", "vet", "litter", "leash", "fur", "kitten", "tail", "bowl"))
    cars = sum(word in text for word in ("engine", "brakes", "clutch", "tyres", "diesel", "oil", "garage", "axle"))
    return "pets" if pets > cars else "cars"


@pytest.fixture
def guided() -> Callable[..., Warehouse]:
    """A warehouse with accepted Self-Guide texts."""

    def make(path: Path | None = None, *, per_label: int = 6) -> Warehouse:
        warehouse = Warehouse.open(path) if path else Warehouse.memory()
        rng = random.Random(3)
        seeds = [(sentence(rng, label), label) for _ in range(2) for label in ("pets", "cars")]
        test = [(sentence(rng, label), label) for _ in range(6) for label in ("pets", "cars")]
        sources = {
            "train": {"texts": [sentence(rng, label) for _ in range(10) for label in ("pets", "cars")]},
            "seed": {"texts": [text for text, _ in seeds], "labels": [label for _, label in seeds]},
            "test": {"texts": [text for text, _ in test], "labels": [label for _, label in test]},
        }
        ingest(warehouse, CARD, sources)
        synthesize(warehouse, ScriptedEngine(votes), method="self_guide", per_label=per_label, candidates=10, check_samples=3)
        return warehouse

    return make


@pytest.fixture
def corpus_of() -> Callable[..., Warehouse]:
    """A warehouse with seeds and texts, and nothing synthetic."""

    def make() -> Warehouse:
        warehouse = Warehouse.memory()
        rng = random.Random(3)
        seeds = [(sentence(rng, label), label) for _ in range(2) for label in ("pets", "cars")]
        ingest(
            warehouse,
            CARD,
            {
                "train": {"texts": [sentence(rng, "pets"), sentence(rng, "cars")]},
                "seed": {"texts": [text for text, _ in seeds], "labels": [label for _, label in seeds]},
            },
        )
        return warehouse

    return make
