"""A program that is not stored yet: what it does, and what would change in the label model's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from factory.denoise.weighed import before_program
from factory.programs.draft import SAMPLE, Drafted, Keep, try_source
from factory.programs.sandbox.host.pool import Sandbox
from factory.programs.view import program_row
from factory.task import label_names

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def try_draft(
    warehouse: Warehouse, source: str, *, kind: str, target: str | None = None, program_no: int | None = None,
    sandbox: Sandbox = "kernel", keep: Keep = lambda name, compute: compute(),
) -> Drafted:  # fmt: skip
    """As `factory.programs.draft.try_source`, with `label_model` where the label model weighs votes one by one."""
    tried = try_source(
        warehouse, source, kind=kind, target=target, program_no=program_no, sandbox=sandbox, keep=keep
    )  # fmt: skip
    numbers, said, before = tried.sample
    if program_no is not None:
        target_no = keep(("target", program_no), lambda: program_row(warehouse, program_no)["target_label_no"])
    else:
        target_no = None if target is None else label_names(warehouse).index(target)
    others = keep(
        ("weighed", target_no, program_no, SAMPLE),
        lambda: before_program(warehouse, numbers, program_no=program_no, target_no=target_no),
    )
    if others is None:
        return tried
    stands = before is not None and bool((before >= 0).any())
    return replace(tried, label_model=others.changed(said, before if stands else None, tried.right, tried.judged))
