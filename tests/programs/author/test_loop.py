"""The plan of an authoring run: nothing is asked for twice, and the ready pipelines' plans stay as they were recorded."""

from __future__ import annotations

from collections import Counter

import pytest

from factory.programs.author.loop import plan_slots
from factory.programs.author.similar import near_copy, plain_source


@pytest.mark.parametrize("form", ["python", "rules", "both"])
@pytest.mark.parametrize("labels", [2, 3, 4, 7])
def test_no_approach_comes_twice_with_the_same_evidence_while_others_are_left(form: str, labels: int) -> None:
    names = [f"l{i}" for i in range(labels)]
    slots = plan_slots(names, kind="single", candidates=24, programs=24, form=form)
    seen = Counter((slot.approach.name, slot.variant, slot.focus) for slot in slots)
    assert max(seen.values()) == 1
    multi = plan_slots(names, kind="multi", candidates=12 * labels, form=form)
    assert max(Counter((slot.approach.name, slot.variant, slot.target) for slot in multi).values()) == 1


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_both_forms_share_every_approach(kind: str) -> None:
    slots = plan_slots(["a", "b", "c"], kind=kind, candidates=72, form="both")
    asked = {(slot.approach.name, slot.form) for slot in slots}
    assert {form for _, form in asked} == {"python", "rules"}
    assert len(asked) == 2 * len({name for name, _ in asked})
    assert abs(sum(slot.form == "rules" for slot in slots) - 36) <= 6


def test_a_longer_plan_begins_with_a_shorter_one() -> None:
    short = plan_slots(["a", "b"], kind="single", candidates=6, programs=6, form="both")
    assert plan_slots(["a", "b"], kind="single", candidates=20, programs=6, form="both")[:6] == short


def test_plans_of_the_recorded_pipelines_repeat_their_variants() -> None:
    slots = plan_slots(["a", "b"], kind="single", candidates=16, programs=14, varied=False)
    focused = [(slot.approach.name, slot.variant) for slot in slots if slot.focus == ("a",)]
    assert focused[0] == focused[3] == ("sure", 0)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("society & culture", "society_culture-sure-common-2"),
        ("C++", "c-sure-common-2"),
        ("__x  y__", "x_y-sure-common-2"),
        ("Ärger", "ärger-sure-common-2"),
    ],
)
def test_names_are_plain(label: str, name: str) -> None:
    assert plan_slots([label, "other"], kind="single", candidates=2, programs=8)[1].name == name


def test_near_copies_are_found_in_either_form_and_in_bounded_time() -> None:
    one = plain_source("def label(text):\n    return 'a' if 'x' in text else None  # a comment")
    assert (
        near_copy(one, ["something else", plain_source("def label(text):\n  return 'a'   if 'x' in text else None")])
        == 1
    )
    rules = '{"rules":[{"kind":"word","label":"a","value":"x"},{"kind":"word","label":"a","value":"y"}]}'
    turned = '{"rules":[{"kind":"word","label":"a","value":"y"},{"kind":"word","label":"a","value":"x"}]}'
    other = '{"rules":[{"kind":"word","label":"a","value":"p"},{"kind":"word","label":"a","value":"q"}]}'
    assert near_copy(plain_source(rules, "rules"), [plain_source(other, "rules"), plain_source(turned, "rules")]) == 1
    import time

    began = time.process_time()
    assert near_copy("a b " * 8000, ["b a " * 8000, "a b c " * 6000]) == 0
    assert time.process_time() - began < 2
