"""No answer, however it is made, keeps a parser busy: 100 KB of anything are read or refused in half a second."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory import prompts
from factory.prompts.answer import LONGEST
from factory.prompts.render import clip, neutral

SIZE = 100_000
LIMIT_S = 0.5
LABELS = ["a", "b", "C++", "off topic", "1. first", *(f"label {number} of many" for number in range(120))]
PARSED = ("annotate", "annotate_multi", "author_program", "rewrite_passage", "propose_attributes", "author_knowledge")

UNITS = (
    " ", "\n", "\t", "\r", " \n", "\n ", "\u200b", "\xa0", "a", "a ", "a\n", "so ", "the ", "the best ", "label ",
    "label: ", "label is ", "answer", "1. ", "1. a\n", "- a\n", "a, ", "a and ", "a/", ",", ";", "and ", "```",
    "```\n", "```a\n", "~~~\n", "`", "*", "**", "__", "_", '"', "'", "“", "“‘", "(", "[", "{", "<", ">", "[]", "{}",
    '{"a":', '{"label":"a"}', '{"label":', '{"a":1} ', "[1,", '["a",', "['", "{'", "x {", "\\boxed{", "<think>",
    "</think>", "<think></think>", "[THINK]", "◁think▷", "<|channel|>", "<|channel|>analysis<|message|>",
    "<|channel|>final<|message|>a", "assistantfinal", "analysis", "Here is my thought process:\n",
    "Here is my response:\n", "<answer>", "</answer>", "<label>", "<label>a", "<text>", "</text>", "<text>a</text>",
    "<text>a", "< / text", "<  ", "</s>", "<|im_end|>", "<|im_start|>assistant\n", "<s>", "[INST]", "[/INST]",
    "def label(", "def label(text):\n", "(" * 50, "lambda: ", "not ", "-", "x=", "f'{", "#", "# ", "# a\n", "---\n",
    "Text: a\n", "Label: a\n", "Text: ", "Sure, ", "Sure: \n", "Here is ", "I can't ", "I'm sorry, ", "sorry but ",
    "okay ", "okay, ", "the new ", "**Text", "|", "| a ", "this text is ", "this is ", "actually ", ".", "!", "?",
    "\\", "\x00", "é", "é", "😀", "0", "9" * 4000, "e", "UNABLE TO ", "Es tut mir leid, ", "kann ich ",
)  # fmt: skip


def seconds(prompt: prompts.Prompt, answer: str) -> float:
    """Of processor time: what other processes take meanwhile does not count."""
    began = time.process_time()
    with contextlib.suppress(prompts.ParseFailure):
        prompt.parse(answer, labels=LABELS)
    return time.process_time() - began


def filled(unit: str, size: int = SIZE) -> str:
    return (unit * (size // len(unit) + 1))[:size]


OFTEN = {"annotate", "author_program"}
SOME = [pytest.param(name, marks=() if name in OFTEN else (pytest.mark.slow, pytest.mark.long)) for name in PARSED]
"""The other prompts are read by the same code: they are tried in the long tests."""


@pytest.mark.parametrize("name", SOME)
def test_a_hundred_kilobytes_of_any_one_thing(name: str) -> None:
    prompt = prompts.load(name)
    slow: dict[str, float] = {}
    for unit in UNITS:
        for answer in (
            filled(unit),
            filled(unit, 19_000),
            f"so{filled(unit)}x",
            f"```python\n{filled(unit)}\n```",
            f'{{"labels": ["{filled(unit)}',
        ):
            if seconds(prompt, answer) > LIMIT_S:  # once more: other processes may have had the processor
                slow[unit] = seconds(prompt, answer)
    assert not slow


@pytest.mark.parametrize("name", SOME)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(parts=st.lists(st.tuples(st.sampled_from(UNITS), st.integers(1, 3000)), min_size=2, max_size=8))
def test_a_hundred_kilobytes_of_several_things(name: str, parts: list[tuple[str, int]]) -> None:
    answer = "".join(unit * times for unit, times in parts)[:SIZE]
    prompt = prompts.load(name)
    assert seconds(prompt, answer) <= LIMIT_S


@pytest.mark.parametrize("unit", UNITS)
def test_rendering_a_long_text_takes_as_little(unit: str) -> None:
    began = time.process_time()
    neutral(filled(unit))
    clip(filled(unit), 6000)
    assert time.process_time() - began <= LIMIT_S


@pytest.mark.parametrize("name", SOME)
def test_an_answer_beyond_the_stated_length_is_refused_unread(name: str) -> None:
    prompt = prompts.load(name)
    with pytest.raises(prompts.ParseFailure) as caught:
        prompt.parse("a " * LONGEST, labels=LABELS)
    assert caught.value.code == "too_long"


def test_reasoning_may_be_longer_than_an_answer() -> None:
    thoughts = "It may be b. " * LONGEST
    assert prompts.load("annotate").parse(f"{thoughts}</think>\na", labels=["a", "b"]) == "a"
