"""A small corpus about pets and cars, and an engine whose answers a function makes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

import pytest

from factory.corpus.stage import ingest
from factory.llm.calls import Call, Reply
from factory.llm.engines.base import BulkEngine
from factory.llm.request import Answer, Request
from factory.llm.settings import EngineSettings
from factory.task import Label, TaskCard
from factory.warehouse.file import Warehouse

CARD = TaskCard(
    name="pets",
    text="a short message to a forum",
    labels=(
        Label(name="pets", description="Animals that people keep at home."),
        Label(name="cars", description="Cars, their engines and repairs."),
    ),
)

_WORDS = {
    "pets": [
        "cat",
        "dog",
        "parrot",
        "hamster",
        "kitten",
        "puppy",
        "leash",
        "litter",
        "vet",
        "tail",
        "purring",
        "barking",
        "bowl",
        "aquarium",
        "feeding",
        "collar",
        "fur",
    ],
    "cars": [
        "engine",
        "brakes",
        "gearbox",
        "clutch",
        "tyres",
        "bumper",
        "exhaust",
        "diesel",
        "mileage",
        "garage",
        "radiator",
        "battery",
        "spark",
        "plug",
        "oil",
        "axle",
    ],
}
_PLAIN = [
    "yesterday",
    "morning",
    "neighbour",
    "wonders",
    "about",
    "trouble",
    "again",
    "because",
    "nobody",
    "knows",
    "whether",
    "every",
    "small",
    "detail",
    "matters",
]


def sentence(rng: random.Random, label: str, n: int = 14) -> str:
    """A made-up message of a label."""
    words = [rng.choice(_WORDS[label] if rng.random() < 0.5 else _PLAIN) for _ in range(n)]
    return " ".join([words[0].capitalize(), *words[1:]]) + "."


class ScriptedEngine(BulkEngine):
    """Answers every sample by a function of the request and the sample number."""

    name = "scripted"

    def __init__(self, say: Callable[[Request, int], str], *, stop_after: int | None = None) -> None:
        super().__init__(EngineSettings(kind="transformers", model="scripted"))
        self.say = say
        self.stop_after = stop_after
        self.asked = 0

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        for call in calls:
            answers = {}
            for sample in range(call.first, call.last + 1):
                if self.stop_after is not None and self.asked >= self.stop_after:
                    raise KeyboardInterrupt
                self.asked += 1
                answers[sample] = Answer(self.say(call.request, sample), origin=self.name)
            yield call, Reply(answers)


def wanted_label(request: Request) -> str:
    """The label that a writing prompt asks for."""
    text = "\n".join(message["content"] for message in request.messages)
    return text.split("# The label\n")[1].split("\n")[0].strip()


@pytest.fixture
def card() -> TaskCard:
    return CARD


@pytest.fixture
def corpus() -> Callable[..., Warehouse]:
    def make(
        warehouse: Warehouse | None = None, *, train: int = 60, held_out: tuple[str, ...] = (), seeds: int = 4
    ) -> Warehouse:
        warehouse = warehouse or Warehouse.memory()
        rng = random.Random(7)
        rows = [(sentence(rng, label), label) for _ in range(train // 2) for label in ("pets", "cars")]
        seed = [(sentence(rng, label), label) for _ in range(seeds) for label in ("pets", "cars")]
        test = [*held_out, *(sentence(rng, "pets") for _ in range(5))]
        ingest(
            warehouse,
            CARD,
            {
                "train": {"texts": [text for text, _ in rows]},
                "seed": {"texts": [text for text, _ in seed], "labels": [label for _, label in seed]},
                "test": {"texts": test},
            },
        )
        return warehouse

    return make


def writer(*, broken: float = 0.0, seed: int = 0) -> Callable[[Request, int], str]:
    """Answers with made-up texts of the wanted label; some cannot be read, some refuse, some repeat."""

    def say(request: Request, sample: int) -> str:
        rng = random.Random(f"{seed}/{request.content_key}/{sample}")
        label = wanted_label(request)
        luck = rng.random()
        if luck < broken / 3:
            return "UNABLE TO REWRITE" if luck < broken / 6 else "UNABLE TO WRITE"
        if luck < 2 * broken / 3:
            return f"<text>I'm sorry, but I cannot help with {label}.</text>"
        if luck < broken:
            return f"<text>Always the very same message about {label} and nothing else at all, again and again.</text>"
        count = 3 if "# How many texts\n3" in request.messages[-1]["content"] else 1
        return "\n".join(f"<text>{sentence(rng, label)}</text>" for _ in range(count))

    return say
