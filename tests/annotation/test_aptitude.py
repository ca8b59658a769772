"""What a model is good for is told from its answers on texts whose labels nobody knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factory.annotation.aptitude import FEWEST_SEEDS, Aptitude, Read, looped
from factory.pipeline.aptitude import agreement

GOOD = Aptitude(
    Read(40, 40), Read(4, 4), itself=0.9, encoder=0.5, shares={"ham": 0.6, "spam": 0.4}, votes=0.7, covered=0.8
)


def test_a_model_that_agrees_with_itself_and_whose_programs_do_is_good_for_both() -> None:
    assert GOOD.sentence == "on your texts this model is good for labels and programs"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"itself": 0.5}, "doubtful for labels and programs: compare with a larger one"),
        ({"encoder": 0.1}, "doubtful for labels and programs: compare with a larger one"),
        ({"encoder": None}, "good for labels and programs"),
        ({"encoder": 0.1, "seeds": (7, FEWEST_SEEDS), "encoder_seeds": 5}, "good for labels and programs"),
        ({"itself": 0.1}, "doubtful for programs, no good for labels: compare"),
        ({"labels": Read(40, 20, refused=20)}, "doubtful for programs, no good for labels"),
        ({"shares": {"ham": 0.95, "spam": 0.05}}, "doubtful for programs, no good for labels"),
        ({"programs": Read(4, 1, looped=3)}, "good for labels, no good for programs"),
        ({"votes": -0.1}, "good for labels, no good for programs"),
        ({"votes": None}, "good for labels, no good for programs"),
        ({"seeds": (4, FEWEST_SEEDS), "encoder_seeds": 6}, "doubtful for programs, no good for labels"),
        ({"seeds": (7, FEWEST_SEEDS), "encoder_seeds": 6}, "good for labels and programs"),
    ],
)
def test_what_is_wrong_changes_what_it_is_good_for(change: dict[str, object], words: str) -> None:
    assert words in replace(GOOD, **change).sentence  # type: ignore[arg-type]


def test_agreement_is_beyond_chance() -> None:
    assert agreement(["a"] * 10, ["a"] * 10) == 0.0, "always the same label agrees by chance alone"
    assert agreement(["a", "b"] * 5, ["a", "b"] * 5) == 1.0
    assert agreement(["a", None], [None, "a"]) == 0.0


RULE = '{{"kind": "word", "value": "{}", "label": "spam"}}'


@pytest.mark.parametrize(("form", "between"), [(RULE, ", "), ("- {}", "\n"), ('"{}"', ", ")])
def test_a_list_that_repeats_one_rule_is_looped(form: str, between: str) -> None:
    assert looped(between.join([form.format("win")] * 40))
    assert not looped(between.join(form.format(f"win {number}") for number in range(40)))
