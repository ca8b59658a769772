"""Asking the model for the label of a text, by a task card: one request and one reading for whatever asks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.prompts.card import card_values

if TYPE_CHECKING:
    from factory.llm.request import ModelRef, Request
    from factory.prompts.prompt import Prompt
    from factory.task import TaskCard


def labelling_prompt(card: TaskCard, *, as_votes: bool = False, among: bool = False) -> str:
    """The name of the prompt that asks for a label.

    Args:
        card: Whose labels they are.
        as_votes: Whether the model may abstain in a `single` task.
        among: Whether only some of the labels are shown, so that it may say in a `single` task that none of them fits.
    """
    if card.kind == "multi":
        return "annotate_multi"
    return "prompted_vote" if as_votes else "annotate_among" if among else "annotate"


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

    def request(self, text: str, only: Sequence[str] | None = None) -> Request:
        """The request for one text, with the labels of these names; with all by default."""
        values = card_values(self.card, only)
        return self.prompt.request(
            {**values, "text": text}, self.model, sampling=self.sampling, structured=self.structured,
            labels=[label["name"] for label in values["labels"]],
            demos=self.demos if only is None else [demo for demo in self.demos if _speaks_of(demo, only)],
        )  # fmt: skip

    def parse(self, _: Request, text: str) -> tuple[str, ...]:
        """The labels that an answer gives; none where it abstains, or where no label applies.

        Raises:
            ParseFailure: It cannot be read.
        """
        found = self.prompt.parse(text, labels=self.card.label_names)
        return () if found is None else (found,) if isinstance(found, str) else tuple(found)


def _speaks_of(demo: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether all labels of a demonstration are among these."""
    return all(name in names for name in ([demo["label"]] if "label" in demo else demo["labels"]))
