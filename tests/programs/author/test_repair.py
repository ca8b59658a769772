"""A program is repaired by texts that it gets wrong: what the model is shown, what is taken, and who decides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from factory.errors import InputError
from factory.llm import Asker, EngineSettings
from factory.llm.calls import Call, Reply
from factory.llm.engines.base import BulkEngine
from factory.llm.request import Answer
from factory.programs import manage
from factory.programs.author.repair import repair_program
from factory.warehouse.tables.plans import programs_asked
from tests.studio.made import make

NARROWER = {"kind": "contains", "value": "great", "label": "ham", "unless": ["win"]}
BOTH = {"rules": [NARROWER, {"kind": "word", "value": "win", "label": "spam"}]}


class Says(BulkEngine):
    """Gives these answers one after the other."""

    name = "scripted"

    def __init__(self, *answers: str) -> None:
        super().__init__(EngineSettings(kind="transformers", model="scripted"))
        self.left, self.asked = list(answers), list[str]()

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        for call in calls:
            self.asked.append("\n".join(message["content"] for message in call.request.messages))
            yield call, Reply({0: Answer(self.left.pop(0), origin=self.name)})


def repair(engine: Says, warehouse: Any, number: int, texts: dict[int, str | None]) -> Any:
    return repair_program(Asker(warehouse, engine, "author"), number, texts)


def test_an_answer_that_is_not_better_is_sent_back_and_a_better_one_waits_for_a_person() -> None:
    warehouse = make()
    engine = Says(json.dumps({"rules": [NARROWER]}), json.dumps(BOTH))
    result = repair(engine, warehouse, 2, {40: "spam", 41: "spam", 20: "ham"})
    assert result.did == {"program_no": 3, "why": None, "right": [1, 3]}
    assert "win this great song 0" in engine.asked[0]
    assert "on example 2 it says ham, and should say spam" in engine.asked[0]
    assert '"contains"' in engine.asked[0]  # the version that there is
    assert "on example 2 it says (abstain), and should say spam" in engine.asked[1]
    state = (
        "SELECT program_no, state, drop_reason, parent_no, origin FROM programs WHERE program_no IN (2, 3) ORDER BY 1"
    )
    assert warehouse.query(state) == [
        (2, "accepted", None, None, "hand"), (3, "rejected", "suggested", 2, "model"),
    ]  # fmt: skip
    assert warehouse.scalar("SELECT count(*) FROM answers JOIN programs USING (request_key, sample_no)") == 1
    manage.approve_program(warehouse, 3, actor="Ann")
    assert [row[1] for row in warehouse.query(state)] == ["superseded", "accepted"]


def test_where_nothing_is_better_nothing_is_stored() -> None:
    warehouse = make()
    result = repair(Says("no idea", "none", "{}"), warehouse, 2, {40: "spam"})
    assert result.did["program_no"] is None
    assert "no answer was better" in result.did["why"]
    assert warehouse.scalar("SELECT count(*) FROM programs") == 2


def test_what_it_should_say_must_be_known() -> None:
    warehouse = make()
    for texts, words in (
        ({40: None}, "40=LABEL"),
        ({40: "spamm"}, "did you mean `spam`"),
        ({999: "spam"}, "no text 999"),
        ({}, "1 to 20"),
    ):
        with pytest.raises(InputError, match=words):
            repair(Says(), warehouse, 2, texts)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no program 9"):
        repair(Says(), warehouse, 9, {40: "spam"})


def test_one_more_program_is_asked_for_than_before() -> None:
    warehouse = make()
    assert programs_asked(warehouse, ["ham"], "any") == 0
    with warehouse.lease() as db:
        for number, config in enumerate(({"programs": 3, "labels": ["ham"]}, {"programs": 9}), start=1):
            db.execute(
                "INSERT INTO plans (plan_no, stage, key, config, task_revision, prompt_version, done)"
                " VALUES (?, 'author', ?, ?, 'r', 'p', true)",
                [number, str(number), json.dumps(config)],
            )
    assert [programs_asked(warehouse, *of) for of in ((["ham"], "any"), (None, "any"), (["ham"], "conflicts"))] == [
        3,
        9,
        0,
    ]
