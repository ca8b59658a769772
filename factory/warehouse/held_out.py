"""Decontamination: no accepted synthetic text stays within the near-duplicate threshold of a dev or test text.

The loop checks every text before it accepts it. This module does it again whenever the dev or test texts have changed since, so
that the promise holds at any order of stages.
"""

from __future__ import annotations

from factory.near import NearIndex
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import synthetic

_HELD_OUT = "text_no IN (SELECT text_no FROM occurrences WHERE split IN ('dev', 'test'))"


def held_out_texts(warehouse: Warehouse) -> list[str]:
    """The texts of dev and test, each once, in order of content."""
    return [text for (text,) in warehouse.query(f"SELECT text FROM texts WHERE {_HELD_OUT} ORDER BY content_hash")]


def decontaminate(warehouse: Warehouse) -> int:
    """Drop the accepted synthetic texts that are near a dev or test text; nothing is done if nothing has changed.

    Returns:
        How many were dropped.
    """
    import pyarrow as pa

    last = warehouse.scalar("SELECT max(synthetic_no) FROM synthetic WHERE state = 'accepted'")
    if last is None:
        return 0
    state = warehouse.scalar(
        f"SELECT count(*) || '/' || coalesce(bit_xor(hash(content_hash)), 0) FROM texts WHERE {_HELD_OUT}"
    )
    if state.startswith("0/") or warehouse.scalar(
        "SELECT count(*) FROM decontaminations WHERE held_out = ? AND last_synthetic_no >= ?", [state, last]
    ):
        return 0
    rows = warehouse.query("SELECT synthetic_no, text FROM synthetic WHERE state = 'accepted' ORDER BY synthetic_no")
    own = NearIndex((f"{number:012d}", text) for number, text in rows)
    bad: dict[int, float] = {}
    for text in held_out_texts(warehouse):
        for name, similarity in own.find_all(text):
            bad[int(name)] = max(similarity, bad.get(int(name), 0.0))
    found = sorted(bad.items())
    rows_dropped = {
        "synthetic_no": pa.array([number for number, _ in found], pa.int64()),
        "drop_reason": ["duplicate_of_held_out" if similarity == 1.0 else "near_held_out" for _, similarity in found],
        "detail": [f"similarity {similarity:.2f}" for _, similarity in found],
    }
    with warehouse.lease() as db:
        synthetic.drop(db, pa.table(rows_dropped))
        db.execute("INSERT INTO decontaminations VALUES (?, ?, ?)", [state, last, len(bad)])
    return len(bad)
