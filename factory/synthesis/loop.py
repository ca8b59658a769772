"""The loop of synthesis: plan a round of numbered slots, decide in slot order, top up what falls short.

`Loop.step(state, answers) -> (state, slots to ask)` knows neither a warehouse nor an engine. What is decided depends only on the
slots and their answers, never on the order in which answers arrived, so a killed run that begins again from its stored state ends
like an undisturbed one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from factory.synthesis.screen import TextScreen
from factory.synthesis.values import Answer, Checked, Dropped, Goal, Method, Part, Slot

REMEMBERED = frozenset({None, "label_check", "surplus", "cartography"})
"""Later texts are compared with the accepted ones and with those dropped for one of these reasons."""


@dataclass(frozen=True)
class State:
    """Everything decided so far.

    Attributes:
        slots: All slots, by number.
        parts: All decided texts, in slot order.
        open: Numbers of the slots of the running round that are not decided.
        pending: Texts of the running round that passed the filters and await their check.
        failed: Slots that gave no text, with the reason.
        ended: Labels that get no more slots though they are short, with the reason.
        finished: Nothing more will be asked.
    """

    slots: tuple[Slot, ...] = ()
    parts: tuple[Part, ...] = ()
    open: tuple[int, ...] = ()
    pending: tuple[Part, ...] = ()
    failed: Mapping[int, Dropped] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)
    finished: bool = False

    @property
    def accepted(self) -> list[Part]:
        """The texts that were kept, in slot order."""
        return [part for part in self.parts if part.drop_reason is None]

    @cached_property
    def by_no(self) -> Mapping[int, Slot]:
        """The slots by number."""
        return {slot.slot_no: slot for slot in self.slots}

    @cached_property
    def by_place(self) -> Mapping[tuple[int, int], Part]:
        """The texts by `(slot_no, part_no)`, pending ones included."""
        return {(part.slot_no, part.part_no): part for part in (*self.parts, *self.pending)}


@dataclass(frozen=True)
class Check:
    """An independent vote on each text's label.

    Attributes:
        samples: How often it is asked of each text.
        share: The share of samples that must agree.
        relabel: The text is kept for the label that the check gives (Self-Guide), instead of being dropped.
        uncertain: What becomes of a text on which the check abstains.
    """

    samples: int = 1
    share: float = 0.0
    relabel: bool = False
    uncertain: Literal["keep", "drop"] = "keep"


@dataclass(frozen=True)
class Loop:
    """One plan's loop.

    Attributes:
        method: What to ask.
        goal: What is wanted.
        labels: The labels to write for, in order.
        screen: The filters, with the memory of the texts that came before `state`.
        passages: Text of a passage by its number, for the copy filter.
        check: The label check, or None for none.
    """

    method: Method
    goal: Goal
    labels: Sequence[str]
    screen: TextScreen
    passages: Mapping[int, str] = field(default_factory=dict)
    check: Check | None = None

    def step(self, state: State, answers: Mapping[int, Answer]) -> tuple[State, list[Slot]]:
        """Take the answers of the open slots and say which slots to ask next.

        Args:
            state: The last state (`State()` to begin).
            answers: By slot number, one for each open slot.

        Returns:
            The new state, and the slots to ask (none when it is finished).

        Raises:
            KeyError: An open slot has no answer.
        """
        if state.open and state.by_no[state.open[0]].kind == "check":
            state = self._decide(state, state.pending, {no: answers[no] for no in state.open})
        elif state.open:
            state, pending = self._screen(state, answers)
            if self.check is not None and pending:
                return self._ask_checks(state, pending)
            state = self._decide(state, pending, {})
        return self._plan(state)

    def begin(self, state: State) -> State:
        """Remember the texts of a state that was read back."""
        for part in state.parts:
            if part.drop_reason in REMEMBERED:
                self.screen.remember(part.text)
        return state

    # ------------------------------------------------------------------------------------------------------------------
    def _screen(self, state: State, answers: Mapping[int, Answer]) -> tuple[State, list[Part]]:
        failed, parts = dict(state.failed), list(state.parts)
        pending: list[Part] = []
        for slot_no in state.open:
            slot, answer = state.by_no[slot_no], answers[slot_no]
            if isinstance(answer, Dropped):
                failed[slot_no] = answer
                continue
            if isinstance(answer, (Checked, Mapping)):
                raise TypeError(f"slot {slot_no} writes texts, and its answer is no list of them")
            passage = self.passages.get(slot.parents.get("passage", -1))
            for part_no, text in enumerate(answer):
                verdict = self.screen.screen(text, passage)
                part = Part(slot_no, part_no, text, slot.label, *(verdict or (None, "")))
                (parts if verdict else pending).append(part)
        return replace(state, failed=failed, parts=tuple(parts)), pending

    def _ask_checks(self, state: State, pending: Sequence[Part]) -> tuple[State, list[Slot]]:
        assert self.check is not None
        known = {(slot.parents["slot"], slot.parents["part"]): slot for slot in state.slots if slot.kind == "check"}
        first = max((slot.slot_no for slot in state.slots), default=-1) + 1
        round_ = max(slot.round for slot in state.slots)
        slots: list[Slot] = []
        fresh: list[Slot] = []
        for part in pending:
            slot = known.get((part.slot_no, part.part_no))
            if slot is None:
                parents = {"slot": part.slot_no, "part": part.part_no}
                number, spec = first + len(fresh), {"samples": self.check.samples}
                slot = Slot(number, round_, "check", part.label, spec, parents)
                fresh.append(slot)
            slots.append(slot)
        numbers = tuple(slot.slot_no for slot in slots)
        return replace(state, slots=(*state.slots, *fresh), open=numbers, pending=tuple(pending)), slots

    def _decide(self, state: State, pending: Sequence[Part], checks: Mapping[int, Answer]) -> State:
        asked = {slot_no: state.by_no[slot_no].parents for slot_no in checks}
        verdicts = {(asked[no]["slot"], asked[no]["part"]): answer for no, answer in checks.items()}
        counts = dict.fromkeys(self.labels, 0) | Counter(part.label for part in state.accepted)
        decided = []
        for part in pending:
            if self.check is not None:
                part = _checked(part, verdicts.get((part.slot_no, part.part_no), Checked(None)), self.check)
            if part.drop_reason is None:
                if counts.get(part.label, self.goal.per_label) >= self.goal.per_label:
                    part = replace(part, drop_reason="surplus", detail="the label has what was asked for")
                else:
                    counts[part.label] += 1
            decided.append(part)
        parts = sorted([*state.parts, *decided], key=lambda part: (part.slot_no, part.part_no))
        return replace(state, parts=tuple(parts), open=(), pending=())

    def _plan(self, state: State) -> tuple[State, list[Slot]]:
        """The next round: slots for every label that is short and has not ended."""
        round_ = max((slot.round for slot in state.slots), default=-1) + 1
        next_no = max((slot.slot_no for slot in state.slots), default=-1) + 1
        ended: dict[str, str] = {}
        fresh: list[Slot] = []
        written = self._written(state)
        for label in self.labels:
            have, asked = self._counts(state, label)
            reason = self._end(have, asked)
            draws = []
            if have < self.goal.per_label and reason is None:
                first = sum(slot.kind == "write" and slot.label == label for slot in state.slots)
                draws = self.method.draw(label, first, self._wanted(have, asked), written)
                reason = None if draws else "exhausted"
            if reason is not None and have < self.goal.per_label:
                ended[label] = reason
            for draw in draws:
                number = next_no + len(fresh)
                fresh.append(Slot(number, round_, "write", label, draw.spec, draw.parents, draw.sample_no))
        numbers = tuple(slot.slot_no for slot in fresh)
        return replace(state, slots=(*state.slots, *fresh), open=numbers, ended=ended, finished=not fresh), fresh

    def _counts(self, state: State, label: str) -> tuple[int, int]:
        """Accepted texts of a label, and texts asked for it."""
        have = sum(part.label == label for part in state.accepted)
        slots = sum(slot.kind == "write" and slot.label == label for slot in state.slots)
        return have, slots * self.goal.texts_per_answer

    def _end(self, have: int, asked: int) -> str | None:
        if asked + self.goal.texts_per_answer > self.goal.budget and asked > 0:
            return "budget"
        if asked >= self.goal.patience and have < self.goal.min_yield * asked:
            return "collapsed"
        return None

    def _wanted(self, have: int, asked: int) -> int:
        """Slots for the next round of a label: the shortfall over the yield so far, within the budget."""
        share = max((have + 1) / (asked + 1), self.goal.min_yield) if asked else 1.0
        texts = (self.goal.per_label - have) / share * self.goal.oversample
        slots = math.ceil(round(texts / self.goal.texts_per_answer, 6))
        most = max(1, (self.goal.budget - asked) // self.goal.texts_per_answer)
        return max(1, min(slots, most, self.goal.round_size or slots))

    def _written(self, state: State) -> dict[str, list[Part]]:
        written = defaultdict[str, list[Part]](list)
        for part in state.parts:
            if part.drop_reason in REMEMBERED:
                written[part.label].append(part)
        return written


def trim(state: State, scores: Mapping[tuple[int, int], float], per_label: int, keep: float) -> State:
    """Keep the share `keep` of each label's accepted texts with the highest scores, and at most `per_label` of them.

    Args:
        state: A finished state.
        scores: Training confidence by `(slot_no, part_no)`.
        per_label: The number that was asked for.
        keep: 0 to 1.
    """
    trimmed = dict(state.by_place)
    for label in {part.label for part in state.accepted}:
        own = {
            place: part for place, part in state.by_place.items() if part.drop_reason is None and part.label == label
        }
        for place in sorted(own, key=lambda at: (-scores[at], at))[min(per_label, math.ceil(keep * len(own))) :]:
            trimmed[place] = replace(own[place], drop_reason="cartography", detail=f"confidence {scores[place]:.3f}")
    return replace(state, parts=tuple(trimmed.values()))


def diagnosis(state: State, label: str, goal: Goal) -> str:
    """One line on why a label fell short: `World: 12 of 100 after 300 asked for (budget); mostly near_duplicate (140)`."""
    mine = {slot.slot_no for slot in state.slots if slot.label == label}
    reasons = Counter(part.drop_reason for part in state.parts if part.slot_no in mine and part.drop_reason)
    for slot_no in mine & set(state.failed):
        reasons[state.failed[slot_no].reason] += goal.texts_per_answer
    have = sum(part.label == label for part in state.accepted)
    asked = goal.texts_per_answer * sum(s.kind == "write" and s.label == label for s in state.slots)
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
    why = ", ".join(f"{name} ({count})" for name, count in most)
    line = f"{label}: {have} of {goal.per_label} after {asked} asked for ({state.ended.get(label, 'done')})"
    return f"{line}; mostly {why}" if why else line


def _checked(part: Part, verdict: Any, check: Check) -> Part:
    if not isinstance(verdict, Checked) or verdict.label is None or verdict.share < check.share:
        if check.uncertain == "keep":
            return part
        said = verdict.reason if isinstance(verdict, Dropped) else "undecided"
        return replace(part, drop_reason="label_check", detail=said)
    if verdict.label == part.label:
        return part
    if check.relabel:
        return replace(part, label=verdict.label, detail=f"asked for as {part.label}")
    return replace(part, drop_reason="label_check", detail=f"the check says {verdict.label}")
