"""A program tried on texts before it may vote: what it says of them, and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.programs.blocks import AcceptedProgram, run_accepted

if TYPE_CHECKING:
    from factory.programs.sandbox.host.pool import Pool
    from factory.programs.sandbox.host.result import ProgramRun

FAILURES = ("exception", "bad value", "timeout", "memory", "crash", "retired")
"""Statuses of a text whose vote is lost."""

MOST_FAILURES = 0.01
"""Share of texts that a program written by a person may fail on. A model is told of any failure, and repairs it."""

SECONDS_PER_TEXT, SECONDS_PER_CHARACTER, SECONDS_TO_START = 1e-3, 1e-6, 0.1
"""Processor time that a program may take: twenty times what a model is asked for, and several times what the slowest of the
recorded programs takes. Ten million texts would take such a program three hours."""

MANY = 50
"""From so many texts on it says something that a program votes on none of them, or on all."""

NEARLY_ALL = 0.98
"""A coverage from which a program is flagged: it hardly ever abstains."""

_BACKWARDS, _ALONE = 200, 4
"""Texts of the second look in reverse order, and of those run in a process of their own."""


_NEVER = {
    "python": "The program returned None for every one of many texts of the corpus. Its cues are too narrow.",
    "rules": "No rule of the list decided any of many texts of the corpus. Its cues are too narrow.",
}
_CONSTANT = {
    "python": "The program returned the same label for every one of many texts. Return None without evidence.",
    "rules": "The list gave the same label to every one of many texts. Leave out the rules that match everything.",
}


@dataclass(frozen=True)
class Fault:
    """Why a program cannot be taken as it is: a code, and our words to the model."""

    code: str
    words: str


@dataclass(frozen=True)
class Trial:
    """A program tried on texts: what it said (one column), and what is wrong with it, if anything."""

    run: ProgramRun
    fault: Fault | None

    @property
    def votes(self) -> np.ndarray:
        """`[n]`."""
        votes: np.ndarray = self.run.votes[:, 0]
        return votes


def try_program(
    pool: Pool, program: AcceptedProgram, texts: Sequence[str], labels: Sequence[str], *, allowed: float = 0.0
) -> Trial:
    """Run a program on texts and judge it; it may fail on the share `allowed` of them.

    Raises:
        SandboxError: As `run_accepted`.
    """
    began = time.process_time()
    run = run_accepted(pool, [program], texts, labels)
    seconds = sum(run.cpu_s) if run.cpu_s else time.process_time() - began
    found = fault_of(run, allowed, program.kind)
    bound = SECONDS_TO_START + len(texts) * SECONDS_PER_TEXT + sum(map(len, texts)) * SECONDS_PER_CHARACTER
    if found is None and seconds > bound:
        found = Fault(
            "slow",
            f"It takes {seconds / max(len(texts), 1) * 1e6:,.0f} microseconds for a text of the corpus, and 50 are asked for."
            " Compile patterns once, outside the function, and look at each word once.",
        )
    if found is None and program.kind == "python" and _depends_on_order(pool, program, texts, labels, run):
        words = "It says something else of the same texts in another order. Keep nothing between two calls."
        found = Fault("state", words)
    return Trial(run, found)


def fault_of(run: ProgramRun, allowed: float, kind: str) -> Fault | None:
    """What is wrong with the one program of a run, which may fail on the share `allowed` of the texts."""
    votes, status, notes = run.votes[:, 0], run.status[:, 0], run.notes[0]
    if 0 in run.refusals:
        code, words = run.refusals[0]
        return Fault(f"refused_{code}", f"The program is not accepted: {words}.")
    name = next((str(note.get("words", "")) for note in notes if note.get("retired") == "state"), None)
    if name is not None:
        words = f"The program keeps state between two calls: `{name}` changes. A vote may depend on its text alone."
        return Fault("state", words)
    failed = {name: int((status == name).sum()) for name in FAILURES}
    if sum(failed.values()) > allowed * len(votes):
        return _failure(failed, notes)
    returns = next((note["returns"] for note in notes if note.get("returns")), None)
    if returns is not None:
        words = f"The program may return what is not a label: {returns}. Return a label's name exactly, or None."
        return Fault("bad_value", words)
    given = votes[votes >= 0]
    if len(votes) >= MANY and len(given) == 0:
        return Fault("never_votes", _NEVER[kind])
    if len(votes) >= MANY and len(given) == len(votes) and len(np.unique(given)) == 1:
        return Fault("constant", _CONSTANT[kind])
    return None


def coverage_flag(votes: np.ndarray) -> str | None:
    """A remark on a program that covers nearly everything or next to nothing, or None."""
    if len(votes) < MANY:
        return None
    coverage = float((votes >= 0).mean())
    if coverage >= NEARLY_ALL:
        return f"hardly ever abstains: votes on {coverage:.1%} of the probe texts"
    if coverage <= 0.002:
        return f"hardly ever votes: on {coverage:.2%} of the probe texts"
    return None


def failures_in_words(trial: Trial, texts: Sequence[str]) -> str:
    """For a person: on how many texts a program failed and how, and the first of them; empty if there is none."""
    status = trial.run.status[:, 0]
    at = np.flatnonzero(np.isin(status, FAILURES))
    if not len(at):
        return ""
    counts = ", ".join(f"{n} {name}" for name in FAILURES if (n := int((status == name).sum())))
    words = trial.run.words(0).get(int(at[0]))
    first = "".join(c for c in texts[at[0]][:60] if c.isprintable())
    said = f"it fails on {len(at)} of {len(texts)} texts ({counts}), first on {first!r}"
    return f"{said}: {words}" if words else said


# ----------------------------------------------------------------------------------------------------------------------
def _failure(failed: Mapping[str, int], notes: Sequence[Mapping[str, Any]]) -> Fault:
    words = next((str(note["words"]) for note in notes if note.get("status") in failed and note.get("words")), "")
    if failed["timeout"] or failed["retired"]:
        said = "The program takes too long on some texts: a loop that does not end, or a pattern that backtracks."
        return Fault("too_slow", said)
    if failed["memory"] or failed["crash"]:
        return Fault("breaks", "The program uses up the memory or crashes on some texts.")
    if failed["exception"] > 0:
        said = f"The program raises an exception on some texts: {words}." if words else "The program raises."
        return Fault("raises", said)
    said = f"The program {words}. Return one of the label names exactly, or None." if words else "Wrong value."
    return Fault("bad_value", said)


def _depends_on_order(
    pool: Pool, program: AcceptedProgram, texts: Sequence[str], labels: Sequence[str], run: ProgramRun
) -> bool:
    """Whether it votes otherwise where the texts come in reverse order, or each in a process of its own."""
    some = list(texts[:_BACKWARDS])
    looks = [(some[::-1], range(len(some))[::-1]), *(([some[at]], [at]) for at in range(len(some))[-_ALONE:])]
    for again, rows in looks:
        second = run_accepted(pool, [program], again, labels)
        both = (run.codes[list(rows), 0] <= 1) & (second.codes[:, 0] <= 1)
        if (run.votes[list(rows), 0] != second.votes[:, 0])[both].any():
            return True
    return False
