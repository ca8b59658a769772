"""The engine says what the reference says, on whatever Unicode has to offer, and stays within its bounds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.programs.rules import RuleVoter, read_rules
from factory.programs.rules.folding import fold
from tests.programs.rules import reference

LABELS = ["ham", "spam", "été"]
PATTERNS = [
    "w.n", r"\bwin\b", "[a-c]x", "(?-i)W", r"\pL\pM", "^a", "n$", "k",
    "straße", "STRASSE", "s+", "ſ", r"\d{2}", "é", "(win|lose)\\b.*12",
    "kelvin", "[^a]win", "x{9}", r"\pN", "İ", "(?s)a.e", "σ", "日|本", r"\s\S\s", r"\x{212a}",
]  # fmt: skip
ODD = (
    "iIİıſSsßẞKkKéÉe\u0301aA_-+.$ \t\n\r\u00a0\u0085\u2028\x1c\0'’ʼ日本ーไทย٣²ªǅǆΣσςﬁ\U0001d400𐐀𐐨"
    "\u200d\ud800\udfff\u0345ᾳ\u0130"
)
CHARS = st.text(alphabet=st.one_of(st.sampled_from(ODD), st.characters()), max_size=12)
VALUES = st.one_of(
    st.sampled_from(
        ["win", "a", "e", "é", "c++", "$5", "istanbul", "straße", "credit card", "日本", "k", "ss", "-", "_"]
    ),
    st.text(alphabet=st.sampled_from(ODD.replace("\0", "").replace("\ud800", "").replace("\udfff", "")), max_size=6),
).filter(lambda value: value.strip())
CUES = st.one_of(
    VALUES,
    st.fixed_dictionaries({"kind": st.sampled_from(["word", "contains", "starts_with"]), "value": VALUES}),
    st.fixed_dictionaries(
        {
            "kind": st.just("regex"),
            "value": st.sampled_from(["w.n", r"\bwin\b", "[a-c]x", "(?-i)W", r"\pL\pM", "^a", "n$"]),
        }
    ),
)


@st.composite
def rule(draw: Any) -> dict[str, Any]:
    cue = draw(CUES)
    row = {"kind": "word", "value": cue} if isinstance(cue, str) else dict(cue)
    row["label"] = draw(st.sampled_from(LABELS))
    for key, values in (
        ("weight", st.sampled_from([1, 2, 0.1, 0.2, 0.3, 0.05, 100])),
        ("with", st.lists(CUES, min_size=1, max_size=3)),
        ("unless", st.lists(CUES, min_size=1, max_size=3)),
    ):
        if draw(st.integers(0, 3)) == 0:
            row[key] = draw(values)
    return row


TEXTS = st.lists(
    st.one_of(
        CHARS, st.lists(st.one_of(VALUES, CHARS), max_size=6).map(" ".join), st.lists(VALUES, max_size=6).map("".join)
    ),
    min_size=1,
    max_size=8,
)


def votes_of(rules: Any, texts: list[str], labels: list[str] = LABELS) -> list[str | None]:
    found = RuleVoter([read_rules(rules, labels, None)], [labels]).votes(texts)
    return [None if vote < 0 else labels[vote] for vote in found[:, 0].tolist()]


@given(st.lists(rule(), min_size=1, max_size=8, unique_by=str), TEXTS)
@settings(max_examples=600, deadline=None)
def test_every_vote_is_the_references(rules: list[dict[str, Any]], texts: list[str]) -> None:
    assert votes_of(rules, texts) == [reference.vote(rules, text) for text in texts]


@given(st.one_of(CHARS, st.text()))
@settings(max_examples=600, deadline=None)
def test_a_text_is_folded_as_the_reference_folds_it(text: str) -> None:
    assert fold(text) == reference.plain(text)


@given(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=30, unique=True), st.lists(CHARS, max_size=20))
@settings(max_examples=200, deadline=None)
def test_a_pattern_matches_whatever_other_patterns_stand_beside_it(patterns: list[str], texts: list[str]) -> None:
    texts = [*texts, "a KELVIN straße", "win win 12", "x" * 50]
    lists = [read_rules([{"kind": "regex", "value": p, "label": "ham"}], LABELS, None) for p in patterns]
    together = RuleVoter(lists, [LABELS] * len(lists)).votes(texts)
    for column, each in enumerate(lists):
        assert together[:, column].tolist() == RuleVoter([each], [LABELS]).votes(texts)[:, 0].tolist()


def test_the_largest_sum_of_weights_wins_and_a_tie_abstains() -> None:
    rules = [
        {"kind": "word", "value": "win", "label": "spam", "weight": 0.3},
        {"kind": "word", "value": "love", "label": "ham", "weight": 0.1},
        {"kind": "word", "value": "song", "label": "ham", "weight": 0.2},
        {"kind": "word", "value": "win", "label": "spam", "weight": 0.3},
    ]
    texts = ["win", "win love", "win love song", "love song", "nothing"]
    assert votes_of(rules, texts) == ["spam", "spam", None, "ham", None], "a rule that stands twice counts once"


def test_a_cue_may_need_another_and_be_taken_back() -> None:
    rules = [
        {"kind": "contains", "value": "cheap", "label": "spam", "with": ["click", "buy now"], "unless": ["not cheap"]}
    ]
    texts = ["cheap", "cheap, click", "CHEAP! Buy  now", "not cheap, click", "click"]
    assert votes_of(rules, texts) == [None, "spam", "spam", None, None]


@pytest.mark.parametrize(
    ("kind", "value", "yes", "no"),
    [
        (
            "word",
            "win",
            ["win", "WIN!", "a-win", "win\n", "\u00a0win\u00a0"],
            ["window", "wins", "win_", "win\u0301", "twin", "win2"],
        ),
        ("word", "credit card", ["Credit\tcard", "credit\u00a0\ncard."], ["credit-card", "credit cards"]),
        ("word", "c++", ["c++", "C++11", "in c++!"], ["abc++", "c+"]),
        ("word", "été", ["e\u0301te\u0301", "ÉTÉ"], ["étés", "ete"]),
        ("word", "strasse", ["STRASSE", "straße"], ["strassen"]),
        ("contains", " vs", ["a vs b", "vs b", "a VSB"], ["tvs"]),
        ("contains", "本語", ["日本語で"], ["日本"]),
        ("contains", "cafe", ["cafeteria"], ["café", "cafe\u0301"]),
        ("starts_with", "how to ", ["How to  cook", "  how\nto x", "how to"], ["show to", "how today"]),
        ("regex", r"^win$", ["win", "WIN"], ["win\n", "a win"]),
        ("regex", r"(?-i)US\b", ["in the US"], ["trust us"]),
        ("regex", r"caf\pL\b", ["un cafe"], ["café"]),
    ],
)
def test_what_a_cue_finds(kind: str, value: str, yes: list[str], no: list[str]) -> None:
    said = votes_of([{"kind": kind, "value": value, "label": "spam"}], [*yes, *no, ""])
    assert said == ["spam"] * len(yes) + [None] * (len(no) + 1)


def test_odd_texts_and_none_at_all_are_fine() -> None:
    rules = [
        {"kind": "contains", "value": "\ufffd", "label": "ham"},
        {"kind": "regex", "value": "é{3}", "label": "spam"},
    ]
    assert votes_of(rules, ["\ud800", "a\0b", "é" * 200_000, ""]) == ["ham", None, "spam", None]
    assert votes_of(rules, []) == []
    assert RuleVoter([], []).votes(["a"]).shape == (1, 0)


@pytest.mark.parametrize(
    "pattern", [r"(?:a?){50}a{50}!", r"(?:a.?){50}b!", r"(a|aa)+!", r"(?:.*a){10}b!", r"(\pL+\s?)+!"]
)
def test_time_is_linear_in_the_text(pattern: str) -> None:
    rules = [{"kind": "regex", "value": pattern, "label": "ham"}]
    seconds = []
    for size in (20_000, 80_000):
        began = time.process_time()
        assert votes_of(rules, ["a" * size]) == [None]
        seconds.append(time.process_time() - began)
    assert seconds[1] < 12 * seconds[0] + 0.2
    assert seconds[1] < 5


def test_many_lists_stay_within_memory() -> None:
    import resource

    words = [f"{a}{b}{c}" for a in "abcdefghij" for b in "klmnopqrst" for c in ("ing", "ed", "er", "ist", "ly")]
    lists = [
        read_rules(
            [{"kind": "word", "value": f"{word}{number}", "label": "ham"} for word in words[:150]]
            + [{"kind": "regex", "value": f"{word}.{{0,20}}{number}", "label": "ham"} for word in words[:20]],
            LABELS,
            None,
        )
        for number in range(100)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    voter = RuleVoter(lists, [LABELS] * len(lists))
    votes = voter.votes([" ".join(words[i:] + words[:i]) + f" {words[i]}{i}" for i in range(100)])
    assert (votes[range(100), range(100)] >= 0).all()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 700
