"""Authoring for a card of many labels: programs speak of groups of confusable labels, and prompts show no more than twenty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.llm import EngineSettings, Pending, make_engine
from factory.programs.stage import author
from factory.task import load_card, register
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import plans
from tests.programs.test_stage import add_texts

KINDS = ("card", "transfer", "cash", "account", "phone")
NAMES = [f"{kind}_{what}" for kind in KINDS for what in ("lost", "late", "fee", "limit", "blocked", "wrong")]
CARD = {
    "name": "bank",
    "text": "a question",
    "labels": {name: f"Questions on {name.replace('_', ' ')}." for name in NAMES},
}


@pytest.fixture
def warehouse() -> Warehouse:
    made = Warehouse.memory()
    register(made, load_card(CARD))
    add_texts(made, [f"my {name.replace('_', ' is ')} {turn}" for name in NAMES for turn in range(4)])
    return made


def asked(warehouse: Warehouse, folder: Path, programs: int) -> list[str]:
    """The system message and the last one of each request for a rule list."""
    wanted = folder / "wanted.jsonl"
    (folder / "none.jsonl").touch()
    settings = EngineSettings(kind="recorded", answers=str(folder / "none.jsonl"), requests=str(wanted))
    with pytest.raises(Pending):
        author(warehouse, make_engine(settings), programs=programs, form="rules", examples=6, encoder="hashing")
    rows = [json.loads(line) for line in wanted.read_text("utf-8").splitlines()]
    return ["\n".join(message["content"] for message in row["messages"]) for row in rows]


def test_lists_speak_of_groups_of_near_labels_and_see_their_neighbours(warehouse: Warehouse, tmp_path: Path) -> None:
    asked(warehouse, tmp_path, 20)
    specs = [slot.spec for slot in plans.slots(warehouse, 1)]
    groups = {tuple(spec["focus"]) for spec in specs}
    assert sorted(name for group in groups for name in group) == sorted(NAMES)
    assert all(2 <= len(group) <= 6 for group in groups)
    assert all(spec["shown"][: len(spec["focus"])] == spec["focus"] and len(spec["shown"]) == 20 for spec in specs)
    alike = sum(len({name.split("_")[at] for name in group}) == 1 for group in groups for at in (0, 1))
    assert alike >= len(groups) / 2, "groups hold labels that share a word"


def test_a_prompt_shows_twenty_labels_and_texts_that_look_like_the_group(warehouse: Warehouse, tmp_path: Path) -> None:
    prompts = asked(warehouse, tmp_path, 6)
    specs = [slot.spec for slot in plans.slots(warehouse, 1)]
    for prompt, spec in zip(prompts, specs, strict=False):
        shown = prompt.split("# Labels\n")[1].split("\n#")[0].splitlines()
        assert len(shown) == 20
        examples = prompt.split("# Example texts (unlabelled)\n")[1].split("\n\n")[0]
        near = sum(f"my {name.replace('_', ' is ')}" in examples for name in spec["focus"])
        assert near >= min(3, len(spec["focus"]))


def test_a_card_of_twenty_is_asked_as_ever(tmp_path: Path) -> None:
    small = Warehouse.memory()
    register(small, load_card({**CARD, "labels": {name: CARD["labels"][name] for name in NAMES[:20]}}))  # type: ignore[index]
    add_texts(small, ["my card is lost", "a fee"])
    asked(small, tmp_path, 4)
    assert all("shown" not in slot.spec for slot in plans.slots(small, 1))
    [(config,)] = small.query("SELECT config FROM plans")
    assert "encoder" not in json.loads(config)
