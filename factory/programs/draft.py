"""A source that is not stored yet: what it says of a sample of texts, and what would change if it voted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.programs.analysis import judge, known_labels
from factory.programs.blocks import RUNNABLE, AcceptedProgram, run_accepted
from factory.programs.rules import RulesRefused, RuleVoter, read_rules, words_behind
from factory.programs.rules.lists import YES_NO
from factory.programs.sandbox.host.pool import Sandbox, shared_pool
from factory.programs.trial import FAILURES
from factory.programs.view import program_row, vote_in_words
from factory.task import label_names
from factory.warehouse.tables.programs import accepted
from factory.warehouse.tables.texts import sample_texts, texts_of
from factory.warehouse.tables.votes import dense_votes

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

SAMPLE = 2000
"""Texts of train that a draft is tried on: enough to see a coverage of half a percent."""
MOST_JUDGED = 2000
"""Texts with a known label that it is compared on."""
MOST_SHOWN = 30
Keep = Callable[[Any, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Drafted:
    """What a draft does.

    Attributes:
        texts: How many texts of train it was tried on.
        votes: On how many of them it votes, by what it says.
        new: Votes on texts of the sample that no other accepted program votes on.
        conflicts: Votes that differ from what another accepted program says.
        failures: Texts that it fails on.
        changed: Against the program that it would replace, on the sample: votes that differ, or that one of the two alone has;
            None where it replaces none, or that one has not voted.
        gained, lost: Votes on the sample that are new, or gone, by what they say.
        judged, right, low, high: Votes on texts whose label is known (dev gold, anchors that teach), how many of them are right,
            and the 95% Wilson interval.
        matches: The first texts that it votes on: `text_no`, `text`, `vote`, `on` (words of the text, for rules), `known` (its
            label, where that is known).
        failed: `text_no`, `text`, `status` and `detail` of the first texts that it fails on.
        wrong: `text_no`, `text`, `vote` and `known` of the first texts on which it says otherwise than what is known.
        label_model: Of how many texts of the sample the label model's answer would be another; None where that is not known.
        sample: The texts' numbers, what it says of them, and what the stored version says (or None), for whoever goes on.
    """

    texts: int
    votes: dict[str, int]
    new: int
    conflicts: int
    failures: int
    changed: int | None
    judged: int
    right: int
    low: float
    high: float
    matches: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    gained: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    label_model: int | None = None
    sample: tuple[list[int], np.ndarray, np.ndarray | None] = field(
        default=([], np.zeros(0), None), repr=False, compare=False
    )

    @property
    def in_words(self) -> list[str]:
        """For a person, a line each."""
        said = ", ".join(f"{label} {n}" for label, n in self.votes.items()) or "none"
        lines = [f"votes on {sum(self.votes.values())} of {self.texts} texts ({said}); {self.failures} failures"]
        lines.append(
            f"{self.new} texts that nothing else votes on, {self.conflicts} where another program says otherwise"
        )
        if self.changed is not None:
            lines.append(f"{self.changed} votes differ from those of the stored version")
        if self.label_model is not None:
            lines.append(
                f"the label model's answer changes on {self.label_model} of them, with its weights as they are"
            )
        if self.judged:
            right = f"{self.right} of {self.judged} votes are right where the label is known"
            lines.append(f"{right} ({self.right / self.judged:.2f}, 95% {self.low:.2f} to {self.high:.2f})")
        return lines

    @property
    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {name: value for name, value in asdict(self).items() if name != "sample"}


def try_source(
    warehouse: Warehouse, source: str, *, kind: str, target: str | None = None, program_no: int | None = None,
    sandbox: Sandbox = "kernel", count: int = SAMPLE, shown: int = MOST_SHOWN, keep: Keep = lambda name, compute: compute(),
) -> Drafted:  # fmt: skip
    """Try a source that is not stored, alone or in place of a program; nothing is written.

    Args:
        warehouse: Where texts, votes and known labels are.
        source: Python that defines `label(text)`, or rules as JSON or YAML.
        kind: `python` or `rules`.
        target: In a `multi` task the label that it speaks of.
        program_no: The program that it would replace; its kind and target count then.
        sandbox: As for every Python program.
        count: Texts of the sample.
        shown: At most so many matches and failures.
        keep: May keep what drafts are compared with, by a name, until something is written.

    Raises:
        InputError: The source is refused, or there is no such program.
    """
    compared = keep(("draft", target, program_no, count), lambda: _compared(warehouse, target, program_no, count))
    labels, target, target_no, sample, numbers = (
        compared.labels, compared.target, compared.target_no, compared.sample, compared.numbers
    )  # fmt: skip
    kind = compared.kind or kind
    if kind not in RUNNABLE:
        raise InputError(f"a program of kind {kind!r} cannot be run", fix="It is `python` or `rules`")
    if kind == "rules":
        try:
            source = read_rules(source, labels, target).source
        except RulesRefused as refused:
            raise InputError(f"the rules are refused: {refused.words}") from None
    known, judged, more, said, before = compared.known, compared.judged, compared.more, compared.said, compared.before
    texts = [text for _, text in sample] + [more[number] for number in judged]
    run = run_accepted(shared_pool(sandbox=sandbox), [AcceptedProgram(0, source, target, kind)], texts, labels)
    if 0 in run.refusals:
        raise InputError("the program is refused ({}): {}".format(*run.refusals[0]))
    votes, status, words = run.votes[:, 0].astype(np.int64), run.status[:, 0], run.words(0)
    mine, here = votes[: len(sample)], votes[: len(sample)] >= 0
    right = judge(votes, [*numbers, *judged], known, target_no)
    at = np.flatnonzero(here)
    failed = np.flatnonzero(np.isin(status[: len(sample)], FAILURES))
    changed = None if before is None or (before < 0).all() else int((before != mine).sum())
    then = np.full(len(mine), -1) if before is None else before
    low, high = right.interval

    def by_label(some: np.ndarray) -> dict[str, int]:
        each, n_each = np.unique(some[some >= 0], return_counts=True)
        return {str(vote_in_words(int(v), labels, target)): int(n) for v, n in zip(each, n_each, strict=True)}

    wrong = [
        (number, text, int(votes[row]))
        for row, (number, text) in enumerate(zip([*numbers, *judged], texts, strict=True))
        if votes[row] >= 0 and number in known and not judge(votes[row : row + 1], [number], known, target_no).right
    ]
    return Drafted(
        len(sample), by_label(mine),
        int((here & (said < 0).all(axis=1)).sum()), int((here & ((said >= 0) & (said != mine[:, None])).any(axis=1)).sum()),
        len(failed), changed, right.n, right.right, low, high,
        _matches(source, kind, labels, target, [(*sample[row], int(mine[row])) for row in at[:shown]], known),
        [
            {"text_no": sample[row][0], "text": sample[row][1], "status": str(status[row]), "detail": words.get(int(row), "")}
            for row in failed[:shown]
        ],
        wrong=_matches(source, kind, labels, target, wrong[:shown], known),
        gained=by_label(np.where(mine != then, mine, -1)), lost=by_label(np.where(mine != then, then, -1)),
        sample=(numbers, mine, before),
    )  # fmt: skip


@dataclass(frozen=True)
class _Compared:
    """What drafts are compared with, the same until something is written.

    Attributes:
        labels: Label names by number.
        kind, target, target_no: Of the program that a draft would replace, or as they were asked for.
        sample, numbers: Texts of train with their numbers, and the numbers alone.
        known: Labels that are known, by text number; `judged` are such texts beside the sample, `more` holds them.
        said: int32 [n, m], what the other accepted programs say of the sample, -1 where nothing.
        before: int32 [n], what the stored version says, or None.
    """

    labels: list[str]
    kind: str | None
    target: str | None
    target_no: int | None
    sample: list[tuple[int, str]]
    numbers: list[int]
    known: dict[int, frozenset[int]]
    judged: list[int]
    more: dict[int, str]
    said: np.ndarray
    before: np.ndarray | None


def _compared(warehouse: Warehouse, target: str | None, program_no: int | None, count: int) -> _Compared:
    with warehouse.read():
        labels, kind, before = label_names(warehouse), None, None
        if program_no is not None:
            row = program_row(warehouse, program_no)
            kind, target = row["kind"], None if row["target_label_no"] is None else labels[row["target_label_no"]]
        if target is not None and target not in labels:
            raise InputError(f"unknown label {target!r}")
        target_no = None if target is None else labels.index(target)
        sample, known = sample_texts(warehouse, count, "draft"), known_labels(warehouse)
        numbers = [number for number, _ in sample]
        judged = sorted(set(known) - set(numbers))[:MOST_JUDGED]
        others = [p.number for p in accepted(warehouse) if p.target_no == target_no and p.number != program_no]
        said = dense_votes(warehouse, others, numbers)
        if program_no is not None:
            before = dense_votes(warehouse, [program_no], numbers)[:, 0]
        more = texts_of(warehouse, judged)
    return _Compared(labels, kind, target, target_no, sample, numbers, known, judged, more, said, before)


def _matches(
    source: str, kind: str, labels: list[str], target: str | None, found: list[tuple[int, str, int]],
    known: dict[int, frozenset[int]],
) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    names = labels if target is None else list(YES_NO[::-1])
    lists = [read_rules(source, labels, target)] if kind == "rules" else []
    voter = RuleVoter(lists, [names]) if lists else None
    for number, text, vote in found:
        on = words_behind(voter, lists, text, [names[vote]])[0] if voter else []
        has = None if number not in known else ", ".join(labels[at] for at in sorted(known[number])) or "none"
        rows.append({
            "text_no": number, "text": text, "vote": vote_in_words(vote, labels, target), "on": on, "known": has,
        })  # fmt: skip
    return rows
