"""How texts and values are brought to one form, and where a word ends.

A folded text is in Unicode's composed form (NFC), caseless (`str.casefold`, so that "Straße" equals "STRASSE"), with one blank
for every run of white space (no-break spaces and line ends included), and one blank before and after all of it. A lone surrogate
counts as U+FFFD.

A word character is a letter, a digit or a number of any script (`str.isalnum`), the underscore, or a combining mark (categories
Mn, Mc, Me). A value occurs as a word where no word character stands directly before its first or directly after its last
character, as far as these are word characters themselves: "win" is not a word of "window", and "c++" is one of "c++11". So in a
script without blanks between words hardly anything is a word: `contains` is for those.
"""

from __future__ import annotations

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")


def whole(text: str) -> str:
    """The text with U+FFFD for every lone surrogate, so that it can be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def composed(text: str) -> str:
    """The text in Unicode's composed form."""
    return unicodedata.normalize("NFC", text)


def fold(text: str) -> str:
    """The folded text.

    Example:
        >>> fold("Straße\\n  WIN")
        ' strasse win '
    """
    if text.isascii():
        return f" {' '.join(text.lower().split())} "
    caseless = composed(composed(whole(text)).casefold())
    return f" {' '.join(caseless.split())} "


def is_word_character(character: str) -> bool:
    """Whether it belongs to a word."""
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"


def occurs_as_word(value: str, text: str) -> bool:
    """Whether a folded value, without blanks at its ends, occurs as a word or phrase in a folded text."""
    opens, closes = is_word_character(value[0]), is_word_character(value[-1])
    at = text.find(value)
    while at >= 0:
        after = text[at + len(value)]
        if not (opens and is_word_character(text[at - 1])) and not (closes and is_word_character(after)):
            return True
        at = text.find(value, at + 1)
    return False
