"""The words that a list of rules voted by, as they stand in the text; which rules match is what the reference says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.programs.rules import RuleVoter, read_rules, words_behind
from tests.programs.rules import reference

LABELS = ["no", "yes"]


def words(rules: list[dict[str, Any]], text: str, said: str | None = "yes") -> list[str]:
    found = read_rules(rules, LABELS, None)
    return words_behind(RuleVoter([found], [LABELS]), [found], text, [said])[0]


@pytest.mark.parametrize(
    ("rule", "text", "shown"),
    [
        ({"kind": "word", "value": "interest rates"}, "Higher Interest \n RATES soon", ["Interest RATES"]),
        ({"kind": "contains", "value": "hamm"}, "two HAMMERS", ["HAMM"]),
        ({"kind": "starts_with", "value": "who is"}, "Who is it?", ["Who is"]),
        ({"kind": "regex", "value": r"\d+ ?%"}, "up by 12 % today", ["12 %"]),
        ({"kind": "word", "value": "STRASSE"}, "eine Straße", ["STRASSE"]),
        ({"kind": "word", "value": "rates", "with": ["fed", "bank"]}, "The Fed and rates", ["rates (with Fed)"]),
        ({"kind": "word", "value": "rates", "unless": ["heart"]}, "heart rates", []),
        ({"kind": "contains", "value": "x" * 80}, "x" * 90, ["x" * 57 + "..."]),
    ],
)
def test_a_cue_is_shown_as_the_text_has_it(rule: dict[str, Any], text: str, shown: list[str]) -> None:
    assert words([{**rule, "label": "yes"}], text) == shown


def test_only_rules_of_the_label_that_was_said_count_and_the_heaviest_come_first() -> None:
    rules = [
        {"kind": "word", "value": "a", "label": "yes"},
        {"kind": "word", "value": "b", "label": "yes", "weight": 3},
        {"kind": "word", "value": "c", "label": "no"},
        *({"kind": "word", "value": value, "label": "yes"} for value in "defgh"),
    ]
    assert words(rules, "a b c") == ["b", "a"]
    assert words(rules, "a b c", "no") == ["c"]
    assert words(rules, "a b c", None) == []
    assert words(rules, "a b d e f g h") == ["b", "a", "d", "e", "f"], "five at most"


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"kind": st.sampled_from(["word", "contains"]), "value": st.sampled_from(["ab", "b", "É", "ß"])},
            optional={"with": st.just(["c"]), "unless": st.just(["d"])},
        ),
        min_size=1, max_size=4,
    ),
    st.text(alphabet="abcd éÉßs.", max_size=12),
)  # fmt: skip
def test_a_rule_has_fired_where_the_reference_says_so(rules: list[dict[str, Any]], text: str) -> None:
    found = read_rules([{**rule, "label": "yes"} for rule in rules], LABELS, None)
    (fired,) = RuleVoter([found], [LABELS]).fired(text)
    wanted = [at for at, rule in enumerate(found.rules) if reference.vote([rule.as_json()], text) == "yes"]
    assert [at for at, _ in fired] == wanted
