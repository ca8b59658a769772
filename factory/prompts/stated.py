"""Labels that an answer states in a form of its own: as a JSON value, between tags, in a box."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from factory.llm.request import ParseFailure
from factory.prompts.matching import LabelNames, plain
from factory.prompts.parse import fences, json_objects, keys_once, unfenced

_TAGGED = re.compile(
    r"<(?P<tag>labels?|answers?|final_answer|category|categories|class|classes|classification|topics?|sentiment|verdict|prediction"
    r"|output|result|vote|intent|choice)>(?P<inside>[^<>]{0,2000})</(?P=tag)>"
    r"|\\boxed\{(?:\\text(?:bf|it|tt)?\{)?(?P<boxed>[^{}]{0,400})\}",
    re.IGNORECASE,
)
_FIELD = re.compile(
    r"answers?|categor(?:y|ies)|class(?:es|ification)?|topics?|type|sentiment|verdict|predictions?|output|result|vote|intent"
    r"|choice|decision"
)
_LONGEST_LITERAL = 4000


@dataclass(frozen=True)
class Stated:
    """What an answer states explicitly.

    Attributes:
        labels: The items, as they are written; perhaps none, perhaps not names of labels.
        decides: Whether it is the answer whatever other labels the text before it mentions.
        before: The text before it.
        after: The text after it.
    """

    labels: tuple[str, ...]
    decides: bool = True
    before: str = ""
    after: str = ""


def stated_values(answer: str, names: LabelNames) -> Stated | None:
    """What an answer states as JSON or between tags, or None where it does neither.

    Raises:
        ParseFailure: `no_label` for JSON without a field for a label, `ambiguous` for a field that stands twice.
    """
    bare = unfenced(answer)
    if bare.startswith(("{", "[", '"')) and names.find(bare) is None:
        value = _whole(bare)
        if value is not None:
            return Stated(_values(value, names))
    objects, around = _objects(answer)
    if objects:
        if any(found != objects[0] for found in objects[1:]):
            raise ParseFailure("ambiguous", "The answer holds several different JSON objects; give one.")
        labels = [item for found in objects for item in _values(found, names)]
        return Stated(tuple(dict.fromkeys(labels)), False, "", around)
    tags = list(_TAGGED.finditer(answer))
    if not tags:
        return None
    if len({tag[0].lower() for tag in tags if (tag["tag"] or "").lower() != "label"}) > 1:
        raise ParseFailure("ambiguous", "The answer holds several different answers; give one.")
    labels = []
    for tag in tags:
        inside = (tag["inside"] if tag["boxed"] is None else tag["boxed"]).strip()
        whole = names.find(inside) is not None
        parts = [inside] if whole else [part for line in inside.splitlines() for part in names.split(line)]
        labels += [part for part in parts if part.strip()]
    return Stated(tuple(dict.fromkeys(labels)), True, answer[: tags[0].start()], answer[tags[-1].end() :])


def _objects(answer: str) -> tuple[list[Any], str]:
    """The JSON objects in an answer, the lists that fill a fence, and the words around them."""
    if "{" not in answer and "[" not in answer:
        return [], answer
    blocks, outside, _ = fences(answer)
    found: list[Any]
    found, around = json_objects(outside)
    for _, content in blocks:
        whole = _whole(content.strip()) if content.lstrip().startswith("[") else None
        more, rest = json_objects(content) if whole is None else ([whole], "")
        found, around = [*found, *more], f"{around}\n{rest}"
    return found, around


def _whole(text: str) -> Any:
    """The value of an answer that is JSON, or a Python literal in its place (`{'label': 'X'}`); None if it is neither."""
    try:
        return json.loads(text, strict=False, object_pairs_hook=keys_once)
    except (ValueError, RecursionError):
        pass
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        tree = ast.parse(text, mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                keys_once([(ast.dump(key), ast.dump(value)) for key, value in pairs if key])
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _values(value: Any, names: LabelNames, depth: int = 0) -> tuple[str, ...]:
    """The items that a JSON value states.

    Raises:
        ParseFailure: It has no place for a label.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, int | float):  # labels may be numbers, or true and false
        return (str(value),)
    if isinstance(value, list | tuple | set) and depth < 4:
        return tuple(item for part in value for item in _values(part, names, depth + 1))
    if isinstance(value, dict) and depth < 4:
        last_words = [(plain(str(key)).replace("_", " ").rpartition(" ")[2], key) for key in value]
        own = [key for word, key in last_words if word in ("label", "labels")]
        fields = own or [key for word, key in last_words if _FIELD.fullmatch(word)]
        if fields:
            return tuple(item for key in fields for item in _values(value[key], names, depth + 1))
        if value and all(isinstance(item, bool) and names.find(str(key)) for key, item in value.items()):
            return tuple(str(key) for key, item in value.items() if item)
    raise ParseFailure("no_label", "The JSON has no label where one is wanted.")
