"""Steps: a verb of the table with its checked parameters."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.errors import InputError, nearest
from factory.params import Params, Stage
from factory.pipeline.verbs import STEPS
from factory.validation import validated


@dataclass(frozen=True)
class Step:
    """One step of a pipeline, checked.

    Attributes:
        verb: Its name in `STEPS`.
        params: Its parameters.
        line: Where it stands in the YAML file (0 if it does not come from a file).
    """

    verb: str
    params: Params
    line: int = 0

    @property
    def stage(self) -> Stage[Any]:
        """The stage that does it."""
        return stage_of(self.verb)

    @property
    def asks(self) -> bool:
        """Whether it asks a language model."""
        return self.stage.asks


def stage_of(verb: str) -> Stage[Any]:
    """The stage of a verb of the table."""
    module, _, name = STEPS[verb].stage.partition(":")
    found: Stage[Any] = getattr(importlib.import_module(module), name)
    return found


def make_step(verb: str, params: Mapping[str, Any], *, where: str = "", line: int = 0) -> Step:
    """One checked step.

    Raises:
        InputError: No such step, an unknown parameter or a wrong value.
    """
    if verb not in STEPS:
        raise InputError(f"unknown step `{verb}`{nearest(verb, STEPS)}", where=where, fix=f"Steps: {', '.join(STEPS)}")
    return Step(verb, validated(stage_of(verb).params, params, what=verb, where=where), line)
