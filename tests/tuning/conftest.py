"""A tiny random model, pairs about the words in a text, and a warehouse of Self-Guide texts."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from factory import prompts
from factory.corpus.stage import ingest
from factory.evaluation.stage import store_gold
from factory.llm.request import Request
from factory.synthesis.stage import synthesize
from factory.tuning.pairs import Pair
from factory.warehouse.file import Warehouse
from tests.synthesis.conftest import CARD, ScriptedEngine, sentence, writer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tiny_model import build
    from tokenizers import AddedToken
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = build(tmp_path_factory.mktemp("tiny_for_tuning") / "model", context=2048)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    chat = prompts.load("annotate").messages({**prompts.card_values(CARD), "text": "{}"})
    lines = {line for message in chat for line in message["content"].split("\n") if len(line) > 8 and "{}" not in line}
    tokenizer.add_tokens([AddedToken(line, normalized=False) for line in sorted(lines)])  # a chat is short then
    model = model.float()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():  # an adapter leaves the output layer as it is, and the random one cannot be sure of anything
        model.lm_head.weight *= 10
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
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


@pytest.fixture(scope="session")
def guided_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guided") / "w.duckdb"
    rng = random.Random(3)
    seeds = [(sentence(rng, label), label) for label in ("pets", "cars")]
    sources = {
        "train": {"texts": [sentence(rng, label) for _ in range(4) for label in ("pets", "cars")]},
        "seed": {"texts": [text for text, _ in seeds], "labels": [label for _, label in seeds]},
        "test": {"texts": [sentence(rng, "pets"), sentence(rng, "cars")], "labels": ["pets", "cars"]},
    }
    warehouse = Warehouse.open(path)
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    synthesize(warehouse, ScriptedEngine(votes), method="self_guide", per_label=3, candidates=10, check_samples=3)
    return path


@pytest.fixture
def guided(guided_file: Path) -> Callable[[Path], Warehouse]:
    """Makes a warehouse with three accepted Self-Guide texts of each label."""

    def make(path: Path) -> Warehouse:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in guided_file.parent.glob("w*.duckdb"):
            shutil.copy(file, path.parent / file.name)
        return Warehouse.open(path.parent / "w.duckdb")

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
