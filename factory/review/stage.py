"""`ask`, `read_answers` and `audit`: questions out, answers in as one more voter, and likely label errors with their evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.denoise.decide import decide, tie_keys
from factory.denoise.people import voter_name
from factory.denoise.problems import voters_of
from factory.denoise.weighed import vote_odds
from factory.encoders.settings import Named
from factory.errors import InputError, nearest
from factory.result import Progress, StageResult, no_progress
from factory.review import issue_files, question_files
from factory.review.answers import Answers
from factory.review.find_errors import described, find_issues, questions_of
from factory.review.pick import beliefs, check_strategy, on_label, pick
from factory.review.voters import answers_before, votes_by_name
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.tables.anchors import audit_texts, read_anchors
from factory.warehouse.tables.evidence import evidence_of
from factory.warehouse.tables.gold import disagreements, gold_texts
from factory.warehouse.tables.labels import drawn_soft_labels, soft_labels
from factory.warehouse.tables.places import Origin, origins
from factory.warehouse.tables.texts import hashes_of, in_split, labelled_texts, numbers_of, texts_of
from factory.warehouse.tables.votes import read_votes, voted_texts

if TYPE_CHECKING:
    import duckdb

    from factory.warehouse.file import Warehouse

MOST_LOOKED_AT = 50_000
MOST_AUDITED = 20_000
MOST_SHOWN = 50
_ALL_ANSWERED = "every training text was answered already; `strategy: active` asks again where answers are doubtful"


# Asking ---------------------------------------------------------------------------------------------------------------------
def ask(
    warehouse: Warehouse, *, budget: int = 50, strategy: str = "auto", out: Path | str | None = None,
    force: bool = False, encoder: Named = "auto", seed: int = 0, progress: Progress = no_progress,
) -> StageResult:  # fmt: skip
    """Choose training texts that a person or a model should label next, and write them as questions.

    Texts that were answered before are left out, but by the strategy `active`, which asks again where the answers are
    doubtful; they still tell of texts like them. The audit slice is asked about by the strategy `audit` alone, at random and
    without a suggestion: answers to it estimate how often systems are right, and teach nobody.
    Of more than 50,000 texts, as many are looked at (drawn by content hash).

    Args:
        warehouse: Where texts, votes and labels are.
        budget: How many.
        strategy: See `factory.review.pick.pick`; `auto` by default.
        out: A .csv, .jsonl or .json (Label Studio tasks) file; without one the questions are only in the result.
        force: Whether `out` may replace another file, or questions that are answered already.
        encoder: Whose vectors tell of texts that nothing voted on, and spread the questions over the texts.
        seed: Of `random`.
        progress: Told of texts encoded.

    Raises:
        InputError: Nothing was denoised yet, or a parameter that cannot be used.
    """
    from factory.encoders.encoder import load_encoder
    from factory.encoders.vectors import vectors_of

    check_strategy(strategy)
    if out is not None:
        question_files.check_target(Path(out), force=force)
    card, names, voters = current_card(warehouse), label_names(warehouse), voters_of(warehouse)
    single, again = card.kind == "single", strategy == "active"
    of_audit, auditing = audit_texts(warehouse), strategy == "audit"
    if auditing and not of_audit:
        raise InputError("there is no audit slice to ask about", fix="Run `annotate` with `anchors` first")
    answered = voted_texts(warehouse, [voter.number for voter in voters if voter.person])
    soft, total = drawn_soft_labels(warehouse, MOST_LOOKED_AT, put_last=None if again else answered)
    if auditing:
        answered = np.array([one.text_no for one in read_anchors(warehouse, "audit", "person")], np.int32)
        soft = soft_labels(warehouse, text_nos=of_audit)
    if not total:
        raise InputError("there are no denoised labels to choose by", fix="Run `denoise` first")
    numbers = soft.text_nos
    open_rows = np.isin(numbers, of_audit) == auditing
    open_rows &= np.ones(len(numbers), bool) if again else ~np.isin(numbers, answered)
    if not open_rows.any():
        return StageResult("ask", False, {"questions": 0, "strategy": strategy, "asked": []}, (_ALL_ANSWERED,))
    active = [names.index(name) for name in card.label_names]
    probs, doubtful = beliefs(soft.probs, active, single=single)
    class_of = {number: at for at, number in enumerate(active)} if single else {0: 0, 1: 1}
    texts = labelled_texts(warehouse)
    everything = read_votes(
        warehouse, texts, [voter.number for voter in voters], classes=len(class_of), class_of=class_of
    )
    votes = everything.take(texts.rows(numbers))
    vectors = None
    if strategy not in ("random", "audit"):
        vectors = vectors_of(warehouse, load_encoder(encoder, warehouse), numbers, progress)
    hashes = hashes_of(warehouse, numbers)
    keys = tie_keys(hashes[int(number)] for number in numbers)
    heard = votes if single or not again else on_label(votes, [voter.target for voter in voters], doubtful)
    progress(0, 0, "questions chosen")
    picked = pick(
        budget, probs, heard, keys=keys, features=vectors, open_rows=open_rows, strategy=strategy, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    labels, _ = decide(probs, keys)
    words = texts_of(warehouse, numbers[picked])
    before = answers_before(warehouse, names, numbers[picked], voters)
    came_from = origins(warehouse, numbers[picked].tolist(), "train")
    found = []
    for row in picked.tolist():
        number, n_votes = int(numbers[row]), int(votes.lengths[row])
        if not n_votes or auditing:
            suggested = []  # the class shares are no suggestion, and the audit slice is to be judged without any
        elif single:
            suggested = [card.label_names[labels[row]]]
        else:
            suggested = [names[at] for at in np.flatnonzero(np.nan_to_num(soft.probs[row]) > 0.5)]
        why = f"belief {probs[row].max():.2f} by {n_votes} votes" if n_votes else "no program votes"
        why = "drawn at random, to learn how often systems are right" if auditing else why
        if number in before:
            why += f"; answered before: {', '.join(before[number])}"
        origin = came_from.get(number, Origin())
        found.append(
            {
                "id": hashes[number].hex(), "text": words[number], "suggested": "|".join(suggested),
                "probability": "" if auditing else round(float(probs[row].max()), 4), "why": why, "label": "",
                "source": origin.words,
                **origin.columns(question_files.FIELDS),
            }
        )  # fmt: skip
    says = [f"{len(found)} questions by strategy `{strategy}`" + (f" in {out}" if out else "")]
    if len(numbers) < total and not auditing:
        says.append(f"{len(numbers)} of {total} training texts were looked at")
    if out is not None:
        interface = question_files.write_questions(Path(out), found, card.label_names, multi=not single, force=force)
        says.append(_how_to_answer(Path(out), interface, card))
    did = {"questions": len(found), "strategy": strategy, "asked": found[:MOST_SHOWN]}
    return StageResult("ask", False, did, tuple(says))


def _how_to_answer(out: Path, interface: Path | None, card: TaskCard) -> str:
    if interface is not None:
        return f"import {out} into Label Studio (its labelling interface: {interface}); read its JSON export back with --read"
    form = "one of " if card.kind == "single" else "any of (separated by `|`; `-` for none) "
    return f"fill the column `label` with {form}{', '.join(card.label_names)}; then read {out} back with --read"


# Answers --------------------------------------------------------------------------------------------------------------------
def read_answers(warehouse: Warehouse, path: Path | str, *, annotator: str | None = None) -> StageResult:
    """Read answered questions back: they become one more voter (a trusted program; in a `multi` task one per label).

    An annotator's answers read before are replaced where the same text is answered again; run `denoise` afterwards. Answers to
    the audit slice are kept as its anchors and are no votes.

    Args:
        warehouse: Where they go.
        path: A file as `ask` writes it with labels filled in, or Label Studio's JSON export.
        annotator: Who answered. Every name is a voter of its own, so that answers of several people can be compared.

    Raises:
        InputError: The file cannot be used, or names texts or labels that are not known.
    """
    card, names = current_card(warehouse), label_names(warehouse)
    answers, empty = question_files.read_answers(Path(path), card.label_names, multi=card.kind == "multi")
    known = {content.hex(): number for content, number in numbers_of(warehouse, _hashes(answers)).items()}
    unknown = [name for name in answers if name not in known]
    if unknown:
        raise InputError(f"{len(unknown)} answers are about texts that are not in the warehouse", where=path)
    given = {known[name]: frozenset(names.index(label) for label in labels) for name, labels in answers.items()}
    of_audit = set(audit_texts(warehouse)) & set(given)
    numbers = set(given) - of_audit
    with warehouse.lease() as db:
        _answers(warehouse, db, annotator).give(given)
    use = "run `denoise` to use them" if numbers else "`factory report` says what they tell"
    says = [f"{len(answers)} answers read, {empty} questions are still open; {use}"]
    if of_audit:
        says.append(
            f"{len(of_audit)} of them are of the audit slice, and tell how often systems are right; they teach nobody"
        )
    return StageResult("ask", False, {"answers": len(answers), "open": empty}, tuple(says))


def _hashes(answers: Mapping[str, Any]) -> list[bytes]:
    """The content hashes that ids name; an id that is none names no text."""
    found = []
    for name in answers:
        try:
            found.append(bytes.fromhex(name))
        except ValueError:
            continue
    return found


def label_texts(
    warehouse: Warehouse, answers: Mapping[int, Sequence[str]], *, annotator: str | None = None
) -> dict[str, Any]:
    """Take a person's labels for training texts, as `read_answers` takes them from a file.

    Args:
        warehouse: Where they go.
        answers: Label names by text number; one each in a `single` task.
        annotator: Who answers.

    Returns:
        `answers`: how many; `audit`: how many of them are of the audit slice, which teaches nobody.

    Raises:
        InputError: A text that is not in train, an unknown label, or another number of labels than the task has.
    """
    with warehouse.lease() as db:  # the file is opened once
        card, names = current_card(warehouse), label_names(warehouse)
        may = in_split(warehouse, "train", list(answers))
        for number, labels in answers.items():
            if number not in may:
                raise InputError(f"text {number} is not in train", fix="People label training texts")
            unknown = [label for label in labels if label not in card.label_names]
            if unknown:
                raise InputError(f"unknown label {unknown[0]!r}{nearest(unknown[0], card.label_names)}")
            if card.kind == "single" and len(set(labels)) != 1:
                raise InputError(f"a text of this task has one label, and text {number} was given {len(set(labels))}")
        given = {number: frozenset(names.index(label) for label in labels) for number, labels in answers.items()}
        asked = _answers(warehouse, db, annotator)
        if given:
            asked.give(given)
    return {"answers": len(given), "audit": len(set(given) & asked.of_audit)}


def evidence(warehouse: Warehouse, text_no: int, *, lineage: bool = True) -> dict[str, Any]:
    """Why a text got its label: see `factory.warehouse.tables.evidence.evidence_of`; of each vote also its `odds`, what it
    multiplies the odds of its label by, or None. Without `lineage` that part is left empty: it is the slowest.

    Raises:
        InputError: There is no such text.
    """
    with warehouse.read():
        single = current_card(warehouse).kind == "single"
        found = evidence_of(warehouse, text_no, label_names(warehouse), single=single, lineage=lineage)
        odds = vote_odds(warehouse)
    for vote in found["votes"]:
        vote["odds"] = odds.get((vote["program_no"], vote["vote"]))
    return found


def undo_labels(warehouse: Warehouse, *, annotator: str | None = None) -> dict[str, Any]:
    """Take back what a person said last, a file of answers as a whole: what the person had said before holds again.

    Returns:
        `texts`: the numbers of the texts.

    Raises:
        InputError: There is nothing to undo.
    """
    with warehouse.lease() as db:
        texts = _answers(warehouse, db, annotator).undo()
    if not texts:
        raise InputError("there is no answer to undo", where=warehouse.path)
    return {"texts": texts}


def _answers(warehouse: Warehouse, db: duckdb.DuckDBPyConnection, annotator: str | None) -> Answers:
    return Answers(
        db, current_card(warehouse), label_names(warehouse), voter=voter_name(annotator), annotator=annotator,
        of_audit=frozenset(audit_texts(warehouse)),
    )  # fmt: skip


# Auditing -------------------------------------------------------------------------------------------------------------------
def audit(
    warehouse: Warehouse, *, of: Literal["denoised", "dev", "seed"] = "denoised", limit: int = 50,
    encoder: Named = "auto", out: Path | str | None = None, force: bool = False, progress: Progress = no_progress,
) -> StageResult:  # fmt: skip
    """List likely label errors, the worst first, with the evidence. Nothing is written to the warehouse.

    Of more than 20,000 labels, as many are audited (drawn by content hash).

    Args:
        warehouse: Where the labels are.
        of: The labels that `denoise` gave to covered training texts, or the gold of `dev` or `seed`. A `multi` task is
            audited label by label.
        limit: Most issues in the result; `out` gets them all.
        encoder: Whose vectors the classifier and the neighbours use.
        out: A .csv or .jsonl file to write them to.
        force: Whether `out` may replace a file that is not an earlier list of issues.
        progress: Told of texts encoded and labels checked.

    Returns:
        `did["issues"]`: text_no, text, `source` (FILE:LINE), `own` (the user's own columns), label (of a `multi` task), given,
        likely, score, evidence: `believed` (what the texts tell of the given and the likely label), `label_model` (its
        probabilities of the two, where it was run), `votes` by program, `nearest` texts with their labels.

    Raises:
        InputError: No such labels, or another ending than .csv or .jsonl.
    """
    from factory.encoders.encoder import load_encoder
    from factory.encoders.vectors import vectors_of

    if out is not None:
        issue_files.check_target(Path(out), force=force)
    card, names = current_card(warehouse), label_names(warehouse)
    given, total = _given(warehouse, card, of)
    if not given:
        hint = "Run `denoise` first" if of == "denoised" else f"Give `ingest` a split `{of}` with labels"
        raise InputError(f"there are no labels of `{of}` to audit", fix=hint)
    numbers = sorted(given)
    vectors = vectors_of(warehouse, load_encoder(encoder, warehouse), numbers, progress)
    words, votes = texts_of(warehouse, numbers), votes_by_name(warehouse, names, numbers, voters_of(warehouse))
    soft = soft_labels(warehouse, text_nos=numbers)
    said = dict(zip(soft.text_nos.tolist(), soft.probs, strict=True))
    came_from = origins(warehouse, numbers, "train" if of == "denoised" else of)
    found: list[dict[str, Any]] = []
    for question in questions_of(card, names, [given[number] for number in numbers]):
        rows = np.flatnonzero(question.labels >= 0)
        for issue in find_issues(question.labels[rows], vectors[rows], len(question.classes), progress=progress):
            near = [int(rows[at]) for at in issue.neighbours[:3]]
            number = numbers[int(rows[issue.row])]
            evidence = described(question, issue, said.get(number))
            evidence["votes"] = votes.get(number, {})
            evidence["nearest"] = [f"{question.classes[question.labels[at]]}: {words[numbers[at]][:80]}" for at in near]
            found.append(
                {
                    "text_no": number, "text": words[number], "source": came_from.get(number, Origin()).words,
                    "own": dict(came_from.get(number, Origin()).own), "label": question.label,
                    "given": question.classes[issue.given], "likely": question.classes[issue.likely],
                    "score": round(issue.score, 4), "evidence": evidence,
                }
            )  # fmt: skip
    found.sort(key=lambda row: (row["score"], row["text_no"]))
    if out is not None:
        issue_files.write_issues(Path(out), found)
    per_class: dict[str, int] = {}
    for row in found:
        per_class[row["given"]] = per_class.get(row["given"], 0) + 1
    says = [f"{len(found)} of {len(numbers)} labels of `{of}` are suspect" + (f", all in {out}" if out else "")]
    if len(numbers) < total:
        says.append(f"{len(numbers)} of {total} labels were audited")
    says += [f"{label}: {count}" for label, count in sorted(per_class.items(), key=lambda pair: (-pair[1], pair[0]))]
    says += disagreements(warehouse, of) if of != "denoised" else []
    did = {"of": of, "texts": len(numbers), "suspect": len(found), "per_class": per_class, "issues": found[:limit]}
    return StageResult("audit", False, did, tuple(says))


def _given(warehouse: Warehouse, card: TaskCard, of: str) -> tuple[dict[int, set[int]], int]:
    """Label numbers by text, at most `MOST_AUDITED` of them, and how many texts have some in all."""
    if of in ("dev", "seed"):
        texts = sorted(gold_texts(warehouse, of), key=lambda text: text.content_hash)
        return {text.text_no: set(text.labels) for text in texts[:MOST_AUDITED]}, len(texts)
    if of != "denoised":
        raise InputError(
            f"`{of}` cannot be audited", fix="Use denoised, dev or seed; test gold is audited by `evaluate` alone"
        )
    soft, total = drawn_soft_labels(warehouse, MOST_AUDITED, covered=True)
    numbers = soft.text_nos.tolist()
    if card.kind == "multi":
        chosen = np.nan_to_num(soft.probs) > 0.5
        return {number: set(np.flatnonzero(row).tolist()) for number, row in zip(numbers, chosen, strict=True)}, total
    hashes = hashes_of(warehouse, numbers)
    labels, _ = decide(soft.probs, tie_keys(hashes[number] for number in numbers))
    return {number: {int(label)} for number, label in zip(numbers, labels, strict=True)}, total
