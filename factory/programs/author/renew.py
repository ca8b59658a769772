"""After the card changed: which programs are written anew, and in what slots. The others stay, with the votes that still count.

A program is written anew where its slot spoke of a label that the change touches. One that speaks of all labels stays: its votes
for a label that is gone are abstentions, like any vote for an inactive label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from factory.programs.author.loop import Slot
from factory.programs.author.rubrics import RUBRICS, VARIANTS
from factory.revision import Change, card_of, change_of
from factory.warehouse.tables import plans

if TYPE_CHECKING:
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse

STAGE = "author"


@dataclass(frozen=True)
class Renewal:
    """What is written anew.

    Attributes:
        programs: Numbers of the accepted programs that are to be replaced.
        slots: One for each label that a program's texts may have now, and once more with another variant for what is refused.
        wanted: How many programs are to be accepted.
    """

    programs: tuple[int, ...]
    slots: tuple[Slot, ...]
    wanted: int


def slot_of(number: int, spec: Mapping[str, Any]) -> Slot:
    """The slot that a plan stored."""
    scope = "targeted" if spec["target"] is not None else "focused" if spec["focus"] else "broad"
    approach = next(rubric for rubric in RUBRICS[scope, spec["form"]] if rubric.name == spec["approach"])
    return Slot(number, approach, spec["variant"], tuple(spec["focus"]), spec["target"], spec["form"])


def renewal(warehouse: Warehouse, card: TaskCard, config: Mapping[str, Any], prompt_version: str) -> Renewal | None:
    """What of an earlier card's programs is written anew; None where everything is, or nothing was written before.

    Args:
        warehouse: Where the programs are.
        card: As it is now.
        config: Of the plan, which is the same as then.
        prompt_version: Of the prompts.
    """
    same = {"task_revision": card.revision, "prompt_version": prompt_version}
    found = plans.earlier(warehouse, STAGE, config, **same, done=True)
    before = None if found is None else card_of(warehouse, found[1])
    if before is None:
        return None
    change = change_of(before, card)
    if change.whole is not None:
        return None
    rows = warehouse.query(
        "SELECT program_no, spec FROM programs JOIN slots USING (plan_no, slot_no) JOIN plans USING (plan_no)"
        " WHERE programs.state = 'accepted' AND plans.stage = ? ORDER BY program_no",
        [STAGE],
    )
    asked = [(int(number), slot_of(0, json.loads(spec))) for number, spec in rows]
    touched = [(number, slot) for number, slot in asked if not change.stands(_speaks_of(slot))]
    wanted = [new for _, slot in touched for new in _anew(slot, change)]
    variants = max(1, min(int(config["variants"]), len(VARIANTS)))
    spare = [replace(slot, variant=(slot.variant + 1) % variants) for slot in wanted]
    slots = tuple(replace(slot, number=number) for number, slot in enumerate([*wanted, *spare]))
    return Renewal(tuple(number for number, _ in touched), slots, len(wanted))


def _speaks_of(slot: Slot) -> tuple[str, ...]:
    return slot.focus if slot.target is None else (slot.target,)


def _anew(slot: Slot, change: Change) -> list[Slot]:
    """The slots in place of one: for one label a slot for each that it became, for a group one slot."""
    became = change.renewed(_speaks_of(slot))
    if slot.target is not None:
        return [replace(slot, target=name) for name in became]
    if len(slot.focus) == 1:
        return [replace(slot, focus=(name,)) for name in became]
    return [replace(slot, focus=became)] if became else []
