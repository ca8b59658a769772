"""What the model says it knows of the labels, asked once and shown to every program's author."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.llm import Asker
    from factory.programs.author.loop import Slot


def ask_knowledge(
    asker: Asker,
    config: Mapping[str, Any],
    card_values: Mapping[str, Any],
    planned: list[tuple[Slot, dict[str, Any]]],
    shown: Mapping[int, str],
) -> str:
    """What the model says it knows of the labels, asked once; empty if it is not wanted or gave nothing."""
    if not config["knowledge"]:
        return ""
    from factory import prompts
    from factory.llm.request import Failure

    engine = asker.engine
    prompt = prompts.load("author_knowledge")
    values = {**card_values, "kind": config["knowledge"], "examples": [shown[no] for no in planned[0][1]["examples"]]}
    request = prompt.request(values, engine.model, sampling=engine.sampling, structured=engine.structured)
    found = asker.parsed([(request, 0)], lambda _, text: str(prompt.parse(text)), again=prompt.ask_again)
    asker.need_all(found)
    return "" if isinstance(found[0], Failure) else found[0].value
