"""One example for the report, walked from the student back to where everything came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.report.line_facts import named

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def example_of(warehouse: Warehouse) -> dict[str, Any] | None:
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
    return {
        "text": text[:2000], "text_no": text_no, "origin": origin, "weight": weight, "target": _shares(probs, names),
        "sources": named(
            warehouse,
            "path row split",
            """SELECT s.path, o.row_no, o.split FROM occurrences o JOIN sources s USING (source_no) WHERE o.text_no = ?
               ORDER BY ALL LIMIT 5""",
            [text_no],
        ),
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
    shares = [(at, float(value)) for at, value in enumerate(probs or []) if value is not None and value > 0.005]
    pairs: list[list[Any]] = [[names.get(at, str(at)), share] for at, share in shares]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:6]
