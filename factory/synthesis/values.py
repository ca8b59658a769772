"""The plain values of synthesis: slots, what came of them, and what is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["attributes", "write", "check"]


@dataclass(frozen=True)
class Slot:
    """One numbered piece of work: a request to the model (and which samples of it), frozen before it is asked.

    Attributes:
        slot_no: Unique in the plan, in the order of decision.
        round: 0 for the first.
        kind: `attributes` (what texts may differ in), `write` (new texts), `check` (which label a new text has).
        label: The label that is written for.
        spec: What the prompt is rendered from, JSON; texts are named by number, never held.
        parents: What it descends from, JSON: `seed`, `passage`, `demos`, `slot`, `part`.
        sample_no: Which sample of the request; the first of `spec["samples"]` for a check.
    """

    slot_no: int
    round: int
    kind: Kind
    label: str
    spec: Mapping[str, Any]
    parents: Mapping[str, Any] = field(default_factory=dict)
    sample_no: int = 0


@dataclass(frozen=True)
class Part:
    """One text of one answer and what was decided about it.

    Attributes:
        slot_no: The slot it came from.
        part_no: Its place in the answer, from 0.
        text: As parsed.
        label: The label it is kept for.
        drop_reason: One of `filters.ORDER`, or None if it is accepted (or not yet decided).
        detail: Words for a person.
    """

    slot_no: int
    part_no: int
    text: str
    label: str
    drop_reason: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Dropped:
    """A slot that gave no text at all: `reason` is a parse failure's code or an engine's."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Goal:
    """What is wanted, and when to stop.

    Attributes:
        per_label: Accepted texts per label.
        candidates: The most texts to ask for, as a multiple of `per_label`.
        texts_per_answer: How many texts one answer is asked for.
        oversample: How many more than the expected need are asked for in a round, so that few rounds suffice.
        round_size: The most slots per label and round, or None.
        min_yield: Accepted per asked-for text below which a label's yield has collapsed.
        patience: Texts asked for per label before its yield is judged.
    """

    per_label: int
    candidates: float = 3.0
    texts_per_answer: int = 1
    oversample: float = 1.2
    round_size: int | None = None
    min_yield: float = 0.05
    patience: int = 40

    def __post_init__(self) -> None:
        if self.per_label < 1 or self.texts_per_answer < 1 or self.candidates < 1 or self.oversample < 1:
            raise ValueError("per_label, texts_per_answer, candidates and oversample are at least 1")

    @property
    def budget(self) -> int:
        """The most texts to ask for per label."""
        return max(1, int(self.per_label * self.candidates + 0.5))


@dataclass(frozen=True)
class Checked:
    """What a check said of a text: the label it gives (None: it cannot tell) and how sure it is, 0 to 1."""

    label: str | None
    share: float = 1.0


Texts = Sequence[str]
Answer = Texts | Dropped | Checked | Mapping[str, Any]
"""What came of a slot: texts (`write`), a verdict (`check`), attribute values (`attributes`), or nothing."""


class Method(Protocol):
    """How one method fills slots. Pure: the same materials give the same slots."""

    @property
    def name(self) -> str:
        """Its name in the table `METHODS`."""
        ...

    def draw(self, label: str, first: int, count: int, written: Mapping[str, Sequence[Part]]) -> list[Draw]:
        """The specs of a label's slots `first .. first + count`; fewer where its materials are exhausted.

        Args:
            label: The label to write for.
            first: How many slots the label has had.
            count: How many more are wanted.
            written: The texts so far that passed the filters, per label (for methods that learn from them).
        """
        ...


@dataclass(frozen=True)
class Draw:
    """What a method wants of one slot."""

    spec: Mapping[str, Any]
    parents: Mapping[str, Any] = field(default_factory=dict)
    sample_no: int = 0
