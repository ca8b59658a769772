"""Filters: each a pure function that says why a text is dropped, or None to keep it.

`ORDER` is the order in which they are asked; the first reason found is the one on record. Near-duplicates are in `near`, the
label check and the quota are decided by the loop.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any

from factory.names import normalise, words
from factory.prompts.matching import LabelNames, label_names
from factory.prompts.talk import refuses

ORDER = (
    "unreadable", "refusal", "boilerplate", "label_field", "placeholder", "noise", "too_short", "too_long", "language",
    "copy_of_passage", "duplicate", "duplicate_of_seed", "duplicate_of_held_out",
    "near_duplicate", "near_seed", "near_held_out", "label_check", "surplus", "cartography",
)  # fmt: skip
"""Every reason this stage gives, in the order in which the filters are asked."""

Verdict = tuple[str, str] | None
"""`(drop_reason, detail)`, or None to keep."""

_LONGEST_REFUSAL = 300
_BOILERPLATE = re.compile(
    r"(?:(?:sure|certainly|of course|absolutely|okay|ok)\b[!,. ]{1,3})?here(?:['’]s| is| are)"
    r" (?:the|an?|some|one|two|three|four|five|\d+)(?: (?:new|more|rewritten|generated|possible|sample))*+"
    r" (?:texts?|examples?|rewrites?|rewritten|versions?)\b"
    r"|(?:the )?(?:rewritten|generated|synthetic|new) (?:text|message|comment|review|question|example|version|sentence) ?:"
    r"|(?:text|example) \d+ ?:"
    r"|(?:voici|hier (?:ist|sind)|aqu[ií]|ecco)\b[^\n:]{0,60}\b(?:texte?|message|exemple|nachricht|beispiel|texto|mensaje"
    r"|mensagem|ejemplo|exemplo|testo|messaggio|esempio)s?\b[^\n:]{0,60}:[ \t]*+\n",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(
    r"\bthis (?:text|example) (?:is|clearly|has been) (?:classified|labell?ed|about the label)\b", re.IGNORECASE
)
_FIELD_NAME = r"(?:label|category|class|classification|topic|sentiment|intent)"
_FIELD = re.compile(
    rf"^[ \t*_#>-]{{0,8}}{_FIELD_NAME}[ \t*_]{{0,4}}(?:[:=]|[ \t][-–—](?=[ \t]))[ \t*_\"'“]{{0,4}}([^\n]{{1,200}})$",
    re.IGNORECASE | re.MULTILINE,
)
_BRACKETED = rf"[\[(](?:{_FIELD_NAME}[ \t]?[:=-][ \t]?)?([^\[\]()\n]{{1,200}})[\])]"
_AROUND = (
    re.compile(rf"[ \t*_\"'“]{{0,4}}{_BRACKETED}", re.IGNORECASE),
    re.compile(r"[ \t*_\"'“]{0,4}([^\n:]{1,200}):(?=[\s*_])"),
)
_BEHIND = re.compile(rf"{_BRACKETED}[\s*_.\"'”]{{0,4}}\Z", re.IGNORECASE)
_THING = "(?:Name|Date|City|Company|Product|Team|Player|Person|Number|Country|Place|Topic|Address|Amount)"
_PLACEHOLDER = re.compile(
    rf"\[(?i:(?:insert|your)(?: [a-z]{{1,20}}){{0,2}} {_THING}\b)[^\]\n]{{0,30}}\]|\[(?:[A-Z][a-z]{{1,15}} ){{0,2}}{_THING}\]"
    rf"|\{{\{{?(?i:(?:(?:insert|your)[ _])?(?:[a-z]{{1,20}}_)?{_THING})\}}|(?i:</?(?:text|passage|label)>|\blorem ipsum\b)"
)


@dataclass(frozen=True)
class Bounds:
    """Lengths that are kept, in characters, both inclusive."""

    low: int
    high: int


def refusal(text: str) -> Verdict:
    """A text that is, as a whole, a model's stock phrase for what it cannot or will not write.

    A model that must answer in tags or in JSON has no other place for it. Customers who are "unable to log in" are left alone.

    Example:
        >>> refusal("I'm sorry, but I can't help with that.")
        ('refusal', "I'm sorry, but I can't help with that.")
        >>> refusal("I'm unable to log in, and I won't be renewing.") is None
        True
    """
    return ("refusal", text[:60]) if len(text) <= _LONGEST_REFUSAL and refuses(text) else None


def boilerplate(text: str) -> Verdict:
    """A model's introduction or explanation of a text instead of a text of the corpus."""
    found = _BOILERPLATE.match(text.strip()) or _EXPLAINED.search(text)
    return None if found is None else ("boilerplate", found[0][:60])


def label_field(text: str, labels: Sequence[str]) -> Verdict:
    """A label as a field (`Label: X`), before the text (`[X]`, `(X)`, `X:`) or behind it (`[X]`, `(X)`, `#X`).

    Its name would teach the class by itself.

    Example:
        >>> label_field("My parcel never came.\\nLabel: **delivery**", ["delivery", "praise"])
        ('label_field', 'Label: **delivery**')
    """
    names = label_names(tuple(labels))
    marks = [
        *_FIELD.finditer(text),
        *(found for mark in _AROUND if (found := mark.match(text))),
        *_BEHIND.finditer(text),
    ]
    found = next((match for match in marks if _names_label(names, match[1])), None)
    if found is not None:
        return ("label_field", found[0].strip()[:60])
    tags = takewhile(lambda word: word.startswith("#"), reversed(text.split()))
    tag = next((tag for tag in tags if _names_label(names, tag.strip("#.,!*_"))), None)
    return None if tag is None else ("label_field", tag[:60])


def _names_label(names: LabelNames, said: str) -> bool:
    """Whether a piece of a text is a label's name; a number or a single letter in brackets means something else."""
    return sum(map(str.isalpha, said)) > 1 and names.find(said.strip("*_ \t")) is not None


def placeholder(text: str) -> Verdict:
    """A blank left to be filled in, or a tag of the prompt."""
    found = _PLACEHOLDER.search(text)
    return None if found is None else ("placeholder", found[0][:60])


def noise(text: str, words: Sequence[str]) -> Verdict:
    """A word or a phrase of the task's own noise list (Self-Guide), wherever it stands."""
    found = next((word for word in words if word and word.casefold() in text.casefold()), None)
    return None if found is None else ("noise", found)


def length_bounds(texts: Sequence[str], *, slack: float = 0.5) -> Bounds | None:
    """The lengths to keep, from real texts: mean plus and minus two standard deviations, as Self-Guide has it; None without any.

    With a handful of seeds that interval is far too narrow or reaches below zero, so it is widened to `(1 - slack)` times the
    shortest and `(1 + slack)` times the longest real text.
    """
    if not texts:
        return None
    lengths = [len(text) for text in texts]
    mean = sum(lengths) / len(lengths)
    spread = (sum((n - mean) ** 2 for n in lengths) / len(lengths)) ** 0.5
    low = min(mean - 2 * spread, min(lengths) * (1 - slack))
    high = max(mean + 2 * spread, max(lengths) * (1 + slack))
    return Bounds(max(1, int(low)), max(1, int(high + 0.999)))


def length(text: str, bounds: Bounds | None) -> Verdict:
    """A text shorter or longer than the bounds."""
    if bounds is None or bounds.low <= len(text) <= bounds.high:
        return None
    short = len(text) < bounds.low
    return ("too_short" if short else "too_long", f"{len(text)} characters, {bounds.low} to {bounds.high} are kept")


def language(text: str, expected: str | None, *, at_least: int = 40) -> Verdict:
    """A text that is surely of another language.

    Only texts of `at_least` characters are judged, and only where the detector is at least .9 sure: it errs on short ones.
    """
    if expected is None or len(text) < at_least:
        return None
    found = detect_language(text)
    if found is None or found[0] == expected or found[1] < 0.9:
        return None
    return ("language", f"{found[0]} at {found[1]:.2f}, {expected} is expected")


def detect_language(text: str) -> tuple[str, float] | None:
    """The likeliest language of a text and its probability, or None where nothing can be said (`langdetect`, seeded)."""
    from langdetect.lang_detect_exception import LangDetectException

    detector = _language_profiles().create()
    detector.seed = 0
    detector.append(text)
    try:
        best = detector.get_probabilities()
    except LangDetectException:
        return None
    return (best[0].lang, float(best[0].prob)) if best else None


def expected_language(texts: Sequence[str]) -> str | None:
    """The language that at least two thirds of some real texts are in, or None."""
    found = Counter(hit[0] for text in texts if len(text) >= 20 and (hit := detect_language(text)) is not None)
    best, count = max(found.items(), key=lambda item: item[1], default=("", 0))
    return best if found.total() >= 3 and count * 3 >= found.total() * 2 else None


def copy_of_passage(text: str, passage: str | None, *, share: float = 0.7, n: int = 4) -> Verdict:
    """A text most of whose word n-grams stand in its source passage.

    Args:
        text: The new text.
        passage: What it was written from, or None.
        share: The share of the text's n-grams found in the passage from which it counts as a copy.
        n: Words per n-gram; a text of fewer words counts as a copy if the passage holds it whole.
    """
    if passage is None:
        return None
    own, source = words(text), words(passage)
    if len(own) < n:
        return ("copy_of_passage", "stands in it") if own and f" {' '.join(own)} " in f" {' '.join(source)} " else None
    grams = [tuple(own[at : at + n]) for at in range(len(own) - n + 1)]
    there = {tuple(source[at : at + n]) for at in range(len(source) - n + 1)}
    copied = sum(gram in there for gram in grams) / len(grams)
    return ("copy_of_passage", f"{copied:.2f} of its word {n}-grams") if copied >= share else None


def text_filters(
    *,
    labels: Sequence[str] = (),
    noise_words: Sequence[str] = (),
    bounds: Bounds | None = None,
    expected: str | None = None,
    copy_share: float = 0.7,
) -> Callable[[str, str | None], Verdict]:
    """The filters that look at one text and its passage alone, in their order, as one function `(text, passage) -> verdict`."""

    def check(text: str, passage: str | None) -> Verdict:
        if not normalise(text):
            return ("unreadable", "no word in it")
        return (
            refusal(text)
            or boilerplate(text)
            or label_field(text, labels)
            or placeholder(text)
            or noise(text, noise_words)
            or length(text, bounds)
            or language(text, expected)
            or copy_of_passage(text, passage, share=copy_share)
        )

    return check


def count_reasons(reasons: Sequence[str | None]) -> Mapping[str, int]:
    """How often each reason was given, in the order of `ORDER`; None is not counted."""
    counts = Counter(reason for reason in reasons if reason)
    return {name: counts[name] for name in [*ORDER, *sorted(set(counts) - set(ORDER))] if name in counts}


@lru_cache(maxsize=1)
def _language_profiles() -> Any:
    from langdetect import detector_factory

    detector_factory.init_factory()
    return detector_factory._factory
