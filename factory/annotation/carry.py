"""Answers to an earlier revision of the card that still stand: they are taken over, and the rest is asked again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from factory.revision import card_of, change_of
from factory.warehouse.tables import plans, programs
from factory.warehouse.tables.plans import Answered, Outcome, Plan, Slot

if TYPE_CHECKING:
    from factory.annotation.choose import Specs
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse

STAGE = "annotate"


def over(
    warehouse: Warehouse,
    key: str,
    config: Mapping[str, Any],
    card: TaskCard,
    prompt_version: str,
    specs: Specs | None = None,
) -> Plan | None:
    """A plan over the texts of the last one that asked the same by an earlier card; None if there is none that stands.

    Its slots are those of the earlier plan. One whose labels the change does not touch is decided with the answer that it had,
    which stays the answer to the request of then; every other is open. A prompted labelling function of the earlier plan votes no
    longer: this plan's takes its place.

    Args:
        warehouse: Where the plans are.
        key: The new plan's.
        config: Likewise.
        card: As it is now.
        prompt_version: Of the prompt.
        specs: What texts that are asked again are asked with, where it is not all labels.
    """
    found = plans.earlier(warehouse, STAGE, config, task_revision=card.revision, prompt_version=prompt_version)
    before = None if found is None else card_of(warehouse, found[1])
    if found is None or before is None:
        return None
    change, earlier = change_of(before, card), found[0]
    if change.whole is not None:
        return None
    every = plans.slots(warehouse, earlier.plan_no)
    slots = [Slot(slot.slot_no, slot.spec, {**slot.parents, "carried_from": earlier.plan_no}) for slot in every]
    kept: dict[int, Outcome] = {
        slot.slot_no: Answered(slot.request_key, slot.sample_no, slot.detail)
        for slot in every
        if slot.state == "accepted" and change.stands(json.loads(slot.detail or "[]"))
    }
    if specs is not None:
        again = [at for at, slot in enumerate(slots) if slot.slot_no not in kept]
        for at, spec in zip(again, specs([slots[at].parents for at in again]), strict=True):
            slots[at] = replace(slots[at], spec=spec)
    with warehouse.lease() as db:
        plan = plans.create(
            warehouse, STAGE, key, config, task_revision=card.revision, prompt_version=prompt_version, slots=slots
        )
        plans.decide(db, plan.plan_no, kept)
        if config.get("as_votes"):
            for program in programs.accepted(warehouse, kinds=("prompted",)):
                if program.plan_no == earlier.plan_no:
                    programs.set_state(db, program.number, "superseded", "definition_changed", STAGE)
    return plan
