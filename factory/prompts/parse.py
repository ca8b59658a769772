"""Answers -> values, one parser for each form. Forgiving about form, strict about content: a parser never guesses."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from factory.llm.request import ParseFailure

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"<(think|thinking|reasoning)>", re.IGNORECASE)
_FENCE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.#-]*)[^\n`]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$)", re.DOTALL | re.MULTILINE
)
_OPEN_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})", re.MULTILINE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`", "„": "“"}


def without_thoughts(text: str) -> str:
    """The answer without the reasoning that some models write before it.

    Raises:
        ParseFailure: The reasoning never ends (`truncated`).
    """
    rest = _THOUGHT.sub("", text.replace("\r\n", "\n"))
    if _OPEN_THOUGHT.search(rest):
        raise ParseFailure("truncated", "The answer ended before the reasoning did.")
    return rest.strip()


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


def fences(text: str) -> list[tuple[str, str]]:
    """All closed fenced blocks as `(language, content)`."""
    return [(match[2].lower(), match[3]) for match in _FENCE.finditer(text)]


def unfenced(text: str) -> str:
    """The content of the one fence if the whole text is fenced, else the text."""
    found = _FENCE.fullmatch(text.strip())
    return found[3].strip() if found else text.strip()


def json_value(text: str) -> Any:
    """The one JSON object or array in an answer: all of it, in a fence, or amid words.

    Raises:
        ParseFailure: There is none that is whole (`not_json`), or there are several different ones (`ambiguous`).
    """
    bare = text.strip()
    for candidate in (bare, unfenced(bare)):
        try:
            value = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict | list):
            return value
        raise ParseFailure("not_json", "The answer is not a JSON object.")
    found = _embedded(bare)
    if not found:
        raise ParseFailure("not_json", "The answer holds no complete JSON object.")
    if any(value != found[0] for value in found[1:]):
        raise ParseFailure("ambiguous", "The answer holds several different JSON objects; give one.")
    return found[0]


def parse_json(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Form `json`: one JSON object that fits the schema.

    Raises:
        ParseFailure: `not_json`, `ambiguous`, or `wrong_shape` with the place that does not fit.
    """
    import jsonschema

    value = json_value(without_thoughts(text))
    checker = jsonschema.Draft202012Validator(dict(schema))
    error = min(checker.iter_errors(value), key=lambda e: (len(e.absolute_path), str(e.absolute_path)), default=None)
    if error is not None:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(
            "."
        )
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
    text = without_thoughts(text)
    if text.lstrip().startswith("{"):
        value = json_value(text)
        if not isinstance(value, dict) or not isinstance(value.get("program"), str):
            raise ParseFailure("no_program", 'The JSON object has no "program".')
        text = value["program"].strip()
    found = [content for _, content in fences(text) if _mentions_label(content)]
    if _OPEN_FENCE.search(_FENCE.sub("", text)):
        raise ParseFailure("truncated", "The answer ended before the fenced block did.")
    if not found and _mentions_label(text) and not fences(text):
        found = [text]
    if not found:
        raise ParseFailure("no_program", "The answer holds no function named label.")
    sources = {_tidy(content) for content in found}
    if len(sources) > 1:
        raise ParseFailure("ambiguous", "The answer holds several programs; give one.")
    source = sources.pop()
    if not _defines_label(source):
        raise ParseFailure("not_python", "The block is not a complete Python program that defines label.")
    return source


def parse_texts(text: str, *, refusal: str | None = None) -> list[str]:
    """Form `texts`: every text between tags; without tags, the one text that the answer is, freed of its frame.

    Raises:
        ParseFailure: `refusal`, `truncated` (a tag that never closes), `ambiguous` (a frame that cannot be told from the
            text), or `empty`.
    """
    text = without_thoughts(text)
    bare = unfenced(text)
    if _refuses(bare, refusal):
        raise ParseFailure("refusal", "You answered that you cannot.")
    if bare.startswith(("{", "[")):
        try:
            value = json_value(bare)
        except ParseFailure:
            value = None
        items = value.get("texts") if isinstance(value, dict) else value
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return _kept([item.strip() for item in items], refusal)
        if isinstance(value, dict) or bare.startswith('{"texts"'):
            raise ParseFailure("wrong_shape", "The JSON has no list of texts.")
    opened, closed = len(re.findall(r"<text>", bare, re.IGNORECASE)), len(re.findall(r"</text>", bare, re.IGNORECASE))
    if opened or closed:
        found = re.findall(r"<text>((?:(?!<text>).)*?)</text>", bare, re.DOTALL | re.IGNORECASE)
        if opened != closed or len(found) != opened:
            raise ParseFailure("truncated", "A text is not closed with </text>.")
        return _kept([unquoted(item) for item in found], refusal)
    return _kept(_bare_texts(bare), refusal)


def parse_chat(text: str) -> str:
    """Form `chat`: any words at all; a JSON object of notes is joined to lines."""
    text = without_thoughts(text)
    if text.startswith("{"):
        try:
            value = json_value(text)
        except ParseFailure:
            value = None
        if isinstance(value, dict) and isinstance(value.get("notes"), list):
            text = "\n".join(str(note) for note in value["notes"])
    lines = [line.rstrip() for line in unfenced(text).splitlines()]
    kept = "\n".join(line for line in lines if line.strip())
    if not kept:
        raise ParseFailure("empty", "The answer is empty.")
    return kept


# ----------------------------------------------------------------------------------------------------------------------
_PREAMBLE = re.compile(
    r"^(?:sure|certainly|of course|okay|ok|absolutely|here(?:'s| is| are)|below is|the (?:new |rewritten )?(?:text|comment|"
    r"example|message|article|question|sentence|passage|headline|review))\b[^\n]{0,160}:[ \t]*(?:\n+|$)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:new |rewritten |generated )?(?:text|output|answer|example|rewrite|result)\s*:\s+|[-*•]\s+)",
    re.IGNORECASE,
)
_CHATTY = re.compile(
    r"^\s*(?:sure|certainly|of course|absolutely|here(?:'s| is| are)\b|i hope|let me know|note:|note that|this (?:text|rewrite|"
    r"example|version|comment)\b|would you like|feel free|explanation)",
    re.IGNORECASE,
)
_APOLOGY = re.compile(
    r"^\W*(?:i(?:'m| am) (?:really |very |so )?sorry|i apologi[sz]e|sorry|unfortunately)?[\s,.;:!]*(?:but\s+)?"
    r"(?:i (?:can(?:not|'t|’t)|am unable|am not able|'m unable|'m not able|won't|will not)\s+(?:to\s+)?"
    r"(?:help|assist|fulfil|fulfill|comply|provide|create|generate|write|rewrite|produce|complete|do that|answer|continue)|"
    r"as an ai\b|as a language model\b)",
    re.IGNORECASE,
)
_UNABLE = re.compile(r"^\W*(?:<text>\W*)?unable to (?:re)?write\b", re.IGNORECASE)


def _refuses(text: str, refusal: str | None) -> bool:
    if refusal is not None and refusal in text:
        return True
    if re.search(r"\bUNABLE TO\b", text) or _APOLOGY.match(text):
        return True
    return bool(_UNABLE.match(text))


def _kept(items: list[str], refusal: str | None) -> list[str]:
    if any(_refuses(item, refusal) for item in items):
        raise ParseFailure("refusal", "You answered that you cannot.")
    if not items or not all(items):
        raise ParseFailure("empty", "A text is empty.")
    return list(dict.fromkeys(items))


def _bare_texts(text: str) -> list[str]:
    """The text in an answer without tags, or those of a numbered list. What may be talk is never taken for a text."""
    rest = _PREAMBLE.sub("", text.strip(), count=1).strip()
    numbered = [line for line in rest.splitlines() if line.strip()]
    if len(numbered) > 1 and all(
        line.lstrip().startswith((f"{at}. ", f"{at}) ")) for at, line in enumerate(numbered, 1)
    ):
        return [unquoted(line.split(maxsplit=1)[1]) for line in numbered]
    paragraphs = [part for part in re.split(r"\n\s*\n", rest) if part.strip()]
    if any(_CHATTY.match(part) for part in paragraphs) or re.search(r"^\s*(?:[12][.)]|[-*•])\s+", rest, re.MULTILINE):
        raise ParseFailure(
            "ambiguous", "It is unclear where the text begins and ends; put it between <text> and </text>."
        )
    quote = rest[:1]
    if quote in ('"', "“") and rest.count('"') + rest.count("”") + rest.count("“") == 1:
        raise ParseFailure("truncated", "The text is not closed.")
    return [unquoted(_LEAD.sub("", rest, count=1)).strip()]


def _embedded(text: str) -> list[Any]:
    """Every whole JSON object in a text, outermost only, in order."""
    decoder = json.JSONDecoder()
    found, at = [], text.find("{")
    while at != -1:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        found.append(value)
        at = text.find("{", end)
    return found


def _rule(error: Any) -> str:
    """Our words for a broken rule of JSON Schema."""
    kind = error.validator
    if kind == "required":
        missing = next((key for key in error.validator_value if key not in error.instance), "a key")
        return f"`{missing}` is missing"
    words = {
        "type": f"must be of type {error.validator_value}",
        "enum": "must be one of the values listed",
        "minItems": f"needs at least {error.validator_value} entries",
        "maxItems": f"takes at most {error.validator_value} entries",
        "minLength": "must not be empty",
        "maxLength": f"takes at most {error.validator_value} characters",
        "additionalProperties": "has a key that was not asked for",
    }
    return words.get(kind, "does not fit")


def _mentions_label(source: str) -> bool:
    return re.search(r"^[ \t]*def[ \t]+label[ \t]*\(", source, re.MULTILINE) is not None


def _tidy(source: str) -> str:
    import textwrap

    return textwrap.dedent(source.expandtabs(4)).strip() + "\n"


def _defines_label(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "label" for node in tree.body)
