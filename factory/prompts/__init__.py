"""Prompts: from `prompts/NAME.md` to chat messages, and from answers back to values.

files.py      what stands in a prompt file and in the optimised state beside it
card.py       the values that a task card gives to a prompt
render.py     values -> blocks of text; corpus text is delimited and cannot give orders
prompt.py     `load` and `Prompt`: requests and their answers
answer.py     what a model said in the end: without its reasoning and the tokens of its chat template
parse.py      answers -> JSON, programs, words
texts.py      answers -> new texts; talk.py tells a text from what a model says around it
labels.py     answers -> labels; stated.py reads JSON and tags, matching.py tells which label is meant
failure.py    why an answer cannot be used
signature.py  a prompt as DSPy signature and adapter (the only module that imports dspy)
"""

from __future__ import annotations

from factory.llm.request import ParseFailure
from factory.prompts.card import card_values, writing_values
from factory.prompts.files import Form, names, save_state
from factory.prompts.prompt import NULL_TEXTS, Prompt, load

__all__ = [
    "NULL_TEXTS", "Form", "ParseFailure", "Prompt", "card_values", "load", "names", "save_state", "writing_values",
]  # fmt: skip
