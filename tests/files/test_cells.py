"""What a cell says: missing values are missing, numbers are text, and a label is found in every form in which it is written."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from factory.files.labels import label_hint, label_items, written_list
from factory.files.values import as_text, is_missing, text_fault
from factory.names import LabelNames

MISSING = [
    None, float("nan"), math.inf, -math.inf, np.float32("nan"), np.float64("inf"), pd.NA, pd.NaT, np.datetime64("NaT"),
    Decimal("NaN"),
]  # fmt: skip


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_a_missing_value_is_missing_and_never_a_word(value: Any) -> None:
    assert is_missing(value)
    assert as_text(value) == ""


@pytest.mark.parametrize("value", ["", "nan", "None", "null", 0, 0.0, False, [], {}, b"", np.int64(0)], ids=repr)
def test_what_is_there_is_not_missing(value: Any) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(("value", "missing"), [("nan", True), ("NaN", True), ("<NA>", True), ("NaT", True), ("None", False),
                                                 ("null", False), ("NA", False), ("nanny", False)])  # fmt: skip
def test_in_a_file_without_types_a_null_is_what_pandas_writes_alone(value: str, missing: bool) -> None:
    assert is_missing(value, untyped=True) is missing


@pytest.mark.parametrize(
    ("value", "text"),
    [(42, "42"), (42.0, "42"), (1.5, "1.5"), (True, "true"), (np.bool_(False), "false"), (np.int8(3), "3"),
     (b"caf\xc3\xa9", "café"),
     (Decimal("2.00"), "2"), (Decimal("2.50"), "2.50"), (datetime.date(2024, 1, 2), "2024-01-02"), (10**30, str(10**30))],
)  # fmt: skip
def test_numbers_and_dates_are_taken_as_text(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_what_cannot_be_a_text_says_why() -> None:
    assert text_fault({"text": "a", "n": 1}, "data", encoding=None, most=None) == (
        "broken_row", "column 'data' holds an object, not a text; name one of `data.text`, `data.n`",
    )  # fmt: skip
    faults = [
        text_fault(value, "c", encoding="cp1252", most=3)
        for value in (["a"], b"\xff", "abcd", "a\udcff", "a\ud800", "abc", 1234)
    ]
    assert [None if fault is None else fault[0] for fault in faults] == [
        "broken_row", "not_utf8", "too_long", "not_utf8", "lone_surrogate", None, None,
    ]  # fmt: skip


LISTS = [
    '["a b", "c"]', "['a b', 'c']", "['a b' 'c']", "('a b', 'c')", "{'a b', 'c'}", "[a b, c]", '["a b","c",null]',
]  # fmt: skip


@pytest.mark.parametrize("text", LISTS)
def test_a_list_is_read_in_every_form_in_which_programs_write_it(text: str) -> None:
    assert written_list(text) == ["a b", "c"]


@pytest.mark.parametrize(
    ("text", "items"), [("[]", []), ("set()", []), ("()", []), ("[1, 2.0]", ["1", "2"]), ("['it''s']", ["its"])]
)
def test_short_lists_are_lists(text: str, items: list[str]) -> None:
    assert written_list(text) == items


@pytest.mark.parametrize(
    "text", ["a", "a; b", "(other)", "{a: b}", "{'a': 1}", "[" * 500 + "]" * 500, "f(x)", "(1 + 2)", "a [b]"]
)
def test_what_is_not_a_list_is_a_name(text: str) -> None:
    assert written_list(text) in (None, [text[1:-1]])
    assert label_items("a [b]", None, LabelNames(["x"])) == ["a [b]"]


def test_a_name_on_the_card_is_never_taken_apart() -> None:
    find = LabelNames(["Invoices; refunds", "[x]", "a"])
    assert label_items("Invoices; refunds", ";", find) == ["Invoices; refunds"]
    assert label_items("[x]", None, find) == ["[x]"]
    assert label_items("a;[x]", ";", find) == ["a", "[x]"]
    assert label_items([1.0, None, "a"], ";", find) == ["1", "a"]


@pytest.mark.parametrize(
    ("said", "multi", "words"),
    [("Delivery", False, "did you mean 'delivery'"), ("billing; delivery", True, "say `label_separator: ';'`"),
     ("billing#delivery", True, "'#'"), ("billing|delivery", False, "kind 'single'"), ("0.0", False, "labels: {'0.0': billing"),
     ("order\xa0status", False, ""), ("nothing like it", True, "")],
)  # fmt: skip
def test_what_may_be_meant_by_an_unknown_label_is_said(said: str, multi: bool, words: str) -> None:
    assert words in label_hint(said, ["billing", "delivery"], multi=multi)
    assert bool(words) == bool(label_hint(said, ["billing", "delivery"], multi=multi))
