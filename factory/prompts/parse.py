"""Answers -> values: JSON, programs, words. Forgiving about form, strict about content: a parser never guesses.

All parsers take time linear in the length of the answer.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
import warnings
from collections.abc import Mapping
from itertools import islice
from typing import Any

from factory.llm.request import ParseFailure
from factory.prompts.answer import answer_pieces, final_answer

_FENCE_OPENS = re.compile(r"[ \t]*+(?P<mark>`{3,}+|~{3,}+)[ \t]*+(?P<language>[\w+.#-]*+)[^`\n]*+")
_FENCE_CLOSES = re.compile(r"[ \t]*+(?P<mark>`{3,}+|~{3,}+)[`~]*+[ \t]*+")
_LABEL = re.compile(r"^[ \t]*+def[ \t]++label[ \t]*+\(", re.MULTILINE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`", "„": "“"}
_MOST_STARTS = 16
"""JSON objects of one answer that are looked at; one with more is not read."""

_MOST_ERRORS = 100
_UPPER_BOUNDS = ("maxItems", "maxLength")
_LONGEST_PROGRAM = 40_000


def unquoted(text: str) -> str:
    """The text without one pair of quotation marks, or of Markdown emphasis, around all of it."""
    text = text.strip()
    while True:
        for mark in ("**", "__", "*"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark) and mark not in text[2:-2]:
                text = text[len(mark) : -len(mark)].strip()
                break
        else:
            close = _QUOTES.get(text[:1])
            if close is None or len(text) < 3 or not text.endswith(close) or close in text[1:-1]:
                return text
            text = text[1:-1].strip()


def fences(text: str) -> tuple[list[tuple[str, str]], str, bool]:
    """The fenced blocks of an answer.

    Returns:
        The closed blocks as `(language, content)`, what stands outside of these, and whether a last block never closes.
    """
    found: list[tuple[str, str]] = []
    outside: list[str] = []
    inside: list[str] = []
    opened: re.Match[str] | None = None
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        if opened is None:
            opened = _FENCE_OPENS.fullmatch(bare)
            if opened is None:
                outside.append(line)
            continue
        closed = _FENCE_CLOSES.fullmatch(bare)
        if closed is not None and closed["mark"].startswith(opened["mark"]):
            found.append((opened["language"].lower(), "".join(inside)))
            inside, opened = [], None
        else:
            inside.append(line)
    return found, "".join([*outside, *inside]), opened is not None


def unfenced(text: str) -> str:
    """The content of the one fence if the whole text is fenced, else the text."""
    text = text.strip()
    if not text.startswith(("```", "~~~")):
        return text
    found, outside, open_ = fences(text)
    return found[0][1].strip() if len(found) == 1 and not open_ and not outside.strip() else text


def json_value(text: str) -> Any:
    """The one JSON object or array in an answer: all of it, in a fence, or amid words.

    Raises:
        ParseFailure: There is none that is whole (`not_json`), or there are several different ones (`ambiguous`).
    """
    bare = text.strip()
    for candidate in (bare, unfenced(bare)):
        try:
            value = json.loads(candidate, strict=False, object_pairs_hook=keys_once)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict | list):
            return value
        raise ParseFailure("not_json", "The answer is not a JSON object.")
    found, _ = json_objects(bare)
    if not found:
        raise ParseFailure("not_json", "The answer holds no complete JSON object.")
    if any(value != found[0] for value in found[1:]):
        raise ParseFailure("ambiguous", "The answer holds several different JSON objects; give one.")
    return found[0]


def json_objects(text: str) -> tuple[list[dict[str, Any]], str]:
    """Every JSON object in a text, outermost alone, in order, and the text around them; none if one of them is not whole."""
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=keys_once)
    found: list[dict[str, Any]] = []
    around: list[str] = []
    at, start = 0, text.find("{")
    while start != -1:
        if len(found) == _MOST_STARTS:
            return [], text
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return [], text
        found.append(value)
        around.append(text[at:start])
        at, start = end, text.find("{", end)
    return found, "".join([*around, text[at:]])


def whole_part(text: str) -> str:
    """What is whole of a JSON text that was cut off: up to the last finished item of a list, and closed there.

    Example:
        >>> whole_part('{"a": ["x", "y"], "b": [{"c": 1}, {"c": ')
        '{"a": ["x", "y"], "b": [{"c": 1}]}'
    """
    open_: list[str] = []
    kept, closing, in_string, escaped = 0, "", False, False
    for at, character in enumerate(text, 1):
        if in_string:
            in_string, escaped = character != '"' or escaped, character == "\\" and not escaped
        elif character == '"':
            in_string = True
            continue
        elif character in "{[":
            open_.append("}" if character == "{" else "]")
            continue
        elif character in "}]" and open_:
            open_.pop()
        else:
            continue
        if not in_string and (open_[-1:] == ["]"] or character == "]"):
            kept, closing = at, "".join(reversed(open_))
    return text[:kept] + closing


def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `object_pairs_hook`.

    Raises:
        ParseFailure: A key stands twice, with different values (`ambiguous`).
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ParseFailure("ambiguous", "A key of the JSON object stands twice.")
        found[key] = value
    return found


def parse_json(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Form `json`: one JSON object that fits the schema, but for its upper bounds: they are there so that a decoder that is held
    to the schema ends. What an answer is used for has bounds of its own.

    Raises:
        ParseFailure: `not_json`, `ambiguous`, or `wrong_shape` with the place that does not fit.
    """
    import jsonschema

    value = json_value(final_answer(text))
    checker = jsonschema.Draft202012Validator(dict(schema))
    errors = islice((e for e in checker.iter_errors(value) if e.validator not in _UPPER_BOUNDS), _MOST_ERRORS)
    error = min(errors, key=lambda e: (len(e.absolute_path), str(e.absolute_path)), default=None)
    if error is not None:
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        place = "".join(parts).lstrip(".")
        where = f"at {place}" if place else "at the top"
        raise ParseFailure("wrong_shape", f"The JSON does not have the form asked for ({where}: {_rule(error)}).")
    return dict(value)


def parse_program(text: str) -> str:
    """Form `program`: the source that defines `label`, from a closed fence, from JSON, or the whole answer.

    The source is parsed, never run.

    Raises:
        ParseFailure: `truncated` (a fence that never closes), `no_program`, `not_python`, or `ambiguous` (two different
            programs).
    """
    text = "\n".join(answer_pieces(text))
    if unfenced(text).startswith("{"):
        value = json_value(text)
        if not isinstance(value, dict) or not isinstance(value.get("program"), str):
            raise ParseFailure("no_program", 'The JSON object has no "program".')
        text = value["program"].strip()
    blocks, _, open_ = fences(text)
    if open_:
        raise ParseFailure("truncated", "The answer ended before the fenced block did.")
    found = [content for content in ([content for _, content in blocks] or [text]) if _LABEL.search(content)]
    if not found:
        raise ParseFailure("no_program", "The answer holds no function named label.")
    sources = {textwrap.dedent(content.expandtabs(4)).strip() + "\n" for content in found}
    if len(sources) > 1:
        raise ParseFailure("ambiguous", "The answer holds several programs; give one.")
    source = sources.pop()
    if not _defines_label(source):
        raise ParseFailure("not_python", "The block is not a complete Python program that defines label.")
    return source


def parse_chat(text: str) -> str:
    """Form `chat`: any words at all; a JSON object of notes is joined to lines."""
    text = final_answer(text)
    if unfenced(text).startswith("{"):
        try:
            value = json_value(text)
        except ParseFailure:
            value = None
        if isinstance(value, dict) and isinstance(value.get("notes"), list):
            text = "\n".join(str(note) for note in value["notes"])
    kept = "\n".join(line.rstrip() for line in unfenced(text).splitlines() if line.strip())
    if not kept:
        raise ParseFailure("empty", "The answer is empty.")
    return kept


# ----------------------------------------------------------------------------------------------------------------------
def _rule(error: Any) -> str:
    """Our words for a broken rule of JSON Schema."""
    kind = error.validator
    if kind == "required":
        missing = next((key for key in error.validator_value if key not in error.instance), "a key")
        return f"`{missing}` is missing"
    limit = error.validator_value
    words = {
        "type": f"must be of type {limit}", "enum": "must be one of the values listed", "minLength": "must not be empty",
        "minItems": f"needs at least {limit} entries", "maxItems": f"takes at most {limit} entries",
        "maxLength": f"takes at most {limit} characters", "additionalProperties": "has a key that was not asked for",
    }  # fmt: skip
    return words.get(kind, "does not fit")


def _defines_label(source: str) -> bool:
    if len(source) > _LONGEST_PROGRAM:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "label" for node in tree.body)
