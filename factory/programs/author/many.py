"""Authoring for a card of many labels: groups of labels that are easily confused, and what a prompt shows of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.labels.candidates import SHOWN, label_index
from factory.labels.groups import confusable
from factory.warehouse.tables.texts import sample_texts

if TYPE_CHECKING:
    from factory.encoders.settings import Named
    from factory.programs.author.loop import Slot
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse

GROUP = 6
"""Labels that one program speaks of: a program that tells more of them apart has few cues for each."""
LOOKED_AT = 1000
"""Training texts among which those that look like texts of a group are sought."""


@dataclass(frozen=True)
class Many:
    """What the programs of a plan speak of and are shown.

    Attributes:
        groups: Names of labels that are easily confused, in the order of the card.
        near: For each label the others, the nearest first.
        texts: For each label numbers of unlabelled texts that the index finds it for first, as sampled.
    """

    groups: Sequence[tuple[str, ...]]
    near: Mapping[str, Sequence[str]]
    texts: Mapping[str, Sequence[int]]

    def shown(self, slot: Slot) -> list[str]:
        """The labels that a program's author sees: those that it speaks of, and of the others those nearest to them."""
        own = list(slot.focus) if slot.target is None else [slot.target]
        ranked = sorted(
            {other for name in own for other in self.near[name]} - set(own),
            key=lambda other: (min(self._rank(name, other) for name in own), other),
        )
        return [*own, *ranked][: max(SHOWN, len(own))]

    def window(self, slot: Slot, turn: int, count: int) -> list[int]:
        """Numbers of texts to show: so many that look like texts of the slot's labels, other ones in every turn."""
        own = slot.focus if slot.target is None else (slot.target,)
        by_label = [self.texts.get(name, ()) for name in own]
        found = [some[at] for at in range(max(map(len, by_label), default=0)) for some in by_label if at < len(some)]
        return [found[(turn * count + at) % len(found)] for at in range(min(count, len(found)))]

    def _rank(self, name: str, other: str) -> int:
        near = self.near[name]
        return near.index(other) if other in near else len(near)


def look_at_many(
    warehouse: Warehouse, card: TaskCard, encoder: Named | None, only: Sequence[str] | None = None
) -> Many:
    """What a plan for a card of many labels needs to know of them.

    Args:
        warehouse: Where the training texts are.
        card: The labels.
        encoder: For the index; None searches by words alone.
        only: Programs for each of these labels alone.
    """
    index, names = label_index(warehouse, card, encoder), card.label_names
    near = index.near_labels(SHOWN - 1)
    groups = [tuple(names[at] for at in group) for group in confusable(near, GROUP)]
    texts: dict[str, list[int]] = defaultdict(list)
    sample = sample_texts(warehouse, LOOKED_AT, "examples")
    for (number, _), order in zip(sample, index.ranked([text for _, text in sample]), strict=True):
        texts[names[int(order[0])]].append(number)
    return Many(
        groups if only is None else [(name,) for name in only],
        {names[at]: [names[other] for other in others] for at, others in enumerate(near)},
        texts,
    )
