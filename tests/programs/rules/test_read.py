"""Lists come in as JSON or YAML, are refused with their reasons, and are kept in one form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.programs.rules import RulesRefused, read_rules

LABELS = ["ham", "spam"]
WIN = {"kind": "word", "value": "win", "label": "spam"}


def refused(source: Any, labels: list[str] = LABELS, target: str | None = None) -> RulesRefused:
    with pytest.raises(RulesRefused) as caught:
        read_rules(source, labels, target)
    return caught.value


@pytest.mark.parametrize(
    "source",
    [
        [WIN],
        {"rules": [WIN]},
        '{"rules": [{"kind": "word", "value": "win", "label": "spam"}]}',
        '\ufeff[{"label": "spam", "value": "win", "kind": "word", "weight": 1.0}]',
        "rules:\n  - {kind: word, value: win, label: spam}\n",
        "- kind: word\r\n  value: win\r\n  label: spam\r\n  weight: 1\r\n  unless: []\r\n",
        [WIN, {**WIN, "with": [], "weight": "1"}],
    ],
)
def test_every_way_to_write_a_list_is_kept_alike(source: Any) -> None:
    assert read_rules(source, LABELS, None).source == '{"rules":[{"kind":"word","label":"spam","value":"win"}]}'


def test_what_is_kept_and_what_people_see_are_read_back() -> None:
    rules = [
        {**WIN, "weight": 2.5, "with": ["prize", {"kind": "regex", "value": r"\d{3}"}], "unless": "no win"},
        {"kind": "contains", "value": " é\u00a0", "label": "ham", "weight": 0.05},
    ]
    found = read_rules(rules, LABELS, None)
    assert read_rules(found.source, LABELS, None) == read_rules(found.lines, LABELS, None) == found
    assert len(found.lines.splitlines()) == 4


def test_yaml_words_that_mean_something_else_to_yaml_stay_words() -> None:
    source = "- {kind: word, value: 'off', label: no}\n- {kind: word, value: 1e3, label: 7, unless: [on, ~, 12]}\n"
    rules = read_rules(source, ["no", "7"], None).rules
    assert [(rule.cue.value, rule.label) for rule in rules] == [("off", "no"), ("1e3", "7")]
    assert [cue.value for cue in rules[1].unless] == ["on", "~", "12"]


@pytest.mark.parametrize("label", ["yes", True, "oil"])
def test_a_list_of_one_label_says_yes_or_no(label: Any) -> None:
    rules = [{**WIN, "label": label}, {**WIN, "value": "loss", "label": "no"}]
    assert [rule.label for rule in read_rules(rules, ["oil", "gold"], "oil").rules] == ["yes", "no"]
    assert "'gold'" in refused([{**WIN, "label": "gold"}], ["oil", "gold"], "oil").words


def test_labels_are_compared_in_composed_form() -> None:
    assert read_rules([{**WIN, "label": "e\u0301te\u0301"}], ["été"], None).rules[0].label == "été"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "words"}, "its kind 'words' is not one of word, contains, starts_with, regex"),
        ({"label": "Spam"}, "its label 'Spam' is not one of 'ham', 'spam'"),
        ({"label": None}, "is not one of"),
        ({"value": "  "}, "1 to 1000 characters"),
        ({"value": "x" * 1001}, "1 to 1000 characters"),
        ({"value": 7}, "1 to 1000 characters"),
        ({"value": "a\0"}, "NUL"),
        ({"value": "\ud800"}, "surrogate"),
        ({"weight": 0}, "above 0"),
        ({"weight": -1}, "above 0"),
        ({"weight": 101}, "at most 100"),
        ({"weight": 0.001}, "two decimals"),
        ({"weight": float("nan")}, "not a number"),
        ({"weight": "much"}, "not a number"),
        ({"weight": True}, "above 0"),
        ({"with": 3}, "list of at most 60"),
        ({"unless": ["x"] * 61}, "list of at most 60"),
        ({"unless": [{"kind": "word"}]}, "1 to 1000 characters"),
        ({"unless": [{"kind": "word", "value": "x", "label": "ham"}]}, "a cue is a word"),
        ({"wieght": 2}, "unknown key 'wieght'"),
        ({"kind": "regex", "value": "(?!a)b"}, "use `with` and `unless`"),
        ({"kind": "regex", "value": "(?<=a)b"}, "use `with` and `unless`"),
        ({"kind": "regex", "value": r"(a)\1"}, "back-references"),
        ({"kind": "regex", "value": r"a\Z"}, "`\\z` is the end"),
        ({"kind": "regex", "value": "(a"}, "not closed"),
        ({"kind": "regex", "value": "x*"}, "matches an empty text"),
        ({"kind": "regex", "value": "a{1001}"}, "repeats too often"),
        ({"kind": "regex", "value": "a{500}"}, "too large"),
        ({"kind": "regex", "value": "(?:.{0,20}a){20}b"}, "too large"),
        ({"kind": "regex", "value": "(?:" * 22 + "a" + "){1,2}" * 22}, "repeats too often"),
        ({"kind": "regex", "value": r"(?:\pL{1,20} ){1,9}x"}, "too large"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_with_its_number_and_reason(change: dict[str, Any], words: str) -> None:
    found = refused([WIN, {**WIN, **change}])
    assert found.code == "bad_rule"
    assert found.words.startswith("rule 2: ")
    assert words in found.words


def test_all_bad_rules_are_named_at_once() -> None:
    assert refused([{**WIN, "label": str(i)} for i in range(8)]).words.endswith("; and 3 more")


@pytest.mark.parametrize(
    "source",
    [
        "", "[]x", "{", '{"rule": []}', '{"rules": 3}', "win", "- win", "rules: {}", '{"rules": [], "rules": []}', 
    "- {kind: word, kind: word}",
        "a: &a [1]\nrules: [*a]", "[" * 5000, "- " * 3000, "x" * 100_001, '{"rules": [' + ",".join(["{}"] * 301) + "]}", "[]",
        "rules:\n  - kind: 'word", "\x01",
    ],
)  # fmt: skip
def test_what_is_not_a_list_of_rules_is_refused_in_one_line(source: str) -> None:
    found = refused(source)
    assert "\n" not in found.words
    assert len(found.words) < 500


ANY = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["word", "regex", "spam", "(", "a{9}"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["kind", "value", "label", "weight", "with", "unless", "rules"]), inner, max_size=6
        ),
    ),
    max_leaves=20,
)


@given(st.one_of(ANY, st.text()))
@settings(max_examples=500, deadline=None)
def test_anything_is_read_or_refused(source: Any) -> None:
    try:
        found = read_rules(source, LABELS, None)
    except RulesRefused:
        return
    assert read_rules(found.source, LABELS, None) == found
