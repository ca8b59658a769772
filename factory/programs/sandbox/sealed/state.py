"""What a program holds between two calls, so that a change shows that it keeps state.

A vote is a function of the text alone. Otherwise it would depend on the order of the texts, on where a run was stopped, and on
who asks.
"""

from __future__ import annotations

import collections
import difflib
import functools
import types
from collections.abc import Mapping
from typing import Any

_VALUES = (type(None), bool, int, float, complex, str, bytes)
_CACHED = type(functools.lru_cache(len))


class HoldsIterator(Exception):
    """Something reachable keeps its place between texts (an iterator or a generator)."""


class _Same:
    """Equal to itself alone, and kept, so that nothing else takes its place in memory."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    __hash__ = None  # type: ignore[assignment]


def snapshot(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Everything reachable from a program's names that could change, by name, in a form that can be compared.

    Raises:
        HoldsIterator: With the name it was reached from.
    """
    found = {}
    for name, value in namespace.items():
        if name == "__builtins__":
            continue
        try:
            found[name] = _held(value, {})
        except HoldsIterator:
            raise HoldsIterator(name) from None
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The first name whose value has changed, or None."""
    return next((name for name in after if before.get(name, after) != after[name]), None)


def _held(value: Any, seen: dict[int, int]) -> Any:
    kind = type(value)
    if kind in _VALUES:
        return (kind, value)
    if id(value) in seen:
        return ("again", seen[id(value)])
    seen[id(value)] = len(seen)
    if isinstance(value, (list, tuple, collections.deque)):
        return (kind, [_held(item, seen) for item in value])
    if isinstance(value, dict):
        return (kind, [(_held(key, seen), _held(item, seen)) for key, item in value.items()])
    if isinstance(value, (set, frozenset, bytearray)):
        return (kind, frozenset(value) if not isinstance(value, bytearray) else bytes(value))
    if kind is types.FunctionType and value.__module__ == "program":
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        return (_Same(value), _held([value.__defaults__, value.__kwdefaults__, cells], seen))
    if kind is collections.ChainMap:
        return (kind, _held(value.maps, seen))
    if kind is difflib.SequenceMatcher:
        return (kind, _held(vars(value), seen))
    if kind is functools.partial:
        return (kind, _held([value.func, value.args, value.keywords], seen))
    if kind is _CACHED:
        return (_Same(value), _held(value.__wrapped__, seen))
    if kind in (types.MethodType, types.BuiltinMethodType):
        return (value.__name__, _held(value.__self__, seen))
    if hasattr(kind, "__next__"):
        raise HoldsIterator
    if isinstance(value, type) and value.__module__ == "program":  # a class of its own, an enum's too
        return (_Same(value), [(name, _held(item, seen)) for name, item in vars(value).items() if name[:2] != "__"])
    if kind.__module__ == "program":
        return (_Same(value), _held(getattr(value, "__dict__", None), seen))
    return _Same(value)
