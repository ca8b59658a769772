"""Gold examples that labelling prompts show."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from factory.task import TaskCard, label_names
from factory.warehouse.tables.gold import seed_gold
from factory.warehouse.tables.texts import texts_of

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def demonstrations(warehouse: Warehouse, card: TaskCard, per_label: int) -> list[dict[str, Any]]:
    """The same gold seeds for every request: up to so many per label, in the order of their content hashes."""
    if per_label <= 0:
        return []
    names = label_names(warehouse)
    seeds = sorted(seed_gold(warehouse), key=lambda seed: seed.content_hash)
    texts = texts_of(warehouse, [seed.text_no for seed in seeds])
    left = Counter(dict.fromkeys(card.label_names, per_label))
    shown = []
    for seed in seeds:
        text, found = texts[seed.text_no], [names[number] for number in seed.labels]
        if card.kind == "single" and len(found) != 1:
            continue
        if not any(left[name] > 0 for name in found):
            continue
        left.subtract(found)
        shown.append({"text": text, "label": found[0]} if card.kind == "single" else {"text": text, "labels": found})
    return shown
