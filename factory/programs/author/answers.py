"""A model's answers become programs: read, tried on texts, and sent back with our words on what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.programs.author.loop import Candidate
from factory.programs.blocks import AcceptedProgram
from factory.programs.rules import RulesRefused, in_words, usable_rules
from factory.programs.trial import Trial, try_program
from factory.prompts import ParseFailure, load
from factory.prompts.parse import whole_part

if TYPE_CHECKING:
    from factory.llm.request import Request
    from factory.programs.author.loop import Slot
    from factory.programs.sandbox.host.pool import Pool
    from factory.prompts import Prompt


_AROUND = " \t\n,;\"'"
"""What small models put around a cue."""


def prompts_of(form: str, kind: str, profile: str | None = None) -> dict[str, Prompt]:
    """The prompt for each form that is asked for (`python`, `rules` or `both`), for a task of this kind and such models."""
    names = {"python": "author_program", "rules": "author_rule_list"}
    ending = "_multi" if kind == "multi" else ""
    return {each: load(name + ending, profile=profile) for each, name in names.items() if form in (each, "both")}


def names_of(slot: Slot, labels: Sequence[str], prompt: Prompt) -> list[str]:
    """The labels that an answer may name: all of them where the prompt wants a list for each."""
    if slot.target is not None:
        return [slot.target]
    return list(labels) if prompt.by_label else list(slot.focus) or list(labels)


def rules_of_cues(found: Mapping[str, Sequence[str]], focus: Sequence[str] = ()) -> dict[str, Any]:
    """A list of rules from words and phrases by label, as small models are asked for them.

    A cue that a label repeats counts once; one that stands under several labels tells nothing, and is left out. With a `focus`,
    the cues of other labels count for that alone.

    Example:
        >>> rules_of_cues({"ham": ["my mum"], "spam": ["win", "Win", "http://"]})["rules"][1:]
        [{'kind': 'word', 'value': 'win', 'label': 'spam'}, {'kind': 'contains', 'value': 'http://', 'label': 'spam'}]
    """
    said: dict[str, dict[str, str]] = {}
    for label, cues in found.items():
        for cue in cues:
            value = str(cue).strip(_AROUND)
            if len(value) > 1:
                said.setdefault(" ".join(value.casefold().split()), {}).setdefault(label, value)
    rules = [
        {"kind": "word" if cue[:1].isalnum() and cue[-1:].isalnum() else "contains", "value": value, "label": label}
        for cue, by_label in said.items() if len(by_label) == 1 for label, value in by_label.items()
        if not focus or label in focus
    ]  # fmt: skip
    return {"rules": rules}


def whole_list(prompt: Prompt, text: str) -> str:
    """What is whole of a list that was cut off: lines up to the last finished cue, JSON up to the last finished item."""
    return text[: max(text.rfind(","), text.rfind("\n")) + 1] if prompt.by_label else whole_part(text)


class Reader:
    """Reads the answers of one round."""

    def __init__(
        self,
        pool: Pool,
        probe: Sequence[str],
        labels: Sequence[str],
        prompts: Mapping[str, Prompt],
        slot_of: Mapping[str, Slot],
        named: Sequence[str] | None = None,
    ) -> None:
        """Set up a round.

        Args:
            pool: Where programs are tried, on `probe`.
            probe: Texts.
            labels: Every label of the warehouse, by number.
            prompts: By form.
            slot_of: The slot of each first request, by the request's key.
            named: The labels that the prompts name; `labels` by default.
        """
        self._named = list(named if named is not None else labels)
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

    def parse_cut(self, request: Request, text: str) -> tuple[str, np.ndarray]:
        """As `parse`, of an answer that was cut off: the whole rules of a list that has some.

        Raises:
            ParseFailure: It is a function, or holds no whole rule that can be taken.
        """
        if self._slot_of[request.key].form != "rules":
            raise ParseFailure("truncated", "The answer ended before the function did.")
        return self.parse(request, whole_list(self._prompts["rules"], text))

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
        prompt, asked = self._prompts["rules"], names_of(slot, self._named, self._prompts["rules"])
        found = prompt.parse(text, labels=asked)
        found = rules_of_cues(found, slot.focus) if prompt.by_label else found
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
