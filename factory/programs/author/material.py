"""What prompts show and programs are tried on: texts of the corpus and gold seeds, drawn alike wherever they were ingested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factory.task import label_names

if TYPE_CHECKING:
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse


def sample(warehouse: Warehouse, count: int, *, salt: str) -> list[int]:
    """Text numbers of the split `train`, drawn by the hash of their content: the same texts wherever they were ingested."""
    if count <= 0:
        count = 1
    rows = warehouse.query(
        "SELECT text_no FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
        " ORDER BY sha256(? || hex(content_hash)), content_hash LIMIT ?",
        [salt, count],
    )
    return [row[0] for row in rows]


def seed_texts(warehouse: Warehouse, card: TaskCard, per_label: int) -> list[tuple[int, list[str]]]:
    """Text numbers and label names of the gold seeds to show, so many for each label, in the card's order."""
    if per_label <= 0:
        return []
    names = label_names(warehouse)
    rows = warehouse.query(
        "SELECT g.text_no, list_sort(list(DISTINCT g.label_no)), min(hex(t.content_hash)) AS h FROM gold g"
        " JOIN texts t USING (text_no) JOIN split_texts s ON s.text_no = g.text_no AND s.split = 'seed' GROUP BY 1 ORDER BY h"
    )
    chosen: dict[int, list[str]] = {}
    for name in card.label_names:
        number = names.index(name)
        having = [row for row in rows if number in row[1]][:per_label]
        for text_no, numbers, _ in having:
            chosen.setdefault(text_no, [names[i] for i in numbers if i >= 0])
    return list(chosen.items())


def texts_by_number(warehouse: Warehouse, numbers: list[int]) -> dict[int, str]:
    """Texts by number, in the order of the numbers given."""
    rows = dict(
        warehouse.query("SELECT text_no, text FROM texts WHERE text_no IN (SELECT unnest(?::INTEGER[]))", [numbers])
    )
    return {number: rows[number] for number in numbers}
