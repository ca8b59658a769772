"""What the line did, for the report: what was asked, programs, votes, label models, synthetic texts, dropped rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from factory.intervals import wilson
from factory.labels.recall import recall_of
from factory.warehouse.tables.gold import KEPT_TEXTS

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

UNCOVERED = {
    "drop": "nothing is learned from them; where a label model is scored alone, they count as a tie of all labels",
    "prior": "they get the class shares",
    "default": "they get the default label",
    "ask": "they are put to the language model; until it has answered, nothing is learned from them",
}


def spend_of(warehouse: Warehouse) -> dict[str, Any]:
    """What was asked of models, by stage, model and prompt, and in all: `cost` is what is known of it, None where nothing is, and
    `cost_unknown` how many calls it leaves out."""
    rows = named(
        warehouse,
        "stage model prompt requests answers tokens_in tokens_out counted cost cost_unknown failed",
        """SELECT stage, model, prompt, requests, answers, tokens_in, tokens_out, tokens_counted, cost, cost_unknown,
                  failed_attempts FROM spend ORDER BY stage, model, prompt""",
    )
    total: dict[str, Any] = {
        key: sum(row[key] for row in rows)
        for key in ("requests", "answers", "tokens_in", "tokens_out", "cost_unknown", "failed")
    }
    known = [row["cost"] for row in rows if row["cost"] is not None]
    total["cost"] = sum(known) if known or not rows else None
    origins = [origin for (origin,) in warehouse.query("SELECT DISTINCT origin FROM answers ORDER BY 1")]
    return {"rows": rows, "total": total, "counted": all(row["counted"] for row in rows), "origins": origins}


def candidates_of(warehouse: Warehouse) -> str | None:
    """In words, how often the labels that texts were shown hold the right one; None where texts are shown all."""
    found = recall_of(warehouse)
    if found is None or not found.labels:
        return None
    share = found.held / found.labels
    low, high = wilson(share, found.labels)
    return f"{found.words[0].upper()}{found.words[1:]}: {share:.0%} (95% interval {low:.0%} to {high:.0%})."


def programs_of(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The accepted programs, with shares of the training texts and accuracy on the gold of dev and seed."""
    names = dict(warehouse.query("SELECT label_no, name FROM labels"))
    judged = warehouse.query(
        f"""SELECT v.program_no,
                  sum(CASE WHEN p.target_label_no IS NULL THEN list_contains(g.label_nos, v.vote)
                           ELSE list_contains(g.label_nos, p.target_label_no) = (v.vote = 1) END)::BIGINT, count(*)
           FROM votes v JOIN {KEPT_TEXTS} g USING (text_no) JOIN programs p USING (program_no) GROUP BY v.program_no""",
        {"splits": ["dev", "seed"]},
    )
    dev = {number: (right, n) for number, right, n in judged}
    rows = named(
        warehouse,
        "no name kind origin source target polarity coverage overlaps conflicts",
        """SELECT p.program_no, p.name, p.kind, p.origin, p.source, s.target_label_no, s.polarity, s.coverage, s.overlaps,
                  s.conflicts FROM program_summary s JOIN programs p USING (program_no) ORDER BY p.program_no""",
    )
    for row in rows:
        target, said = row.pop("target"), [p for p in row.pop("polarity") or [] if p is not None]
        row["speaks"] = ", ".join(str(names.get(p, p)) for p in said) if target is None else names.get(target)
        right, n = dev.get(row["no"], (0, 0))
        row |= {"dev_accuracy": right / n if n else None, "dev_n": n}
    return rows


def refused_of(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Programs that were rejected, or never finished, and why."""
    return named(
        warehouse,
        "no name state reason detail",
        """SELECT program_no, name, state, drop_reason, detail FROM programs WHERE state IN ('rejected', 'draft')
           ORDER BY program_no""",
    )


def votes_of(warehouse: Warehouse) -> dict[str, Any]:
    """How many train texts have 0, 1, 2, ... votes of accepted programs."""
    rows = warehouse.query(
        """WITH v AS (SELECT text_no, target_label_no, count(*) AS votes, count(DISTINCT vote) AS kinds
                      FROM votes JOIN programs USING (program_no) WHERE state = 'accepted' GROUP BY ALL),
                n AS (SELECT s.text_no, coalesce(sum(v.votes), 0)::BIGINT AS votes, coalesce(max(v.kinds), 0) AS kinds
                      FROM split_texts s LEFT JOIN v USING (text_no) WHERE s.split = 'train' GROUP BY s.text_no)
           SELECT votes, count(*), count(*) FILTER (WHERE kinds > 1) FROM n GROUP BY votes ORDER BY votes"""
    )
    return {
        "histogram": [list(row) for row in rows],
        "texts": sum(count for _, count, _ in rows),
        "uncovered": sum(count for votes, count, _ in rows if votes == 0),
        "conflicting": sum(conflicting for _, _, conflicting in rows),
    }


def label_models_of(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The label models with soft labels on training texts, and their rule for uncovered ones."""
    rows = named(
        warehouse,
        "no name config chosen reason covered ties n",
        """SELECT m.label_model_no, m.name, m.config::VARCHAR, m.chosen, m.reason, count(*) FILTER (WHERE s.covered),
                  count(*) FILTER (WHERE s.tie), count(*)
           FROM label_models m JOIN soft_labels s USING (label_model_no)
           WHERE s.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train') GROUP BY ALL ORDER BY m.label_model_no""",
    )
    for row in rows:
        told = json.loads(row.pop("config") or "{}")
        rule = str(told.get("uncovered"))
        row |= {"systems": told.get("systems") or [], "uncovered": rule, "uncovered_means": UNCOVERED.get(rule, "")}
    return rows


def synthetic_of(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Synthetic texts kept and dropped, by method and label."""
    return named(
        warehouse,
        "method label kept dropped",
        """SELECT s.method, l.name, count(*) FILTER (WHERE s.state <> 'dropped'), count(*) FILTER (WHERE s.state = 'dropped')
           FROM synthetic s JOIN labels l USING (label_no)
           GROUP BY s.method, l.name, l.label_no ORDER BY s.method, l.label_no""",
    )


def dropped_of(warehouse: Warehouse) -> list[dict[str, Any]]:
    """How many rows were dropped, by stage, kind and reason. A text that several students left out is one."""
    return named(
        warehouse,
        "stage kind reason count",
        """SELECT stage, kind, drop_reason,
                  CASE stage WHEN 'distill' THEN count(DISTINCT split_part(item, '/', 2)) ELSE count(*) END AS n
           FROM dropped GROUP BY stage, kind, drop_reason ORDER BY stage, kind, n DESC, drop_reason""",
    )


def named(warehouse: Warehouse, names: str, sql: str, parameters: Any = ()) -> list[dict[str, Any]]:
    """Rows of a query as mappings, the columns named in order."""
    return [dict(zip(names.split(), row, strict=True)) for row in warehouse.query(sql, parameters)]
