"""From Python regular expressions to plain ones that a linear one-pass engine understands, exact on ASCII texts.

Every single-character item becomes the explicit set of ASCII characters that it takes, so that case folding, `text.lower()` and
the categories (`\\w`, `\\s`) need no flags. What has no exact counterpart (look-around, back-references, multi-line anchors) raises
`Unknown`; the program then runs as Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_PARSER: Any = re._parser  # type: ignore[attr-defined]
_C: Any = re._constants  # type: ignore[attr-defined]

ALL = frozenset(range(128))
WORD = frozenset(c for c in ALL if chr(c).isalnum() or c == 95)
DIGIT = frozenset(range(48, 58))
SPACE = frozenset([*range(9, 14), *range(28, 33)])
SPACE_ASCII = frozenset([*range(9, 14), 32])
NEVER = "[\\x80-\\xff]"
_SPACES = "[\\x09-\\x0d\\x1c-\\x20]"


class Unknown(Exception):
    """The program does something with the text that is not modelled."""


def set_of(characters: Iterable[int]) -> str:
    """A character class in hexadecimal; `NEVER` for the empty one."""
    codes = sorted(characters)
    if not codes:
        return NEVER
    if len(codes) == 1:
        return f"\\x{codes[0]:02x}"
    ranges, start, last = [], codes[0], codes[0]
    for code in [*codes[1:], 1000]:
        if code != last + 1:
            ranges.append(f"\\x{start:02x}" if start == last else f"\\x{start:02x}-\\x{last:02x}")
            start = code
        last = code
    return f"[{''.join(ranges)}]"


class Form:
    """How the text was prepared before it is looked at: lower-cased, stripped."""

    def __init__(self, lower: bool = False, stripped: bool = False) -> None:
        self.lower = lower
        self.stripped = stripped

    def seen(self, wanted: Iterable[int]) -> frozenset[int]:
        """The characters of the raw text that are in the set after preparation."""
        wanted = frozenset(wanted)
        if not self.lower:
            return wanted & ALL
        return frozenset(c for c in ALL if ord(chr(c).lower()) in wanted)


def literal(text: str, form: Form) -> str:
    """A plain string, as a pattern.

    Raises:
        Unknown: It is empty, or begins or ends with a blank and the text is stripped.
    """
    if not text:
        raise Unknown("an empty string is in every text")
    if form.stripped and (text[0].isspace() or text[-1].isspace()):
        raise Unknown("blanks at the ends of a stripped text")
    return "".join(set_of(form.seen([ord(c)])) for c in text)


class Converted:
    """A converted regular expression.

    Attributes:
        pattern: For the one-pass engine.
        words: Whether every match is exactly one whole word, so that matches can be counted by their ends.
    """

    def __init__(self, pattern: str, words: bool) -> None:
        self.pattern = pattern
        self.words = words


def convert(pattern: str, flags: int, form: Form, *, how: str = "search") -> Converted:
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
    low, _ = tree.getwidth()
    if low == 0:
        raise Unknown("it matches the empty string")
    items = list(tree)
    if form.stripped and (_takes_space(items, flags, form, 0) or _takes_space(items, flags, form, -1)):
        raise Unknown("blanks at the ends of a stripped text")
    body = _sequence(items, flags, form)
    words = bool(
        len(items) >= 3
        and items[0] == (_C.AT, _C.AT_BOUNDARY)
        and items[-1] == (_C.AT, _C.AT_BOUNDARY)
        and _only_words(items[1:-1], flags, form)
    )
    head = f"\\A{_SPACES}{{0,}}" if form.stripped else "\\A"
    if how in ("match", "fullmatch"):
        body, words = f"{head}(?:{body})", False
    if how == "fullmatch":
        body = f"{body}{_SPACES}{{0,}}\\z" if form.stripped else f"{body}\\z"
    return Converted(body, words)


def token(word: str, inside: frozenset[int], form: Form) -> str:
    """A whole token, where tokens are runs of the characters `inside` (as the prepared text has them)."""
    if not word or any(ord(c) not in inside for c in word):
        return NEVER
    outside = set_of(ALL - form.seen(inside))
    plain = Form(form.lower)
    return f"(?:\\A|{outside}){literal(word, plain)}(?:{outside}|\\z)"


def token_set(pattern: str, flags: int) -> frozenset[int] | None:
    """The characters of a tokenising pattern such as `[a-z']+` or `\\b\\w+\\b`, or None if it is another kind."""
    try:
        tree = _PARSER.parse(pattern, flags)
    except (re.error, RecursionError, OverflowError):
        return None
    items = [item for item in tree if item[0] is not _C.AT]
    bounded = len(items) != len(tree)
    if len(items) != 1 or items[0][0] is not _C.MAX_REPEAT:
        return None
    low, high, inner = items[0][1]
    if low != 1 or high is not _C.MAXREPEAT or len(inner) != 1:
        return None
    try:
        found = _single(inner[0], tree.state.flags, Form())
    except Unknown:
        return None
    if found is None or (bounded and found != WORD):
        return None
    return found


# ----------------------------------------------------------------------------------------------------------------------------
def _sequence(items: Iterable[Any], flags: int, form: Form) -> str:
    return "".join(_item(item, flags, form) for item in items)


def _item(item: Any, flags: int, form: Form) -> str:
    kind, value = item
    single = _single(item, flags, form)
    if single is not None:
        return set_of(single)
    if kind is _C.BRANCH:
        return "(?:" + "|".join(_sequence(branch, flags, form) for branch in value[1]) + ")"
    if kind is _C.SUBPATTERN:
        _, add, remove, inner = value
        return "(?:" + _sequence(inner, (flags | add) & ~remove, form) + ")"
    if kind in (_C.MAX_REPEAT, _C.MIN_REPEAT):
        low, high, inner = value
        bounds = f"{{{low},}}" if high is _C.MAXREPEAT else f"{{{low},{high}}}"
        return f"(?:{_sequence(inner, flags, form)}){bounds}"
    if kind is _C.AT:
        return _anchor(value, form)
    raise Unknown(f"{kind} has no counterpart")


def _anchor(value: Any, form: Form) -> str:
    if value is _C.AT_BOUNDARY:
        return "\\b"
    if value is _C.AT_NON_BOUNDARY:
        return "\\B"
    if value in (_C.AT_BEGINNING, _C.AT_BEGINNING_STRING):
        return f"\\A{_SPACES}{{0,}}" if form.stripped else "\\A"
    if value is _C.AT_END:
        return f"{_SPACES}{{0,}}\\z" if form.stripped else "(?:\\x0a\\z|\\z)"
    if value is _C.AT_END_STRING:
        return f"{_SPACES}{{0,}}\\z" if form.stripped else "\\z"
    raise Unknown("an anchor without a counterpart")


def _single(item: Any, flags: int, form: Form) -> frozenset[int] | None:
    """The characters an item takes if it always takes exactly one, else None."""
    kind, value = item
    if kind is _C.LITERAL:
        return form.seen(_folded({value}, flags))
    if kind is _C.NOT_LITERAL:
        return form.seen(ALL - _folded({value}, flags))
    if kind is _C.ANY:
        return form.seen(ALL if flags & re.DOTALL else ALL - {10})
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
    return form.seen(ALL - wanted if negate else wanted)


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


def _only_words(items: Iterable[Any], flags: int, form: Form) -> bool:
    """Whether everything that the items take are word characters."""
    for item in items:
        kind, value = item
        single = _single(item, flags, form)
        if single is not None:
            if not single <= WORD:
                return False
        elif kind is _C.BRANCH:
            if not all(_only_words(branch, flags, form) for branch in value[1]):
                return False
        elif kind is _C.SUBPATTERN:
            if not _only_words(value[3], (flags | value[1]) & ~value[2], form):
                return False
        elif kind in (_C.MAX_REPEAT, _C.MIN_REPEAT):
            if not _only_words(value[2], flags, form):
                return False
        else:
            return False
    return True


def _takes_space(items: list[Any], flags: int, form: Form, end: int) -> bool:
    """Whether the first (0) or last (-1) character that the items take may be a blank; true when in doubt."""
    for item in items if end == 0 else reversed(items):
        kind, value = item
        single = _single(item, flags, form)
        if single is not None:
            return bool(single & SPACE)
        if kind is _C.AT:
            continue
        if kind is _C.BRANCH:
            return any(_takes_space(list(branch), flags, form, end) for branch in value[1])
        if kind is _C.SUBPATTERN:
            return _takes_space(list(value[3]), (flags | value[1]) & ~value[2], form, end)
        if kind in (_C.MAX_REPEAT, _C.MIN_REPEAT):
            if _takes_space(list(value[2]), flags, form, end):
                return True
            if value[0] == 0:
                continue
            return False
        return True
    return True
