"""A changed card: programs whose slots spoke of a label that it touches are written anew, and no others."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from factory.task import TaskCard, load_card, register
from factory.warehouse.file import Warehouse
from tests.programs.test_stage import Recorder, add_texts

CARD = {"name": "q", "text": "a question", "labels": {"hum": "a person", "loc": "a place", "num": "a number"}}
SPLIT = {
    **CARD,
    "labels": {
        "hum": "a person", "loc": "a place", "date": {"description": "a date", "was": "num"},
        "count": {"description": "how many", "was": "num"},
    },
}  # fmt: skip
PARAMS: dict[str, Any] = {"programs": 12, "form": "rules", "examples": 2}
WORDS = [f"word{n}" for n in range(60)]


def answered(number: int, messages: Any) -> str:
    """Rules with words of their own, for the first of the labels that the request asks for."""
    asked = re.search(r"# The one label this list speaks of\n((?:- .*\n?)+)", messages[-1]["content"])
    names = asked or re.search(r"# Labels\n((?:- .*\n?)+)", messages[0]["content"])
    assert names is not None
    name = names[1].removeprefix("- ").partition(":")[0]
    values = [WORDS[number], *(hashlib.sha256(f"{number} {at}".encode()).hexdigest()[:12] for at in range(12))]
    return json.dumps({"rules": [{"kind": "word", "value": value, "label": name} for value in values]})


@pytest.fixture
def warehouse() -> Warehouse:
    warehouse = Warehouse.memory()
    register(warehouse, load_card(CARD))
    add_texts(warehouse, [f"{word} and {WORDS[(at + 1) % 60]} in text {at}" for at, word in enumerate(WORDS)])
    return warehouse


def changed(**labels: Any) -> TaskCard:
    return load_card({**CARD, "labels": {name: told for name, told in {**CARD["labels"], **labels}.items() if told}})


def programs(warehouse: Warehouse, plan_no: int | None = None) -> list[tuple[int, str, tuple[str, ...]]]:
    rows = warehouse.query(
        "SELECT program_no, programs.state, spec FROM programs JOIN slots USING (plan_no, slot_no)"
        " WHERE plan_no = coalesce(?, plan_no) ORDER BY program_no",
        [plan_no],
    )
    return [(number, state, tuple(json.loads(spec)["focus"])) for number, state, spec in rows]


def test_a_split_label_renews_the_programs_of_that_label_for_each_of_its_parts(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path, answered)
    assert recorder.run(warehouse, **PARAMS).did["accepted"] == 12
    before = programs(warehouse)
    mine = [number for number, _, focus in before if focus == ("num",)]
    assert len(mine) == 2
    asked = recorder.asked
    register(warehouse, load_card(SPLIT))
    told = recorder.run(warehouse, **PARAMS)
    assert recorder.asked - asked == 4
    assert told.did["accepted"] == told.did["wanted"] == 4
    assert "2 programs are written anew, the others stay" in " ".join(told.says)
    after = {number: state for number, state, _ in programs(warehouse)}
    assert {number for number, _, _ in before if after[number] == "superseded"} == set(mine)
    assert sorted(focus for *_, focus in programs(warehouse, 2)) == [("count",)] * 2 + [("date",)] * 2
    assert recorder.run(warehouse, **PARAMS).skipped
    assert recorder.asked - asked == 4


def test_a_label_that_no_program_speaks_of_alone_costs_nothing_and_one_that_left_none(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path, answered)
    recorder.run(warehouse, **PARAMS)
    asked = recorder.asked
    register(warehouse, load_card({**CARD, "default_label": "hum"}))
    assert recorder.run(warehouse, **PARAMS).skipped
    register(warehouse, changed(num=None, loc={"description": "a place, or a number", "was": "num"}))
    recorder.run(warehouse, **PARAMS)
    left = {focus for _, state, focus in programs(warehouse) if state == "accepted"}
    assert left == {(), ("hum",), ("loc",)}
    assert recorder.asked - asked == 4, "two that spoke of loc, and two that spoke of num"


def test_another_guideline_asks_for_every_program_again(warehouse: Warehouse, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, answered)
    recorder.run(warehouse, **PARAMS)
    register(warehouse, load_card({**CARD, "guidelines": "Think twice."}))
    assert recorder.run(warehouse, **PARAMS).did["wanted"] == 12
