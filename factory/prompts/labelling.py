"""Asking the model for the label of a text, by a task card: one request and one reading for whatever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.prompts.card import card_values

if TYPE_CHECKING:
    from factory.llm.request import ModelRef, Request
    from factory.prompts.prompt import Prompt
    from factory.task import TaskCard


def labelling_prompt(card: TaskCard, *, as_votes: bool = False) -> str:
    """The name of the prompt that asks for a label; `as_votes` lets the model abstain in a `single` task."""
    if card.kind == "multi":
        return "annotate_multi"
    return "prompted_vote" if as_votes else "annotate"


@dataclass(frozen=True)
class Labelling:
    """How texts are put to the model.

    Attributes:
        card: The labels and what they mean.
        prompt: Of form `label` or `labels`.
        model: Whom to ask.
        sampling: Laid over the prompt's own.
        structured: Whether the answer is forced into the structured form.
        demos: Texts that are shown with their labels.
    """

    card: TaskCard
    prompt: Prompt
    model: ModelRef
    sampling: Mapping[str, Any] = field(default_factory=dict)
    structured: bool = False
    demos: Sequence[Mapping[str, Any]] = ()

    def request(self, text: str) -> Request:
        """The request for one text."""
        return self.prompt.request(
            {**card_values(self.card), "text": text}, self.model, sampling=self.sampling, structured=self.structured,
            labels=self.card.label_names, demos=self.demos,
        )  # fmt: skip

    def parse(self, _: Request, text: str) -> tuple[str, ...]:
        """The labels that an answer gives; none where it abstains, or where no label applies.

        Raises:
            ParseFailure: It cannot be read.
        """
        found = self.prompt.parse(text, labels=self.card.label_names)
        return () if found is None else (found,) if isinstance(found, str) else tuple(found)
