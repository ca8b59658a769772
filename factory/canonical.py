"""Canonical JSON (RFC 8785) and the SHA-256 digests made from it: the identity of cards, configurations and requests."""

from __future__ import annotations

import hashlib
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
