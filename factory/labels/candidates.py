"""The labels that texts of a warehouse are shown with: found once, and kept with what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from factory.labels.index import LabelIndex
from factory.task import TaskCard, label_names
from factory.warehouse.tables.texts import texts_of

if TYPE_CHECKING:
    from factory.encoders.settings import Named
    from factory.result import Progress
    from factory.warehouse.file import Warehouse

SHOWN = 20
"""A card of more labels than this shows a text this many of them."""
WIDE = 100
"""The most labels that one request shows: all of them, or where there are more the likeliest."""


def is_large(card: TaskCard, shown: int = SHOWN) -> bool:
    """Whether a card has more labels than a request is to show."""
    return len(card.labels) > shown


def label_index(warehouse: Warehouse, card: TaskCard, encoder: Named | None) -> LabelIndex:
    """The index over a card's labels, with exact vectors: the same candidates, so the same prompts, everywhere.

    Args:
        warehouse: Whose texts `auto` chooses by.
        card: The labels.
        encoder: The encoder's name or settings; None searches by words alone.
    """
    from factory.encoders.encoder import load_encoder

    return LabelIndex(card.labels, None if encoder is None else load_encoder(encoder, warehouse).exact)


def candidates_of(
    warehouse: Warehouse, index: LabelIndex, text_nos: Sequence[int], count: int, progress: Progress | None = None
) -> list[list[int]]:
    """The numbers of the labels that each text could have, in the order of the card.

    Args:
        warehouse: Where the texts are, and what was computed of them is kept.
        index: From `label_index`.
        text_nos: The texts.
        count: How many labels for each.
        progress: Called with (done, total, what).
    """
    from factory.encoders.vectors import vectors_of

    if not text_nos:
        return []
    numbers = {name: at for at, name in enumerate(label_names(warehouse))}
    by_place = [numbers[label.name] for label in index.labels]
    encoder = index.encoder
    vectors = None if encoder is None else vectors_of(warehouse, encoder, text_nos, progress)
    texts = texts_of(warehouse, list(text_nos))
    found = index.candidates([texts[number] for number in text_nos], count, vectors)
    return [[by_place[place] for place in row] for row in found]
