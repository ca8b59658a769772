"""The table `vectors`, as people search it: which texts are near to one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def keys(warehouse: Warehouse) -> list[str]:
    """The encoders that made vectors of texts, that of the most texts first."""
    rows = warehouse.query("SELECT encoder_key FROM vectors GROUP BY 1 ORDER BY count(*) DESC, 1")
    return [str(key) for (key,) in rows]


def of_text(warehouse: Warehouse, text_no: int) -> tuple[str, Sequence[float]] | None:
    """The vector of a text, with the encoder that made it (of several, that which made most); None if it has none."""
    for key in keys(warehouse):
        rows = warehouse.query("SELECT vector FROM vectors WHERE encoder_key = ? AND text_no = ?", [key, text_no])
        if rows:
            return key, rows[0][0]
    return None


def nearest(
    warehouse: Warehouse, to: tuple[str, Any] | None, *, count: int, but: int | None = None
) -> list[tuple[int, float]]:
    """Texts nearest to a vector by one encoder: `(text_no, cosine)`, the nearest first. None are near to no vector."""
    if to is None:
        return []
    key, vector = to
    rows = warehouse.query(
        "SELECT text_no, list_cosine_similarity(vector, ?::FLOAT[]) AS near FROM vectors WHERE encoder_key = ?"
        " AND text_no IS DISTINCT FROM ? ORDER BY near DESC, text_no LIMIT ?",
        [np.asarray(vector, np.float32).tolist(), key, but, count],
    )
    return [(int(number), float(near)) for number, near in rows if near is not None]
