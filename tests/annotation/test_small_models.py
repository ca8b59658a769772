"""An engine with `profile: small` is asked in other forms: short prompts, choices with probabilities, cues by label."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from factory.annotation.stage import annotate
from factory.llm import Answer, EngineSettings
from factory.llm.calls import Call, Reply
from factory.llm.engines.base import BulkEngine
from factory.programs.author.answers import rules_of_cues
from factory.programs.stage import author
from factory.prompts import ParseFailure
from factory.prompts.cues import cue_lines, parse_cues
from factory.prompts.parse import whole_part
from tests.annotation.test_annotate_stage import TEXTS, rows, warehouse_with

SPAM = {
    "buy now": 0.9,
    "free money": 0.95,
    "win a prize": 0.9,
    "hello mum": 0.6,
    "see you at six": 0.6,
    "who is that": 0.7,
}


class Small(BulkEngine):
    """A small model that says what a function makes of a request; `asked` keeps the requests."""

    name = "small"

    def __init__(self, says: Callable[[Any], Answer], **settings: Any) -> None:
        super().__init__(EngineSettings(kind="vllm", model="m", **{"profile": "small", **settings}))
        self.speak, self.asked = says, list[Any]()

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        for call in calls:
            self.asked.append(call.request)
            yield call, Reply({call.first: self.speak(call.request)})


def label(request: Any) -> Answer:
    """Spam, more or less surely: the model leans to that."""
    text = next(text for text in SPAM if text in request.messages[-1]["content"])
    tokens = [{"token": "spam", "logprob": math.log(SPAM[text])}, {"token": "ham", "logprob": math.log(1 - SPAM[text])}]
    return Answer("spam", "stop", logprobs={"content": [{**tokens[0], "top_logprobs": tokens}]})


def test_labels_are_choices_with_probabilities_and_lose_their_leaning() -> None:
    warehouse, engine = warehouse_with(TEXTS), Small(label)
    annotate(warehouse, engine, anchors=6, audit=2)
    request = engine.asked[0]
    assert (request.prompt, request.schema) == ("annotate_small", {"choice": ["ham", "spam"]})
    assert (request.sampling["logprobs"], request.sampling["max_tokens"]) == (True, 24)
    assert {text for text, found in rows(warehouse).items() if found == "spam"} == {
        "buy now",
        "free money",
        "win a prize",
    }
    probs = warehouse.query("SELECT prob FROM anchors")
    assert all(0.5 <= prob < 1 for (prob,) in probs), "of the calibrated label"
    assert annotate(warehouse, engine, anchors=6, audit=2).skipped
    assert len(engine.asked) == 6


def test_calibration_can_be_switched_off() -> None:
    warehouse, engine = warehouse_with(TEXTS), Small(label)
    annotate(warehouse, engine, split="train", calibrate=False)
    assert set(rows(warehouse).values()) == {"spam"}
    assert all("logprobs" in request.sampling for request in engine.asked)


def test_an_engine_of_any_size_is_asked_as_ever_without_the_profile() -> None:
    warehouse, engine = warehouse_with(TEXTS), Small(label, profile=None)
    annotate(warehouse, engine, split="train")
    (request, *_) = engine.asked
    assert (request.prompt, request.schema, "logprobs" in request.sampling) == ("annotate", None, False)
    assert EngineSettings(kind="vllm", model="m", profile="small").structured
    assert not EngineSettings(kind="vllm", model="m", profile="small", structured=False).structured
    assert not EngineSettings(kind="transformers", model="m", profile="small").structured, "it cannot force JSON"


def cues(request: Any) -> Answer:
    """Cues for every label asked for; those of the first list are cut off in the middle of a word."""
    said = {"ham": ["mum", "see you", "six", "hello"], "spam": ["money", "prize", "buy", "win"]}
    first = "Single words" in request.messages[-1]["content"]
    other = said if first else {name: [*some[:1], "who is", "that"] for name, some in said.items()}
    text = "".join(f"{name}: {', '.join(cues)}\n" for name, cues in other.items())
    return Answer(text[:-2], "length") if first else Answer(text, "stop")


def test_programs_are_lists_of_cues_and_a_list_that_was_cut_off_gives_its_whole_ones() -> None:
    warehouse, engine = warehouse_with(TEXTS), Small(cues)
    author(warehouse, engine, programs=2, candidates=2)
    assert [request.prompt for request in engine.asked] == ["author_rule_list_small"] * 2
    kinds = warehouse.query("SELECT kind, state, source FROM programs ORDER BY program_no")
    assert [(kind, state) for kind, state, _ in kinds] == [("rules", "accepted")] * 2
    values = {rule["value"] for rule in json.loads(kinds[0][2])["rules"]}
    assert {"mum", "money", "buy"} <= values
    assert "win" not in values, "its end is missing"


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        ('{"a": ["x", "y', '{"a": ["x"]}'),
        ('{"a": ["x\\"y", "z"], "b": [', '{"a": ["x\\"y", "z"]}'),
        ('{"rules": [{"value": "a", "with": ["b"]}, {"value": "c"', '{"rules": [{"value": "a", "with": ["b"]}]}'),
        ('{"rules": [{"va', ""),
    ],
)
def test_what_is_whole_of_a_cut_json_is_kept(cut: str, whole: str) -> None:
    assert whole_part(cut) == whole


def test_a_cue_that_stands_under_two_labels_is_left_out() -> None:
    found = rules_of_cues({"ham": ["song", "Love it"], "spam": ["love  it", "http://", "http://"]})
    assert found["rules"] == [
        {"kind": "word", "value": "song", "label": "ham"},
        {"kind": "contains", "value": "http://", "label": "spam"},
    ]
    assert [rule["label"] for rule in rules_of_cues({"ham": ["song"], "spam": ["win"]}, ["spam"])["rules"]] == ["spam"]


def test_lines_of_cues_are_held_by_a_pattern_and_read_with_words_around_them() -> None:
    names = ["ham", "off topic"]
    answer = "ham: mum, see you, six, hello\noff topic: m\u00fcsic, win, free money, don't\n"
    assert re.fullmatch(cue_lines(names), answer)
    assert not re.fullmatch(cue_lines(names), "ham: mum, see you, six, hello\n"), "a line for each label"
    found = {"ham": ["mum", "see you", "six", "hello"], "off topic": ["m\u00fcsic", "win", "free money", "don't"]}
    assert parse_cues(answer, names) == found
    assert parse_cues(f"Here they are:\n- **ham**: mum, mum\n{answer}That is all.", names) == found
    with pytest.raises(ParseFailure):
        parse_cues("I cannot help with that.", names)
