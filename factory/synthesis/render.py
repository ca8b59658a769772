"""From a slot to the request that fills it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.llm.request import ModelRef, Request
from factory.synthesis.values import Part, Slot
from factory.task import TaskCard

if TYPE_CHECKING:
    from factory.prompts import Prompt

WRITE_PROMPTS = {"synthesizrr": "rewrite_passage", "few_shot": "write_example", "self_guide": "self_guide_input"}
CHECK_PROMPT = "self_guide_output"
ATTRIBUTES_PROMPT = "propose_attributes"

_TAG_TOKENS = 12
_MOST_TOKENS = 16_000
"""Tokens of an answer beyond which no more room is made: fewer texts per answer are the way then."""


@dataclass
class Renderer:
    """Renders the slots of one plan.

    Attributes:
        card: The task card.
        method: Name of the method.
        model: Whom to ask.
        structured: Whether the engine forces structured output.
        texts: Texts by number: seeds, demonstrations, passages.
        length: How long real texts are, as a phrase, or nothing.
        longest: How many characters a text may have; room for as many tokens is asked for where the prompt's own is too small.
        style: A few unlabelled texts of the corpus, the same in every prompt.
        contrast: Whether prompts show all labels.
        demonstrations: `(text, label)` of the seeds, for checks.
        sampling: Over the writing prompt's own.
        engine_sampling: The engine's, over every prompt's own.
        siblings: For each label the others that prompts show with it; nothing where they show all.
    """

    card: TaskCard
    method: str
    model: ModelRef
    structured: bool = False
    texts: Mapping[int, str] = field(default_factory=dict)
    length: str = ""
    longest: int = 0
    style: Sequence[str] = ()
    contrast: bool = True
    demonstrations: Sequence[tuple[str, str]] = ()
    sampling: Mapping[str, Any] | None = None
    engine_sampling: Mapping[str, Any] = field(default_factory=dict)
    siblings: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def prompt(self, kind: str) -> Prompt:
        """The prompt for slots of this kind."""
        from factory.prompts import load

        return load({"write": WRITE_PROMPTS[self.method], "check": CHECK_PROMPT, "attributes": ATTRIBUTES_PROMPT}[kind])

    def request(self, slot: Slot, parts: Mapping[tuple[int, int], Part]) -> Request:
        """The slot's request.

        Args:
            slot: Any slot of the plan.
            parts: The texts so far, by `(slot_no, part_no)`: poor examples, and what is to be checked.
        """
        prompt = self.prompt(slot.kind)
        if slot.kind == "check":
            text = parts[slot.parents["slot"], slot.parents["part"]].text
            values, demos = self._check(text, slot.label)
        elif slot.kind == "attributes":
            values, demos = {**self._writing(slot.label), "examples": self._given(slot, "examples")}, []
            values.pop("instruction", None)
        else:
            values, demos = self._write(slot, parts)
        known = prompt.file.inputs
        values = {name: value for name, value in values.items() if name in known}
        return prompt.request(
            values, self.model, sampling=self._sampling(slot, prompt), structured=self.structured,
            labels=self._shown(slot.label) or self.card.label_names, demos=demos,
        )  # fmt: skip

    def _sampling(self, slot: Slot, prompt: Prompt) -> Mapping[str, Any]:
        """Over the prompt's own; room for all texts of an answer is made unless somebody has set `max_tokens`."""
        if slot.kind != "write":
            return self.engine_sampling
        given = {**self.engine_sampling, **(self.sampling or {})}
        room = min(_MOST_TOKENS, int(slot.spec.get("count") or 1) * (self.longest // 3 + _TAG_TOKENS))
        own = prompt.file.sampling.get("max_tokens")
        return given if "max_tokens" in given or own is None or room <= own else {**given, "max_tokens": room}

    def _writing(self, label: str) -> dict[str, Any]:
        from factory.prompts import writing_values

        beside = self.siblings.get(label)
        values = dict(writing_values(self.card, label, contrast=self.contrast, beside=beside))
        return {**values, "length": self.length, "style": list(self.style)}

    def _given(self, slot: Slot, name: str) -> list[str]:
        return [self.texts[number] for number in slot.spec.get(name, ())]

    def _write(self, slot: Slot, parts: Mapping[tuple[int, int], Part]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        spec = slot.spec
        values = self._writing(slot.label)
        if self.method == "synthesizrr":
            values["passage"] = self.texts[spec["passage"]]
            return values, [
                {"passage": self.texts[passage], "texts": [self.texts[seed]]} for passage, seed in spec["demos"]
            ]
        values.pop("instruction")
        values["examples"] = self._given(slot, "examples")
        if self.method == "few_shot":
            values["attributes"] = "\n".join(f"- {line}" for line in spec.get("attributes", ()))
            values["count"] = str(spec["count"])
        else:
            values["poor"] = [parts[slot_no, part_no].text for slot_no, part_no in spec["poor"]]
            values["count"] = str(spec["count"]) if spec["count"] > 1 else None
        return values, []

    def _check(self, text: str, label: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        from factory.prompts import card_values

        shown = self._shown(label)
        demos = [{"text": demo, "label": name} for demo, name in self.demonstrations if not shown or name in shown]
        return {**card_values(self.card, shown or None), "text": text}, demos

    def _shown(self, label: str) -> list[str]:
        """The label and its siblings, in the order of the card; none where prompts show all labels."""
        some = self.siblings.get(label)
        return [] if some is None else [one.name for one in self.card.some([label, *some])]
