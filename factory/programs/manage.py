"""What people do with programs: add, edit, approve, reject.

A program's version is its content; an edit is a new version with the old one as its parent, so its votes alone are computed anew.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.programs.blocks import RUNNABLE, AcceptedProgram
from factory.programs.rules import RulesRefused, read_rules
from factory.programs.sandbox.host.pool import Sandbox, shared_pool
from factory.programs.trial import MOST_FAILURES, failures_in_words, try_program
from factory.programs.view import program_row, sample_texts
from factory.task import current_card, label_names
from factory.warehouse.tables.programs import SUGGESTED, NewProgram, add, known, program_key, set_state

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

_KINDS = {".py": "python", ".yaml": "rules", ".yml": "rules", ".json": "rules"}
_MEND = "Mend it and try again"
_SAMPLE = 200
"""Texts that a program written by hand is tried on."""


def kind_of_file(path: Path) -> str:
    """What a file holds by its ending: `python` (.py) or `rules` (.yaml, .yml, .json).

    Raises:
        InputError: Another ending.
    """
    if (kind := _KINDS.get(path.suffix.lower())) is None:
        said = f"cannot tell from {path.suffix!r} what kind of program this is"
        raise InputError(said, where=path, fix="Name it .py, .yaml or .json")
    return kind


def add_program(
    warehouse: Warehouse,
    source: str,
    *,
    name: str,
    target: str | None = None,
    kind: str = "python",
    sandbox: Sandbox = "kernel",
    actor: str = "hand",
) -> dict[str, Any]:
    """Add a program written by hand; it is checked, and tried on texts of the corpus, like any other.

    Args:
        warehouse: The warehouse.
        source: Python that defines `label(text)`; or rules, as JSON or YAML.
        name: Its name.
        target: In a task of kind `multi`, the label that it speaks of.
        kind: `python` or `rules`.
        sandbox: See `Sandbox`.
        actor: Who adds it.

    Returns:
        Its number, and a `remark` if it votes on none of the texts tried, or the same on all.

    Raises:
        InputError: It is refused or fails on more than a few texts, it exists already, or the target is missing or unknown.
    """
    target_no = _target_no(warehouse, target)
    source, remark = _checked(warehouse, source, target, name, kind, sandbox)
    new = NewProgram(name, kind, "hand", source, program_key(kind, target, source), target_no)
    with warehouse.lease() as db:
        number = add(db, new, actor=actor)
    return {"program_no": number, "name": name, "kind": kind, "state": "accepted", "target": target} | remark


def edit_program(
    warehouse: Warehouse, program_no: int, source: str, *, sandbox: Sandbox = "kernel", actor: str = "hand"
) -> dict[str, Any]:
    """Give a program a new version of the same kind; the old one is superseded.

    Raises:
        InputError: No such program, or the new source is refused, fails, or exists already.
    """
    old = program_row(warehouse, program_no)
    kind = old["kind"]
    if kind not in RUNNABLE:
        raise InputError(f"program {program_no} is of kind {kind!r} and has no source to edit", where=warehouse.path)
    if old["state"] == "superseded":
        raise InputError(
            f"program {program_no} is superseded already", where=warehouse.path, fix="Edit its newest version"
        )
    labels = label_names(warehouse)
    target_no = old["target_label_no"]
    target = None if target_no is None else labels[target_no]
    source, remark = _checked(warehouse, source, target, old["name"], kind, sandbox)
    new = NewProgram(old["name"], kind, "hand", source, program_key(kind, target, source), target_no, program_no)
    with warehouse.lease() as db:
        number = add(db, new, actor=actor)
        set_state(db, program_no, "superseded", f"edited: program {number}", actor)
    edited = {"program_no": number, "name": old["name"], "kind": kind, "state": "accepted", "parent_no": program_no}
    return edited | {"target": target} | remark


def approve_program(warehouse: Warehouse, program_no: int, *, actor: str = "hand") -> dict[str, Any]:
    """Let a program vote. A suggested version takes the place of the one that it is a repair of.

    Raises:
        InputError: No such program, or it is superseded.
    """
    row = program_row(warehouse, program_no)
    if row["state"] == "superseded":
        raise InputError(f"program {program_no} is superseded", where=warehouse.path, fix="Approve its newest version")
    suggested = row["state"] == "rejected" and row["drop_reason"] == SUGGESTED
    replaces = program_row(warehouse, row["parent_no"]) if suggested and row["parent_no"] is not None else None
    with warehouse.lease() as db:
        if replaces is not None and replaces["state"] == "accepted":
            set_state(db, replaces["program_no"], "superseded", f"repaired: program {program_no}", actor)
        set_state(db, program_no, "accepted", None, actor)
    return {"program_no": program_no, "state": "accepted"}


def reject_program(
    warehouse: Warehouse, program_no: int, *, reason: str = "rejected by hand", actor: str = "hand"
) -> dict[str, Any]:
    """Let a program vote no longer. Its votes are kept beside it and count for nothing.

    Raises:
        InputError: No such program.
    """
    program_row(warehouse, program_no)
    with warehouse.lease() as db:
        set_state(db, program_no, "rejected", reason, actor)
    return {"program_no": program_no, "state": "rejected", "reason": reason}


# ----------------------------------------------------------------------------------------------------------------------------
def _target_no(warehouse: Warehouse, target: str | None) -> int | None:
    card = current_card(warehouse)
    if card.kind == "multi":
        if target is None:
            raise InputError("a program of a multi task speaks of one label", fix="Name it as the target")
        if target not in card.label_names:
            near = difflib.get_close_matches(target, card.label_names, n=1)
            fix = f"Did you mean {near[0]!r}?" if near else "See the task card"
            raise InputError(f"unknown label {target!r}", fix=fix)
        return label_names(warehouse).index(target)
    if target is not None:
        raise InputError("a program of a single task speaks of all labels", fix="Leave the target out")
    return None


def _checked(
    warehouse: Warehouse, source: str, target: str | None, name: str, kind: str, sandbox: Sandbox
) -> tuple[str, dict[str, str]]:
    """The source as it is kept, and a remark; what is refused or fails on a sample is not taken."""
    labels = label_names(warehouse)
    if kind == "rules":
        try:
            source = read_rules(source, labels, target).source
        except RulesRefused as refused:
            said = f"the rules are refused: {refused.words}"
            raise InputError(said, where=name, fix="Mend them and try again") from None
    with warehouse.read() as db:
        there = known(db, program_key(kind, target, source))
    if there is not None:
        raise InputError(
            f"program {there.number} has this very source", where=name, fix=f"Approve program {there.number} instead"
        )
    texts = sample_texts(warehouse, _SAMPLE) or ["a text"]
    program = AcceptedProgram(0, source, target, kind, name)
    trial = try_program(shared_pool(sandbox=sandbox), program, texts, labels, allowed=MOST_FAILURES)
    if trial.fault is None:
        return source, {}
    if trial.fault.code in ("never_votes", "constant"):
        return source, {"remark": trial.fault.words}
    if trial.run.refusals:
        raise InputError("the program is refused ({}): {}".format(*trial.run.refusals[0]), where=name, fix=_MEND)
    words = trial.fault.words if trial.fault.code == "state" else failures_in_words(trial, texts) or trial.fault.words
    raise InputError(words, where=name, fix=_MEND)
