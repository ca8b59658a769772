"""What a changed task card touches: which answers of the earlier card still stand, and which are asked again.

One rule for every stage: an answer stands as long as no label that it gives is touched. A label is touched by another meaning,
by being taken off the card, and by a new label that says `was:` it (a label that is split keeps its name for one part, or loses
it). What changes for every text touches everything: another kind of task, what a text is, fields, a new label of which the card
does not say what its texts were called before, and guidelines, unless they changed where they name touched or new labels alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from factory.task import TaskCard

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

_WHOLE = ("kind", "text", "fields")


@dataclass(frozen=True)
class Change:
    """What lies between two cards.

    Attributes:
        touched: Labels of the earlier card whose answers no longer stand.
        became: For each of them the labels that its texts may have now, in the new card's order; none where it left without one.
        whole: Why nothing of the earlier card stands, in words, or None.
    """

    touched: frozenset[str] = frozenset()
    became: dict[str, tuple[str, ...]] = field(default_factory=dict)
    whole: str | None = None

    def stands(self, labels: Iterable[str]) -> bool:
        """Whether an answer that gives these labels still holds."""
        return self.whole is None and self.touched.isdisjoint(labels)

    def renewed(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Labels of the earlier card as the new one has them, each once."""
        found = [new for label in labels for new in self.became.get(label, (label,))]
        return tuple(dict.fromkeys(found))

    @property
    def words(self) -> str:
        """For a person."""
        if self.whole is not None:
            return f"everything is asked again: {self.whole}"
        told = [f"{old} (now {', '.join(self.became[old]) or 'gone'})" for old in sorted(self.touched)]
        return f"labels touched: {'; '.join(told)}" if told else "no label is touched"


def change_of(old: TaskCard, new: TaskCard) -> Change:
    """What the step from one card to another touches.

    Example:
        >>> from factory.task import Label
        >>> a, b = Label(name="a", description="x"), Label(name="b", description="y")
        >>> old = TaskCard(name="t", text="a post", labels=(a, b))
        >>> parts = Label(name="b", description="z"), Label(name="c", description="w", was=("b",))
        >>> change_of(old, TaskCard(name="t", text="a post", labels=(a, *parts))).became
        {'b': ('b', 'c')}
    """
    before = {label.name: label for label in old.labels}
    for name in _WHOLE:
        if getattr(old, name) != getattr(new, name):
            return Change(whole=f"the card's `{name}` is another")
    touched = {name for name in before if name not in new.label_names}
    for label in new.labels:
        earlier = before.get(label.name)
        news = [name for name in label.was if earlier is None or name not in earlier.was]
        unknown = [name for name in news if name not in before]
        if earlier is None and (unknown or not news):
            why = f"the label {label.name!r} is new, and its `was` names no label of the earlier card"
            return Change(whole=why)
        touched |= {name for name in news if name in before}
        if earlier is not None and earlier.meaning != label.meaning:
            touched.add(label.name)
    became = {
        old_name: tuple(new_label.name for new_label in new.labels if old_name in (new_label.name, *new_label.was))
        for old_name in sorted(touched)
    }
    names = {*touched, *(name for became_now in became.values() for name in became_now)}
    if _beside(old.guidelines, names) != _beside(new.guidelines, names):
        return Change(whole="the card's `guidelines` say something else of other labels")
    return Change(frozenset(touched), became)


def _beside(guidelines: str, names: Iterable[str]) -> list[str]:
    """What guidelines say beside certain labels: the words between marks, without those that name one of them."""
    named = [re.compile(rf"(?<!\w){re.escape(name)}(?!\w)") for name in names]
    parts = (" ".join(part.split()) for part in re.split(r"[.,;:!?()\n]+", guidelines))
    return [part for part in parts if re.search(r"\w", part) and not any(one.search(part) for one in named)]


def card_of(warehouse: Warehouse, revision: str) -> TaskCard | None:
    """An earlier revision of the card, or None if the warehouse never had it."""
    text = warehouse.scalar("SELECT card FROM tasks WHERE revision = ? ORDER BY task_no DESC LIMIT 1", [revision])
    return None if text is None else TaskCard.model_validate_json(text)
