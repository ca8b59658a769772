"""What the model says it knows of the labels, asked once and shown to every program's author."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.result import Progress

if TYPE_CHECKING:
    from factory.llm import Engine
    from factory.programs.author.loop import Slot
    from factory.warehouse.file import Warehouse

KNOWLEDGE = ("heuristics", "keywords", "descriptions", "examples")


def ask_knowledge(
    warehouse: Warehouse,
    engine: Engine,
    config: Mapping[str, Any],
    card_values: Mapping[str, Any],
    planned: list[tuple[Slot, dict[str, Any]]],
    shown: Mapping[int, str],
    budget: Any,
    progress: Progress,
) -> str:
    """What the model says it knows of the labels, asked once; empty if it is not wanted or gave nothing."""
    if not config["knowledge"]:
        return ""
    from factory import prompts
    from factory.llm import ask_parsed
    from factory.llm.request import Failure

    prompt = prompts.load("author_knowledge")
    values = {**card_values, "kind": config["knowledge"], "examples": [shown[no] for no in planned[0][1]["examples"]]}
    request = prompt.request(values, engine.model, structured=engine.structured)
    found = ask_parsed(
        warehouse,
        engine,
        [(request, 0)],
        lambda _, text: str(prompt.parse(text)),
        again=prompt.ask_again,
        tries=2,
        stage="author",
        budget=budget,
        progress=progress,
    )[0]
    return "" if isinstance(found, Failure) else found.value
