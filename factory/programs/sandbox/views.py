"""What programs do to a text before they look at it, as data: lower-casing, stripping, squeezing blanks, cutting, padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

View = tuple[tuple[Any, ...], ...]
"""Operations in order: `("lower",)`, `("strip", " .")`, `("squeeze",)`, `("slice", None, 300)`, `("pad", " ", " ")`, ..."""

MAX_OPERATIONS = 10
_WORDS = 100
ASCII = ("ascii",)
"""The operation that changes nothing and says: what is asked of this view is known of ASCII texts alone."""

_OPERATIONS: dict[str, Callable[..., str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "casefold": str.casefold,
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
    "ascii": lambda text: text,
    "squeeze": lambda text: " ".join(text.split()),
    "replace": str.replace,
    "slice": lambda text, start, stop: text[start:stop],
    "words": lambda text, start, stop: " ".join(text.split()[start:stop]),
    "pad": lambda text, before, after: before + text + after,
}


def prepare(view: View, text: str) -> str:
    """The text as a program sees it after these operations."""
    for name, *arguments in view:
        text = _OPERATIONS[name](text, *arguments)
    return text


def checked(found: Any) -> View | None:
    """A view that came from outside, every part of it checked; None if it is not one."""
    if not isinstance(found, (list, tuple)) or len(found) > MAX_OPERATIONS:
        return None
    view = []
    for item in found:
        if not isinstance(item, (list, tuple)) or not item or not _is_operation(item[0], list(item[1:])):
            return None
        view.append(tuple(item))
    return tuple(view)


def _is_operation(name: Any, arguments: list[Any]) -> bool:
    words = all(isinstance(a, str) and len(a) <= _WORDS and a.isascii() for a in arguments)
    if name in ("lower", "upper", "casefold", "squeeze", "ascii"):
        return not arguments
    if name in ("strip", "lstrip", "rstrip"):
        return len(arguments) == 0 or (len(arguments) == 1 and (words or arguments[0] is None))
    if name == "replace":
        return len(arguments) == 2 and words and bool(arguments[0])
    if name == "pad":
        return len(arguments) == 2 and words
    if name in ("slice", "words"):
        return len(arguments) == 2 and all(a is None or (type(a) is int and abs(a) < 1 << 31) for a in arguments)
    return False
