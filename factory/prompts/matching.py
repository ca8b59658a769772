"""Which label a piece of an answer means: exactly, or apart from case, form of accents, quotation marks, separators and numbers.

Names are compared at several levels, from the strictest to the loosest, labels and answers alike. The first level at which the
answer equals a label decides; where it equals two, neither is meant.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from factory.prompts.answer import INVISIBLE
from factory.prompts.parse import unquoted

_UNSEEN = str.maketrans("", "", f"{INVISIBLE}\ufe0e\ufe0f")
_BRACKETS = {"[": "]", "(": ")", "<": ">", "{": "}", "|": "|"}
_GAP = r"[\s_\-\u2010-\u2015]+"
_BETWEEN = re.compile(rf"(?<=\S){_GAP}(?=\S)|(?<=[^\W\d_A-Z])(?=[A-Z])")
_NUMBER = re.compile(r"\(?(\d{1,3}|[a-z])[.):]\)?\s+(?=\S)")
_LONGEST_NAME = 400
"""Characters beyond which a piece of an answer is no label; a card's names have at most half as many."""


class LabelNames:
    """The names that an answer may give.

    Example:
        >>> names = LabelNames(("order status", "C", "C++"))
        >>> names.find("**Order_Status**."), names.find("C++"), names.find("c"), names.find("2. C")
        ('order status', 'C++', 'C', 'C')
        >>> names.find("statuses") is None
        True
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Index the names; without any, nothing is a label."""
        self.names = tuple(names)
        self._levels: list[tuple[Callable[[str], str], dict[str, str | None]]] = []
        for key in (str, _seen, _peeled, plain, _bare, _loose):
            table: dict[str, str | None] = {}
            for name in self.names:
                if spelled := key(name):
                    table[spelled] = None if spelled in table else name
            self._levels.append((key, table))
        self._by_words: dict[str, list[str]] = {}
        for name in self.names:
            self._by_words.setdefault(_spaced(plain(name)), []).append(name)
        # The longest first, so that of "support" and "supporting act" the whole one is found.
        spellings = sorted(filter(None, self._by_words), key=len, reverse=True)
        words = [_GAP.join(map(re.escape, spelling.split(" "))) for spelling in spellings]
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)") if words else None

    def find(self, text: str) -> str | None:
        """The label that a piece of an answer is, or None if it is none or may be two."""
        if len(text) > _LONGEST_NAME:
            return None
        for key, table in self._levels:
            if (found := key(text)) in table:
                return table[found]
        return self._numbered(_bare(text))

    def mentions(self, text: str) -> set[str]:
        """All labels that occur in a text as whole words, the longest at each place, in any case or form."""
        found: set[str] = set()
        for match in self._words.finditer(plain(text)) if self._words is not None else ():
            found.update(self._by_words[_spaced(match[0])])
        twins = {name for names in self._by_words.values() if len(names) > 1 for name in names}
        exact = {name for name in found & twins if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}
        return (found - twins) | (exact or found & twins)

    def known(self, text: str) -> bool:
        """Whether a text is one of the names, apart from case."""
        return plain(text) in {plain(name) for name in self.names}

    def leading(self, text: str) -> tuple[str, str] | None:
        """The longest name that a text (as `plain` gives it) begins with, as a whole word, and the rest of the text."""
        match = None if self._words is None else self._words.match(text)
        if match is None or len(names := self._by_words[_spaced(match[0])]) > 1:
            return None
        return names[0], text[match.end() :]

    def split(self, line: str) -> list[str]:
        """The items of a line, cut at commas, semicolons, slashes, bars and `and`, except inside a label that holds one."""
        line = plain(line)
        kept: list[str] = []

        def keep(match: re.Match[str]) -> str:
            if not _SEPARATOR.search(match[0]):
                return match[0]
            kept.append(match[0])
            return f"\0{len(kept) - 1}\0"

        if self._words is not None:
            line = self._words.sub(keep, line)
        parts = [re.sub(r"^(?:and|&)\s+", "", part.strip()) for part in _SEPARATOR.split(line)]
        return [re.sub(r"\0(\d+)\0", lambda match: kept[int(match[1])], part) for part in parts if part]

    def _numbered(self, bare: str) -> str | None:
        """The label after the number of a list; None if that number is the name of a label, or begins one."""
        number = _NUMBER.match(bare)
        if number is None or any(re.match(rf"\W*{re.escape(number[1])}(?!\w)", plain(name)) for name in self.names):
            return None
        return self.find(bare[number.end() :])


_SEPARATOR = re.compile(r"[,;/|&+]|\s(?:and|und|et|y)\s")


@lru_cache(maxsize=256)
def label_names(names: tuple[str, ...]) -> LabelNames:
    """`LabelNames`, built once for the labels of a task."""
    return LabelNames(names)


def plain(text: str) -> str:
    """Case folded and composed, with single blanks and without what cannot be seen."""
    return unicodedata.normalize("NFC", _seen(text).casefold())


def _seen(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text.translate(_UNSEEN)).split())


def _spaced(text: str) -> str:
    return re.sub(_GAP, " ", text).strip()


def _bare(text: str) -> str:
    return plain(_peeled(text))


def _peeled(text: str) -> str:
    """A name without quotation marks, emphasis, brackets and a full stop around it."""
    text = _seen(text)
    for _ in range(6):
        before = text
        text = unquoted(text.rstrip(".!, "))
        if len(text) > 2 and _BRACKETS.get(text[0]) == text[-1] and _balanced(text[1:-1], text[0], text[-1]):
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def _balanced(text: str, opens: str, closes: str) -> bool:
    depth = 0
    for mark in text:
        depth += (mark == opens) - (mark == closes)
        if depth < 0 or (opens == closes and depth):
            return False
    return depth == 0


def _loose(text: str) -> str:
    """`_bare`, with a blank for what separates words (`_`, `-`, the joint of `camelCase`); entities and wide letters are read."""
    return plain(_BETWEEN.sub(" ", _peeled(unicodedata.normalize("NFKC", html.unescape(text)))))
