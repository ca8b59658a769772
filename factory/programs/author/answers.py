"""A model's answers become programs: read, tried on texts, and sent back with our words on what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from factory.programs.author.loop import Candidate
from factory.programs.blocks import AcceptedProgram
from factory.programs.rules import RulesRefused, in_words, usable_rules
from factory.programs.trial import Trial, try_program
from factory.prompts import ParseFailure, load

if TYPE_CHECKING:
    from factory.llm.request import Request
    from factory.programs.author.loop import Slot
    from factory.programs.sandbox.host.pool import Pool
    from factory.prompts import Prompt


def prompts_of(form: str, kind: str) -> dict[str, Prompt]:
    """The prompt for each form that is asked for (`python`, `rules` or `both`), for a task of this kind."""
    names = {"python": "author_program", "rules": "author_rule_list"}
    ending = "_multi" if kind == "multi" else ""
    return {each: load(name + ending) for each, name in names.items() if form in (each, "both")}


class Reader:
    """Reads the answers of one round."""

    def __init__(
        self,
        pool: Pool,
        probe: Sequence[str],
        labels: Sequence[str],
        prompts: Mapping[str, Prompt],
        slot_of: Mapping[str, Slot],
    ) -> None:
        """Set up a round: programs are tried on `probe`; `slot_of` has the slot of each first request, by the request's key."""
        self._pool, self._probe, self._labels, self._prompts = pool, probe, labels, prompts
        self._slot_of = dict(slot_of)
        self._last: dict[int, tuple[str, str]] = {}
        self._usable: dict[int, tuple[str, str]] = {}

    def parse(self, request: Request, text: str) -> tuple[str, np.ndarray]:
        """The source of an answer, and its votes on the probe.

        Raises:
            ParseFailure: It holds no program, or one that cannot be taken as it is.
        """
        slot = self._slot_of[request.key]
        of_rules = slot.form == "rules"
        source = self._rules(slot, request.key, text) if of_rules else str(self._prompts["python"].parse(text))
        self._last[slot.number] = request.key, source
        tried = self._tried(slot, source)
        if tried.fault is not None:
            raise ParseFailure(tried.fault.code, tried.fault.words)
        return source, tried.votes.copy()

    def again(self, request: Request, answer: str, failure: ParseFailure) -> Request:
        """The request that shows the model what is wrong with its answer."""
        slot = self._slot_of[request.key]
        following = self._prompts[slot.form].ask_again(request, answer, failure)
        self._slot_of[following.key] = slot
        return following

    def unrepaired(self, slot: Slot, request: Request, reason: str, detail: str | None) -> Candidate:
        """What is left of a slot whose answers all had a fault.

        Of a list of rules that is what can be used of the last answer that held any, even if it votes on none of the probe's
        texts: it does no harm. A Python program has nothing that could be left out.
        """
        key, source = self._last.get(slot.number, (request.key, None))
        if slot.number in self._usable:
            source, left_out = self._usable[slot.number]
            tried = self._tried(slot, source)
            if tried.fault is None or tried.fault.code == "never_votes":
                return Candidate(slot, source, tried.votes.copy(), None, left_out or None, key, 0)
        return Candidate(slot, source, None, reason, detail, key, 0)

    def _rules(self, slot: Slot, key: str, text: str) -> str:
        names = [slot.target] if slot.target is not None else list(slot.focus) or self._labels
        found = self._prompts["rules"].parse(text, labels=names)
        try:
            rules, faults = usable_rules(found, self._labels, slot.target)
        except RulesRefused as refused:
            raise ParseFailure(refused.code, f"The list of rules is not accepted: {refused.words}.") from None
        left_out = f"{len(faults)} rules were left out: {faults[0]}" if faults else ""
        self._usable[slot.number] = rules.source, left_out
        if faults:
            self._last[slot.number] = key, rules.source
            raise ParseFailure("bad_rule", f"Some rules cannot be used: {in_words(faults)}.")
        return rules.source

    def _tried(self, slot: Slot, source: str) -> Trial:
        program = AcceptedProgram(slot.number, source, slot.target, slot.form, slot.name)
        return try_program(self._pool, program, self._probe, self._labels)
