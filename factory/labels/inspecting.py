"""`audit`, `ask` and `read_answers` on a warehouse: what they read, and what they write."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.canonical import digest
from factory.errors import InputError
from factory.labels import ask as asking
from factory.labels import audit as auditing
from factory.labels import questions
from factory.labels.decide import decide, tie_keys
from factory.labels.reading import accepted_programs, read_texts, read_votes
from factory.labels.votes import VoteSet
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard, current_card, label_names

if TYPE_CHECKING:
    from factory.warehouse import Warehouse

MOST_AUDITED = 20_000
ASKED = "asked answers"


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

    Args:
        warehouse: Where the labels are.
        of: The labels that `denoise` gave to covered training texts, or the gold of `dev` or `seed`. A `multi` task is
            audited label by label.
        limit: Most issues in the result; `out` gets them all.
        encoder: Whose vectors the classifier and the neighbours use.
        out: A .csv or .jsonl file to write them to.
        progress: Told of texts encoded.

    Returns:
        `did["issues"]`: text_no, text, given, likely, score, evidence (beliefs, votes, neighbours with their labels).

    Raises:
        InputError: No such labels, or another ending than .csv or .jsonl.
    """
    from factory.encoders import load_encoder, vectors_of

    card, names = current_card(warehouse), label_names(warehouse)
    given = _given(warehouse, card, of)
    if not given:
        hint = "Run `denoise` first" if of == "denoised" else f"Give `ingest` a split `{of}` with labels"
        raise InputError(f"there are no labels of `{of}` to audit", fix=hint)
    numbers = sorted(given)[:MOST_AUDITED]
    vectors = vectors_of(warehouse, load_encoder(encoder), numbers, progress)
    votes, words = _votes_of(warehouse, numbers), _texts_of(warehouse, numbers)
    found: list[dict[str, Any]] = []
    for title, labels, shown in _questions(card, names, [given[number] for number in numbers]):
        rows = np.flatnonzero(labels >= 0)
        issues = auditing.find_issues(labels[rows], vectors[rows], len(shown))
        for issue in issues:
            near = [int(rows[at]) for at in issue.neighbours[:3]]
            number = numbers[int(rows[issue.row])]
            evidence = {
                "believed": f"{shown[issue.given]} {issue.belief[0]:.2f}, {shown[issue.likely]} {issue.belief[1]:.2f}",
                "votes": votes.get(number, {}),
                "nearest": [f"{shown[labels[at]]}: {words[numbers[at]][:80]}" for at in near],
            }
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
    says = [f"{len(found)} of {len(numbers)} labels of `{of}` are suspect"]
    says += [f"{label}: {count}" for label, count in sorted(per_class.items(), key=lambda pair: (-pair[1], pair[0]))]
    did = {"of": of, "texts": len(numbers), "suspect": len(found), "per_class": per_class, "issues": found[:limit]}
    return StageResult("audit", False, did, tuple(says))


def ask(
    warehouse: Warehouse,
    *,
    budget: int = 50,
    strategy: str = "auto",
    out: Path | str | None = None,
    encoder: str = "auto",
    seed: int = 0,
    progress: Progress = no_progress,
) -> StageResult:
    """Choose training texts that a person or a model should label next, and write them as questions.

    Args:
        warehouse: Where texts, votes and labels are.
        budget: How many.
        strategy: See `factory.labels.ask.pick`; `auto` by default.
        out: A .csv, .jsonl or .json (Label Studio tasks) file; without one the questions are only in the result.
        encoder: Whose vectors spread the questions over the texts.
        seed: Of `random` and the spread.
        progress: Told of texts encoded.

    Raises:
        InputError: Nothing was denoised yet, or a parameter that cannot be used.
    """
    from factory.encoders import load_encoder, vectors_of

    card, names = current_card(warehouse), label_names(warehouse)
    rows = warehouse.query(
        "SELECT t.text_no, s.probs, s.covered, t.text, t.content_hash FROM soft_labels s"
        " JOIN label_models m USING (label_model_no) JOIN texts t USING (text_no)"
        " WHERE m.chosen AND m.label_model_no = (SELECT min(label_model_no) FROM label_models WHERE chosen)"
        " AND t.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train') ORDER BY t.text_no"
    )
    if not rows:
        raise InputError("there are no denoised labels to choose by", fix="Run `denoise` first")
    asked = {
        number
        for (number,) in warehouse.query(
            "SELECT v.text_no FROM votes v JOIN programs p USING (program_no) WHERE p.name = ?", [ASKED]
        )
    }
    rows = [row for row in rows if row[0] not in asked]
    numbers = [row[0] for row in rows]
    probs = _beliefs(card, names, [row[1] for row in rows])
    programs = accepted_programs(warehouse)
    single = card.kind == "single"
    classes = len(names) if single else 2
    texts = read_texts(warehouse)
    class_of = {at: at for at in range(classes)}
    everything = read_votes(warehouse, texts, programs, classes=classes, class_of=class_of)
    votes: VoteSet = everything.take(texts.rows(np.array(numbers, np.int64)))
    vectors = (
        vectors_of(warehouse, load_encoder(encoder), numbers, progress) if strategy in ("auto", "density") else None
    )
    keys = tie_keys(row[4] for row in rows)
    picked = asking.pick(budget, probs, votes, keys=keys, features=vectors, strategy=strategy, seed=seed)  # type: ignore[arg-type]
    labels, _ = decide(probs, keys)
    shown = card.label_names if single else ["no", "yes"]
    found = []
    for row in picked.tolist():
        suggested = (
            shown[labels[row]]
            if single
            else "|".join(names[at] for at, value in enumerate(rows[row][1]) if value is not None and value > 0.5)
        )
        found.append(
            {
                "id": bytes(rows[row][4]).hex(),
                "text": rows[row][3],
                "suggested": suggested,
                "probability": round(float(probs[row].max()), 4),
                "why": "no program votes"
                if not rows[row][2]
                else f"belief {probs[row].max():.2f} by {votes.lengths[row]} votes",
                "label": "",
            }
        )
    if out is not None:
        questions.write_questions(Path(out), found)
    says = [f"{len(found)} questions by strategy `{strategy}`" + (f" in {out}" if out else "")]
    return StageResult("ask", False, {"questions": len(found), "strategy": strategy, "asked": found[:50]}, tuple(says))


def read_answers(warehouse: Warehouse, path: Path | str) -> StageResult:
    """Read answered questions back: they become one more voter (a trusted program; in a `multi` task one per label).

    Answers read before are replaced where the same text is answered again; run `denoise` afterwards.

    Raises:
        InputError: The file cannot be used, or names texts or labels that are not known.
    """
    from factory.warehouse import insert, next_no

    card, names = current_card(warehouse), label_names(warehouse)
    answers, empty = questions.read_answers(Path(path), card.label_names, multi=card.kind == "multi")
    known = {bytes(value).hex(): number for number, value in warehouse.query("SELECT text_no, content_hash FROM texts")}
    unknown = [name for name in answers if name not in known]
    if unknown:
        raise InputError(f"{len(unknown)} answers are about texts that are not in the warehouse", where=path)
    targets: list[int | None] = [None] if card.kind == "single" else [names.index(name) for name in card.label_names]
    with warehouse.lease() as db:
        for target in targets:
            rows = db.execute(
                "SELECT program_no FROM programs WHERE name = ? AND kind = 'trusted' AND target_label_no IS NOT DISTINCT FROM ?",
                [ASKED, target],
            ).fetchall()
            if rows:
                program = int(rows[0][0])
            else:
                program = next_no(db, "programs", "program_no")
                key = digest({"kind": "trusted", "target": None if target is None else names[target], "source": ASKED})
                db.execute(
                    "INSERT INTO programs (program_no, program_key, name, kind, origin, target_label_no, source, state)"
                    " VALUES (?, ?, ?, 'trusted', 'hand', ?, '', 'accepted')",
                    [program, key, ASKED, target],
                )
                db.execute(
                    "INSERT INTO program_events (program_no, state, reason, actor) VALUES (?, 'accepted', 'answers read', 'ask')",
                    [program],
                )
            said = {
                known[name]: names.index(given[0]) if target is None else int(names[target] in given)
                for name, given in answers.items()
            }
            numbers = sorted(said)
            for table, column in (("votes", "text_no"), ("vote_blocks", "first_text_no")):
                db.execute(
                    f"DELETE FROM {table} WHERE program_no = ? AND {column} IN (SELECT unnest(?::INTEGER[]))",
                    [program, numbers],
                )
            count = len(numbers)
            insert(
                db,
                "votes",
                {
                    "program_no": np.full(count, program, np.int32),
                    "text_no": np.array(numbers, np.int32),
                    "vote": np.array([said[number] for number in numbers], np.int32),
                },
            )
            insert(
                db,
                "vote_blocks",
                {
                    "program_no": np.full(count, program, np.int32),
                    "first_text_no": np.array(numbers, np.int32),
                    "last_text_no": np.array(numbers, np.int32),
                    "n_texts": np.ones(count, np.int32),
                    "n_votes": np.ones(count, np.int32),
                    "counts": ['{"ok": 1}'] * count,
                },
            )
    says = (f"{len(answers)} answers read, {empty} questions are still open; run `denoise` to use them",)
    return StageResult("ask", False, {"answers": len(answers), "open": empty}, says)


def _given(warehouse: Warehouse, card: TaskCard, of: str) -> dict[int, set[int]]:
    """Label numbers by text: gold of a split, or the decided labels of covered training texts."""
    given: dict[int, set[int]] = {}
    if of in ("dev", "seed"):
        for number, label in warehouse.query(
            "SELECT DISTINCT g.text_no, g.label_no FROM gold g JOIN sources USING (source_no) WHERE split = ? ORDER BY ALL",
            [of],
        ):
            given.setdefault(number, set()).update({label} - {-1})
        return given
    if of != "denoised":
        raise InputError(
            f"`{of}` cannot be audited", fix="Use denoised, dev or seed; test gold is audited by `evaluate` alone"
        )
    rows = warehouse.query(
        "SELECT s.text_no, s.probs, t.content_hash FROM soft_labels s JOIN texts t USING (text_no)"
        " WHERE s.covered AND s.label_model_no = (SELECT min(label_model_no) FROM label_models WHERE chosen)"
        " AND s.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train') ORDER BY s.text_no"
    )
    if not rows:
        return {}
    if card.kind == "multi":
        return {
            number: {at for at, value in enumerate(probs) if value is not None and value > 0.5}
            for number, probs, _ in rows
        }
    labels, _ = decide(np.array([row[1] for row in rows]), tie_keys(row[2] for row in rows))
    return {row[0]: {int(label)} for row, label in zip(rows, labels, strict=True)}


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


def _beliefs(card: TaskCard, names: Sequence[str], probs: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Float [n, k] of the active labels; for `multi` [n, 2]: no and yes of each text's most doubtful label."""
    if card.kind == "single":
        return np.array(probs, np.float64)[:, [names.index(name) for name in card.label_names]]
    chance = np.array([[0.5 if value is None else value for value in row] for row in probs])
    doubtful = np.abs(chance - 0.5).argmin(axis=1)
    yes = chance[np.arange(len(chance)), doubtful]
    return np.stack([1 - yes, yes], axis=1)


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
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text_no", "text", "label", "given", "likely", "score", "evidence"])
            for row in rows:
                evidence = json.dumps(row["evidence"], ensure_ascii=False)
                writer.writerow(
                    [
                        row["text_no"],
                        row["text"],
                        row["label"] or "",
                        row["given"],
                        row["likely"],
                        row["score"],
                        evidence,
                    ]
                )
    else:
        raise InputError("issues are written as .csv or .jsonl", where=path)
