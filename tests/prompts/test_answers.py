"""Answers of every kind of model are read: reasoning in every form, tokens around it, every way to state a label. No guessing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from factory import prompts
from tests.prompts.forms import CUT_OFF, FRAMED, REASONED, STATED, decomposed

LABELS = ("spam", "ham", "order status")
PROGRAM = "import re\n\n\ndef label(text):\n    return 'spam' if re.search('win', text) else None\n"
DRAFT = "def label(text):\n    return None\n"
TEXT = "My parcel never came, and nobody answers the phone."
ATTRIBUTES = {
    "subtopic": ["pies", "soups", "knives", "ovens"],
    "register": ["excited", "dry"],
    "persona": ["a beginner", "a chef"],
    "length": ["one short sentence", "three sentences"],
}
ANSWERS: dict[str, tuple[str, Any, str]] = {
    "annotate": ("order status", "order status", "It could be spam, or ham. Label: ham."),
    "annotate_multi": ("spam\norder status", ["spam", "order status"], "Perhaps ham.\nham\n"),
    "prompted_vote": ("Unsure.", None, "It could be spam; ham is possible, too."),
    "author_program": (f"```python\n{PROGRAM}```", PROGRAM, f"A draft:\n```python\n{DRAFT}```\nBetter:"),
    "rewrite_passage": (f"<text>{TEXT}</text>", [TEXT], "A draft: <text>It is late.</text> Better: mention the phone."),
    "write_example": (TEXT, [TEXT], "The user wants a message.\n\nA draft: <text>It is late.</text>"),
    "propose_attributes": (json.dumps(ATTRIBUTES, indent=1), ATTRIBUTES, 'Perhaps {"subtopic": []}, no.'),
    "author_knowledge": ("spam: win, free", "spam: win, free", "I know of spam: links."),
}


def read(name: str, answer: str, labels: Sequence[str] = LABELS) -> Any:
    return prompts.load(name).parse(answer, labels=labels)


def failure(name: str, answer: str, labels: Sequence[str] = LABELS) -> str:
    with pytest.raises(prompts.ParseFailure) as caught:
        read(name, answer, labels)
    return caught.value.code


@pytest.mark.parametrize("form", REASONED)
@pytest.mark.parametrize("name", ANSWERS)
def test_reasoning_is_left_out_in_every_form(name: str, form: str) -> None:
    answer, value, thought = ANSWERS[name]
    assert read(name, REASONED[form].format(thought=thought, answer=answer)) == value


@pytest.mark.parametrize("form", CUT_OFF)
@pytest.mark.parametrize("name", ANSWERS)
def test_reasoning_that_never_ends_is_an_answer_that_was_cut_off(name: str, form: str) -> None:
    _, _, thought = ANSWERS[name]
    assert failure(name, CUT_OFF[form].format(thought=thought)) == "truncated"


@pytest.mark.parametrize("form", FRAMED)
@pytest.mark.parametrize("name", ANSWERS)
def test_the_tokens_of_a_chat_template_are_no_part_of_an_answer(name: str, form: str) -> None:
    answer, value, _ = ANSWERS[name]
    assert read(name, FRAMED[form].format(answer=answer)) == value


NAMES: tuple[tuple[str, ...], ...] = (
    ("spam", "ham", "order status"),
    ("HAM", "SPAM"),
    ("World", "Sports", "Business", "Sci/Tech"),
    ("support", "supporting act", "support desk"),
    ("C", "C++", "C#"),
    ("order", "order status", "order_status_update"),
    ("0", "1", "2", "10"),
    ("0.0", "1.0"),
    ("level 1", "level 10", "level 11"),
    ("1. Billing", "2. Delivery", "10. Other"),
    ("3D", "2D"),
    ("A", "B", "C"),
    ("réclamation", "éloge"),
    ("Straße", "Platz"),
    ("spam", "not spam"),
    ("fiction", "non-fiction"),
    ("true", "false"),
    ("R&D", "Sales & Marketing"),
    ("account, login", "account"),
    ("society & culture", "science & mathematics"),
    ("good (clear)", "bad (unclear)"),
    ("US", "us"),
    ("Wait", "No"),
    ("Иск", "Жалоба"),
    ("投诉", "表扬"),
)
ORDINARY_WORDS = (
    ("label", "answer", "text"),
    ("this", "it", "sure"),
    ("is", "the", "no"),
    ("result", "need", "anything"),
)
"""Labels that the talk around an answer mentions: such an answer may be asked again."""


@pytest.mark.parametrize("names", NAMES, ids=lambda names: "/".join(names))
def test_every_label_is_read_in_every_form(names: tuple[str, ...]) -> None:
    wrong = {}
    for name in names:
        for form, pattern in STATED.items():
            try:
                value = read("annotate", pattern.format(name), names)
            except prompts.ParseFailure as error:
                value = error
            if value != name:
                wrong[name, form] = value
    assert not wrong


@pytest.mark.parametrize("names", ORDINARY_WORDS, ids=lambda names: "/".join(names))
def test_a_label_that_is_an_ordinary_word_is_never_taken_for_another(names: tuple[str, ...]) -> None:
    wrong = {}
    for name in names:
        for form, pattern in STATED.items():
            with contextlib.suppress(prompts.ParseFailure):
                value = read("annotate", pattern.format(name), names)
                if value != name:
                    wrong[name, form] = value
    assert not wrong


SPELLINGS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "decomposed": decomposed,
    "underscores": lambda name: name.replace(" ", "_"),
    "hyphens": lambda name: name.replace(" ", "-"),
    "no-break blanks": lambda name: name.replace(" ", "\u00a0"),
    "double blanks": lambda name: name.replace(" ", "  "),
    "zero width inside": lambda name: "\u200b".join(name),
    "entities": lambda name: name.replace("&", "&amp;"),
    "wide letters": lambda name: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in name),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("names", NAMES, ids=lambda names: "/".join(names))
def test_a_label_spelled_otherwise_is_that_label_or_none(names: tuple[str, ...], spelling: str) -> None:
    for name in names:
        spelled = SPELLINGS[spelling](name)
        try:
            assert read("annotate", spelled, names) == (spelled if spelled in names else name)
        except prompts.ParseFailure:  # another label is spelled so, too
            assert sum(other.casefold() == name.casefold() for other in names) > 1


READ = {
    "Reasoning: it could be ham.\nAnswer: spam": "spam",
    "Thought: ham? no, there is a link.\n\n**Label:** spam": "spam",
    "It mentions ham. <answer>spam</answer>": "spam",
    "It mentions ham, so: \\boxed{spam}": "spam",
    '{"reason": "it is not ham", "label": "spam"}': "spam",
    '{"label": "spam", "alternative": "ham"}': "spam",
    "{'label': 'spam', 'reason': 'not ham'}": "spam",
    "spam - it sells something": "spam",
    "spam, because it sells something": "spam",
    "It's spam.": "spam",
    "This text is probably spam.": "spam",
    "Label: spam, because there is a link.": "spam",
    "spam<think>or ham</think>": "spam",
    "| Label |\n|---|\n| spam |": "spam",
    "```\nspam": "spam",
    "1. order status": "order status",
    "(b) order-status": "order status",
}
REFUSED = {
    "empty": "",
    "not": "not spam",
    "is not": "It is not spam.",
    "asked": "spam? no.",
    "doubted": "spam; but it may be otherwise",
    "doubted in brackets": "spam (or something else)",
    "not sure": "Not sure, maybe spam",
    "could be": "The label could be spam.",
    "wrong": "The wrong label is spam",
    "either": "Either spam or ham",
    "beside another": "The label is spam, not ham.",
    "two lines": "Label: spam\nLabel: ham",
    "two items": "1. spam\n2. ham",
    "two tags": "<label>spam</label> or <label>ham</label>",
    "tag taken back": "<label>spam</label>\nWait, no: ham",
    "tag explained": "<answer>spam</answer> because it is not ham",
    "key twice": '{"label": "spam", "label": "ham"}',
    "key twice, single quotes": "{'label': 'spam', 'label': 'ham'}",
    "list of two": '{"label": ["spam", "ham"]}',
    "two objects": '{"label": "spam"} {"label": "ham"}',
    "two fields": '{"predicted_label": "spam", "true_label": "ham"}',
    "one field unknown": '{"category": "unknown", "type": "ham"}',
    "null": '{"label": null}',
    "unknown": '{"label": "music"}',
    "scores": '{"spam": 0.9, "ham": 0.1}',
    "object taken back": '{"label": "spam"}\nActually, it is ham.',
    "part of a name": "order",
    "plural": "spams",
    "run together": "spamham",
    "cut off": '{"label": "spam',
    "reasoning alone": "It could be ham</think>",
    "two answers around a reasoning": "ham <think>no</think> spam",
    "lines and separators": "spam\u2028ham",
}
MULTI = {
    "order status and spam": ["spam", "order status"],
    "spam / ham": ["spam", "ham"],
    "The labels that apply are: spam, ham.": ["spam", "ham"],
    "- **spam**\n- `order_status`": ["spam", "order status"],
    "<label>spam</label>\n<label>ham</label>": ["spam", "ham"],
    "<labels>spam, ham</labels>": ["spam", "ham"],
    "{'labels': ['spam', 'ham']}": ["spam", "ham"],
    'Sure:\n```json\n["spam"]\n```': ["spam"],
    '{"spam": true, "ham": false, "order status": true}': ["spam", "order status"],
    "spam: yes\nham: no\norder status: no": ["spam"],
    "No labels apply.": [],
    '{"labels": []}': [],
    '["none"]': [],
}
MULTI_REFUSED = {
    "none and one": "none\nspam",
    "denied": "spam\nnot ham",
    "open": "spam, ",
    "unknown": "spam, music",
    "two lists": '{"labels": ["spam"]} {"labels": ["ham"]}',
    "list taken back": '{"labels": ["spam"]}\nActually, ham applies, too.',
    "two answers": "<answer>spam</answer> Wait: <answer>ham</answer>",
    "null": '{"labels": null}',
    "scores": '{"spam": 1.0, "ham": 0.2}',
    "unknown in an object": '{"labels": ["spam", "music"]}',
    "run together": "spam ham",
}


@pytest.mark.parametrize("answer", READ)
def test_an_answer_that_is_clear_is_read(answer: str) -> None:
    assert read("annotate", answer) == READ[answer]


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_for_sure_is_refused(case: str) -> None:
    assert failure("annotate", REFUSED[case]) in ("no_label", "ambiguous")
    assert failure("prompted_vote", REFUSED[case]) in ("no_label", "ambiguous")


@pytest.mark.parametrize("answer", MULTI)
def test_a_list_that_is_clear_is_read(answer: str) -> None:
    assert read("annotate_multi", answer) == MULTI[answer]


@pytest.mark.parametrize("case", MULTI_REFUSED)
def test_a_list_that_cannot_be_told_for_sure_is_refused(case: str) -> None:
    assert failure("annotate_multi", MULTI_REFUSED[case]) in ("unknown_label", "ambiguous", "truncated", "no_label")


def test_a_label_called_none_is_a_label() -> None:
    assert read("annotate_multi", "none", ("none", "spam")) == ["none"]
    assert read("annotate_multi", "None of these.", ("none of these", "spam")) == ["none of these"]


def test_a_number_is_a_label_where_labels_are_numbers() -> None:
    assert read("annotate", '{"label": 1}', ("0", "1")) == "1"
    assert read("annotate", "1.", ("0", "1")) == "1"
    assert failure("annotate", "1. 0", ("0", "1")) == "ambiguous"
    assert read("annotate", "2. HAM", ("HAM", "SPAM")) == "HAM"
    assert failure("annotate", "1. Delivery", ("1. Billing", "2. Delivery")) == "no_label"
