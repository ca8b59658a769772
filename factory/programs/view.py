"""Programs as people see them: list, show, diff, test."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.programs.analysis import Judged, judge, known_labels
from factory.programs.blocks import RUNNABLE, AcceptedProgram, run_accepted
from factory.programs.rules import read_rules
from factory.programs.sandbox.host.pool import Sandbox, shared_pool
from factory.task import label_names
from factory.warehouse.tables.votes import lost_votes, votes_changed, votes_on

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

_COLUMNS = (
    "program_no, name, kind, origin, state, target_label_no, source, parent_no, plan_no, slot_no, request_key,"
    " sample_no, prompt_version, drop_reason, detail, created_at::VARCHAR AS created_at"
)


def list_programs(warehouse: Warehouse, *, every: bool = False) -> list[dict[str, Any]]:
    """Programs (with `every`, rejected and superseded ones too), each with

    - its `polarity` (the labels it gave), `coverage`, `overlaps` and `conflicts` on the split `train`, as Snorkel counts them;
    - its `accuracy` on `judged` texts whose label is known (dev gold, anchors that teach), with the interval `low`, `high`;
    - its `failures`: how many votes it lost in all;
    - the `tokens` of the answer that it was read from.
    """
    labels = label_names(warehouse)
    summary = warehouse.query('SELECT program_no, coverage, "overlaps", conflicts, polarity FROM program_summary')
    figures, failed = {number: shares for number, *shares in summary}, lost_votes(warehouse)
    found = warehouse.query(
        "SELECT p.program_no, name, kind, p.origin, state, target_label_no, parent_no, drop_reason, p.detail,"
        " a.tokens_in + a.tokens_out FROM programs p LEFT JOIN answers a USING (request_key, sample_no) ORDER BY program_no"
    )
    wanted = [row for row in found if every or row[4] not in ("rejected", "superseded")]
    judged = _judged(warehouse, {row[0]: row[5] for row in wanted if row[2] != "trusted"})
    rows = []
    for number, name, kind, origin, state, target, parent, reason, detail, tokens in wanted:
        coverage, overlaps, conflicts, polarity = figures.get(number, (None, None, None, None))
        said = (
            None
            if polarity is None
            else [
                vote_in_words(vote, labels, None if target is None else labels[target])
                for vote in polarity
                if vote is not None
            ]
        )
        known = judged.get(number)
        low, high = known.interval if known and known.n else (None, None)
        rows.append({
            "program_no": number, "name": name, "kind": kind, "origin": origin, "state": state,
            "target": None if target is None else labels[target], "parent_no": parent, "polarity": said, "coverage": coverage,
            "overlaps": overlaps, "conflicts": conflicts, "accuracy": known and known.accuracy, "low": low, "high": high,
            "judged": known and known.n, "failures": failed.get(number), "tokens": tokens, "drop_reason": reason,
            "detail": detail,
        })  # fmt: skip
    return rows


def _judged(warehouse: Warehouse, targets: Mapping[int, int | None]) -> dict[int, Judged]:
    """How right each program is; `targets` are the labels that programs speak of by program number."""
    known, found = known_labels(warehouse), {}
    said: dict[int, dict[int, int]] = {number: {} for number in targets}
    for text_no, program_no, vote in votes_on(warehouse, sorted(known), list(targets)):
        said[program_no][text_no] = vote
    for number, votes in said.items():
        found[number] = judge(np.array(list(votes.values()), np.int64), list(votes), known, targets[number])
    return found


def show_program(warehouse: Warehouse, program_no: int) -> dict[str, Any]:
    """Everything stored about a program, its events in order. The source of a list of rules has a rule on each line.

    Raises:
        InputError: There is no such program.
    """
    row = program_row(warehouse, program_no)
    labels = label_names(warehouse)
    target = row.pop("target_label_no")
    row["target"] = None if target is None else labels[target]
    row["source"] = _readable(row, labels)
    row["events"] = [
        {"state": state, "reason": reason, "actor": actor, "at": at}
        for state, reason, actor, at in warehouse.query(
            "SELECT state, reason, actor, happened_at::VARCHAR FROM program_events WHERE program_no = ? ORDER BY happened_at",
            [program_no],
        )
    ]
    return row


def diff_program(warehouse: Warehouse, program_no: int) -> dict[str, Any]:
    """How a version differs from its parent: a unified diff (of rules, line by line), and how many of its stored votes differ.

    `votes_changed` is None as long as one of the two has not voted.

    Raises:
        InputError: No such program, or it has no parent.
    """
    new = program_row(warehouse, program_no)
    if new["parent_no"] is None:
        raise InputError(f"program {program_no} has no earlier version", where=warehouse.path)
    old, labels = program_row(warehouse, new["parent_no"]), label_names(warehouse)
    lines = difflib.unified_diff(
        _readable(old, labels).splitlines(), _readable(new, labels).splitlines(), f"program {old['program_no']}",
        f"program {program_no}", lineterm="",
    )  # fmt: skip
    changed = votes_changed(warehouse, old["program_no"], program_no)
    return {
        "program_no": program_no, "parent_no": old["program_no"], "diff": "\n".join(lines), "votes_changed": changed,
    }  # fmt: skip


def test_program(
    warehouse: Warehouse,
    program_no: int,
    *,
    texts: list[str] | None = None,  # noqa: PT028
    count: int = 20,  # noqa: PT028
    sandbox: Sandbox = "kernel",  # noqa: PT028
) -> list[dict[str, Any]]:
    """Run a program on texts, or on a fixed sample of `count` of the corpus, and show what it says.

    Returns:
        For each text its `text`, `vote` and `status`, and `detail` where it failed and words were kept.

    Raises:
        InputError: There is no such program, or it cannot be run at all.
    """
    row = program_row(warehouse, program_no)
    labels = label_names(warehouse)
    target = None if row["target_label_no"] is None else labels[row["target_label_no"]]
    if row["kind"] not in RUNNABLE:
        raise InputError(f"program {program_no} is of kind {row['kind']!r} and cannot be run", where=warehouse.path)
    shown = texts if texts is not None else sample_texts(warehouse, count)
    program = AcceptedProgram(program_no, row["source"], target, row["kind"], row["name"])
    run = run_accepted(shared_pool(sandbox=sandbox), [program], shown, labels)
    if 0 in run.refusals:
        raise InputError("program {} is refused ({}): {}".format(program_no, *run.refusals[0]), where=warehouse.path)
    words = run.words(0)
    return [
        {"text": text, "vote": vote_in_words(int(vote), labels, target), "status": status}
        | ({"detail": words[at]} if at in words else {})
        for at, (text, vote, status) in enumerate(zip(shown, run.votes[:, 0], run.status[:, 0], strict=True))
    ]


test_program.__test__ = False  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------------------------------
def program_row(warehouse: Warehouse, program_no: int) -> dict[str, Any]:
    names = [part.strip().split()[-1] for part in _COLUMNS.split(",")]
    rows = warehouse.query(f"SELECT {_COLUMNS} FROM programs WHERE program_no = ?", [program_no])
    if not rows:
        raise InputError(
            f"there is no program {program_no}", where=warehouse.path, fix="`factory programs list` shows them"
        )
    return dict(zip(names, rows[0], strict=True))


def sample_texts(warehouse: Warehouse, count: int) -> list[str]:
    rows = warehouse.query(
        "SELECT text FROM texts WHERE origin <> 'passage' ORDER BY sha256('probe' || hex(content_hash)), content_hash LIMIT ?",
        [count],
    )
    return [row[0] for row in rows]


def _readable(row: dict[str, Any], labels: list[str]) -> str:
    """A program's source for people."""
    if row["kind"] != "rules":
        return str(row["source"])
    target = row.get("target_label_no")
    return read_rules(row["source"], labels, None if target is None else labels[target]).lines


def vote_in_words(vote: int, labels: list[str], target: str | None) -> str | None:
    """What a vote says: a label, `yes` or `no` of the one label it speaks of, or None where it abstains."""
    if vote < 0:
        return None
    if target is not None:
        return "yes" if vote else "no"
    return labels[vote]
