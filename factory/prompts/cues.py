"""Answers of small models: a line for each label, with words and phrases between commas.

JSON takes such models off their own words: where blanks are forbidden in it, `", "` becomes a cue, and where they are allowed
they are written without end. Lines held by one regular expression with bounded repetition were read and ended every time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from factory.llm.request import ParseFailure
from factory.prompts.answer import final_answer

FEWEST, MOST = 4, 12
"""Cues of a line that a decoder is held to."""

_CUE = "[a-z0-9\u00a1-\uffff][a-z0-9\u00a1-\uffff' -]{1,28}"
_AROUND = " \t;.\"'`*"


def cue_lines(labels: Sequence[str]) -> str:
    """The regular expression of an answer: the labels in order, each on its line with its cues."""
    escaped = (re.sub(r"([.^$*+?{}()|\[\]\\])", r"\\\1", name) for name in labels)
    return "".join(f"{name}: {_CUE}(, {_CUE}){{{FEWEST - 1},{MOST - 1}}}\\n" for name in escaped)


def parse_cues(text: str, labels: Sequence[str]) -> dict[str, list[str]]:
    """The cues of each label, few or many, each once; a label without a line has none. Other lines are words around the answer.

    Raises:
        ParseFailure: `wrong_shape` if no line begins with the name of a label.

    Example:
        >>> parse_cues("Here they are:\\n- spam: win, free money, win\\nham: mum", ["ham", "spam"])
        {'ham': ['mum'], 'spam': ['win', 'free money']}
    """
    names = {name.casefold(): name for name in labels}
    found: dict[str, dict[str, None]] = {name: {} for name in labels}
    for line in final_answer(text).splitlines():
        head, colon, rest = line.partition(":")
        name = names.get(head.strip(" -" + _AROUND).casefold())
        if colon and name is not None:
            cues = (cue.strip(_AROUND) for cue in rest.split(","))
            found[name] |= dict.fromkeys(cue for cue in cues if len(cue) > 1)
    if not any(found.values()):
        raise ParseFailure("wrong_shape", "No line begins with the name of a label and a colon.")
    return {name: list(cues) for name, cues in found.items()}
