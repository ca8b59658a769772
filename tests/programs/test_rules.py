"""Rules become programs that say what the rules say, whatever a model put into them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from factory.programs import run_programs
from factory.programs.rules import rules_to_python
from factory.programs.sandbox.sealed.policy import check

LABELS = ["ham", "spam"]
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["word", "contains", "starts_with", "regex", "odd"]),
            "value": st.text(max_size=60),
            "label": st.sampled_from([*LABELS, "nothing"]),
        }
    ),
    max_size=20,
)


def test_most_rules_win_and_a_tie_abstains() -> None:
    rules = [
        {"kind": "word", "value": "win", "label": "spam"},
        {"kind": "starts_with", "value": "free", "label": "spam"},
        {"kind": "contains", "value": "lov", "label": "ham"},
        {"kind": "regex", "value": r"\bmum\w*", "label": "ham"},
        {"kind": "regex", "value": "(", "label": "ham"},
        {"kind": "regex", "value": "x*", "label": "ham"},
    ]
    source, dropped = rules_to_python(rules, LABELS)
    assert source is not None
    assert dropped == [
        "rule 5: its regular expression is not valid",
        "rule 6: its regular expression matches every text",
    ]
    texts = ["Free and WIN", "win but lovely", "winner", "glove mummy", "nothing"]
    assert run_programs([source], texts, LABELS).votes[:, 0].tolist() == [1, -1, -1, 0, -1]


def test_a_target_says_true_or_abstains() -> None:
    source, _ = rules_to_python([{"kind": "word", "value": "oil", "label": "crude"}], ["crude"], target="crude")
    assert source is not None
    assert run_programs([source], ["Oil price", "boil"], ["crude", "gold"], target="crude").votes[:, 0].tolist() == [
        1,
        -1,
    ]


@given(RULES)
@settings(max_examples=200, deadline=None)
def test_any_rules_give_a_program_within_the_policy_or_reasons(rules: list[dict[str, str]]) -> None:
    source, dropped = rules_to_python(rules, LABELS)
    if source is None:
        assert len(dropped) == len(rules)
    else:
        check(source)
