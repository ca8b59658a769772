"""What is refused before anything is planned: labels that are not there, parameters that a method would ignore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factory.errors import InputError, nearest
from factory.task import TaskCard

_TAKEN_BY = {
    "texts_per_answer": ("few_shot", "self_guide"), "attributes": ("few_shot",), "passages": ("synthesizrr",),
    "passage_tokens": ("synthesizrr",), "first_passage": ("synthesizrr",), "bands": ("synthesizrr",),
    "label_check": ("synthesizrr", "few_shot"),
}  # fmt: skip
"""Parameters that change what is asked for, and the methods that take them."""


def refuse_ignored(method: str, **given: Any) -> None:
    """Refuse a parameter that the method would ignore.

    Raises:
        InputError: Naming the methods that take it.
    """
    for name, value in given.items():
        if value and method not in _TAKEN_BY[name]:
            methods = " or ".join(f"`{other}`" for other in _TAKEN_BY[name])
            why = "always checks labels by the model" if name == "label_check" else "does not take it"
            fix = f"Leave it out, or choose the method {methods}"
            raise InputError(f"the method `{method}` {why}", where=f"synthesize.{name}", fix=fix)


def chosen_labels(card: TaskCard, labels: Sequence[str] | None) -> list[str]:
    """The labels to write for, in the card's order.

    Raises:
        InputError: One that the card does not have.
    """
    if labels is None:
        return card.label_names
    for label in labels:
        if label not in card.label_names:
            said, fix = (
                f"there is no label {label!r}{nearest(label, card.label_names)}",
                f"There are {', '.join(card.label_names)}",
            )
            raise InputError(said, where="synthesize.labels", fix=fix)
    return [label for label in card.label_names if label in labels]
