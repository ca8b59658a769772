"""What prompts show and programs are tried on: texts of the corpus and gold seeds, drawn alike wherever they were ingested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factory.task import label_names
from factory.warehouse.tables.gold import seed_gold
from factory.warehouse.tables.texts import sample_texts, texts_of

if TYPE_CHECKING:
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse


def sample(warehouse: Warehouse, count: int, *, salt: str) -> list[int]:
    """Text numbers of the split `train`, drawn by the hash of their content: the same texts wherever they were ingested."""
    return [number for number, _ in sample_texts(warehouse, max(count, 1), salt)]


def seed_texts(warehouse: Warehouse, card: TaskCard, per_label: int) -> list[tuple[int, list[str]]]:
    """Text numbers and label names of the gold seeds to show, so many for each label, in the card's order."""
    if per_label <= 0:
        return []
    names = label_names(warehouse)
    seeds = sorted(seed_gold(warehouse), key=lambda seed: seed.content_hash)
    chosen: dict[int, list[str]] = {}
    for name in card.label_names:
        number = names.index(name)
        for seed in [seed for seed in seeds if number in seed.labels][:per_label]:
            chosen.setdefault(seed.text_no, [names[i] for i in seed.labels])
    return list(chosen.items())


def texts_by_number(warehouse: Warehouse, numbers: list[int]) -> dict[int, str]:
    """Texts by number, in the order of the numbers given."""
    rows = texts_of(warehouse, numbers)
    return {number: rows[number] for number in numbers}
