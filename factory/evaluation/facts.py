"""What a report tells, read from the warehouse into plain values. No gold of `test` or `reference` is read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.evaluation.verdict import go_no_go
from factory.task import current_card

if TYPE_CHECKING:
    from factory.task import TaskCard
    from factory.warehouse import Warehouse

ORDER = (
    "student", "student_dev", "student_setfit", "programs_only", "synthesis_only", "majority", "snorkel", "teacher",
    "human_lfs", "human_lfs_content_ties", "dev_only", "full_gold",
)  # fmt: skip
"""Systems in the order of the table; others follow by name."""

MEANING = {
    "student": "the exported kind: trained on what the language model made, dev hidden from everything",
    "student_dev": "the same, with choices made on dev",
    "student_setfit": "SetFit on the same labels",
    "programs_only": "the student without synthetic texts",
    "synthesis_only": "the student on synthetic texts alone",
    "majority": "majority vote of the programs, no student",
    "snorkel": "Snorkel's label model on the programs' votes, no student",
    "teacher": "the language model's own label for each text",
    "human_lfs": "published hand-written rules, majority vote, ties by row index as WRENCH breaks them",
    "human_lfs_content_ties": "the same rules, ties by the text's content hash as everywhere here",
    "dev_only": "the student's recipe on the gold of dev and seed alone",
    "full_gold": "the student's recipe on the gold of the training texts",
}

UNCOVERED = {
    "drop": "nothing is learned from them; where a label model is scored alone, they count as a tie of all labels",
    "prior": "they get the class shares",
    "default": "they get the default label",
    "ask": "they are put to the language model; until it has answered, nothing is learned from them",
}


def gather(warehouse: Warehouse) -> dict[str, Any]:
    """Everything the report shows, as JSON-able values in a fixed order.

    Raises:
        InputError: The warehouse has no task yet.
    """
    from factory.evaluation.stage import summary

    card = current_card(warehouse)
    found = summary(warehouse)
    with warehouse.read():
        programs = _programs(warehouse)
        return {
            "task": _task(card),
            "splits": _splits(warehouse),
            "spend": _spend(warehouse),
            "programs": programs,
            "refused": _refused(warehouse),
            "votes": _votes(warehouse),
            "label_models": _label_models(warehouse),
            "students": _students(warehouse),
            "synthetic": _synthetic(warehouse),
            "evaluation": _evaluation(warehouse, found),
            "dropped": _dropped(warehouse),
            "lineage": _lineage(warehouse, card),
        }


def _task(card: TaskCard) -> dict[str, Any]:
    return {
        "name": card.name, "kind": card.kind, "text": card.text, "guidelines": card.guidelines,
        "labels": [{"name": label.name, "description": label.description} for label in card.labels],
        "revision": card.revision[:12],
    }  # fmt: skip


def _splits(warehouse: Warehouse) -> list[dict[str, Any]]:
    rows = warehouse.query(
        """SELECT split, count(*) FILTER (WHERE kept), count(DISTINCT text_no) FILTER (WHERE kept),
                  count(*) FILTER (WHERE NOT kept)
           FROM occurrences GROUP BY split ORDER BY split"""
    )
    bad = dict(warehouse.query("SELECT split, sum(n_bad)::BIGINT FROM sources GROUP BY split"))
    order = {"train": 0, "seed": 1, "dev": 2, "test": 3}
    return [
        {"split": split, "rows": kept, "texts": texts, "left": left, "bad": bad.get(split, 0)}
        for split, kept, texts, left in sorted(rows, key=lambda row: order.get(row[0], 9))
    ]


def _spend(warehouse: Warehouse) -> dict[str, Any]:
    rows = [
        {
            "stage": stage, "model": model, "prompt": prompt, "requests": requests, "answers": answers, "tokens_in": tokens_in,
            "tokens_out": tokens_out, "counted": counted, "cost": cost, "failed": failed,
        }
        for stage, model, prompt, requests, answers, tokens_in, tokens_out, counted, cost, failed in warehouse.query(
            """SELECT stage, model, prompt, requests, answers, tokens_in, tokens_out, tokens_counted, cost, failed_attempts
               FROM spend ORDER BY stage, model, prompt"""
        )
    ]  # fmt: skip
    total = {
        key: sum(row[key] for row in rows)
        for key in ("requests", "answers", "tokens_in", "tokens_out", "cost", "failed")
    }
    origins = [origin for (origin,) in warehouse.query("SELECT DISTINCT origin FROM answers ORDER BY 1")]
    return {"rows": rows, "total": total, "counted": all(row["counted"] for row in rows), "origins": origins}


def _programs(warehouse: Warehouse) -> list[dict[str, Any]]:
    names = dict(warehouse.query("SELECT label_no, name FROM labels"))
    dev = {
        number: (right, n)
        for number, right, n in warehouse.query(
            """WITH dev AS (SELECT g.text_no, g.label_no FROM gold g JOIN occurrences o USING (source_no, row_no) WHERE o.kept),
                    yes AS (SELECT text_no, list(DISTINCT label_no) AS labels FROM dev GROUP BY text_no)
               SELECT v.program_no,
                      sum(CASE WHEN p.target_label_no IS NULL THEN list_contains(yes.labels, v.vote)
                               ELSE list_contains(yes.labels, p.target_label_no) = (v.vote = 1) END)::BIGINT, count(*)
               FROM votes v JOIN yes USING (text_no) JOIN programs p USING (program_no) GROUP BY v.program_no"""
        )
    }
    rows = warehouse.query(
        """SELECT p.program_no, p.name, p.kind, p.origin, p.source, s.target_label_no, s.polarity, s.coverage, s.overlaps,
                  s.conflicts FROM program_summary s JOIN programs p USING (program_no) ORDER BY p.program_no"""
    )
    out = []
    for number, name, kind, origin, source, target, polarity, coverage, overlaps, conflicts in rows:
        said = [p for p in polarity or [] if p is not None]
        right, n = dev.get(number, (0, 0))
        out.append(
            {
                "no": number, "name": name, "kind": kind, "origin": origin, "source": source,
                "speaks": names.get(target) if target is not None else ", ".join(str(names.get(p, p)) for p in said),
                "coverage": coverage, "overlaps": overlaps, "conflicts": conflicts,
                "dev_accuracy": right / n if n else None, "dev_n": n,
            }
        )  # fmt: skip
    return out


def _refused(warehouse: Warehouse) -> list[dict[str, Any]]:
    return [
        {"no": number, "name": name, "state": state, "reason": reason, "detail": detail}
        for number, name, state, reason, detail in warehouse.query(
            """SELECT program_no, name, state, drop_reason, detail FROM programs WHERE state IN ('rejected', 'draft')
               ORDER BY program_no"""
        )
    ]


def _votes(warehouse: Warehouse) -> dict[str, Any]:
    """How many train texts have 0, 1, 2, ... votes of accepted programs."""
    rows = warehouse.query(
        """WITH n AS (SELECT s.text_no, count(v.vote) AS votes, count(DISTINCT v.vote) AS kinds FROM split_texts s
                      LEFT JOIN (SELECT votes.* FROM votes JOIN programs USING (program_no) WHERE state = 'accepted') v
                      USING (text_no) WHERE s.split = 'train' GROUP BY s.text_no)
           SELECT votes, count(*), count(*) FILTER (WHERE kinds > 1) FROM n GROUP BY votes ORDER BY votes"""
    )
    total = sum(count for _, count, _ in rows)
    return {
        "histogram": [[votes, count, conflicting] for votes, count, conflicting in rows],
        "texts": total,
        "uncovered": sum(count for votes, count, _ in rows if votes == 0),
        "conflicting": sum(conflicting for _, _, conflicting in rows),
    }


def _label_models(warehouse: Warehouse) -> list[dict[str, Any]]:
    out = []
    for number, name, config, chosen, reason, covered, ties, n in warehouse.query(
        """SELECT m.label_model_no, m.name, m.config::VARCHAR, m.chosen, m.reason, count(*) FILTER (WHERE s.covered),
                  count(*) FILTER (WHERE s.tie), count(*)
           FROM label_models m JOIN soft_labels s USING (label_model_no)
           WHERE s.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train') GROUP BY ALL ORDER BY m.label_model_no"""
    ):
        told = json.loads(config) if config else {}
        rule = str(told.get("uncovered"))
        out.append(
            {
                "no": number, "name": name, "chosen": chosen, "reason": reason, "systems": told.get("systems") or [],
                "uncovered": rule, "uncovered_means": UNCOVERED.get(rule, ""), "covered": covered, "ties": ties, "n": n,
            }
        )  # fmt: skip
    return out


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


def _synthetic(warehouse: Warehouse) -> list[dict[str, Any]]:
    return [
        {"method": method, "label": label, "kept": kept, "dropped": dropped}
        for method, label, kept, dropped in warehouse.query(
            """SELECT s.method, l.name, count(*) FILTER (WHERE s.state <> 'dropped'),
                      count(*) FILTER (WHERE s.state = 'dropped')
               FROM synthetic s JOIN labels l USING (label_no)
               GROUP BY s.method, l.name, l.label_no ORDER BY s.method, l.label_no"""
        )
    ]


def _evaluation(warehouse: Warehouse, found: Mapping[str, Any] | None) -> dict[str, Any] | None:
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
            "name": name, "meaning": MEANING.get(name, "label model on the programs' votes, no student"),
            "versus_student": None, **row,
            "distinct": found["distinct"].get(name), "detail": details.get((name, "published"), {}),
        }
        for name, row in sorted(found["systems"].items(), key=lambda item: (_rank(item[0]), item[0]))
    ]  # fmt: skip
    metric = "micro_f1" if "micro_f1" in found["systems"].get("student", {}) else "accuracy"
    verdict = go_no_go(
        found["systems"],
        paired={
            name: (row["versus_student"]["low"], row["versus_student"]["high"])
            for name, row in found["systems"].items()
            if row.get("versus_student")
        },
        metric=metric,
        label_equivalents=(found.get("label_equivalents") or {}).get("worth"),
        n_dev=int(warehouse.scalar("SELECT count(DISTINCT text_no) FROM split_texts WHERE split = 'dev'") or 0),
    )
    recorded = warehouse.scalar("SELECT count(*) FROM answers WHERE origin = 'recorded'")
    return {
        "verdict": {"decision": verdict.decision, "sentence": verdict.sentence, "reasons": list(verdict.reasons)},
        "recorded": int(recorded or 0),
        "n": found["n"],
        "n_distinct": next((row["n"] for row in found["distinct"].values()), 0),
        "systems": systems,
        "label_equivalents": found.get("label_equivalents"),
        "evaluations": found["evaluations"],
    }


def _dropped(warehouse: Warehouse) -> list[dict[str, Any]]:
    return [
        {"stage": stage, "kind": kind, "reason": reason, "count": count}
        for stage, kind, reason, count in warehouse.query(
            "SELECT stage, kind, drop_reason, count(*) FROM dropped GROUP BY ALL ORDER BY stage, kind, count(*) DESC, drop_reason"
        )
    ]


def _lineage(warehouse: Warehouse, card: TaskCard) -> dict[str, Any] | None:
    """One text that the student learned from, walked back to where everything came from."""
    picked = warehouse.query(
        """WITH student AS (SELECT model_no FROM models WHERE system = 'student' ORDER BY model_no DESC LIMIT 1),
                learned AS (SELECT r.text_no, r.origin, r.probs, r.weight FROM model_rows r JOIN student USING (model_no)
                            WHERE r.weight > 0),
                voted AS (SELECT text_no, count(*) AS n, count(DISTINCT vote) AS kinds FROM votes GROUP BY text_no)
           SELECT l.text_no, t.text, l.origin, l.probs, l.weight FROM learned l JOIN texts t USING (text_no)
           LEFT JOIN voted v USING (text_no)
           ORDER BY coalesce(v.n, 0) >= 2 DESC, coalesce(v.kinds, 0) = 2 DESC, length(t.text) BETWEEN 40 AND 300 DESC, l.text_no
           LIMIT 1"""
    )
    if not picked:
        return None
    names = dict(warehouse.query("SELECT label_no, name FROM labels"))
    text_no, text, origin, probs, weight = picked[0]
    out: dict[str, Any] = {
        "text": text[:2000], "text_no": text_no, "origin": origin, "weight": weight, "target": _shares(probs, names),
        "sources": [
            {"path": path, "row": row, "split": split}
            for path, row, split in warehouse.query(
                """SELECT s.path, o.row_no, o.split FROM occurrences o JOIN sources s USING (source_no) WHERE o.text_no = ?
                   ORDER BY ALL LIMIT 5""",
                [text_no],
            )
        ],
        "votes": [
            {
                "program": name, "no": number, "says": names.get(vote, vote) if target is None else
                f"{names.get(target)}: {'yes' if vote == 1 else 'no'}", "request": request, "prompt": prompt, "model": model,
            }
            for number, name, target, vote, request, prompt, model in warehouse.query(
                """SELECT p.program_no, p.name, p.target_label_no, v.vote, p.request_key, r.prompt, r.model FROM votes v
                   JOIN programs p USING (program_no) LEFT JOIN requests r USING (request_key)
                   WHERE v.text_no = ? AND p.state = 'accepted' ORDER BY p.program_no""",
                [text_no],
            )
        ],
        "label_models": [
            {"name": name, "chosen": chosen, "probs": _shares(values, names), "tie": tie}
            for name, chosen, values, tie in warehouse.query(
                """SELECT m.name, m.chosen, s.probs, s.tie FROM soft_labels s JOIN label_models m USING (label_model_no)
                   WHERE s.text_no = ? ORDER BY m.label_model_no""",
                [text_no],
            )
        ],
        "synthetic": _synthetic_example(warehouse, names),
    }  # fmt: skip
    return out


def _synthetic_example(warehouse: Warehouse, names: Mapping[int, str]) -> dict[str, Any] | None:
    rows = warehouse.query(
        """SELECT s.text, s.label_no, s.method, seed.text, passage.text, s.prompt_version, s.request_key, s.sample_no, r.prompt,
                  r.model, a.answer
           FROM synthetic s LEFT JOIN texts seed ON seed.text_no = s.seed_text_no
           LEFT JOIN texts passage ON passage.text_no = s.passage_text_no LEFT JOIN requests r USING (request_key)
           LEFT JOIN answers a ON a.request_key = s.request_key AND a.sample_no = s.sample_no
           WHERE s.state <> 'dropped' AND s.text_no IS NOT NULL
           ORDER BY (s.passage_text_no IS NULL), length(s.text) NOT BETWEEN 30 AND 400, s.synthetic_no LIMIT 1"""
    )
    if not rows:
        return None
    text, label, method, seed, passage, version, request, sample, prompt, model, answer = rows[0]
    return {
        "text": text[:2000], "label": names.get(label), "method": method, "seed": (seed or "")[:1000] or None,
        "passage": (passage or "")[:1000] or None, "prompt": prompt, "prompt_version": (version or "")[:12], "model": model,
        "request": (request or "")[:16], "sample": sample, "answer": (answer or "")[:1500] or None,
    }  # fmt: skip


def _shares(probs: Any, names: Mapping[int, str]) -> list[list[Any]]:
    """The labels that a probability vector gives anything to, most first."""
    pairs: list[list[Any]] = [
        [names.get(at, str(at)), float(value)]
        for at, value in enumerate(probs or [])
        if value is not None and value > 0.005
    ]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:6]


def _rank(system: str) -> int:
    return ORDER.index(system) if system in ORDER else len(ORDER)
