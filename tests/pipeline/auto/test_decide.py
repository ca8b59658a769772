"""What is bought next, on simulated worlds: the truth of each is known, and a purchase brings it with noise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from factory.pipeline.auto.curves import CURVES, first_programs
from factory.pipeline.auto.decide import Bought, LabelState, Purchase, State, Stop, decide, learned, offers

PRICES = {kind: 2500.0 * curve.price for kind, curve in CURVES.items()}
EVEN = tuple(LabelState(name, 0.25, 0.8) for name in "abcd")


def begin(**changes: object) -> State:
    first = Bought("first", 12, spent=30_000.0)
    state = State((first,), 12, 0, EVEN, None, 0.3, PRICES, inf, {}, 12)
    return replace(state, **changes)  # type: ignore[arg-type]


def live(state: State, truth: dict[str, float], *, noise: float, seed: int = 0) -> tuple[list[Purchase], str]:
    """Buy until there is a stop: each purchase brings its kind's true `theta` times its reach, measured with noise."""
    rng, made = np.random.default_rng(seed), []
    while isinstance(one := decide(state), Purchase):
        made.append(one)
        gain = truth.get(one.kind, 0.0) * one.reach
        bought = Bought(one.kind, one.size, one.reach, one.price, gain + rng.normal(0, noise), noise, one.label)
        state = replace(
            state, bought=(*state.bought, bought), rounds=state.rounds - 1, left=state.left - one.price,
            score=(0.75 if state.score is None else state.score) + gain,
            programs=state.programs + one.size * ("programs" in one.kind),
            anchors=state.anchors + one.size * (one.kind == "anchors"),
        )  # fmt: skip
    return made, one.why


def spent(made: list[Purchase], *kinds: str) -> float:
    return sum(one.price for one in made if one.kind in kinds)


PROGRAMS = ("programs", "label_programs", "conflict_programs")


def test_where_programs_cannot_work_anchors_are_bought() -> None:
    made, _ = live(begin(score=0.35), {"anchors": 0.15}, noise=0.01)
    assert [one.kind for one in made[-3:]] == ["anchors"] * 3
    assert spent(made, "anchors") > spent(made, *PROGRAMS)


def test_where_the_annotator_is_at_chance_programs_are_bought_and_then_nothing() -> None:
    made, why = live(begin(conflicts=0.0), {"programs": 0.2}, noise=0.01)
    assert Counter(one.kind for one in made)["anchors"] <= 2
    assert spent(made, *PROGRAMS) > 3 * spent(made, "anchors")
    made, why = live(begin(rounds=40), {}, noise=0.005)
    assert "nothing promises more than noise" in why
    assert len(made) < 20, "no kind is tried for ever"


@pytest.mark.parametrize("kind", ["texts", "label_programs"])
def test_a_label_in_a_hundredth_of_the_texts_is_bought_for(kind: str) -> None:
    labels = (*(LabelState(name, 0.33, 0.9) for name in "abc"), LabelState("rare", 0.01, 0.1))
    state = begin(labels=labels, score=0.8, anchors=100, conflicts=0.0)
    if kind == "label_programs":
        state = replace(state, most={"texts": 0})
    found = decide(state)
    assert isinstance(found, Purchase)
    assert (found.kind, found.label) == (kind, "rare")
    assert "the most for its price" in found.why


def test_a_label_that_is_common_gets_no_synthetic_texts() -> None:
    assert not [one for one in offers(begin(score=0.8)) if one.kind == "texts"]
    assert [one.label for one in offers(begin(score=0.8)) if one.kind == "label_programs"] == ["a"]


def test_a_difference_within_noise_moves_no_money() -> None:
    state = begin(programs=36, conflicts=0.0, most={"label_programs": 0}, rounds=3)
    made, _ = live(state, {}, noise=3.0)
    assert made[0].kind == "anchors", "less was spent on them"
    assert made[0].why == "no difference above its standard error: half to programs and half to anchors"
    assert abs(spent(made, "programs") + 30_000.0 - spent(made, "anchors")) <= max(one.price for one in made)
    for seed in range(5):
        assert [one.kind for one in live(state, {}, noise=3.0, seed=seed)[0]] == [one.kind for one in made]


def test_what_was_measured_well_moves_an_expectation_and_noise_does_not() -> None:
    prior, sd = learned("programs", ())
    same, wide = learned("programs", [Bought("programs", 12, 0.2, gain=-0.05, error=0.5)])
    assert same == pytest.approx(prior, abs=0.01)
    assert wide == pytest.approx(sd, rel=0.01)
    moved, narrow = learned("programs", [Bought("programs", 12, 0.2, gain=0.0, error=0.004)])
    assert abs(moved) < 0.03
    assert narrow < sd / 2
    assert learned("programs", [Bought("anchors", 100, 0.2, gain=0.0, error=0.004)]) == (prior, sd)
    assert learned("programs", [Bought("programs", 12, 0.2)]) == (prior, sd), "what could not be measured tells nothing"


def test_it_stops_at_the_budget_and_at_the_last_round_and_says_so() -> None:
    made, why = live(begin(left=100_000.0), {}, noise=0.2)
    assert sum(one.price for one in made) <= 100_000.0
    assert why.startswith("the budget: ")
    assert "is left" in why
    assert decide(begin(left=9_000.5, conflicts=0.0)) == Stop(
        "the budget: 12 programs would take 30,000, and 9,000 is left"
    )
    last = decide(begin(left=20_000.0))
    assert isinstance(last, Purchase)
    assert last.size == (8 if last.kind == "programs" else 40), "what is left pays for a part"
    assert decide(begin(rounds=0)) == Stop("as many rounds as are allowed")
    assert decide(begin(most=dict.fromkeys(CURVES, 0))) == Stop("nothing more is on offer")


def test_programs_that_are_not_to_be_had_are_not_offered() -> None:
    state = begin(most={"programs": 4, "conflict_programs": 0, "label_programs": 0})
    assert {one.kind: one.size for one in offers(state)} == {"programs": 4, "anchors": 100}


def test_the_first_round_grows_with_the_labels_up_to_a_limit() -> None:
    assert [first_programs(labels) for labels in (2, 6, 7, 20, 24, 200)] == [12, 12, 14, 40, 48, 48]
