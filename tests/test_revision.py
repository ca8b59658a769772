"""What a changed card touches, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from factory.revision import Change, change_of
from factory.task import TaskCard, load_card

OLD = {"name": "t", "text": "a question", "labels": {"a": "about a", "b": "about b", "c": "about c"}}


def card(**more: Any) -> TaskCard:
    return load_card({**OLD, **more})


def labels(**more: Any) -> TaskCard:
    return card(labels={name: told for name, told in {**OLD["labels"], **more}.items() if told})  # type: ignore[dict-item]


def test_a_label_that_was_nothing_else_leaves_the_revision_of_the_card_as_it_was() -> None:
    assert "was" not in card().model_dump_json(exclude_defaults=True)
    assert labels(b={"description": "about b"}).revision == card().revision
    assert labels(b={"description": "about b", "was": "a"}).revision != card().revision


@pytest.mark.parametrize(
    ("new", "became"),
    [
        (labels(b="about b, and nothing else"), {"b": ("b",)}),
        (labels(c=None), {"c": ()}),
        (
            labels(b=None, b1={"description": "x", "was": "b"}, b2={"description": "y", "was": ["b"]}),
            {"b": ("b1", "b2")},
        ),
        (labels(b="less", b2={"description": "y", "was": "b"}), {"b": ("b", "b2")}),
        (labels(b=None, c={"description": "about b or c", "was": "b"}), {"b": ("c",), "c": ("c",)}),
        (labels(c={"description": "about c", "was": "a"}), {"a": ("a", "c")}),
        (card(default_label="a"), {}),
        (card(labels={name: OLD["labels"][name] for name in "cab"}), {}),  # type: ignore[index]
    ],
)
def test_touched_are_the_labels_that_changed_left_or_gave_texts_to_another(
    new: TaskCard, became: dict[str, tuple[str, ...]]
) -> None:
    found = change_of(card(), new)
    assert (found.whole, found.became, found.touched) == (None, became, frozenset(became))
    assert found.stands([name for name in "abc" if name not in became])
    assert found.stands([])
    assert all(not found.stands(["a", "b", "c"]) for _ in became)


@pytest.mark.parametrize(
    "new",
    [
        card(guidelines="x"), card(kind="multi"), card(text="an answer"), card(fields=["x", "y"]), labels(d="about d"),
        labels(d={"description": "about d", "was": "e"}),
    ],
)  # fmt: skip
def test_what_changes_for_every_text_touches_everything(new: TaskCard) -> None:
    found = change_of(card(), new)
    assert found.whole
    assert not found.stands([])
    assert found.words.startswith("everything is asked again")


def test_guidelines_may_change_where_they_speak_of_the_labels_that_do() -> None:
    first = card(guidelines='"Who?" is a, "How many?" is b. In doubt, c.')
    split = {"b1": {"description": "x", "was": "b"}, "b2": {"description": "y", "was": "b"}, "b": None}
    told = {name: text for name, text in {**OLD["labels"], **split}.items() if text}  # type: ignore[dict-item]
    same = card(labels=told, guidelines='"Who?" is a, "How many?" is b1. In doubt, c.')
    assert change_of(first, same).became == {"b": ("b1", "b2")}
    other = card(labels=told, guidelines='"Who?" is a, "How many?" is b1. In doubt, a.')
    assert change_of(first, other).whole


def test_what_a_label_was_counts_once() -> None:
    split = {"b2": {"description": "y", "was": "b"}}
    first, then = labels(**split), labels(**split, a="about a, strictly")
    assert change_of(first, then).became == {"a": ("a",)}
    assert change_of(then, then) == Change()
    assert change_of(card(), first).renewed(["a", "b"]) == ("a", "b", "b2")
