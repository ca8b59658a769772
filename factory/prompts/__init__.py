"""Prompts: from `prompts/NAME.md` to chat messages, and from answers back to values.

    files.py    what stands in a prompt file and in the optimised state beside it
    card.py     the values that a task card gives to a prompt
    render.py   values -> blocks of text; corpus text is delimited and cannot give orders
    adapter.py  the DSPy signature and adapter of a prompt (the only module that imports dspy)
    parse.py    answers -> values, one parser for each form
    labels.py   the parsers of label names
    prompt.py   `load` and `Prompt`, which join all of these

Loading a prompt and hashing it needs no dspy; rendering does.
"""

from __future__ import annotations

from factory.llm.request import ParseFailure
from factory.prompts.card import card_values, writing_values
from factory.prompts.files import Form, names, save_state
from factory.prompts.prompt import NULL_TEXTS, Prompt, load

__all__ = [
    "NULL_TEXTS",
    "Form",
    "ParseFailure",
    "Prompt",
    "card_values",
    "load",
    "names",
    "save_state",
    "writing_values",
]
