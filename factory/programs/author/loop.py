"""The authoring loop as a pure core: the plan of slots, what each prompt is given, and what becomes of the answers.

Alchemist (arXiv 2407.11004) asks for ten programs with one prompt and keeps whatever comes. Here a plan of approaches x variants
makes programs differ by design; every answer is probed in the sandbox, repaired by showing the model our own words about its
error, and accepted in slot order, never in order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from factory.programs.author.rubrics import BROAD, FOCUSED, TARGETED, VARIANTS, Rubric
from factory.programs.author.similar import functional_hash, near_copy, plain_source

NEARLY_ALL = 0.98
"""A coverage from which a program is flagged: it hardly ever abstains."""


@dataclass(frozen=True)
class Slot:
    """One program to be asked for.

    Attributes:
        number: Its place in the plan, from 0.
        approach: The rubric.
        variant: Index into `VARIANTS`.
        focus: Labels it speaks of; empty for all.
        target: The one label of a `multi` task, or None.
    """

    number: int
    approach: Rubric
    variant: int
    focus: tuple[str, ...] = ()
    target: str | None = None

    @property
    def name(self) -> str:
        """A name for people: `"vocabulary-common-1"`, `"spam-sure-names-4"`."""
        about = self.target or (self.focus[0] if len(self.focus) == 1 else "group" if self.focus else "")
        slug = "".join(c if c.isalnum() else "_" for c in about.lower())[:40]
        parts = [slug] if slug else []
        return "-".join([*parts, self.approach.name, VARIANTS[self.variant][0], str(self.number + 1)])

    @property
    def taken_as(self) -> str:
        """How later prompts speak of this slot's approach."""
        return f"{self.approach.title} ({VARIANTS[self.variant][0]} evidence)"


def plan_slots(
    labels: Sequence[str], *, kind: str, candidates: int, variants: int = 4, programs: int | None = None
) -> list[Slot]:
    """The slots of a plan; a longer plan begins with a shorter one.

    A `single` task alternates programs that speak of all labels with programs that speak of one label (of a few, where there are
    more labels than programs to give them). A `multi` task goes round the labels, approach by approach.

    Args:
        labels: Label names in the card's order.
        kind: `single` or `multi`.
        candidates: How many slots.
        variants: How many of `VARIANTS` to use, 1 to 4.
        programs: How many accepted programs are wanted (decides the size of label groups); `candidates` by default.
    """
    variants = max(1, min(variants, len(VARIANTS)))
    slots: list[Slot] = []
    if kind == "multi":
        for number in range(candidates):
            round_no, at = divmod(number, len(labels))
            approach = TARGETED[round_no % len(TARGETED)]
            slots.append(Slot(number, approach, (round_no // len(TARGETED)) % variants, target=labels[at]))
        return slots
    wanted = programs or candidates
    per_group = -(-len(labels) // max(1, min(len(labels), wanted // 2)))
    groups = [tuple(labels[i : i + per_group]) for i in range(0, len(labels), per_group)]
    broad = focused = 0
    for number in range(candidates):
        if number % 2 == 0:
            round_no, at = divmod(broad, len(BROAD))
            slots.append(Slot(number, BROAD[at], (round_no + at) % variants))
            broad += 1
        else:
            round_no, at = divmod(focused, len(groups))
            approach = FOCUSED[round_no % len(FOCUSED)]
            slots.append(Slot(number, approach, (round_no // len(FOCUSED) + round_no) % variants, focus=groups[at]))
            focused += 1
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
) -> dict[str, Any]:
    """The inputs of the prompt `author_program` (or `author_program_multi` for a slot with a target)."""
    described = {item["name"]: item for item in card_values["labels"]}
    values = {
        **card_values,
        "examples": list(examples),
        "seeds": [dict(seed) for seed in seeds],
        "knowledge": knowledge,
        "taken": taken_before(slots, slot),
        "approach": slot.approach.words,
        "variant": VARIANTS[slot.variant][1],
    }
    if slot.target is not None:
        values["target"] = [described[slot.target]]
    else:
        values["focus"] = [described[name] for name in slot.focus]
    return values


# Judging ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Fault:
    """Why a program cannot be taken as it is: a code, and our words to the model."""

    code: str
    words: str


def fault_of(
    votes: np.ndarray, status: np.ndarray, refusal: tuple[str, str] | None, notes: Sequence[Mapping[str, Any]]
) -> Fault | None:
    """What is wrong with a program, from one run over the probe texts.

    Args:
        votes: `[n]`.
        status: `[n]` words as in `pool.STATUS`.
        refusal: Code and words if it never ran.
        notes: Its failures, as `ProgramRun.notes` has them.
    """
    if refusal is not None:
        return Fault(f"refused_{refusal[0]}", f"The program is not accepted: {refusal[1]}.")
    n = max(len(votes), 1)
    failed = {
        name: int((status == name).sum())
        for name in ("exception", "bad value", "timeout", "memory", "crash", "retired")
    }
    words = next(
        (str(note.get("words", "")) for note in notes if note.get("status") in failed and note.get("words")), ""
    )
    if failed["timeout"] or failed["retired"]:
        return Fault(
            "too_slow",
            "The program takes too long on some texts: a loop that does not end, or a pattern that backtracks.",
        )
    if failed["memory"] or failed["crash"]:
        return Fault("breaks", "The program uses up the memory or crashes on some texts.")
    if failed["exception"] > 0:
        return Fault(
            "raises", f"The program raises an exception on some texts: {words}." if words else "The program raises."
        )
    if failed["bad value"] > 0:
        return Fault(
            "bad_value",
            f"The program {words}. Return one of the label names exactly, or None." if words else "Wrong value.",
        )
    given = votes[votes >= 0]
    if len(given) == 0 and n >= 50:
        return Fault(
            "never_votes",
            "The program returned None for every one of many texts of the corpus. Its cues are too narrow.",
        )
    if n >= 50 and len(given) == n and len(np.unique(given)) == 1:
        return Fault(
            "constant", "The program returned the same label for every one of many texts. Return None without evidence."
        )
    return None


def coverage_flag(votes: np.ndarray) -> str | None:
    """A remark on a program that covers nearly everything or next to nothing, or None."""
    if len(votes) < 50:
        return None
    coverage = float((votes >= 0).mean())
    if coverage >= NEARLY_ALL:
        return f"hardly ever abstains: votes on {coverage:.1%} of the probe texts"
    if coverage <= 0.002:
        return f"hardly ever votes: on {coverage:.2%} of the probe texts"
    return None


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
        known: Functional hash and target of programs that exist already.
        known_sources: Their sources, as `plain_source` gives them.
        decided: Every candidate so far, in slot order, the drop reasons filled in.
    """

    slots: tuple[Slot, ...]
    wanted: int
    known: frozenset[tuple[str, str]] = frozenset()
    known_sources: tuple[str, ...] = ()
    decided: tuple[Candidate, ...] = ()
    _hashes: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    _sources: tuple[str, ...] = field(default=(), repr=False)

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
    hashes, sources, decided = list(state._hashes), list(state._sources), list(state.decided)
    for candidate in sorted(answers, key=lambda c: c.slot.number):
        source = candidate.source
        if candidate.drop_reason is None and source is not None and candidate.votes is not None:
            seen = (functional_hash(candidate.votes), candidate.slot.target or "")
            voted = bool((candidate.votes >= 0).any())
            if voted and (seen in hashes or seen in state.known):
                candidate = replace(
                    candidate, drop_reason="votes_alike", detail="votes exactly as another program on the probe texts"
                )
            elif near_copy(source, [*state.known_sources, *sources]) is not None:
                candidate = replace(
                    candidate, drop_reason="near_copy", detail="nearly the same text as another program"
                )
            else:
                hashes.append(seen)
                sources.append(plain_source(source))
        decided.append(candidate)
    state = replace(state, decided=tuple(decided), _hashes=tuple(hashes), _sources=tuple(sources))
    if state.finished:
        return state, []
    missing = state.wanted - len(state.accepted)
    return state, list(state.slots[len(decided) : len(decided) + missing])
