"""How many answers a step may still need at most: what a plan's bounds leave after what has been decided."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from factory.params import Params
from factory.pipeline.steps import Step
from factory.warehouse.file import Warehouse


def most_answers(step: Step, warehouse: Warehouse, missing: int) -> int:
    """The most answers that an asking step may still take.

    `author` asks at most `candidates` programs with `repairs` each, `synthesize` at most `candidates` times `per_label` texts of
    every label and the checks of them; `annotate` asks what its plan says, and once more only what could not be read.

    Args:
        step: One that has just been run as far as its stored answers reach.
        warehouse: Has its plan.
        missing: Answers that are missing now.

    Returns:
        At least `missing`.
    """
    if step.verb == "annotate":
        return missing
    name = getattr(step.params, "name", None) or getattr(step.params, "method", None)
    found = warehouse.query(
        "SELECT plan_no, config FROM plans WHERE stage = ? AND NOT done AND (stage = 'author' OR config ->> 'name' = ?)"
        " ORDER BY plan_no DESC LIMIT 1",
        [step.verb, name],
    )
    if not found:
        return missing
    plan_no, config = int(found[0][0]), json.loads(found[0][1])
    most = _most_of_author if step.verb == "author" else _most_of_synthesis
    return max(missing, most(warehouse, plan_no, config, step.params))


def _most_of_author(warehouse: Warehouse, plan_no: int, config: Mapping[str, Any], _: Params) -> int:
    candidates = int(warehouse.scalar("SELECT count(*) FROM slots WHERE plan_no = ?", [plan_no]))
    taken = int(
        warehouse.scalar(
            "SELECT count(*) FROM answers JOIN requests r USING (request_key) JOIN plans p ON p.plan_no = ?"
            " WHERE r.stage = 'author' AND r.created_at >= p.created_at",
            [plan_no],
        )
    )
    return candidates * (1 + int(config["repairs"])) + 2 * bool(config["knowledge"]) - taken


def _most_of_synthesis(warehouse: Warehouse, plan_no: int, config: Mapping[str, Any], params: Params) -> int:
    from factory.synthesis.stage import SynthesizeParams
    from factory.synthesis.values import Goal

    assert isinstance(params, SynthesizeParams)
    goal = Goal(params.per_label, params.candidates)
    labels, samples = len(config["labels"]), int(config["check_samples"])
    decided: dict[str, int] = dict(
        warehouse.query(
            "SELECT spec ->> 'kind', count(*) FROM slots WHERE plan_no = ? AND state <> 'open' GROUP BY ALL", [plan_no]
        )
    )
    left: int = labels * math.ceil(goal.budget / int(config["texts_per_answer"])) - decided.get("write", 0)
    if config["label_check"] == "model":
        left += (labels * goal.budget - decided.get("check", 0)) * samples
    if config["attributes"] and not decided:
        left += 2 * labels
    return left
