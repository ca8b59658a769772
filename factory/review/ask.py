"""`ask` and `read_answers` on a warehouse: questions out, and answers in as one more voter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from factory.canonical import digest
from factory.denoise.decide import decide, tie_keys
from factory.denoise.read import ASKED, CHOSEN, PERSON, Program, accepted_programs, read_texts, read_votes
from factory.errors import InputError
from factory.label_matrix import VoteSet
from factory.result import Progress, StageResult, no_progress
from factory.review import pick as asking
from factory.review import question_files as questions
from factory.task import TaskCard, current_card, label_names

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

MOST_LOOKED_AT = 50_000
_ALL_ANSWERED = "every training text was answered already; `strategy: active` asks again where answers are doubtful"
_VOTERS = f"SELECT program_no FROM programs WHERE {PERSON}"


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

    Texts that were answered before are left out, but by the strategy `active`, which asks again where the answers are
    doubtful; they still tell of texts like them. Of more than 50,000 texts, as many are looked at (drawn by content hash).

    Args:
        warehouse: Where texts, votes and labels are.
        budget: How many.
        strategy: See `factory.review.pick.pick`; `auto` by default.
        out: A .csv, .jsonl or .json (Label Studio tasks) file; without one the questions are only in the result.
        encoder: Whose vectors tell of texts that nothing voted on, and spread the questions over the texts.
        seed: Of `random`.
        progress: Told of texts encoded.

    Raises:
        InputError: Nothing was denoised yet, or a parameter that cannot be used.
    """
    from factory.encoders.encoder import load_encoder, vectors_of

    asking.check_strategy(strategy)
    if out is not None:
        questions.check_ending(Path(out))
    card, names = current_card(warehouse), label_names(warehouse)
    single = card.kind == "single"
    again = strategy == "active"
    pool, total = _pool(warehouse, again=again)
    if not total:
        raise InputError("there are no denoised labels to choose by", fix="Run `denoise` first")
    open_rows = np.array([again or not row.answered for row in pool])
    if not open_rows.any():
        return StageResult("ask", False, {"questions": 0, "strategy": strategy, "asked": []}, (_ALL_ANSWERED,))
    numbers = [row.number for row in pool]
    probs, doubtful = _beliefs(card, names, [row.probs for row in pool])
    class_of = {names.index(name): at for at, name in enumerate(card.label_names)} if single else {0: 0, 1: 1}
    classes = len(class_of)
    texts = read_texts(warehouse)
    programs = accepted_programs(warehouse)
    everything = read_votes(warehouse, texts, programs, classes=classes, class_of=class_of)
    votes: VoteSet = everything.take(texts.rows(np.array(numbers, np.int64)))
    vectors = None
    if strategy != "random":
        vectors = vectors_of(warehouse, load_encoder(encoder), numbers, progress)
    keys = tie_keys(row.content_hash for row in pool)
    heard = votes if single or not again else _on_label(votes, programs, doubtful)
    picked = asking.pick(
        budget, probs, heard, keys=keys, features=vectors, open_rows=open_rows, strategy=strategy, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    labels, _ = decide(probs, keys)
    before = _answers_before(warehouse, names, [numbers[row] for row in picked.tolist()])
    found = []
    for row in picked.tolist():
        if not votes.lengths[row]:
            suggested = []  # the class shares are no suggestion
        elif single:
            suggested = [card.label_names[labels[row]]]
        else:
            suggested = [names[at] for at, value in enumerate(pool[row].probs) if value is not None and value > 0.5]
        why = "no program votes"
        if votes.lengths[row]:
            why = f"belief {probs[row].max():.2f} by {votes.lengths[row]} votes"
        if numbers[row] in before:
            why += f"; answered before: {before[numbers[row]]}"
        found.append(
            {
                "id": pool[row].content_hash.hex(),
                "text": pool[row].text,
                "suggested": "|".join(suggested),
                "probability": round(float(probs[row].max()), 4),
                "why": why,
                "label": "",
            }
        )
    says = [f"{len(found)} questions by strategy `{strategy}`" + (f" in {out}" if out else "")]
    if len(pool) < total:
        says.append(f"{len(pool)} of {total} training texts were looked at")
    if out is not None:
        interface = questions.write_questions(Path(out), found, card.label_names, multi=not single)
        says.append(_how_to_answer(Path(out), interface, card))
    return StageResult("ask", False, {"questions": len(found), "strategy": strategy, "asked": found[:50]}, tuple(says))


@dataclass(frozen=True)
class _Candidate:
    """A training text that may be asked about, with its label numbers' probabilities, and whether people answered."""

    number: int
    text: str
    content_hash: bytes
    probs: Sequence[float | None]
    answered: bool


def _pool(warehouse: Warehouse, *, again: bool) -> tuple[list[_Candidate], int]:
    """Denoised training texts in order of their number, at most `MOST_LOOKED_AT`, and how many there are in all.

    Args:
        warehouse: Where they are.
        again: Whether texts that were answered before are looked at on a par with others; else others go first.
    """
    train = "s.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
    answered = f"s.text_no IN (SELECT text_no FROM votes WHERE program_no IN ({_VOTERS}))"
    total = warehouse.scalar(f"SELECT count(*) FROM soft_labels s WHERE s.label_model_no = {CHOSEN} AND {train}")
    rows = warehouse.query(
        f"SELECT t.text_no, t.text, t.content_hash, s.probs, {answered} FROM soft_labels s JOIN texts t USING (text_no)"
        f" WHERE s.label_model_no = {CHOSEN} AND {train}"
        f" ORDER BY {'' if again else answered + ','} t.content_hash LIMIT {MOST_LOOKED_AT}"
    )
    found = [_Candidate(int(no), text, bytes(content), probs, answered) for no, text, content, probs, answered in rows]
    return sorted(found, key=lambda row: row.number), int(total)


def _answers_before(warehouse: Warehouse, names: Sequence[str], numbers: Sequence[int]) -> dict[int, str]:
    """What was answered about each of these texts, by text number."""
    found: dict[int, list[str]] = {}
    for number, target, vote in warehouse.query(
        "SELECT v.text_no, p.target_label_no, v.vote FROM votes v JOIN programs p USING (program_no)"
        f" WHERE p.program_no IN ({_VOTERS}) AND v.text_no IN (SELECT unnest(?::INTEGER[])) ORDER BY ALL",
        [list(numbers)],
    ):
        said = names[vote] if target is None else (names[target] if vote else f"not {names[target]}")
        found.setdefault(number, []).append(said)
    return {number: ", ".join(said) for number, said in found.items()}


def _how_to_answer(out: Path, interface: Path | None, card: TaskCard) -> str:
    if interface is not None:
        return f"import {out} into Label Studio (its labelling interface: {interface}); read its JSON export back with --read"
    form = "one of " if card.kind == "single" else "any of (separated by `|`; `-` for none) "
    return f"fill the column `label` with {form}{', '.join(card.label_names)}; then read {out} back with --read"


def read_answers(warehouse: Warehouse, path: Path | str, *, annotator: str | None = None) -> StageResult:
    """Read answered questions back: they become one more voter (a trusted program; in a `multi` task one per label).

    An annotator's answers read before are replaced where the same text is answered again; run `denoise` afterwards.

    Args:
        warehouse: Where they go.
        path: A file as `ask` writes it with labels filled in, or Label Studio's JSON export.
        annotator: Who answered. Every name is a voter of its own, so that answers of several people can be compared.

    Raises:
        InputError: The file cannot be used, or names texts or labels that are not known.
    """
    from factory.warehouse.file import insert, next_no

    card, names = current_card(warehouse), label_names(warehouse)
    voter = f"{ASKED} by {annotator}" if annotator else ASKED
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
                [voter, target],
            ).fetchall()
            if rows:
                program = int(rows[0][0])
            else:
                program = next_no(db, "programs", "program_no")
                key = digest({"kind": "trusted", "target": None if target is None else names[target], "source": voter})
                db.execute(
                    "INSERT INTO programs (program_no, program_key, name, kind, origin, target_label_no, source, state)"
                    " VALUES (?, ?, ?, 'trusted', 'hand', ?, '', 'accepted')",
                    [program, key, voter, target],
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


def _beliefs(
    card: TaskCard, names: Sequence[str], probs: Sequence[Sequence[float | None]]
) -> tuple[np.ndarray, np.ndarray]:
    """Float [n, k] of the active labels; for `multi` [n, 2]: no and yes of each text's most doubtful label, and its number."""
    active = [names.index(name) for name in card.label_names]
    rows = [
        [row[at] if at < len(row) else None for at in active] for row in probs
    ]  # a label may be newer than `denoise`
    if card.kind == "single":
        return np.array([[value or 0.0 for value in row] for row in rows]), np.zeros(0, np.int64)
    chance = np.array([[0.5 if value is None else value for value in row] for row in rows])
    doubtful = np.abs(chance - 0.5).argmin(axis=1)
    yes = chance[np.arange(len(chance)), doubtful]
    return np.stack([1 - yes, yes], axis=1), np.array(active)[doubtful]


def _on_label(votes: VoteSet, programs: Sequence[Program], labels: np.ndarray) -> VoteSet:
    """Of each row's votes those that speak of its label."""
    target = np.array([-1 if program.target is None else program.target for program in programs], np.int64)
    row = np.repeat(np.arange(len(votes)), votes.lengths)
    kept = target[votes.codes.astype(np.int64) // votes.classes] == labels[row]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(votes)))])
    return VoteSet(votes.codes[kept], indptr, votes.lfs, votes.classes)
