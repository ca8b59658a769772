"""An independent vote on new texts by the label programs that the warehouse has accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from factory.errors import InputError
from factory.task import TaskCard, label_names

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def programs_say(warehouse: Warehouse, card: TaskCard, texts: Sequence[str]) -> list[str | None]:
    """The label most programs give each text, or None where none votes or the most are tied.

    Raises:
        InputError: The task is `multi`, or there is no accepted program.
    """
    from factory.programs.blocks import accepted_programs, run_accepted
    from factory.programs.sandbox.host.pool import shared_pool

    if card.kind == "multi":
        raise InputError("the programs' label check knows tasks of kind `single` alone", fix="Use `label_check: none`")
    names = label_names(warehouse)
    programs = accepted_programs(warehouse, names)
    if not programs:
        raise InputError(
            "there is no accepted program to check labels with", fix="Run `author` first, or use `label_check: none`"
        )
    if not texts:
        return []
    return majority(run_accepted(shared_pool(), programs, texts, names).votes, names)


def majority(votes: np.ndarray, names: Sequence[str]) -> list[str | None]:
    """The most frequent vote of each row.

    Args:
        votes: [n, m], index into `names`, -1 abstains.
        names: Label names.

    Returns:
        A label's name, or None for a row without a vote or with a tie.
    """
    counts = np.stack([(votes == at).sum(1) for at in range(len(names))], axis=1)
    best = counts.max(1)
    clear = (best > 0) & ((counts == best[:, None]).sum(1) == 1)
    return [names[int(row.argmax())] if good else None for row, good in zip(counts, clear, strict=True)]
