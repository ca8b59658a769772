"""The JSON schema of a pipeline file, for editors; made of the models that check the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from factory.pipeline.standard import LINES
from factory.pipeline.steps import stage_of
from factory.pipeline.verbs import STEPS
from factory.task import TaskCard


def pipeline_schema() -> dict[str, Any]:
    """The JSON schema of a pipeline file."""
    from factory.llm.settings import EngineSettings

    shared: dict[str, Any] = {}

    def plain(model: type[BaseModel]) -> dict[str, Any]:
        """A model's schema, with the definitions that it refers to moved to where a reference looks for them."""
        found = model.model_json_schema()
        shared.update(found.pop("$defs", {}))
        return found

    def one_step(verb: str, params: Mapping[str, Any]) -> dict[str, Any]:
        value = {"anyOf": [params, {"type": "null"}]}
        return {"type": "object", "properties": {verb: value}, "required": [verb], "additionalProperties": False}

    models = {verb: plain(stage_of(verb).params) for verb in STEPS}
    listed = [{"enum": list(STEPS)}, *(one_step(verb, params) for verb, params in models.items())]
    changes = {
        verb: {"anyOf": [{**params, "required": []}, {"type": "null"}, {"const": False}]}
        for verb, params in models.items()
    }
    card = plain(TaskCard)
    card["properties"]["labels"] = {
        "anyOf": [
            card["properties"]["labels"],
            {"type": "object", "additionalProperties": {"type": ["string", "object"]}},
        ]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A label-factory pipeline",
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "description": {"type": "string"}, "task": {"anyOf": [{"type": "string"}, card]},
            "engine": plain(EngineSettings), "variables": {"type": "object"}, "budget": {"type": ["string", "number"]},
            "data": {"type": ["string", "object"]},
            "cluster": {"type": "object", "properties": {"ray": {"type": "string"}}, "required": ["ray"],
                "additionalProperties": False},
            "steps": {
                "anyOf": [
                    {"type": "array", "minItems": 1, "items": {"anyOf": listed}},
                    {"type": "object", "properties": changes, "additionalProperties": False},
                    {"enum": list(LINES)},
                ]
            },
        },
        "required": ["task"],
        "anyOf": [{"required": ["steps"]}, {"required": ["data"]}],
        "additionalProperties": False,
        "$defs": shared,
    }  # fmt: skip
