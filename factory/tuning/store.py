"""What tuning reads from the warehouse and writes to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from factory.canonical import digest
from factory.errors import InputError
from factory.task import label_names
from factory.tuning.pairs import Example
from factory.warehouse.file import Warehouse, insert, next_no
from factory.warehouse.tables.gold import seed_gold


def sources(warehouse: Warehouse, wanted: Sequence[str] | None) -> list[str]:
    """Names of the synthesize steps to learn from: the wanted ones, or every Self-Guide one.

    Raises:
        InputError: There is none, or not that one.
    """
    rows = warehouse.query(
        "SELECT DISTINCT method, p.config ->> '$.method' FROM synthetic JOIN plans p USING (plan_no)"
        " WHERE synthetic.state = 'accepted' ORDER BY ALL"
    )
    names = [name for name, _ in rows]
    if wanted is not None:
        for name in wanted:
            if name not in names:
                fix = f"There are texts of: {', '.join(names) or 'nothing'}"
                raise InputError(f"there are no accepted texts of {name!r}", where="tune.learn_from", fix=fix)
        return [name for name in names if name in wanted]
    own = [name for name, method in rows if method == "self_guide"]
    if not own:
        other = f", or say `learn_from: [{', '.join(names)}]`" if names else ""
        fix = f"Run `synthesize: {{method: self_guide}}` first{other}"
        raise InputError("there are no accepted Self-Guide texts to learn from", where="tune", fix=fix)
    return own


def examples(warehouse: Warehouse, names: Sequence[str]) -> list[Example]:
    """The accepted texts of some synthesize steps, each text once, in order of number."""
    rows = warehouse.query(
        "SELECT synthetic_no, text_no, text, labels.name FROM synthetic JOIN labels USING (label_no)"
        " WHERE state = 'accepted' AND text_no IS NOT NULL AND method IN (SELECT unnest(?)) ORDER BY synthetic_no",
        [list(names)],
    )
    found: dict[int, Example] = {}
    for number, text_no, text, label in rows:
        found.setdefault(text_no, Example(number, text_no, text, label))
    return list(found.values())


def seeds_digest(warehouse: Warehouse) -> str:
    """A digest of the seeds that may be shown: their texts and labels."""
    names = label_names(warehouse)
    return digest(
        sorted([seed.content_hash.hex(), names[number]] for seed in seed_gold(warehouse) for number in seed.labels)
    )


def save(warehouse: Warehouse, adapter: Mapping[str, Any], rows: Sequence[tuple[int, str | None]]) -> int:
    """Store an adapter and what it learned from, in place of one of the same key.

    Args:
        adapter: A value for each column of `adapters` but its number; mappings are stored as JSON.
        rows: `(synthetic_no, drop_reason)`.

    Returns:
        Its number.
    """
    import pyarrow as pa

    values = [json.dumps(one, sort_keys=True) if isinstance(one, dict) else one for one in adapter.values()]
    with warehouse.lease() as db:
        for (old,) in db.execute("SELECT adapter_no FROM adapters WHERE key = ?", [adapter["key"]]).fetchall():
            db.execute("DELETE FROM adapters WHERE adapter_no = ?", [old])
            db.execute("DELETE FROM adapter_rows WHERE adapter_no = ?", [old])
        number = next_no(db, "adapters", "adapter_no")
        places = ", ".join("?" * (len(adapter) + 1))
        db.execute(f"INSERT INTO adapters (adapter_no, {', '.join(adapter)}) VALUES ({places})", [number, *values])
        learned = {
            "adapter_no": pa.array([number] * len(rows), pa.int32()),
            "synthetic_no": pa.array([no for no, _ in rows], pa.int32()),
            "drop_reason": pa.array([reason for _, reason in rows], pa.string()),
        }
        insert(db, "adapter_rows", learned)
    return int(number)


def params_of(warehouse: Warehouse, adapter_no: int) -> dict[str, Any]:
    """What training came to, of an adapter on record."""
    text = warehouse.scalar("SELECT params FROM adapters WHERE adapter_no = ?", [adapter_no])
    found: dict[str, Any] = json.loads(text)
    return found
