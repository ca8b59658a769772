"""Gold examples that labelling prompts show."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from factory.task import TaskCard, label_names

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def demonstrations(warehouse: Warehouse, card: TaskCard, per_label: int) -> list[dict[str, Any]]:
    """The same gold seeds for every request: up to so many per label, in the order of their content hashes."""
    if per_label <= 0:
        return []
    names = label_names(warehouse)
    rows = warehouse.query(
        "SELECT any_value(t.text), list(DISTINCT g.label_no ORDER BY g.label_no) FROM gold g"
        " JOIN occurrences o ON o.source_no = g.source_no AND o.row_no = g.row_no AND o.kept AND o.split = 'seed'"
        " JOIN texts t ON t.text_no = g.text_no GROUP BY t.content_hash ORDER BY t.content_hash"
    )
    left = Counter(dict.fromkeys(card.label_names, per_label))
    shown = []
    for text, numbers in rows:
        found = [names[number] for number in numbers if number >= 0]
        if card.kind == "single" and len(found) != 1:
            continue
        if not any(left[name] > 0 for name in found):
            continue
        left.subtract(found)
        shown.append({"text": text, "label": found[0]} if card.kind == "single" else {"text": text, "labels": found})
    return shown
