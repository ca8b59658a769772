"""What is known of labels without any gold: what the programs say, how often they agree, and what the labels come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

_VOTES = """votes JOIN programs USING (program_no) JOIN split_texts USING (text_no)
            WHERE split = 'train' AND programs.state = 'accepted'"""


MOST_LABELS = 12
"""Labels that a table of agreement has columns for: the most frequent."""


def known_of(
    warehouse: Warehouse,
    votes: dict[str, Any],
    audit: dict[str, Any] | None = None,
    outlook: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a report says where there is no score.

    Args:
        votes: From `line_facts.votes_of`.
        audit: From `audit.audit_of`.
        outlook: From `heard.outlook_of`.

    Returns:
        `table` (for each label its shares by programs, by the language model and by the student, None where not known),
        `shares` ([label, share of the training texts] by the label model that the student learned from), `agreement` (the share
        of votes that are those of most other programs on the same text, None if no text has two), `sentences` for a person.
    """
    shares, agreement = _shares(warehouse), _agreement(warehouse)
    sentences = []
    if votes["texts"]:
        covered, conflicting = 1 - votes["uncovered"] / votes["texts"], votes["conflicting"] / votes["texts"]
        sentences.append(
            f"Programs speak of {covered:.0%} of the {votes['texts']:,} training texts, and disagree on {conflicting:.0%}."
        )
    if agreement is not None:
        sentences.append(
            f"Where several speak, a program says what most of the others say in {agreement:.0%} of the cases. Programs that err"
            " alike agree too, so this is a hint and not a score."
        )
    if shares:
        least = min(shares, key=lambda row: row[1])
        sentences.append(
            f"The label model gives {', '.join(f'{label} {share:.0%}' for label, share in shares[:8])}"
            f"{' and others' if len(shares) > 8 else ''} of the texts: see whether that is what you expect."
        )
        if least[1] < 0.01:
            sentences.append(f"Hardly any text is {least[0]}: either it is rare, or no program sees it.")
    if outlook is not None:
        sentences.append(
            f"The student ({outlook['system']}) is sure (90 % and more) of {outlook['sure']:.0%} and in doubt (below 60 %) of"
            f" {outlook['doubtful']:.0%} of {outlook['n']} training texts drawn at random."
        )
    by = [dict(shares), (audit or {}).get("shares", {}), (outlook or {}).get("shares", {})]
    labels = list(dict.fromkeys(name for one in by for name in one))
    table = [{"label": name, "shares": [one.get(name) for one in by]} for name in labels if audit or outlook]
    return {"table": table, "shares": shares, "agreement": agreement, "sentences": sentences}


def labels_shown(audit: dict[str, Any]) -> list[str]:
    """The labels that a table of agreement has columns for, by how frequent they are."""
    there = sorted((name for name, share in audit["shares"].items() if share), key=lambda name: -audit["shares"][name])
    return there[:MOST_LABELS]


def _shares(warehouse: Warehouse) -> list[list[Any]]:
    """Labels with their share of the training texts, by the chosen label model, most first."""
    rows = warehouse.query(
        """WITH chosen AS (SELECT label_model_no FROM label_models WHERE chosen ORDER BY label_model_no LIMIT 1)
           SELECT l.name, avg(s.probs[l.label_no + 1]) FROM soft_labels s JOIN chosen USING (label_model_no)
           JOIN split_texts t USING (text_no), labels l
           WHERE t.split = 'train' AND s.covered AND l.active AND NOT isnan(s.probs[l.label_no + 1])
           GROUP BY l.name, l.label_no ORDER BY 2 DESC, l.label_no"""
    )
    return [[name, float(share)] for name, share in rows if share is not None]


def _agreement(warehouse: Warehouse) -> float | None:
    """The share of votes that are those of most other programs on the same text; a tie of the others counts as no."""
    rows = warehouse.query(
        f"""WITH counts AS (SELECT text_no, target_label_no AS target, vote, count(*) AS n FROM {_VOTES} GROUP BY ALL),
                ranked AS (SELECT n, max(n) OVER part AS top, sum(n) OVER part AS total,
                                  coalesce(nth_value(n, 2) OVER (part ORDER BY n DESC ROWS BETWEEN UNBOUNDED PRECEDING
                                                                 AND UNBOUNDED FOLLOWING), 0) AS second
                           FROM counts WINDOW part AS (PARTITION BY text_no, target))
            SELECT sum(n) FILTER (WHERE n = top AND n > 1 AND n - 1 > second), sum(n) FROM ranked WHERE total > 1"""
    )
    right, n = rows[0]
    return float(right or 0) / float(n) if n else None
