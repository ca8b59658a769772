"""Canonical JSON (RFC 8785) and the SHA-256 digests made from it: the identity of cards, configurations and requests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


def canonical_json(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value (sorted keys, shortest numbers, no blanks).

    Raises:
        ValueError: The value holds something JSON cannot say (NaN, an integer above 2**53, a lone surrogate).
    """
    import rfc8785

    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from error


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value, as 64 hexadecimal digits.

    Example:
        >>> digest({"b": 1, "a": [True, None]}) == digest({"a": [True, None], "b": 1})
        True
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def canonical_strings(rows: Sequence[Mapping[str, str]]) -> bytes:
    """The RFC 8785 bytes of objects that hold nothing but strings under ASCII names, some ten times as fast as `canonical_json`.

    Where there are no numbers, and names sort alike in UTF-8 and in UTF-16, sorted JSON without blanks is canonical already.
    Anything else is given to `canonical_json`.

    Raises:
        ValueError: As `canonical_json`.
    """
    import orjson

    if all(type(key) is str and key.isascii() and type(value) is str for row in rows for key, value in row.items()):
        try:
            return orjson.dumps(list(rows), option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            raise ValueError(str(error)) from error
    return canonical_json([dict(row) for row in rows])


def digest_of_members(members: Mapping[str, bytes]) -> str:
    """SHA-256 of the canonical object whose members, under ASCII names, have these canonical bytes.

    Example:
        >>> digest_of_members({"b": b"1", "a": b"[]"}) == digest({"a": [], "b": 1})
        True
    """
    body = b",".join(b'"%b":%b' % (name.encode("ascii"), members[name]) for name in sorted(members))
    return hashlib.sha256(b"{%b}" % body).hexdigest()
