"""What a list of rules means, in the plainest Python; patterns alone are RE2's."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import Any


def plain(text: str) -> str:
    text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " " + " ".join(text.split()) + " "


def in_word(c: str) -> bool:
    return c.isalnum() or c == "_" or unicodedata.category(c) in ("Mn", "Mc", "Me")


def found(cue: Any, text: str) -> bool:
    kind, value = ("word", cue) if isinstance(cue, str) else (cue["kind"], cue["value"])
    if kind == "regex":
        import re2

        options = re2.Options()
        options.case_sensitive = False
        return re2.search(value, plain_surrogates(text), options) is not None
    whole, core = plain(text), plain(value).strip()
    left, right = " " * value[0].isspace(), " " * value[-1].isspace()
    if kind == "contains":
        return left + core + right in whole
    if kind == "starts_with":
        return whole.startswith(" " + core + right)
    places = [i for i in range(len(whole)) if whole.startswith(core, i)]
    before, after = in_word(core[0]), in_word(core[-1])
    return any(not (before and in_word(whole[i - 1])) and not (after and in_word(whole[i + len(core)])) for i in places)


def plain_surrogates(text: str) -> str:
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def vote(rules: Sequence[dict[str, Any]], text: str) -> str | None:
    sums: dict[str, Fraction] = {}
    for rule in rules:
        beside, unless = rule.get("with", []), rule.get("unless", [])
        helped = not beside or any(found(c, text) for c in beside)
        if found(rule, text) and helped and not any(found(c, text) for c in unless):
            sums[rule["label"]] = sums.get(rule["label"], Fraction(0)) + Fraction(str(rule.get("weight", 1)))
    best = [label for label, total in sums.items() if total == max(sums.values())]
    return best[0] if len(best) == 1 else None
