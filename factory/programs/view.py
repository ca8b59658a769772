"""Programs as people see them: list, show, diff, test."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.programs.blocks import RUNNABLE, AcceptedProgram, run_accepted
from factory.programs.rules import read_rules
from factory.programs.sandbox.host.pool import Sandbox, shared_pool
from factory.task import label_names
from factory.warehouse.tables.votes import lost_votes, votes_changed

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

_COLUMNS = (
    "program_no, name, kind, origin, state, target_label_no, source, parent_no, plan_no, slot_no, request_key,"
    " sample_no, prompt_version, drop_reason, detail, created_at::VARCHAR AS created_at"
)


def list_programs(warehouse: Warehouse, *, every: bool = False) -> list[dict[str, Any]]:
    """Programs (with `every`, rejected and superseded ones too) with their coverage, overlaps and conflicts on the split `train`,
    and how many votes they lost in all.
    """
    labels = label_names(warehouse)
    summary = warehouse.query('SELECT program_no, coverage, "overlaps", conflicts FROM program_summary')
    figures, failed = {number: shares for number, *shares in summary}, lost_votes(warehouse)
    rows = []
    for number, name, kind, origin, state, target, reason, detail in warehouse.query(
        "SELECT program_no, name, kind, origin, state, target_label_no, drop_reason, detail FROM programs ORDER BY program_no"
    ):
        if not every and state in ("rejected", "superseded"):
            continue
        coverage, overlaps, conflicts = figures.get(number, (None, None, None))
        rows.append({
            "program_no": number, "name": name, "kind": kind, "origin": origin, "state": state,
            "target": None if target is None else labels[target], "coverage": coverage, "overlaps": overlaps,
            "conflicts": conflicts, "failures": failed.get(number), "drop_reason": reason, "detail": detail,
        })  # fmt: skip
    return rows


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
        {"text": text, "vote": _words(int(vote), labels, target), "status": status}
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


def _words(vote: int, labels: list[str], target: str | None) -> str | None:
    if vote < 0:
        return None
    if target is not None:
        return "yes" if vote else "no"
    return labels[vote]
