"""The parser of new texts: between tags, in JSON, or as the one thing that the answer is, freed of its frame.

What stands between tags or in JSON is what the model meant as the text. Anything else may be talk: it is a text only if nothing
in it looks like talk, because whatever is let through teaches a classifier.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from factory.llm.request import ParseFailure
from factory.prompts.answer import answer_pieces
from factory.prompts.parse import json_value, unfenced, unquoted
from factory.prompts.talk import KIND, MADE, is_talk, refuses, without_frame

_TAG = re.compile(r"<(?P<close>/)?text\b[^<>]{0,100}>", re.IGNORECASE)
_TEXT_KEY = re.compile(rf"{MADE}{KIND}", re.IGNORECASE)
_CANNOT = "You answered that you cannot."
_UNCLEAR = "It is unclear where the text begins and ends; put each text between its tags."


def parse_texts(text: str, *, refusal: str | None = None) -> list[str]:
    """Form `texts`: every text between tags or in JSON; without these, the one text that the answer is, freed of its frame.

    Args:
        text: The answer.
        refusal: The prompt's own words for "cannot".

    Raises:
        ParseFailure: `refusal`, `truncated` (a tag that never closes), `wrong_shape` (JSON of another form), `ambiguous` (what
            may be talk about the text rather than the text), or `empty`.
    """
    pieces = answer_pieces(text)
    if len(pieces) > 1:
        raise ParseFailure("ambiguous", _UNCLEAR)
    bare = unfenced(pieces[0]) if pieces else ""
    if (items := _in_json(bare)) is not None:
        return _kept(items, refusal)
    tags = list(_TAG.finditer(bare))
    outside = _outside(bare, tags)
    if re.match(r"\W*+UNABLE TO (?:RE)?WRITE\b", outside) or (refusal is not None and refusal in outside):
        raise ParseFailure("refusal", _CANNOT)
    if tags:
        return _kept([unquoted(item) for item in _tagged(bare, tags)], refusal)
    if refuses(bare):
        raise ParseFailure("refusal", _CANNOT)
    return _kept(_untagged(bare), refusal)


# ----------------------------------------------------------------------------------------------------------------------
def _kept(items: Sequence[str], refusal: str | None) -> list[str]:
    kept = [item.strip() for item in items]
    if refusal is not None and any(item.lstrip("\"'“*_ ").startswith(refusal) for item in kept):
        raise ParseFailure("refusal", _CANNOT)
    if not kept or not all(kept):
        raise ParseFailure("empty", "A text is empty.")
    return list(dict.fromkeys(kept))


def _in_json(text: str) -> list[str] | None:
    """The texts of an answer that is JSON; None if it is not.

    Raises:
        ParseFailure: It is JSON without texts in it.
    """
    if not text.startswith(("{", "[")):
        return None
    try:
        value = json_value(text)
    except ParseFailure:
        if re.match(r'[{\[]\s*+[\["{]', text):  # cut off, perhaps; no text of a corpus begins so
            raise ParseFailure("wrong_shape", "The JSON is not complete.") from None
        return None
    if isinstance(value, dict) and isinstance(value.get("texts"), list):
        value = value["texts"]
    items = [_text_of(item) for item in (value if isinstance(value, list) else [value])]
    found = [item for item in items if item is not None]
    if not found or len(found) < len(items):
        raise ParseFailure("wrong_shape", "The JSON has no list of texts.")
    return found


def _text_of(item: Any) -> str | None:
    """The text of a JSON item: a string, or an object with one field for a text (which may also say its number and its label)."""
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        return None
    texts = [value for key, value in item.items() if _TEXT_KEY.fullmatch(str(key).replace("_", " "))]
    return texts[0] if len(texts) == 1 and isinstance(texts[0], str) else None


def _tagged(text: str, tags: Sequence[re.Match[str]]) -> list[str]:
    """The texts between tags, which must open and close in turn.

    Raises:
        ParseFailure: A tag stands alone.
    """
    opened, closed = tags[::2], tags[1::2]
    if len(opened) != len(closed) or any(tag["close"] for tag in opened) or not all(tag["close"] for tag in closed):
        raise ParseFailure("truncated", "A text is not closed by its tag.")
    return [text[first.end() : last.start()] for first, last in zip(opened, closed, strict=True)]


def _outside(text: str, tags: Sequence[re.Match[str]]) -> str:
    """What stands before, between and after the tagged texts; all of it where a tag stands alone."""
    if len(tags) % 2:
        return text
    at, parts = 0, []
    for first, last in zip(tags[::2], tags[1::2], strict=True):
        parts.append(text[at : first.start()])
        at = last.end()
    return "\n".join([*parts, text[at:]]).strip()


def _untagged(text: str) -> list[str]:
    """The text in an answer without tags, or those of a numbered list.

    Raises:
        ParseFailure: It may be talk, or it is cut off.
    """
    rest = without_frame(text)
    lines = [line.strip() for line in rest.splitlines() if line.strip()]
    numbered = len(lines) > 1 and all(line.startswith((f"{at}. ", f"{at}) ")) for at, line in enumerate(lines, 1))
    items = [line.split(maxsplit=1)[1] for line in lines] if numbered else [rest]
    if any(is_talk(item, listed=numbered) for item in items):
        raise ParseFailure("ambiguous", _UNCLEAR)
    if rest[:1] in ('"', "“") and rest.count('"') + rest.count("”") + rest.count("“") == 1:
        raise ParseFailure("truncated", "The text is not closed.")
    return [unquoted(item) for item in items]
