"""`audit` on a warehouse: likely label errors with their evidence."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.denoise.decide import decide, tie_keys
from factory.denoise.read import CHOSEN
from factory.errors import InputError
from factory.result import Progress, StageResult, no_progress
from factory.review import find_errors as auditing
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.tables.gold import gold_texts

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

MOST_AUDITED = 20_000


def audit(
    warehouse: Warehouse,
    *,
    of: Literal["denoised", "dev", "seed"] = "denoised",
    limit: int = 50,
    encoder: str = "auto",
    out: Path | str | None = None,
    progress: Progress = no_progress,
) -> StageResult:
    """List likely label errors, the worst first, with the evidence. Nothing is written to the warehouse.

    Of more than 20,000 labels, as many are audited (drawn by content hash).

    Args:
        warehouse: Where the labels are.
        of: The labels that `denoise` gave to covered training texts, or the gold of `dev` or `seed`. A `multi` task is
            audited label by label.
        limit: Most issues in the result; `out` gets them all.
        encoder: Whose vectors the classifier and the neighbours use.
        out: A .csv or .jsonl file to write them to.
        progress: Told of texts encoded.

    Returns:
        `did["issues"]`: text_no, text, label (of a `multi` task), given, likely, score, evidence: `believed` (what the texts
        tell of the given and the likely label), `label_model` (its probabilities of the two, where it was run), `votes` by
        program, `nearest` texts with their labels.

    Raises:
        InputError: No such labels, or another ending than .csv or .jsonl.
    """
    from factory.encoders.encoder import load_encoder, vectors_of

    if out is not None and Path(out).suffix not in (".csv", ".jsonl"):
        raise InputError("issues are written as .csv or .jsonl", where=out)
    card, names = current_card(warehouse), label_names(warehouse)
    given, total = _given(warehouse, card, of)
    if not given:
        hint = "Run `denoise` first" if of == "denoised" else f"Give `ingest` a split `{of}` with labels"
        raise InputError(f"there are no labels of `{of}` to audit", fix=hint)
    numbers = sorted(given)
    vectors = vectors_of(warehouse, load_encoder(encoder), numbers, progress)
    votes, words = _votes_of(warehouse, numbers), _texts_of(warehouse, numbers)
    said = _label_model_of(warehouse, numbers)
    found: list[dict[str, Any]] = []
    for title, labels, shown in _questions(card, names, [given[number] for number in numbers]):
        rows = np.flatnonzero(labels >= 0)
        for issue in auditing.find_issues(labels[rows], vectors[rows], len(shown)):
            near = [int(rows[at]) for at in issue.neighbours[:3]]
            number = numbers[int(rows[issue.row])]
            evidence: dict[str, Any] = {
                "believed": f"{shown[issue.given]} {issue.belief[0]:.2f}, {shown[issue.likely]} {issue.belief[1]:.2f}"
            }
            pair = _chances(
                said.get(number), None if title is None else names.index(title), (issue.given, issue.likely)
            )
            if pair is not None:
                evidence["label_model"] = f"{shown[issue.given]} {pair[0]:.2f}, {shown[issue.likely]} {pair[1]:.2f}"
            evidence["votes"] = votes.get(number, {})
            evidence["nearest"] = [f"{shown[labels[at]]}: {words[numbers[at]][:80]}" for at in near]
            found.append(
                {
                    "text_no": number,
                    "text": words[number],
                    "label": title,
                    "given": shown[issue.given],
                    "likely": shown[issue.likely],
                    "score": round(issue.score, 4),
                    "evidence": evidence,
                }
            )
    found.sort(key=lambda row: (row["score"], row["text_no"]))
    if out is not None:
        _write_issues(Path(out), found)
    per_class: dict[str, int] = {}
    for row in found:
        per_class[row["given"]] = per_class.get(row["given"], 0) + 1
    says = [f"{len(found)} of {len(numbers)} labels of `{of}` are suspect" + (f", all in {out}" if out else "")]
    if len(numbers) < total:
        says.append(f"{len(numbers)} of {total} labels were audited")
    says += [f"{label}: {count}" for label, count in sorted(per_class.items(), key=lambda pair: (-pair[1], pair[0]))]
    did = {"of": of, "texts": len(numbers), "suspect": len(found), "per_class": per_class, "issues": found[:limit]}
    return StageResult("audit", False, did, tuple(says))


def _given(warehouse: Warehouse, card: TaskCard, of: str) -> tuple[dict[int, set[int]], int]:
    """Label numbers by text, at most `MOST_AUDITED` of them, and how many texts have some in all.

    Gold of a split, or the decided labels of covered training texts.
    """
    given: dict[int, set[int]] = {}
    if of in ("dev", "seed"):
        texts = sorted(gold_texts(warehouse, of), key=lambda text: text.content_hash)
        return {text.text_no: set(text.labels) for text in texts[:MOST_AUDITED]}, len(texts)
    if of != "denoised":
        raise InputError(
            f"`{of}` cannot be audited", fix="Use denoised, dev or seed; test gold is audited by `evaluate` alone"
        )
    where = f"s.covered AND s.label_model_no = {CHOSEN} AND s.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
    total = warehouse.scalar(f"SELECT count(*) FROM soft_labels s WHERE {where}")
    rows = warehouse.query(
        "SELECT s.text_no, s.probs, t.content_hash FROM soft_labels s JOIN texts t USING (text_no)"
        f" WHERE {where} ORDER BY t.content_hash LIMIT {MOST_AUDITED}"
    )
    if not rows:
        return {}, 0
    if card.kind == "multi":
        for number, probs, _ in rows:
            given[number] = {at for at, value in enumerate(probs) if value is not None and value > 0.5}
        return given, int(total)
    labels, _ = decide(np.array([row[1] for row in rows]), tie_keys(row[2] for row in rows))
    return {row[0]: {int(label)} for row, label in zip(rows, labels, strict=True)}, int(total)


def _label_model_of(warehouse: Warehouse, numbers: Sequence[int]) -> dict[int, Sequence[float | None]]:
    """The chosen label model's probabilities by label number, for each text that has some."""
    return dict(
        warehouse.query(
            f"SELECT text_no, probs FROM soft_labels WHERE label_model_no = {CHOSEN}"
            " AND text_no IN (SELECT unnest(?::INTEGER[]))",
            [list(numbers)],
        )  # type: ignore[arg-type]
    )


def _chances(
    probs: Sequence[float | None] | None, label: int | None, pair: tuple[int, int]
) -> tuple[float, float] | None:
    """The label model's probabilities of a pair of classes: of a `single` task, or no (0) and yes (1) of one label."""
    if probs is None:
        return None
    if label is None:
        values = [probs[at] if at < len(probs) else None for at in pair]
    else:
        yes = probs[label] if label < len(probs) else None
        values = [None if yes is None else (yes if at else 1 - yes) for at in pair]
    if values[0] is None or values[1] is None:
        return None
    return float(values[0]), float(values[1])


def _questions(
    card: TaskCard, names: Sequence[str], given: Sequence[set[int]]
) -> list[tuple[str | None, np.ndarray, list[str]]]:
    """(label asked about or None, classes [n] with -1 for left out, class names) of each audit."""
    if card.kind == "single":
        return [(None, np.array([next(iter(labels)) if len(labels) == 1 else -1 for labels in given]), list(names))]
    found: list[tuple[str | None, np.ndarray, list[str]]] = []
    for name in card.label_names:
        at = names.index(name)
        found.append((name, np.array([int(at in labels) for labels in given]), [f"not {name}", name]))
    return found


def _votes_of(warehouse: Warehouse, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Vote by program name, for each text."""
    names = label_names(warehouse)
    found: dict[int, dict[str, Any]] = {}
    for number, program, target, vote in warehouse.query(
        "SELECT v.text_no, p.name, p.target_label_no, v.vote FROM votes v JOIN programs p USING (program_no)"
        " WHERE p.state = 'accepted' AND v.text_no IN (SELECT unnest(?::INTEGER[])) ORDER BY v.text_no, p.program_no",
        [list(numbers)],
    ):
        found.setdefault(number, {})[program] = (
            names[vote] if target is None else f"{names[target]}: {'yes' if vote else 'no'}"
        )
    return found


def _texts_of(warehouse: Warehouse, numbers: Sequence[int]) -> dict[int, str]:
    return dict(
        warehouse.query(
            "SELECT text_no, text FROM texts WHERE text_no IN (SELECT unnest(?::INTEGER[]))", [list(numbers)]
        )  # type: ignore[arg-type]
    )


def _write_issues(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text_no", "text", "label", "given", "likely", "score", "evidence"])
        for row in rows:
            evidence = json.dumps(row["evidence"], ensure_ascii=False)
            start = [row["text_no"], row["text"], row["label"] or ""]
            writer.writerow([*start, row["given"], row["likely"], row["score"], evidence])
