"""The rendering of every prompt is frozen: recorded answers match by it. A change of a recorded prompt is a new file.

To accept a deliberate change before anything was recorded: `python tests/prompts/test_golden.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factory import prompts
from factory.llm.request import ModelRef
from tests.prompts.cases import CARD, CASES

GOLDEN = Path(__file__).parent / "golden"
MODEL = ModelRef("any")


def rendered(name: str) -> dict[str, Any]:
    prompt, case = prompts.load(name), CASES[name]
    found: dict[str, Any] = {"version": prompt.version}
    for form, structured in (("plain", False), ("structured", True)):
        request = prompt.request(
            case["values"], MODEL, structured=structured, labels=CARD.label_names, demos=case["demos"]
        )
        again = prompt.ask_again(
            request, "Well.", prompts.ParseFailure("no_label", "The answer does not state a label.")
        )
        found[form] = {
            "content_key": request.content_key,
            "messages": list(request.messages),
            "sampling": request.sampling,
            "schema": request.schema,
            "again": list(again.messages[-2:]),
            "again_content_key": again.content_key,
        }
    return found


def test_every_shipped_prompt_has_a_case() -> None:
    assert set(CASES) == set(prompts.names())


@pytest.mark.parametrize("name", sorted(CASES))
def test_rendering_is_frozen(name: str) -> None:
    frozen = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert rendered(name) == frozen


if __name__ == "__main__":
    for each in sorted(CASES):
        text = json.dumps(rendered(each), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        (GOLDEN / f"{each}.json").write_text(text, encoding="utf-8")
