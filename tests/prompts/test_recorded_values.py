"""Every recorded answer is read as what it was read as when it was recorded.

To accept a deliberate change (of a value that was wrong): `python tests/prompts/test_recorded_values.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factory import prompts
from factory.canonical import digest
from factory.resources import shipped
from tests.prompts.recorded import labels_of_pipeline

FROZEN = Path(__file__).parent / "recorded_values.json"
FAST, SLOW = {"quickstart", "trec_rules", "youtube"}, {"trec", "banking77", "trec_self_guide", "trec_prompted"}
"""These are read in the fast and in the slow tests; the other files, by the same prompts, in the long ones."""
FILES = sorted(path.parent.name for path in shipped("pipelines").glob("*/answers.jsonl"))


def value_of(prompt: str, answer: str, labels: tuple[str, ...]) -> Any:
    try:
        return {"value": prompts.load(prompt).parse(answer, labels=labels)}
    except prompts.ParseFailure as failure:
        return {"failure": failure.code}


def values_of(pipeline: str) -> dict[str, dict[str, Any]]:
    """By prompt: how many answers there are, how many cannot be read, and the digest of what all are read as."""
    labels = labels_of_pipeline(pipeline)
    found: dict[str, list[Any]] = {}
    with (shipped("pipelines") / pipeline / "answers.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            value = value_of(row["prompt"], row["answer"], labels)
            found.setdefault(row["prompt"], []).append([row["key"], row["sample_no"], value])
    return {
        prompt: {
            "answers": len(values),
            "unreadable": sum("failure" in value for _, _, value in values),
            "digest": digest(sorted(values, key=lambda item: item[:2])),
        }
        for prompt, values in sorted(found.items())
    }


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [] if name in FAST else [pytest.mark.slow] if name in SLOW else [pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize("pipeline", [pytest.param(name, marks=marks(name)) for name in FILES])
def test_recorded_answers_are_read_as_before(pipeline: str) -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert values_of(pipeline) == frozen[pipeline]


if __name__ == "__main__":
    FROZEN.write_text(json.dumps({name: values_of(name) for name in FILES}, indent=1) + "\n", encoding="utf-8")
