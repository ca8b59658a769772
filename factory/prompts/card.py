"""The values that a task card gives to a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from factory.task import TaskCard


def card_values(card: TaskCard, only: Iterable[str] | None = None) -> dict[str, Any]:
    """`kind_of_text`, `labels` and `guidelines`, as every prompt that labels texts or writes programs wants them.

    Args:
        card: The task card.
        only: The names of the labels that are shown, in the card's order; all by default.

    Example:
        >>> from factory.task import Label
        >>> card = TaskCard(name="t", text="a film review.", labels=(
        ...     Label(name="good", description="praise"), Label(name="bad", description="blame")))
        >>> card_values(card)["kind_of_text"]
        'a film review'
    """
    shown = card.labels if only is None else card.some(only)
    return {
        "kind_of_text": _phrase(card.text),
        "labels": [{"name": label.name, "description": label.meaning} for label in shown],
        "guidelines": card.guidelines.strip(),
    }


def writing_values(
    card: TaskCard, label: str, *, contrast: bool = True, beside: Iterable[str] | None = None
) -> dict[str, Any]:
    """`kind_of_text`, `instruction`, `label`, `meaning`, `other_labels` and `guidelines`, for prompts that write texts.

    The instruction is `card.verbs["rewrite"]`, the verbalisation of a label `card.verbs["labels"][name]`; both default to what
    the card says of texts and labels. With `contrast` the other labels are shown (those named `beside`; all by default), so that
    the new text can keep clear of them.

    Raises:
        KeyError: The card has no such label.
    """
    verbal = card.verbs.get("labels") or {}
    described = {
        item.name: str(verbal[item.name]) if isinstance(verbal, Mapping) and item.name in verbal else item.description
        for item in card.labels
    }
    phrase = _phrase(card.text)
    names = described if beside is None else set(beside)
    others = [
        {"name": name, "description": text} for name, text in described.items() if name != label and name in names
    ]
    return {
        "kind_of_text": phrase,
        "instruction": str(card.verbs.get("rewrite") or f"Write {phrase}, made from what the passage says."),
        "label": label,
        "meaning": described[label],
        "other_labels": others if contrast else [],
        "guidelines": card.guidelines.strip(),
    }


def _phrase(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
