"""From Python regular expressions to plain ones that a linear one-pass engine understands, exact on ASCII texts.

Every single-character item becomes the explicit set of ASCII characters that it takes, so that case folding and the categories
(`\\w`, `\\s`) need no flags. What has no exact counterpart (look-around, back-references, multi-line anchors) raises
`Unknown`; the program then runs as Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_PARSER: Any = re._parser  # type: ignore[attr-defined]
_C: Any = re._constants  # type: ignore[attr-defined]

ALL = frozenset(range(128))
WORD = frozenset(c for c in ALL if chr(c).isalnum() or c == 95)
DIGIT = frozenset(range(48, 58))
SPACE = frozenset([*range(9, 14), *range(28, 33)])
SPACE_ASCII = frozenset([*range(9, 14), 32])
MAX_WIDTH = 200
NEVER = "[\\x80-\\xff]"


STAND_INS = {95: "a letter", 127: "a sign", 31: "a blank"}
"""ASCII characters that stand for all letters, signs and blanks beyond ASCII; see `factory.programs.scanning.in_ascii`."""


class Unknown(Exception):
    """The program does something with the text that is not modelled."""


def set_of(characters: Iterable[int]) -> str:
    """A character class, everything but letters and digits in hexadecimal; `NEVER` for the empty one."""
    codes = sorted(characters)
    if not codes:
        return NEVER
    if len(codes) == 1:
        return _sign(codes[0])
    ranges, start, last = [], codes[0], codes[0]
    for code in [*codes[1:], 1000]:
        if code != last + 1:
            ranges.append(_sign(start) if start == last else f"{_sign(start)}-{_sign(last)}")
            start = code
        last = code
    return f"[{''.join(ranges)}]"


def _sign(code: int) -> str:
    return chr(code) if code < 128 and chr(code).isalnum() else f"\\x{code:02x}"


def plain_word(word: str) -> bool:
    """Whether a string holds neither characters beyond ASCII nor their stand-ins."""
    return word.isascii() and not any(ord(c) in STAND_INS for c in word)


def plain_pattern(pattern: str, flags: int) -> bool:
    """Whether a regular expression takes every character beyond ASCII exactly where it takes its stand-in."""
    try:
        return is_plain(_PARSER.parse(pattern, flags))
    except (re.error, RecursionError, OverflowError):
        return False


def is_plain(tree: Any) -> bool:
    """The same for a parsed one."""
    return not tree.state.flags & re.ASCII and _plain_items(tree, tree.state.flags)


def _plain_items(items: Iterable[Any], flags: int) -> bool:
    for kind, value in items:
        if kind in (_C.LITERAL, _C.NOT_LITERAL):
            if value > 127 or value in STAND_INS:
                return False
        elif kind is _C.IN:
            if not all(_plain_part(part, what) for part, what in value):
                return False
        elif kind is _C.BRANCH:
            if not all(_plain_items(branch, flags) for branch in value[1]):
                return False
        elif kind is _C.SUBPATTERN:
            if value[1] & re.ASCII or not _plain_items(value[3], flags):
                return False
        elif kind in (_C.MAX_REPEAT, _C.MIN_REPEAT, _C.POSSESSIVE_REPEAT):
            if not _plain_items(value[2], flags):
                return False
        elif kind in (_C.ASSERT, _C.ASSERT_NOT):
            if not _plain_items(value[1], flags):
                return False
        elif kind not in (_C.ANY, _C.AT):
            return False
    return True


def _plain_part(part: Any, what: Any) -> bool:
    if part is _C.LITERAL:
        return what <= 127 and what not in STAND_INS
    if part is _C.RANGE:
        return what[1] <= 127 and not any(what[0] <= code <= what[1] for code in STAND_INS)
    return part is _C.NEGATE or part is _C.CATEGORY


@lru_cache(maxsize=50_000)
def literal(text: str) -> str:
    """A plain string, as a pattern.

    Raises:
        Unknown: It is empty.
    """
    if not text:
        raise Unknown("an empty string is in every text")
    return "".join(set_of({ord(c)} & ALL) for c in text)


class Converted:
    """A converted regular expression.

    Attributes:
        pattern: For the one-pass engine.
        words: Whether every match is exactly one whole word, so that matches can be counted by their ends.
        loose: Whether the pattern finds more than the original (look-around left out): a hit then tells nothing.
        width: Most characters of a match; 0 where there is no small bound.
        plain: Whether it takes every character beyond ASCII exactly where it takes its stand-in.
    """

    def __init__(self, pattern: str, words: bool, loose: bool, width: int, plain: bool) -> None:
        self.pattern = pattern
        self.words = words
        self.loose = loose
        self.width = width
        self.plain = plain


def convert(pattern: str, flags: int, *, how: str = "search") -> Converted:
    """A regular expression as `search`, `match` or `fullmatch` uses it.

    Raises:
        Unknown: It has no exact counterpart.
    """
    try:
        tree = _PARSER.parse(pattern, flags)
    except (re.error, RecursionError, OverflowError):
        raise Unknown("no regular expression") from None
    flags = tree.state.flags
    if flags & (re.LOCALE | re.MULTILINE):
        raise Unknown("multi-line anchors")
    low, high = tree.getwidth()
    if low == 0:
        raise Unknown("it matches the empty string")
    items = list(tree)
    loose = _looks_around(items)
    body = _sequence(items, flags)
    words = bool(
        len(items) >= 3
        and items[0] == (_C.AT, _C.AT_BOUNDARY)
        and items[-1] == (_C.AT, _C.AT_BOUNDARY)
        and _only_words(items[1:-1], flags)
    )
    if how in ("match", "fullmatch"):
        body, words = f"\\A(?:{body})", False
    if how == "fullmatch":
        body = f"{body}\\z"
    return Converted(body, words and not loose, loose, high if high <= MAX_WIDTH else 0, is_plain(tree))


def token_characters(pattern: str, flags: int) -> frozenset[int] | None:
    """The ASCII characters that the matches of a tokenising pattern consist of, or None if it is another kind of pattern.

    A tokenising pattern takes no blanks, looks at nothing beyond its match but word boundaries, has no capturing group and
    takes at least one character. So what it finds in a text is what it finds in each run of these and of word characters.
    """
    try:
        tree = _PARSER.parse(pattern, flags)
        if tree.getwidth()[0] == 0 or tree.state.groups > 1:
            return None
        found = _taken(tree, tree.state.flags)
    except (re.error, RecursionError, OverflowError, Unknown):
        return None
    return found if not found & SPACE else None


def _taken(items: Iterable[Any], flags: int) -> frozenset[int]:
    taken: frozenset[int] = frozenset()
    for item in items:
        kind, value = item
        single = _single(item, flags)
        if single is not None:
            taken |= single
        elif kind is _C.BRANCH:
            for branch in value[1]:
                taken |= _taken(branch, flags)
        elif kind is _C.SUBPATTERN:
            taken |= _taken(value[3], (flags | value[1]) & ~value[2])
        elif kind in (_C.MAX_REPEAT, _C.MIN_REPEAT):
            taken |= _taken(value[2], flags)
        elif kind is not _C.AT or value is not _C.AT_BOUNDARY:
            raise Unknown("it looks beyond its match")
    return taken


# ----------------------------------------------------------------------------------------------------------------------------
def _sequence(items: Iterable[Any], flags: int) -> str:
    return "".join(_item(item, flags) for item in items)


def _item(item: Any, flags: int) -> str:
    kind, value = item
    single = _single(item, flags)
    if single is not None:
        return set_of(single)
    if kind is _C.BRANCH:
        return "(?:" + "|".join(_sequence(branch, flags) for branch in value[1]) + ")"
    if kind is _C.SUBPATTERN:
        _, add, remove, inner = value
        return "(?:" + _sequence(inner, (flags | add) & ~remove) + ")"
    if kind in (_C.MAX_REPEAT, _C.MIN_REPEAT):
        low, high, inner = value
        bounds = f"{{{low},}}" if high is _C.MAXREPEAT else f"{{{low},{high}}}"
        return f"(?:{_sequence(inner, flags)}){bounds}"
    if kind is _C.AT:
        return _anchor(value)
    if kind in (_C.ASSERT, _C.ASSERT_NOT):
        return ""
    raise Unknown(f"{kind} has no counterpart")


def _looks_around(items: Iterable[Any]) -> bool:
    for kind, value in items:
        if kind in (_C.ASSERT, _C.ASSERT_NOT):
            return True
        inner: list[Any] = []
        if kind is _C.BRANCH:
            inner = [item for branch in value[1] for item in branch]
        elif kind is _C.SUBPATTERN:
            inner = list(value[3])
        elif kind in (_C.MAX_REPEAT, _C.MIN_REPEAT):
            inner = list(value[2])
        if inner and _looks_around(inner):
            return True
    return False


def _anchor(value: Any) -> str:
    if value is _C.AT_BOUNDARY:
        return "\\b"
    if value is _C.AT_NON_BOUNDARY:
        return "\\B"
    if value in (_C.AT_BEGINNING, _C.AT_BEGINNING_STRING):
        return "\\A"
    if value is _C.AT_END:
        return "(?:\\x0a\\z|\\z)"
    if value is _C.AT_END_STRING:
        return "\\z"
    raise Unknown("an anchor without a counterpart")


def _single(item: Any, flags: int) -> frozenset[int] | None:
    """The characters an item takes if it always takes exactly one, else None."""
    kind, value = item
    if kind is _C.LITERAL:
        return frozenset(_folded({value}, flags)) & ALL
    if kind is _C.NOT_LITERAL:
        return ALL - _folded({value}, flags)
    if kind is _C.ANY:
        return ALL if flags & re.DOTALL else ALL - {10}
    if kind is not _C.IN:
        return None
    wanted: set[int] = set()
    negate = False
    for part, what in value:
        if part is _C.NEGATE:
            negate = True
        elif part is _C.LITERAL:
            wanted |= _folded({what}, flags)
        elif part is _C.RANGE:
            if what[1] > 127 and flags & re.IGNORECASE:
                raise Unknown("a folded range beyond ASCII")
            wanted |= _folded(range(what[0], min(what[1], 127) + 1), flags)
        elif part is _C.CATEGORY:
            wanted |= _category(what, flags)
        else:
            raise Unknown("a class without a counterpart")
    return ALL - wanted if negate else frozenset(wanted) & ALL


def _folded(codes: Iterable[int], flags: int) -> set[int]:
    found = set(codes)
    if flags & re.IGNORECASE:
        if any(code > 127 for code in found):
            raise Unknown("a folded character beyond ASCII")
        found |= {ord(chr(code).swapcase()) for code in found if chr(code).isalpha()}
    return found


def _category(what: Any, flags: int) -> frozenset[int]:
    space = SPACE_ASCII if flags & re.ASCII else SPACE
    table = {
        _C.CATEGORY_WORD: WORD,
        _C.CATEGORY_NOT_WORD: ALL - WORD,
        _C.CATEGORY_DIGIT: DIGIT,
        _C.CATEGORY_NOT_DIGIT: ALL - DIGIT,
        _C.CATEGORY_SPACE: space,
        _C.CATEGORY_NOT_SPACE: ALL - space,
    }
    return table[what]


def _only_words(items: Iterable[Any], flags: int) -> bool:
    """Whether everything that the items take are word characters."""
    for item in items:
        kind, value = item
        single = _single(item, flags)
        if single is not None:
            if not single <= WORD:
                return False
        elif kind is _C.BRANCH:
            if not all(_only_words(branch, flags) for branch in value[1]):
                return False
        elif kind is _C.SUBPATTERN:
            if not _only_words(value[3], (flags | value[1]) & ~value[2]):
                return False
        elif kind in (_C.MAX_REPEAT, _C.MIN_REPEAT):
            if not _only_words(value[2], flags):
                return False
        else:
            return False
    return True
