"""Evaluations on record: stored once, read back as the summary that the report and the command line show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.warehouse.file import first_row, insert, next_no

if TYPE_CHECKING:
    from factory.evaluation.scoring import Scored
    from factory.warehouse.file import Warehouse


WORDS = {"accuracy": "accuracy", "micro_f1": "micro-F1"}


def put(warehouse: Warehouse, key: str, scored: Sequence[Scored], extra: Mapping[str, Any] | None) -> bool:
    """Add an evaluation, unless the newest one is of the same already (two processes may have computed it at once).

    Args:
        key: Digest of everything it depends on.
        scored: A row for each system and variant.
        extra: The label-equivalents curve, or None.

    Returns:
        Whether it was added.
    """
    import pyarrow as pa

    rows: list[tuple[Any, ...]] = [
        (row.system, row.variant, row.n, row.n_scored, row.coverage, json.dumps(row.metrics), json.dumps(row.detail))
        for row in scored
    ]
    if extra is not None:
        rows.append(("label_equivalents", "published", scored[0].n, scored[0].n, None, json.dumps(extra), None))
    with warehouse.lease() as db:
        if _newest_key(db) == key:
            return False
        number = next_no(db, "evaluations", "evaluation_no")
        types = {
            "evaluation_no": pa.int32(), "key": pa.string(), "split": pa.string(), "system": pa.string(), "variant": pa.string(),
            "n": pa.int32(), "n_scored": pa.int32(), "coverage": pa.float64(), "metrics": pa.string(), "detail": pa.string(),
        }  # fmt: skip
        columns = zip(types.items(), zip(*((number, key, "test", *row) for row in rows), strict=True), strict=True)
        insert(db, "evaluations", {name: pa.array(values, kind) for (name, kind), values in columns})
    return True


def newest_key(warehouse: Warehouse) -> str | None:
    """The key of the newest evaluation, or None if there is none."""
    with warehouse.read() as db:
        return _newest_key(db)


def _newest_key(db: Any) -> str | None:
    row = first_row(db.execute("SELECT key FROM evaluations ORDER BY evaluation_no DESC LIMIT 1"))
    return None if row is None else str(row[0])


def summary(warehouse: Warehouse) -> dict[str, Any] | None:
    """The newest evaluation, or None.

    Returns:
        `split`, `n`, `metric` (the figure that systems are compared by), `systems` by name, `distinct` (the same on the distinct
        texts), `label_equivalents`, and `evaluations`: how often test was evaluated. A system has `score` and its interval
        `ci95`, `accuracy` (of whole sets in a multi task), `micro_f1`, `macro_f1`, `intervals` by the name of their figure,
        `metrics`, `coverage`, `n_scored`, `spent` (what its labels were bought with, as of `rivals.Spent`) and paired differences
        `versus_student`, `versus_combination` and `versus_label_model` (`of` less `less`).
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
        out["metric"] = metric = metrics["metric"]
        entry = {
            **{name: metrics.get(name) for name in ("accuracy", "micro_f1", "macro_f1", "ci95")},
            "metric": metric, "score": metrics.get(metric), "metrics": metrics, "coverage": coverage, "n_scored": n_scored,
            "intervals": {name.removeprefix("ci95_"): of for name, of in metrics.items() if name.startswith("ci95_")},
        }  # fmt: skip
        detail = json.loads(detail_json) if detail_json else {}
        entry["spent"] = detail.get("spent")
        entry |= {key: value for key, value in detail.items() if key.startswith("versus_") and value}
        if variant == "published":
            out["n"] = n
            out["systems"][system] = entry
        else:
            out["distinct"][system] = {**entry, "n": n}
    out["evaluations"] = warehouse.scalar("SELECT count(DISTINCT evaluation_no) FROM evaluations")
    return out


def in_short(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `evaluate` returns of a summary."""
    scores = {name: round(row["score"], 4) for name, row in found["systems"].items()}
    return {"n": found["n"], "metric": found["metric"], "systems": scores, "evaluations": found["evaluations"]}


def in_lines(found: Mapping[str, Any]) -> list[str]:
    """A summary for a person, a line for each system."""
    lines = []
    for name, row in found["systems"].items():
        low, high = row["ci95"] or (math.nan, math.nan)
        whole = f", whole sets right {row['accuracy']:.3f}" if row["metric"] == "micro_f1" else ""
        top = row["metrics"].get("accuracy_top")
        whole += "" if top is None else f", topmost labels right {top:.3f}"
        lines.append(
            f"{name}: {WORDS[row['metric']]} {row['score']:.3f} (95% {low:.3f}-{high:.3f}), macro-F1 {row['macro_f1']:.3f}{whole}"
            f" on {row['n_scored']} of {found['n']} rows"
        )
    return [*lines, f"test was evaluated {found['evaluations']} times with this warehouse"]
