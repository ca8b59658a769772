"""What a model learns from when it learns from itself: a chat as it will be asked, and the answer it should have given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from factory.llm.request import Message


@dataclass(frozen=True)
class Pair:
    """One training example.

    Attributes:
        messages: The chat up to the answer, exactly as the model will be asked later.
        completion: The answer; it alone carries loss.
    """

    messages: Sequence[Message]
    completion: str


@dataclass(frozen=True)
class Example:
    """An accepted synthetic text.

    Attributes:
        synthetic_no: Its number in the warehouse.
        text_no: The number of its text.
        text: Itself.
        label: The label it was kept for.
    """

    synthetic_no: int
    text_no: int
    text: str
    label: str


def balanced(examples: Sequence[Example], labels: Sequence[str]) -> tuple[list[Example], list[Example]]:
    """Cut every label down to the rarest one that has any example, as Self-Guide's code does (the first ones are kept).

    Args:
        examples: In order.
        labels: The labels of the task.

    Returns:
        The kept and the left-out examples, each in order.

    Example:
        >>> some = [Example(n, n, "", label) for n, label in enumerate("aabba")]
        >>> [[e.synthetic_no for e in part] for part in balanced(some, ["a", "b", "c"])]
        [[0, 1, 2, 3], [4]]
    """
    counts = Counter(example.label for example in examples)
    most = min((counts[label] for label in labels if counts[label]), default=0)
    taken, kept, left = Counter[str](), list[Example](), list[Example]()
    for example in examples:
        taken[example.label] += 1
        (kept if example.label in labels and taken[example.label] <= most else left).append(example)
    return kept, left
