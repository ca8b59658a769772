"""Values from outside (YAML, the command line, a notebook) checked by a pydantic model; what is wrong, in one plain sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from factory.errors import InputError, nearest

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text", "list": "a list",
    "tuple": "a list", "dict": "a mapping", "model": "a mapping", "mapping": "a mapping", "none": "left out",
    "frozenset": "a list", "path": "a path",
}  # fmt: skip
"""What pydantic expected, by the beginning of its error's type."""
_RANGES = {
    "greater_than_equal": "{ge:g} or more", "greater_than": "above {gt:g}", "less_than_equal": "{le:g} or less",
    "less_than": "below {lt:g}", "too_short": "at least {min_length} of them", "finite_number": "a finite number",
}  # fmt: skip
"""The same, by its whole type."""


def validated(model: type[M], values: Mapping[str, Any], *, what: str, where: str | None = None) -> M:
    """The model of these values.

    Args:
        model: Its fields are the keys that are known.
        values: What was given.
        what: What the values belong to, as an error names it: `author`, `engine`.
        where: File and line, if there are any.

    Raises:
        InputError: The first thing that is wrong: an unknown key with the nearest known one, a missing or a wrong value.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(_reason(error, model, values, what), where=where) from error


def _reason(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], what: str) -> str:
    found = error.errors()
    first = found[0]
    kind, name = first["type"], ".".join(map(str, first["loc"]))
    if kind == "extra_forbidden":
        known = model.model_fields if len(first["loc"]) == 1 else {}
        return f"unknown key `{name}` in `{what}`{nearest(name, known)}"
    if kind == "missing":
        return f"`{what}` needs `{name}`"
    if kind == "value_error":
        words = str(first["msg"]).removeprefix("Value error, ")
        return f"`{what}.{name}`: {words}" if first["loc"] else words
    at, given = _place(first["loc"], values)
    alike = [one for one in found if _place(one["loc"], values)[0] == at]
    words = " or ".join(dict.fromkeys(map(_expected, alike)))
    choices = [choice for one in alike for choice in _choices(one)]
    near = nearest(given, choices) if isinstance(given, str) else ""
    return f"`{'.'.join([what, *map(str, at)])}` is {words} (given: {given!r:.80}){near}"


def _expected(error: Any) -> str:
    """What a value should have been, in words."""
    kind = error["type"]
    if kind == "literal_error":
        return f"one of {', '.join(f'`{choice}`' for choice in _choices(error))}"
    if kind in _RANGES:
        return _RANGES[kind].format(**error.get("ctx", {}))
    return _EXPECTED.get(kind.split("_")[0], str(error["msg"]))


def _choices(error: Any) -> list[str]:
    """The values of a literal that was not met, as pydantic's `'a', 'b' or 'c'` names them."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"]) if error["type"] == "literal_error" else []


def _place(loc: Sequence[Any], values: Any) -> tuple[tuple[Any, ...], Any]:
    """Where in the values an error lies, without the names that pydantic gives the members of a union; and what is there."""
    at: list[Any] = []
    for part in loc:
        inside = isinstance(values, Mapping) and part in values
        listed = isinstance(values, (list, tuple)) and isinstance(part, int) and part < len(values)
        if not inside and not listed:
            break
        values = values[part]
        at.append(part)
    return tuple(at), values
