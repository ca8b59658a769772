"""Names: how labels are compared, how texts are compared, and what may be called so that it can be a path."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from factory.errors import InputError

_PLAIN = re.compile(r"[^\W_][\w.-]{0,63}")
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))})
"""What Windows takes for a device, whatever the ending."""

_BREAKS = re.compile(r"[ \t\r\n\v\f]+")


def nfc(text: str) -> str:
    """A text in Unicode's composed form, in which accents typed in one key or in two are equal.

    Example:
        >>> nfc("re\\u0301clamation") == "r\\u00e9clamation"
        True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """What two texts are compared by where case, blanks and the form of accents do not count.

    Example:
        >>> folded("Where is\\n my PARCEL ") == folded("where is my parcel")
        True
    """
    return " ".join(nfc(nfc(text).casefold()).split())


def words(text: str) -> list[str]:
    """The words of a text, case folded, without punctuation."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def normalise(text: str) -> str:
    """What near-duplicates are compared by: NFKC, case folded, words and digits alone, single blanks.

    Example:
        >>> normalise("Hello,  WORLD!")
        'hello world'
    """
    return " ".join(words(text))


class LabelNames:
    """Finds the label that a cell, a person or a model names.

    A name that is equal in Unicode's composed form comes first. Else case counts, but runs of blanks and line ends are one blank,
    a number is its value (`1.0` is `1`) and `True` is `true`, as long as that is one label's name alone.

    Example:
        >>> find = LabelNames(["1", "late delivery"])
        >>> find("1.0"), find("late\\ndelivery"), find("Late delivery")
        ('1', 'late delivery', None)
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._loose: dict[str, str | None] = {}
        for name in names:
            self._exact[nfc(name)] = name
            loose = loose_label(name)
            self._loose[loose] = None if loose in self._loose else name

    def __call__(self, said: str) -> str | None:
        """The label of that name as it was given; None if there is none."""
        found = self._exact.get(nfc(said))
        return found if found is not None else self._loose.get(loose_label(said))


def loose_label(said: str) -> str:
    """A label's name with blanks squeezed, whole numbers without decimals, and booleans in small letters."""
    text = _BREAKS.sub(" ", nfc(said)).strip()
    if re.fullmatch(r"[+-]?\d+\.0*", text):
        return text.partition(".")[0]
    return text.lower() if text.lower() in ("true", "false") else text


def plain_name(value: Any, what: str, *, where: str | None = None) -> str:
    """A name that may become a file's or folder's: letters, digits, `-`, `_` and `.`, and no more than 64 of them.

    Args:
        value: As it was given.
        what: Whose name it is, for the message: "the pipeline's name".
        where: Where it stands.

    Raises:
        InputError: It is something else, or could lead out of its folder.
    """
    if not isinstance(value, str):
        raise InputError(f"{what} is {yaml_words(value)}", where=where, fix="Put it in quotes")
    name = nfc(value)
    if not _PLAIN.fullmatch(name) or name.endswith(".") or name.partition(".")[0].lower() in _DEVICES:
        fix = "Use up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first"
        raise InputError(f"{what} cannot be {value[:80]!r}", where=where, fix=fix)
    return name


def yaml_words(value: Any) -> str:
    """What YAML took a value without quotes for, in words."""
    if value is None or isinstance(value, bool):
        words = {None: "nothing", True: "true", False: "false"}[value]
    else:
        words = f"the number {value}" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
    return f"read by YAML as {words}, not as text"
