"""Everything that is on record about one text: what was said of it, by whom, with what weight, and where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.warehouse.tables.answers import people_said
from factory.warehouse.tables.gold import gold_of_text
from factory.warehouse.tables.labels import THEN
from factory.warehouse.tables.lineage import walk
from factory.warehouse.tables.listing import likeliest
from factory.warehouse.tables.programs import PERSON

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

MOST_EDGES = 200


def evidence_of(
    warehouse: Warehouse, text_no: int, names: list[str], *, single: bool, lineage: bool = True
) -> dict[str, Any]:
    """What is known of a text. No gold of `test` or `reference` is read.

    Args:
        warehouse: Where it is.
        text_no: Its number.
        names: Label names by number.
        single: Whether a text has one label.
        lineage: Whether to walk its lineage, which is the slowest part.

    Returns:
        `text`, `origin`, `places` (FILE:LINE and split), `votes` (of programs, those included that were decided on since the
        label model was fitted), `label_models`, `people`, `model` (the language model's own
        labels: anchors and annotations), `gold` (of dev and seed), `learned` (which students learned from it), `failures`
        (programs that failed on it), `lineage` (edges to what it came from).

    Raises:
        InputError: There is no such text.
    """
    with warehouse.read() as db:
        rows = warehouse.query("SELECT text, origin, hex(content_hash) FROM texts WHERE text_no = ?", [text_no])
        if not rows:
            raise InputError(f"there is no text {text_no}", where=warehouse.path, fix="`factory texts` lists them")
        text, origin, content = rows[0]

        def named(label_nos: list[int] | None) -> list[str]:
            return [names[at] for at in label_nos or () if at >= 0]

        return {
            "text_no": text_no, "text": text, "origin": origin, "id": content.lower(),
            "places": [
                {"place": place, "split": split, "own": own}
                for place, split, own in warehouse.query(
                    "SELECT place, split, fields::VARCHAR FROM places WHERE kept AND text_no = ? ORDER BY ALL", [text_no]
                )
            ],
            "votes": [
                {
                    "program_no": number, "name": name, "kind": kind,
                    "says": names[vote] if target is None else f"{names[target]}: {'yes' if vote else 'no'}",
                    "vote": vote, "state": state, "source": source,
                    "target": None if target is None else names[target],
                }
                for number, name, kind, target, vote, state, source in warehouse.query(
                    "SELECT program_no, name, kind, target_label_no, vote, state, source FROM votes JOIN programs USING"
                    f" (program_no) WHERE (state = 'accepted' OR program_no IN {THEN}) AND NOT {PERSON} AND text_no = ?"
                    " ORDER BY program_no",
                    [text_no],
                )
            ],
            "label_models": [
                {
                    "name": name, "chosen": chosen, "covered": covered, "tie": tie, **likeliest(probs, names, single),
                    "shares": sorted(
                        ((names[at], value) for at, value in enumerate(probs) if value is not None and value >= 0.005),
                        key=lambda one: -one[1],
                    )[:8],
                }
                for name, chosen, probs, covered, tie in warehouse.query(
                    "SELECT name, chosen, probs, covered, tie FROM soft_labels JOIN label_models USING (label_model_no)"
                    " WHERE text_no = ? ORDER BY chosen DESC, label_model_no",
                    [text_no],
                )
            ],
            "people": [
                {"by": by, "labels": named(labels), "before": before and named(before), "undone": undone, "at": at}
                for by, labels, before, undone, at in warehouse.query(
                    "SELECT annotator, label_nos, before, undone, happened_at::VARCHAR FROM answer_events WHERE text_no = ?"
                    " ORDER BY action_no DESC LIMIT 20",
                    [text_no],
                )
            ],
            "answers": [{"by": by, "labels": named(labels)} for by, labels in people_said(db, [text_no]).get(text_no, ())],
            "model": _model_said(warehouse, text_no, named),
            "gold": [{"split": split, "labels": named(labels)} for split, labels in gold_of_text(warehouse, text_no)],
            "learned": [
                {"system": system, "weight": weight, "drop_reason": why, **likeliest(probs, names, single)}
                for system, weight, why, probs in warehouse.query(
                    "SELECT system, weight, drop_reason, probs FROM model_rows JOIN models USING (model_no) WHERE text_no = ?"
                    " ORDER BY model_no",
                    [text_no],
                )
            ],
            "failures": [
                {"program_no": number, "name": name, "status": status, "detail": detail}
                for number, name, status, detail in warehouse.query(
                    "SELECT program_no, name, status, f.detail FROM vote_failures f JOIN programs USING (program_no)"
                    " WHERE text_no = ? AND state = 'accepted' ORDER BY program_no",
                    [text_no],
                )
            ],
            "lineage": walk(warehouse, "text", str(text_no), down=False, limit=MOST_EDGES) if lineage else [],
        }  # fmt: skip


def _model_said(warehouse: Warehouse, text_no: int, named: Any) -> list[dict[str, Any]]:
    """The language model's own labels of a text: its anchors, and what it annotated."""
    anchors = warehouse.query(
        "SELECT role, list(label_no ORDER BY label_no) FILTER (WHERE yes), max(prob) FROM anchors WHERE source = 'model'"
        " AND text_no = ? GROUP BY ALL ORDER BY ALL",
        [text_no],
    )
    annotated = warehouse.query(
        "SELECT list(label_no ORDER BY label_no) FILTER (WHERE label_no IS NOT NULL), any_value(drop_reason), request_key,"
        " sample_no, any_value(answer) FROM annotations LEFT JOIN answers USING (request_key, sample_no) WHERE text_no = ?"
        " GROUP BY request_key, sample_no ORDER BY ALL",
        [text_no],
    )
    return [
        *({"how": f"anchor ({role})", "labels": named(labels), "prob": prob, "request": None, "answer": None}
          for role, labels, prob in anchors),
        *({"how": f"label{f', not read: {why}' if why else ''}", "labels": named(labels), "prob": None,
           "request": key, "answer": answer}
          for labels, why, key, _, answer in annotated),
    ]  # fmt: skip
