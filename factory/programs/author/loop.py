"""The authoring loop as a pure core: the plan of slots, what each prompt is given, and what becomes of the answers.

Alchemist (arXiv 2407.11004) asks for ten programs with one prompt and keeps whatever comes. Here a plan of approaches x variants
makes programs differ by design; every answer is tried on texts, repaired by showing the model our own words about its error, and
accepted in slot order, never in order of arrival.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from factory.programs.author.rubrics import RUBRICS, SMALL_WORDS, VARIANTS, Rubric
from factory.programs.author.similar import functional_hash, near_copy, plain_source


@dataclass(frozen=True)
class Slot:
    """One program to be asked for.

    Attributes:
        number: Its place in the plan, from 0.
        approach: The rubric.
        variant: Index into `VARIANTS`.
        focus: Labels it speaks of; empty for all.
        target: The one label of a `multi` task, or None.
        form: `python` or `rules`.
    """

    number: int
    approach: Rubric
    variant: int
    focus: tuple[str, ...] = ()
    target: str | None = None
    form: str = "python"

    @property
    def name(self) -> str:
        """A name for people: `"vocabulary-common-1"`, `"spam-sure-names-4"`."""
        about = self.target or (self.focus[0] if len(self.focus) == 1 else "group" if self.focus else "")
        slug = re.sub(r"[\W_]+", "_", about.lower()).strip("_")[:40]
        return "-".join(filter(None, [slug, self.approach.name, VARIANTS[self.variant][0], str(self.number + 1)]))

    @property
    def taken_as(self) -> str:
        """How later prompts speak of this slot's approach."""
        return f"{self.approach.title} ({VARIANTS[self.variant][0]} evidence)"


def plan_slots(
    labels: Sequence[str],
    *,
    kind: str,
    candidates: int,
    variants: int = 4,
    programs: int | None = None,
    form: str = "python",
    varied: bool = True,
    only: Sequence[str] | None = None,
    apart: Sequence[tuple[str, ...]] | None = None,
) -> list[Slot]:
    """The slots of a plan; a longer plan begins with a shorter one.

    A `single` task alternates programs that speak of all labels with programs that speak of one label (of a few, where there are
    more labels than programs to give them). A `multi` task goes round the labels, approach by approach. No approach comes twice
    with the same variant for the same labels, as long as there are others.

    Args:
        labels: Label names in the card's order.
        kind: `single` or `multi`.
        candidates: How many slots.
        variants: How many of `VARIANTS` to use, 1 to 4.
        programs: How many accepted programs are wanted (decides the size of label groups); `candidates` by default.
        form: `python`, `rules`, or `both`, which takes turns so that every approach is asked for in either.
        varied: False repeats the variants of programs that speak of one label, as the pipelines were recorded.
        only: Programs for each of these labels alone.
        apart: Groups of labels, for a card of many: programs of a `single` task speak of one group each, and none of all labels.
    """
    variants = max(1, min(variants, len(VARIANTS)))

    def form_at(place: int, round_no: int) -> str:
        return form if form != "both" else ("python", "rules")[(place + round_no) % 2]

    slots: list[Slot] = []
    if kind == "multi":
        labels = only or labels
        for number in range(candidates):
            round_no, at = divmod(number, len(labels))
            mine = form_at(at, round_no)
            table = RUBRICS["targeted", mine]
            variant = (round_no // len(table)) % variants
            slots.append(Slot(number, table[round_no % len(table)], variant, target=labels[at], form=mine))
        return slots
    wanted = programs or candidates
    per_group = -(-len(labels) // max(1, min(len(labels), wanted // 2)))
    groups = [tuple(labels[i : i + per_group]) for i in range(0, len(labels), per_group)]
    groups = groups if only is None else [(name,) for name in only]
    groups = groups if apart is None else list(apart)
    grouped = bool(only) or apart is not None
    size = {scope: len(RUBRICS[scope, "python"]) for scope in ("broad", "focused")}
    for number in range(candidates):
        count = number if grouped else number // 2
        if not grouped and number % 2 == 0:
            round_no, at = divmod(count, size["broad"])
            mine = form_at(at, round_no)
            slots.append(Slot(number, RUBRICS["broad", mine][at], (round_no + at) % variants, form=mine))
        else:
            round_no, at = divmod(count, len(groups))
            turn, place = divmod(round_no, size["focused"])
            mine = form_at(at, round_no)
            variant = (turn + (place if varied else round_no)) % variants
            slots.append(Slot(number, RUBRICS["focused", mine][place], variant, focus=groups[at], form=mine))
    return slots


def taken_before(slots: Sequence[Slot], slot: Slot) -> list[str]:
    """The approaches of earlier slots that speak of the same labels, each once, in order. From the plan, not from answers."""
    same = [s.taken_as for s in slots[: slot.number] if (s.focus, s.target) == (slot.focus, slot.target)]
    return list(dict.fromkeys(same))


def values_of(
    slot: Slot,
    slots: Sequence[Slot],
    card_values: Mapping[str, Any],
    *,
    examples: Sequence[str],
    seeds: Sequence[Mapping[str, str]] = (),
    knowledge: str = "",
    small: bool = False,
) -> dict[str, Any]:
    """The inputs of the slot's prompt.

    A `small` model's list of rules is asked for in fewer words, and always for all labels: asked for those of one alone, such a
    model lists what texts of the others say.
    """
    described = {item["name"]: item for item in card_values["labels"]}
    values = {
        **card_values, "examples": list(examples), "seeds": [dict(seed) for seed in seeds], "knowledge": knowledge,
        "taken": taken_before(slots, slot), "approach": slot.approach.words, "variant": VARIANTS[slot.variant][1],
    }  # fmt: skip
    if small and slot.form == "rules":
        values |= {"taken": [], "approach": SMALL_WORDS[slot.approach.name]}
    if slot.target is not None:
        values["target"] = [described[slot.target]]
    elif not (small and slot.form == "rules"):
        values["focus"] = [described[name] for name in slot.focus]
    return values


# Accepting in slot order ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Candidate:
    """What came of one slot.

    Attributes:
        slot: Which.
        source: The program, or None if no answer held one.
        votes: Its votes on the probe texts, or None.
        drop_reason: Why it is out already, or None.
        detail: Words for a person.
        request_key: Of the last answer.
        sample_no: Of the last answer.
    """

    slot: Slot
    source: str | None
    votes: np.ndarray | None
    drop_reason: str | None = None
    detail: str | None = None
    request_key: str | None = None
    sample_no: int | None = None


@dataclass(frozen=True)
class AuthorState:
    """The loop's state between rounds.

    Attributes:
        slots: The whole plan.
        wanted: How many programs are to be accepted.
        known: Sources of programs that exist already, as `plain_source` gives them.
        decided: Every candidate so far, in slot order, the drop reasons filled in.
    """

    slots: tuple[Slot, ...]
    wanted: int
    known: tuple[str, ...] = ()
    decided: tuple[Candidate, ...] = ()

    @property
    def accepted(self) -> tuple[Candidate, ...]:
        """The accepted candidates, in slot order."""
        return tuple(candidate for candidate in self.decided if candidate.drop_reason is None)

    @property
    def finished(self) -> bool:
        """Whether enough programs are accepted or the candidates are used up."""
        return len(self.accepted) >= self.wanted or len(self.decided) >= len(self.slots)


def step(state: AuthorState, answers: Sequence[Candidate]) -> tuple[AuthorState, list[Slot]]:
    """Decide on a round's candidates in slot order, and name the slots of the next round.

    Args:
        state: The state before.
        answers: The candidates of the slots asked last, in any order; empty for the first round.

    Returns:
        The new state, and the slots to ask now (none when finished): as many as programs are still missing.
    """
    votes, sources = {_votes_of(one) for one in state.accepted}, [*state.known, *map(_source_of, state.accepted)]
    decided = list(state.decided)
    for candidate in sorted(answers, key=lambda c: c.slot.number):
        if candidate.drop_reason is None:
            said, source = _votes_of(candidate), _source_of(candidate)
            reason, detail = None, candidate.detail
            if said in votes and candidate.votes is not None and (candidate.votes >= 0).any():
                reason, detail = "votes_alike", "votes exactly as another program on the probe texts"
            elif near_copy(source, sources) is not None:
                reason, detail = "near_copy", "nearly the same text as another program"
            else:
                votes.add(said)
                sources.append(source)
            candidate = replace(candidate, drop_reason=reason, detail=detail)
        decided.append(candidate)
    state = replace(state, decided=tuple(decided))
    if state.finished:
        return state, []
    return state, list(state.slots[len(decided) : len(decided) + state.wanted - len(state.accepted)])


def _votes_of(candidate: Candidate) -> tuple[str, str | None]:
    assert candidate.votes is not None
    return functional_hash(candidate.votes), candidate.slot.target


def _source_of(candidate: Candidate) -> str:
    return plain_source(candidate.source or "", candidate.slot.form)
