"""The data card of an export: what is in it, where it came from, what it cost, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory.task import TaskCard


def data_card(
    card: TaskCard, *, counts: Sequence[tuple[str, str, str, int]], dropped: Sequence[tuple[str, int]],
    spend: Sequence[Mapping[str, Any]], data_files: Mapping[str, str], held_out: int, label_names: Sequence[str],
) -> str:  # fmt: skip
    """The README.md, beginning with the front matter that `datasets.load_dataset` reads.

    Args:
        card: The task card.
        counts: `(split, origin or method, label, rows)`.
        dropped: `(drop_reason, rows)` of synthetic texts.
        spend: Rows of the view `spend`.
        data_files: Split to the file that `load_dataset` is to read.
        held_out: How many dev and test texts the synthetic ones were kept clear of.
        label_names: In the order of `soft_label`.
    """
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split, path in data_files.items():
        lines += [f"  - split: {split}", f"    path: {path}"]
    lines += ["---", "", f"# {card.name}", "", f"Each text is {card.text.rstrip('.')}.", "", "## Labels", ""]
    lines += [f"- `{label.name}`: {' '.join(label.description.split())}" for label in card.labels]
    if card.guidelines:
        lines += ["", " ".join(card.guidelines.split())]
    lines += ["", f"`soft_label` holds one probability for each of: {', '.join(f'`{name}`' for name in label_names)}."]
    lines += ["", "## Rows", "", "| split | from | label | rows |", "|---|---|---|---|"]
    lines += [f"| {split} | {origin} | {label} | {count} |" for split, origin, label, count in counts]
    if dropped:
        lines += ["", "## Filters", "", "Synthetic texts that were dropped, by the first reason found:", ""]
        lines += ["| reason | texts |", "|---|---|", *(f"| {reason} | {count} |" for reason, count in dropped)]
    lines += ["", "## Decontamination", ""]
    lines.append(
        f"Synthetic texts whose character 5-grams have a Jaccard similarity of .8 or more with one of the {held_out} texts of dev"
        " and test were dropped. Texts of the split `test` are not part of this export."
    )
    if spend:
        lines += ["", "## Spend", "", "| stage | model | prompt | answers | tokens in | tokens out | counted | cost |"]
        lines.append("|---|---|---|---|---|---|---|---|")
        lines += [
            f"| {row['stage']} | {row['model']} | {row['prompt']} | {row['answers']} | {row['tokens_in']} | {row['tokens_out']}"
            f" | {'by the server' if row['tokens_counted'] else 'estimated'} | {_cost(row['cost'], row['cost_unknown'])} |"
            for row in spend
        ]
    lines += ["", "## Limits", ""]
    lines.append(
        "- Labels of origin `label model` come from label programs, and labels of origin `asked for` are those that a language"
        " model was asked to write for; no person has read them all."
    )
    lines.append(
        "- Real texts keep the licence of their source, and texts rewritten from a passage may be bound by the passage's."
    )
    lines.append(
        "- Do not evaluate on these rows a model that was trained on them, nor on the sources they were written from."
    )
    return "\n".join(lines) + "\n"


def _cost(value: float | None, unknown: int) -> str:
    return "unknown" if value is None else f"{'at least ' if unknown else ''}{value:.4f}"
