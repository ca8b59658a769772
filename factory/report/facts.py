"""What a report tells, read from the warehouse into plain values. No gold of `test` or `reference` is read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.evaluation.rivals import ACTIVE, size_of
from factory.report.deferral import deferral_of
from factory.report.example import example_of
from factory.report.first import first_of
from factory.report.known import known_of
from factory.report.line_facts import (
    candidates_of,
    dropped_of,
    label_models_of,
    named,
    programs_of,
    refused_of,
    spend_of,
    synthetic_of,
    votes_of,
)
from factory.report.money import money_of
from factory.report.verdict import go_no_go
from factory.task import current_card
from factory.warehouse.tables.gold import dev_gold
from factory.warehouse.tables.purchases import read as purchases

if TYPE_CHECKING:
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse

ORDER = (
    "student", "student_dev", "student_setfit", "combined", "glass_box", "mixture",
    "programs_only", "synthesis_only", "majority", "snorkel", "teacher",
    "self_tuned", "human_lfs", "human_lfs_content_ties", "zero_shot", "dev_only", "full_gold",
)  # fmt: skip
"""Systems in the order of the table; other label models follow Snorkel's by name."""

MEANING = {
    "student": "the exported kind: trained on what the language model made, dev hidden from everything",
    "student_dev": "the same, with choices made on dev",
    "student_setfit": "SetFit on the same labels",
    "combined": "the student taught by the mixture of programs and anchors",
    "glass_box": "the mixture as it is taken home, with its reasons; on texts outside of training the two are one",
    "mixture": "programs, texts and anchors mixed, no student",
    "programs_only": "the student without synthetic texts",
    "synthesis_only": "the student on synthetic texts alone",
    "majority": "majority vote of the programs, no student",
    "snorkel": "Snorkel's label model on the programs' votes, no student",
    "teacher": "the language model's own label for each text",
    "self_tuned": "the same model with the adapter that it learned from its own accepted texts",
    "human_lfs": "published hand-written rules, majority vote, ties by row index as WRENCH breaks them",
    "human_lfs_content_ties": "the same rules, ties by the text's content hash as everywhere here",
    "zero_shot": "the student's encoder: the label whose description lies nearest to the text, no training",
    "dev_only": "the student's recipe on the gold of dev and seed alone",
    "full_gold": "the student's recipe on the gold of the training texts",
}


def gather(warehouse: Warehouse) -> dict[str, Any]:
    """Everything the report shows, as JSON-able values in a fixed order.

    Raises:
        InputError: The warehouse has no task yet.
    """
    from factory.evaluation.audit import audit_of
    from factory.evaluation.heard import outlook_of
    from factory.evaluation.record import WORDS, summary

    card, found = current_card(warehouse), summary(warehouse)
    audit = audit_of(warehouse, rivals=found is None)
    outlook = None if found else outlook_of(warehouse)
    with warehouse.read():
        votes, evaluation = votes_of(warehouse), _evaluation(warehouse, card, found)
        scored = found and evaluation and {**found, "verdict": evaluation["verdict"]["sentence"]}
        rows = found["systems"] if found else {row["system"]: row for row in (audit or {}).get("systems", ())}
        return {
            "first": first_of(scored, audit, WORDS[found["metric"]] if found else ""),
            "money": money_of({name: row.get("spent") for name, row in rows.items()}), "outlook": outlook,
            "task": _task(card), "splits": _splits(warehouse), "spend": spend_of(warehouse), "programs": programs_of(warehouse),
            "bought": [row.as_json for row in purchases(warehouse)],
            "refused": refused_of(warehouse), "votes": votes,
            "candidates": candidates_of(warehouse), "known": None if found else known_of(warehouse, votes, audit, outlook),
            "audit": audit, "label_models": label_models_of(warehouse), "students": _students(warehouse),
            "synthetic": synthetic_of(warehouse), "evaluation": evaluation,
            "dropped": dropped_of(warehouse), "lineage": example_of(warehouse),
        }  # fmt: skip


def _task(card: TaskCard) -> dict[str, Any]:
    return {
        "name": card.name, "kind": card.kind, "text": card.text, "guidelines": card.guidelines,
        "labels": [{"name": label.name, "description": label.description} for label in card.labels],
        "revision": card.revision[:12],
    }  # fmt: skip


def _splits(warehouse: Warehouse) -> list[dict[str, Any]]:
    rows = named(
        warehouse,
        "split rows texts left",
        """SELECT split, count(*) FILTER (WHERE kept), count(DISTINCT text_no) FILTER (WHERE kept),
                  count(*) FILTER (WHERE NOT kept) FROM occurrences GROUP BY split
           ORDER BY coalesce(list_position(['train', 'seed', 'dev', 'test'], split), 9), split""",
    )
    bad = dict(warehouse.query("SELECT split, sum(n_bad)::BIGINT FROM sources GROUP BY split"))
    return [{**row, "bad": bad.get(row["split"], 0)} for row in rows]


def _students(warehouse: Warehouse) -> list[dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for number, system, student, encoder, params in warehouse.query(
        "SELECT model_no, system, student, encoder, params::VARCHAR FROM models ORDER BY model_no"
    ):
        counts = warehouse.query(
            """SELECT count(*) FILTER (WHERE weight > 0), count(*) FILTER (WHERE weight > 0 AND origin = 'synthetic'),
                      count(*) FILTER (WHERE weight = 0) FROM model_rows WHERE model_no = ?""",
            [number],
        )[0]
        told = json.loads(params) if params else {}
        chosen = told.get("chosen") if isinstance(told.get("chosen"), Mapping) else {}
        out[system] = {
            "no": number, "system": system, "student": student, "encoder": encoder, "rows": counts[0], "synthetic": counts[1],
            "left_out": counts[2], "chosen": {str(k): v for k, v in sorted((chosen or {}).items())},
        }  # fmt: skip
    return sorted(out.values(), key=lambda row: _rank(str(row["system"])))


def _evaluation(warehouse: Warehouse, card: TaskCard, found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    details = {
        (system, variant): json.loads(detail) if detail else {}
        for system, variant, detail in warehouse.query(
            """SELECT system, variant, detail::VARCHAR FROM evaluations
               WHERE evaluation_no = (SELECT max(evaluation_no) FROM evaluations)"""
        )
    }
    systems = [
        {
            "name": name, "meaning": _meaning(name, details[name, "published"]),
            "versus_student": None, **row,
            "distinct": found["distinct"].get(name), "detail": details[name, "published"],
        }
        for name, row in found["systems"].items()
    ]  # fmt: skip
    systems.sort(key=lambda row: (_rank(row["name"], row["detail"]), row["name"]))
    metric = "micro_f1" if card.kind == "multi" else "accuracy"
    shown: Mapping[str, Any] = details.get(("student", "published")) or next(iter(details.values()), {})
    supports = [row["support"] for row in (shown.get("per_class") or {}).values()]
    verdict = go_no_go(
        {name: row["metrics"] for name, row in found["systems"].items()},
        paired={
            name: (versus["low"], versus["high"])
            for name, row in found["systems"].items()
            if (versus := row.get("versus_student"))
        },
        metric=metric,
        majority_share=max(supports) / sum(supports) if metric == "accuracy" and sum(supports) else None,
        label_equivalents=(found.get("label_equivalents") or {}).get("worth"),
        n_dev=len(dev_gold(warehouse)),
    )
    return {
        "deferral": deferral_of(systems, found["systems"].get("teacher")),
        "verdict": {"decision": verdict.decision, "sentence": verdict.sentence, "reasons": list(verdict.reasons)},
        "recorded": int(warehouse.scalar("SELECT count(*) FROM answers WHERE origin = 'recorded'")),
        "n": found["n"], "n_distinct": next((row["n"] for row in found["distinct"].values()), 0), "systems": systems,
        "label_equivalents": found.get("label_equivalents"), "evaluations": found["evaluations"],
    }  # fmt: skip


def _meaning(system: str, detail: Mapping[str, Any]) -> str:
    if "rival" in detail:
        return f"another system's answers, from {detail['rival']}"
    if size_of(system) is not None:
        how = f"that it chose itself of {detail.get('pool', 0):,}" if system.endswith(ACTIVE) else "alone"
        return f"the student's recipe on {size_of(system)} labels of the language model {how}"
    return MEANING.get(system, "label model on the programs' votes, no student")


def _rank(system: str, detail: Mapping[str, Any] | None = None) -> float:
    """The place of a system in the table; a label model that is not named there stands with the others."""
    if "rival" in (detail or {}):
        return ORDER.index("teacher") - 0.2
    if (size := size_of(system)) is not None:
        return ORDER.index("teacher") + float(f"0.{size:09d}") + 1e-10 * system.endswith(ACTIVE)
    return ORDER.index(system) if system in ORDER else ORDER.index("teacher") - 0.5
