"""A program shown to the model with texts that it gets wrong: a new version, stored as a suggestion that a person decides on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError, nearest
from factory.llm.request import Failure, ParseFailure
from factory.programs.analysis import known_labels
from factory.programs.author.answers import Reader, prompts_of
from factory.programs.author.loop import Slot
from factory.programs.author.rubrics import Rubric
from factory.programs.blocks import RUNNABLE, AcceptedProgram, run_accepted
from factory.programs.sandbox.host.pool import Sandbox, shared_pool
from factory.programs.view import program_row, vote_in_words
from factory.prompts.card import card_values
from factory.result import StageResult
from factory.task import current_card, label_names
from factory.warehouse.tables.programs import AUTHOR, SUGGESTED, NewProgram, add, known, program_key
from factory.warehouse.tables.texts import sample_texts, texts_of

if TYPE_CHECKING:
    from factory.llm import Asker
    from factory.llm.request import Request

NONE = "-"
"""Said of a text on which a program should abstain."""
MOST_TEXTS = 20
PROBE, TRIES = 1000, 3
_RUBRIC = Rubric(
    "repair",
    "a repair",
    "What the present version looks at, which is shown as your last answer: keep what is right in it.",
)


def repair_program(
    asker: Asker, program_no: int, texts: Mapping[int, str | None], *, strict: bool = False, sandbox: Sandbox = "kernel"
) -> StageResult:  # fmt: skip
    """Have the model repair a program by texts that it gets wrong.

    Args:
        asker: Whom to ask.
        program_no: The program; it stays as it is.
        texts: What it should say of texts, by number: a label (of the one label that it speaks of: `yes` or `no`), `-` where it
            should abstain, or None for the label that is known (of people, dev gold, anchors).
        strict, sandbox: As for `author`.

    Returns:
        `did`: `program_no` of the suggestion, or None where no answer was better, with `why`; `right`: texts that the old and
        the new version get right.

    Raises:
        InputError: No such program, it cannot be run, or what it should say of a text is not known.
        Unanswered: There is no answer yet. Run again.
    """
    warehouse, engine = asker.warehouse, asker.engine
    row, card, labels = program_row(warehouse, program_no), current_card(warehouse), label_names(warehouse)
    form = str(row["kind"])
    if form not in RUNNABLE:
        raise InputError(f"program {program_no} is of kind {form!r} and has no source to repair")
    if not 0 < len(texts) <= MOST_TEXTS:
        raise InputError(f"name 1 to {MOST_TEXTS} texts that it gets wrong")
    target = None if row["target_label_no"] is None else labels[row["target_label_no"]]
    shown = texts_of(warehouse, list(texts))
    gone = next((number for number in texts if number not in shown), None)
    if gone is not None:
        raise InputError(f"there is no text {gone}", where=warehouse.path)
    facts = known_labels(warehouse)
    wanted = {no: _wanted(no, said, facts, labels, target) for no, said in texts.items()}
    pool, prompt = shared_pool(strict, sandbox), prompts_of(form, card.kind)[form]
    numbers, words = list(shown), list(shown.values())
    right = np.array([wanted[number] for number in numbers])

    def said_by(source: str) -> np.ndarray:
        run = run_accepted(pool, [AcceptedProgram(0, source, target, form)], words, labels)
        return np.asarray(run.votes[:, 0], np.int64)

    before = said_by(row["source"])
    slot = Slot(0, _RUBRIC, 0, (), target, form)
    seeds = [{"text": text, "label": _named(wanted[no], labels, target)} for no, text in shown.items()]
    values: dict[str, Any] = {
        **card_values(card), "examples": [], "seeds": seeds, "knowledge": "", "taken": [], "approach": _RUBRIC.words,
        "variant": None,
    }  # fmt: skip
    if target is not None:
        values["target"] = [one for one in values["labels"] if one["name"] == target]
    names = [target] if target is not None else card.label_names
    plain = prompt.request(values, engine.model, sampling=engine.sampling, structured=engine.structured, labels=names)
    source = str(row["source"])
    fault = ParseFailure("wrong_votes", _fault(before, right, labels, target))
    first = prompt.ask_again(plain, f"```python\n{source}\n```" if form == "python" else source, fault)
    probe = [text for _, text in sample_texts(warehouse, PROBE, "probe")]
    reader = Reader(pool, probe, labels, {form: prompt}, {first.key: slot})

    def parse(request: Request, text: str) -> tuple[str, int]:
        found, _ = reader.parse(request, text)
        now = said_by(found)
        if (now == right).sum() <= (before == right).sum():
            raise ParseFailure("not_better", _fault(now, right, labels, target))
        return found, int((now == right).sum())

    [answer] = asker.parsed([(first, 0)], parse, again=reader.again, tries=TRIES)
    asker.need_all([answer])
    right_before = int((before == right).sum())
    if isinstance(answer, Failure):
        why = f"no answer was better ({answer.detail or answer.reason})"
        return StageResult(
            "repair", False, {"program_no": None, "why": why, "right": [right_before, right_before]}, (why,)
        )
    found, now = answer.value
    key = program_key(form, target, found)
    told = NewProgram(
        row["name"], form, "model", found, key, row["target_label_no"], program_no, request_key=answer.request_key,
        sample_no=answer.sample_no, prompt_version=prompt.version,
    )  # fmt: skip
    with warehouse.lease() as db:
        there = known(db, key)
        detail = f"a repair of program {program_no}: right on {now} of the {len(texts)} texts shown, which was on {right_before}"
        number = there.number if there is not None else (
            add(db, told, actor=AUTHOR, state="rejected", reason=SUGGESTED, detail=detail)
        )  # fmt: skip
    did = {"program_no": number, "why": None, "right": [right_before, now]}
    return StageResult("repair", False, did, (f"program {number} is {detail}; approve it to let it vote", *asker.notes))


def _wanted(
    number: int, said: str | None, facts: Mapping[int, frozenset[int]], labels: Sequence[str], target: str | None
) -> int:  # fmt: skip
    """The vote that a program should give to a text."""
    names = list(labels) if target is None else ["no", "yes"]
    if said == NONE:
        return -1
    if said is not None:
        if said not in names:
            raise InputError(f"unknown label {said!r}{nearest(said, names)}", where=f"text {number}")
        return names.index(said)
    known_here = facts.get(number)
    if target is not None and known_here is not None:
        return int(labels.index(target) in known_here)
    if known_here is None or len(known_here) != 1:
        fix = f"Say it: {number}=LABEL, or {number}={NONE} where the program should abstain"
        raise InputError(f"it is not known which label text {number} has", fix=fix)
    return min(known_here)


def _named(vote: int, labels: Sequence[str], target: str | None) -> str:
    return vote_in_words(vote, list(labels), target) or "(abstain)"


def _fault(said: np.ndarray, right: np.ndarray, labels: Sequence[str], target: str | None) -> str:
    """Our words to the model: on which of the labelled examples the program is wrong, by their places."""
    wrong = [
        f"on example {at + 1} it says {_named(int(vote), labels, target)}, and should say {_named(int(wanted), labels, target)}"
        for at, (vote, wanted) in enumerate(zip(said, right, strict=True))
        if vote != wanted
    ]
    told = "; ".join(wrong) or "it is right on each of them as it is, but has to be as precise on others like them"
    return (
        f"Of the labelled examples above, {told}. Mend it so that it is right on these and on texts like them, without naming"
        " single texts, and keep what it gets right elsewhere."
    )
