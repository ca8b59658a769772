"""Evaluations on record: stored once, read back as the summary that the report and the command line show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.warehouse.file import insert, next_no

if TYPE_CHECKING:
    from factory.evaluation.scoring import Scored
    from factory.warehouse.file import Warehouse


def put(warehouse: Warehouse, key: str, scored: Sequence[Scored], extra: Mapping[str, Any] | None) -> None:
    """Add an evaluation.

    Args:
        warehouse: Where to.
        key: Digest of everything it depends on.
        scored: A row for each system and variant.
        extra: The label-equivalents curve, or None.
    """
    import pyarrow as pa

    rows: list[tuple[Any, ...]] = [
        (row.system, row.variant, row.n, row.n_scored, row.coverage, json.dumps(row.metrics), json.dumps(row.detail))
        for row in scored
    ]
    if extra is not None:
        rows.append(("label_equivalents", "published", scored[0].n, scored[0].n, None, json.dumps(extra), None))
    with warehouse.lease() as db:
        number = next_no(db, "evaluations", "evaluation_no")
        columns = ("system", "variant", "n", "n_scored", "coverage", "metrics", "detail")
        types = (pa.string(), pa.string(), pa.int32(), pa.int32(), pa.float64(), pa.string(), pa.string())
        table: dict[str, Any] = {
            name: pa.array([row[at] for row in rows], kind)
            for at, (name, kind) in enumerate(zip(columns, types, strict=True))
        }
        insert(
            db, "evaluations",
            {"evaluation_no": [number] * len(rows), "key": [key] * len(rows), "split": ["test"] * len(rows), **table},
        )  # fmt: skip


def summary(warehouse: Warehouse) -> dict[str, Any] | None:
    """The newest evaluation, or None: `{split, n, systems: {NAME: {accuracy, macro_f1, ci95, metrics, coverage, n_scored}}}`.

    Also `distinct` (the same on the distinct texts), `label_equivalents`, and `evaluations`: how often test was evaluated.
    """
    rows = warehouse.query(
        """SELECT system, variant, n, n_scored, coverage, metrics::VARCHAR, detail::VARCHAR FROM evaluations
           WHERE evaluation_no = (SELECT max(evaluation_no) FROM evaluations) ORDER BY system, variant"""
    )
    if not rows:
        return None
    out: dict[str, Any] = {"split": "test", "n": 0, "systems": {}, "distinct": {}}
    for system, variant, n, n_scored, coverage, metrics_json, detail_json in rows:
        metrics = json.loads(metrics_json)
        if system == "label_equivalents":
            out["label_equivalents"] = metrics
            continue
        entry = {
            "accuracy": metrics.get("accuracy"), "macro_f1": metrics.get("macro_f1"), "ci95": metrics.get("ci95"),
            "metrics": metrics, "coverage": coverage, "n_scored": n_scored,
        }  # fmt: skip
        versus = (json.loads(detail_json) if detail_json else {}).get("versus_student")
        if versus:
            entry["versus_student"] = versus
        if variant == "published":
            out["n"] = n
            out["systems"][system] = entry
        else:
            out["distinct"][system] = {**entry, "n": n}
    out["evaluations"] = warehouse.scalar("SELECT count(DISTINCT evaluation_no) FROM evaluations")
    return out


def in_short(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `evaluate` returns of a summary."""
    return {
        "n": found.get("n", 0),
        "systems": {name: round(row["accuracy"], 4) for name, row in found.get("systems", {}).items()},
        "evaluations": found.get("evaluations", 0),
    }


def in_lines(found: Mapping[str, Any]) -> list[str]:
    """A summary for a person, a line for each system."""
    lines = [
        f"{name}: accuracy {row['accuracy']:.3f}, macro-F1 {row['macro_f1']:.3f} on {row['n_scored']} of {found['n']} rows"
        for name, row in found["systems"].items()
    ]
    return [*lines, f"test was evaluated {found['evaluations']} times with this warehouse"]
