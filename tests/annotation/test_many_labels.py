"""A card of many labels: texts are shown those that they could have, and all where the model says that none of them fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.annotation.stage import annotate
from factory.errors import InputError
from factory.labels.recall import recall_of
from factory.llm import EngineSettings, Pending, make_engine
from factory.task import Label, TaskCard, register
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import plans
from tests.annotation.test_annotate_stage import add_texts

THINGS = [
    "apple",
    "bread",
    "cheese",
    "dough",
    "egg",
    "fish",
    "grape",
    "ham",
    "ice",
    "jam",
    "kale",
    "lemon",
    "milk",
    "nut",
    "oil",
    "pear",
    "quince",
    "rice",
    "salt",
    "tea",
    "urchin",
    "vinegar",
    "water",
    "yeast",
    "zest",
    "almond",
    "basil",
    "cumin",
    "dill",
    "endive",
]
TEXTS = [f"where do I buy {thing}" for thing in THINGS]
WITHOUT = "what a lovely day it is"
Says = Callable[[str, list[str]], str]


def card(things: list[str] = THINGS, kind: Any = "single") -> TaskCard:
    labels = tuple(Label(name=thing, description=f"The text speaks of {thing}.") for thing in things)
    return TaskCard(name="food", kind=kind, text="a question", labels=labels)


def made(texts: list[str], of: TaskCard | None = None) -> Warehouse:
    warehouse = Warehouse.memory()
    register(warehouse, of or card())
    add_texts(warehouse, texts)
    return warehouse


def thing_in(text: str, shown: list[str]) -> str:
    """What a good model says: the thing of the text, if it is shown."""
    return next(
        (name for name in shown if name in text.split()), "none of these" if len(shown) < len(THINGS) else "salt"
    )


class Answering:
    """Recorded answers that grow: what was asked, written by the engine, is answered by a function."""

    def __init__(self, folder: Path, says: Says = thing_in) -> None:
        self.answers, self.wanted, self.says = folder / "answers.jsonl", folder / "wanted.jsonl", says
        self.answers.touch()
        self.rounds: list[list[dict[str, Any]]] = []

    def run(self, warehouse: Warehouse, **params: Any) -> Any:
        """Annotate until nothing is asked any more."""
        settings = EngineSettings(kind="recorded", answers=str(self.answers), requests=str(self.wanted), model="m")
        for _ in range(5):
            try:
                return annotate(warehouse, make_engine(settings), encoder="hashing", **params)
            except Pending:
                asked = [json.loads(line) for line in self.wanted.read_text("utf-8").splitlines()]
                self.rounds.append(asked)
                with self.answers.open("a", encoding="utf-8") as out:
                    for row in asked:
                        row["answer"] = self.says(text_of(row), shown_in(row))
                        out.write(json.dumps(row) + "\n")
        raise AssertionError("never done")


def shown_in(row: dict[str, Any]) -> list[str]:
    said = "\n".join(message["content"] for message in row["messages"])
    return [line[2:].split(":")[0] for line in said.splitlines() if line.startswith("- ")]


def text_of(row: dict[str, Any]) -> str:
    return str(row["messages"][-1]["content"].split("<text>")[1].split("</text>")[0])


def labelled(warehouse: Warehouse) -> dict[str, str]:
    rows = warehouse.query(
        "SELECT t.text, l.name FROM annotations JOIN texts t USING (text_no) JOIN labels l USING (label_no)"
    )
    return dict(rows)


def test_each_text_is_shown_twenty_labels_and_gets_the_one_that_the_model_gave(tmp_path: Path) -> None:
    warehouse, model = made(TEXTS), Answering(tmp_path)
    result = model.run(warehouse, split="train")
    assert [len(round_) for round_ in model.rounds] == [len(TEXTS)]
    assert {len(shown_in(row)) for row in model.rounds[0]} == {20}
    assert {row["prompt"] for row in model.rounds[0]} == {"annotate_among"}
    assert len({row["messages"][0]["content"] for row in model.rounds[0]}) == 1, "what requests share comes first"
    assert labelled(warehouse) == dict(zip(TEXTS, THINGS, strict=True))
    assert result.did["answered"] == len(TEXTS)
    assert model.run(warehouse, split="train").skipped


def test_a_text_of_which_no_label_shown_fits_is_asked_with_all(tmp_path: Path) -> None:
    warehouse, model = made([*TEXTS[:2], WITHOUT]), Answering(tmp_path)
    model.run(warehouse, split="train")
    first, second = model.rounds
    assert len(first) == 3
    assert [text_of(row) for row in second] == [WITHOUT]
    assert shown_in(second[0]) == THINGS
    assert labelled(warehouse)[WITHOUT] == "salt"


def test_a_card_of_as_many_labels_as_are_shown_is_asked_as_ever(tmp_path: Path) -> None:
    warehouse, model = made(TEXTS[:2], card(THINGS[:20])), Answering(tmp_path)
    model.run(warehouse, split="train")
    assert [row["prompt"] for row in model.rounds[0]] == ["annotate", "annotate"]
    plan = plans.slots(warehouse, 1)
    assert [slot.spec for slot in plan] == [{}, {}]
    [(config,)] = warehouse.query("SELECT config FROM plans")
    assert not {"candidates", "encoder", "see_all"} & set(json.loads(config)), "what was bought before stays bought"


def test_recall_is_told_by_anchors_that_saw_all_labels_alone(tmp_path: Path) -> None:
    def off(text: str, shown: list[str]) -> str:  # seeing all labels, it finds another one in the text
        return "none of these" if len(shown) < len(THINGS) and "apple" not in shown else thing_in(text, shown)

    warehouse, model = made([*TEXTS, WITHOUT]), Answering(tmp_path, off)
    result = model.run(warehouse, anchors=20, audit=8, see_all=5)
    asked = model.rounds[0]
    assert sum(row["prompt"] == "annotate" and len(shown_in(row)) == len(THINGS) for row in asked) == 5
    found = recall_of(warehouse)
    assert found is not None
    slots = [slot for slot in plans.slots(warehouse, 1) if slot.spec.get("wide")]
    names = [json.loads(slot.detail or "[]")[0] for slot in slots]
    held = sum(THINGS.index(name) in slot.spec["shown"] for name, slot in zip(names, slots, strict=True))
    assert (found.held, found.labels, found.texts, found.shown, found.seen) == (held, 5, 5, 20, len(THINGS))
    assert found.words in result.says


def test_several_labels_are_asked_among_the_candidates_and_none_is_an_answer(tmp_path: Path) -> None:
    def every(text: str, shown: list[str]) -> str:
        return "\n".join(name for name in shown if name in text.split()) or "none"

    both = "I want salt and water"
    warehouse, model = made([both, WITHOUT], card(kind="multi")), Answering(tmp_path, every)
    model.run(warehouse, split="train")
    assert [len(round_) for round_ in model.rounds] == [2]
    rows = warehouse.query("SELECT text_no, label_no FROM annotations ORDER BY ALL")
    assert rows == [(0, THINGS.index("salt")), (0, THINGS.index("water")), (1, -1)]


def test_prompted_votes_abstain_and_are_not_asked_again(tmp_path: Path) -> None:
    def vote(text: str, shown: list[str]) -> str:
        return thing_in(text, shown).replace("none of these", "unsure")

    warehouse, model = made([TEXTS[0], WITHOUT]), Answering(tmp_path, vote)
    model.run(warehouse, split="train", as_votes=True)
    assert [[row["prompt"] for row in round_] for round_ in model.rounds] == [["prompted_vote", "prompted_vote"]]
    assert warehouse.query("SELECT text_no, vote FROM votes") == [(0, 0)]


def test_a_renamed_label_costs_its_own_texts_and_these_see_the_new_card(tmp_path: Path) -> None:
    warehouse, model = made(TEXTS[:6]), Answering(tmp_path)
    model.run(warehouse, split="train")
    changed = card()
    labels = [Label(name="pome", description="The text speaks of apple.", was=("apple",)) if one.name == "apple" else one
              for one in changed.labels]  # fmt: skip
    register(warehouse, changed.model_copy(update={"labels": tuple(labels)}))
    model.says = lambda _, shown: "pome" if "pome" in shown else "none of these"
    model.run(warehouse, split="train")
    assert [text_of(row) for row in model.rounds[1]] == [TEXTS[0]]
    assert "pome" in shown_in(model.rounds[1][0])


def test_calibration_is_refused_where_texts_see_different_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the same labels with every text"):
        Answering(tmp_path).run(made(TEXTS[:2]), split="train", calibrate=True)
