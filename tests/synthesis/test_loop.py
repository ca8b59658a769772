from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.near import THRESHOLD, jaccard, shingles
from factory.synthesis.loop import Check, Loop, State, diagnosis, trim
from factory.synthesis.screen import TextScreen
from factory.synthesis.values import Answer, Checked, Draw, Dropped, Goal, Part, Slot

LABELS = ("ham", "spam")
WORDS = [
    f"{a}{b}" for a in ("ba", "ke", "li", "mo", "nu", "pra", "sti") for b in ("ron", "tel", "vim", "zad", "gos", "fip")
]


class Endless:
    """A method that always has another slot."""

    name = "endless"

    def __init__(self, at_most: int = 10_000) -> None:
        self.at_most = at_most

    def draw(self, label: str, first: int, count: int, written: Mapping[str, Sequence[Part]]) -> list[Draw]:
        return [Draw({"number": at}, {}, at) for at in range(first, min(first + count, self.at_most))]


def text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(12))


def answer(slot: Slot, per_answer: int, *, broken: float, repeats: float, seed: int) -> Answer:
    """What a flaky model says to a slot: nothing, a refusal, one of three texts it always says, or something new."""
    rng = random.Random(f"{seed}/{slot.slot_no}/{slot.kind}")
    if slot.kind == "check":
        return Checked(rng.choice([slot.label, slot.label, *LABELS]), rng.random())
    if rng.random() < broken:
        return Dropped(rng.choice(["refusal", "length", "empty"]))
    texts = [text(random.Random(rng.randrange(3))) if rng.random() < repeats else text(rng) for _ in range(per_answer)]
    return [*texts, "I'm sorry, but I cannot help with that."] if rng.random() < 0.2 else texts


def run(loop: Loop, answers, state: State | None = None, *, rounds: int = 60) -> State:  # type: ignore[no-untyped-def]
    state = State() if state is None else state
    by_no = {slot.slot_no: slot for slot in state.slots}
    slots = [by_no[no] for no in state.open]
    for _ in range(rounds):
        state, slots = loop.step(state, {slot.slot_no: answers(slot) for slot in slots})
        if state.finished:
            return state
    raise AssertionError("it never ends")


@settings(max_examples=30, deadline=None)
@given(
    per_label=st.integers(1, 12),
    per_answer=st.integers(1, 3),
    broken=st.floats(0, 0.7),
    repeats=st.floats(0, 0.7),
    checked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_yields_are_exact_whatever_the_model_does(
    per_label: int, per_answer: int, broken: float, repeats: float, checked: bool, seed: int
) -> None:
    goal = Goal(per_label, candidates=400, texts_per_answer=per_answer, patience=10**6)
    check = Check(relabel=bool(seed % 2), share=0.3, uncertain="drop") if checked else None
    loop = Loop(Endless(), goal, LABELS, TextScreen(held_out=[], check_text=_no_refusals), check=check)
    state = run(loop, lambda slot: answer(slot, per_answer, broken=broken, repeats=repeats, seed=seed))
    for label in LABELS:
        assert sum(part.label == label for part in state.accepted) == per_label
    texts = [part.text for part in state.accepted]
    assert all(jaccard(shingles(a), shingles(b)) < THRESHOLD for i, a in enumerate(texts) for b in texts[:i])


@settings(max_examples=30, deadline=None)
@given(per_label=st.integers(2, 12), broken=st.floats(0.3, 1.0), seed=st.integers(0, 1000))
def test_never_more_is_asked_than_the_budget(per_label: int, broken: float, seed: int) -> None:
    goal = Goal(per_label, candidates=2, patience=10**6)
    loop = Loop(Endless(), goal, LABELS, TextScreen(held_out=[]))
    state = run(loop, lambda slot: answer(slot, 1, broken=broken, repeats=0, seed=seed))
    for label in LABELS:
        asked = sum(slot.label == label for slot in state.slots)
        have = sum(part.label == label for part in state.accepted)
        assert asked <= goal.budget
        assert have == per_label or (
            state.ended[label] == "budget" and f"{have} of {per_label}" in diagnosis(state, label, goal)
        )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1000), cut=st.integers(0, 4), checked=st.booleans(), shuffle=st.integers(0, 99))
def test_beginning_again_from_what_was_decided_changes_nothing(
    seed: int, cut: int, checked: bool, shuffle: int
) -> None:
    check = Check(share=0.3, uncertain="drop") if checked else None

    def fresh() -> Loop:
        return Loop(
            Endless(), Goal(8, candidates=40), LABELS, TextScreen(held_out=[], check_text=_no_refusals), check=check
        )

    def say(slot: Slot) -> Answer:
        return answer(slot, 1, broken=0.4, repeats=0.3, seed=seed)

    undisturbed = run(fresh(), say)
    loop, state, slots = fresh(), State(), []
    for _ in range(cut):
        ordered = sorted(slots, key=lambda slot: random.Random(f"{shuffle}/{slot.slot_no}").random())
        state, slots = loop.step(state, {slot.slot_no: say(slot) for slot in ordered})
        if state.finished:
            break
    if not state.finished:
        if state.pending:
            # Only decided texts are stored: the round is screened again from its answers.
            open_ = [
                s.slot_no for s in state.slots if s.kind == "write" and s.round == max(x.round for x in state.slots)
            ]
            parts = tuple(part for part in state.parts if part.slot_no not in open_)
            failed = {no: failure for no, failure in state.failed.items() if no not in open_}
            state = State(slots=state.slots, parts=parts, open=tuple(open_), failed=failed)
        again = fresh()
        state = run(again, say, again.begin(state))
    assert state.parts == undisturbed.parts
    assert state.slots == undisturbed.slots
    assert state.failed == undisturbed.failed


def test_a_collapsed_yield_ends_early_with_the_reason() -> None:
    goal = Goal(100, candidates=50, patience=40, min_yield=0.05)
    loop = Loop(Endless(), goal, LABELS, TextScreen(held_out=[]))
    state = run(
        loop,
        lambda slot: (
            ["always the very same text"] if slot.label == "ham" else answer(slot, 1, broken=0, repeats=0, seed=1)
        ),
    )
    assert state.ended == {"ham": "collapsed"}
    assert sum(slot.label == "ham" for slot in state.slots) < 500
    line = diagnosis(state, "ham", goal)
    assert line.startswith("ham: 1 of 100 after ")
    assert "(collapsed); mostly duplicate" in line


def test_exhausted_materials_are_said() -> None:
    loop = Loop(Endless(at_most=3), Goal(5), LABELS, TextScreen(held_out=[]))
    state = run(loop, lambda slot: answer(slot, 1, broken=0, repeats=0, seed=1))
    assert state.ended == {"ham": "exhausted", "spam": "exhausted"}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n_held_out=st.integers(1, 5))
def test_nothing_near_a_held_out_text_is_accepted(seed: int, n_held_out: int) -> None:
    rng = random.Random(seed)
    held_out = [text(rng) for _ in range(n_held_out)]

    def say(slot: Slot) -> Answer:
        own = random.Random(f"{seed}/{slot.slot_no}")
        if own.random() < 0.5:
            words = own.choice(held_out).split()
            words[own.randrange(len(words))] = own.choice(WORDS)
            return [" ".join(words).upper() + "!"]
        return [text(own)]

    loop = Loop(
        Endless(),
        Goal(6, candidates=100, patience=10**6),
        LABELS,
        TextScreen(held_out=held_out, exempt=["near_held_out"]),
    )
    state = run(loop, say)
    for part in state.accepted:
        assert all(jaccard(shingles(part.text), shingles(other)) < THRESHOLD for other in held_out)


def test_trimming_keeps_the_most_confident_of_each_label() -> None:
    parts = tuple(Part(at, 0, f"t{at}", LABELS[at % 2]) for at in range(10))
    state = trim(State(parts=parts), {(at, 0): at / 10 for at in range(10)}, per_label=4, keep=0.8)
    assert [part.slot_no for part in state.accepted] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert {part.drop_reason for part in state.parts if part.slot_no < 2} == {"cartography"}


def test_a_slot_without_an_answer_is_an_error() -> None:
    loop = Loop(Endless(), Goal(2), LABELS, TextScreen(held_out=[]))
    state, slots = loop.step(State(), {})
    with pytest.raises(KeyError):
        loop.step(state, {slots[0].slot_no: ["one"]})


def _no_refusals(text: str, passage: str | None) -> tuple[str, str] | None:
    return ("refusal", "") if "sorry" in text else None
