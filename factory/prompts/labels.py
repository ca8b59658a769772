"""The parsers of label names. An answer counts only when it states its label; a label merely mentioned decides nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from factory.prompts.parse import ParseFailure, json_value, unfenced, unquoted, without_thoughts

_NOUN = r"(?:label|answer|category|class|classification|topic|type|sentiment|verdict|prediction|output|result|vote)s?"
_STATED = re.compile(
    rf"^(?:so\s*,?\s*|therefore\s*,?\s*|thus\s*,?\s*)?(?:my\s+|the\s+)?"
    rf"(?:(?:correct|best|right|final|most\s+likely|most\s+fitting|appropriate|predicted|best\s+fitting)\s+)*"
    rf"{_NOUN}\s*(?:for\s+(?:this|the)\s+\w+\s*)?(?:is\s*:|would\s+be|is|are|:|=|->|→|-)\s*(?P<rest>.+)$",
    re.IGNORECASE,
)
_JUDGED = re.compile(
    r"^(?:this|the|it)\b[^.\n]{0,40}?\b(?:is|should\s+be|would\s+be|can\s+be)\s+(?:best\s+)?"
    r"(?:labell?ed|classified|categori[sz]ed)\s+as\s+(?P<rest>.+)$"
    r"|^i\s+(?:would\s+|'d\s+)?(?:label|classify|categori[sz]e)\s+(?:this|it|the)\b[^.\n]{0,40}?\bas\s+(?P<rest2>.+)$",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|without|except|unlike|rather|instead|unless|unlikely|no longer)\b|n['’]t\b",
    re.IGNORECASE,
)
_RETRACTION = re.compile(
    r"\b(?:actually|wait|correction|scratch that|on second thoughts?|on reflection|i take (?:it|that) back|no,)",
    re.IGNORECASE,
)


def parse_label(text: str, labels: Sequence[str], *, abstain: str | None = None) -> str | None:
    """Form `label`: the one label that the answer states, or None where it abstains.

    Accepted are the bare name (in any case, quoted, fenced, emphasised, with a full stop), `Label: X`, `The label is X`,
    `{"label": "X"}`, each with or without talk around it, as long as the answer mentions no other label and the statement
    is not negated.

    Raises:
        ParseFailure: `no_label`, or `ambiguous` when it mentions two.

    Example:
        >>> parse_label("The label is **spam**.", ["spam", "ham"])
        'spam'
    """
    text = without_thoughts(text)
    names = [*labels, abstain] if abstain is not None and not _known(abstain, labels) else list(labels)
    stated = {name for line in _lines(text) if (name := _stated(line, names)) is not None}
    mentioned = _mentions(text, names)
    if len(stated) > 1 or (stated and (mentioned - stated or _retracted(text, names))):
        raise ParseFailure("ambiguous", "The answer names more than one label, or takes it back.")
    if not stated:
        if len(mentioned) > 1:
            raise ParseFailure("ambiguous", "The answer names more than one label.")
        raise ParseFailure("no_label", "The answer does not state a label from the list.")
    name = stated.pop()
    return None if name not in labels else name


def parse_labels(text: str, labels: Sequence[str]) -> list[str]:
    """Form `labels`: the names that the answer lists, in the order of `labels`; `none` is the empty list.

    Every item must be a label: an answer with an item that is none is refused as a whole.

    Raises:
        ParseFailure: `unknown_label`, `no_label`, or `truncated` (a list that stops in the middle).
    """
    text = unfenced(without_thoughts(text))
    if text.startswith(("{", "[")):
        value = json_value(text)
        items = value.get("labels", value.get("label")) if isinstance(value, dict) else value
        if isinstance(items, str):
            items = [items]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ParseFailure("no_label", "The JSON has no list of labels.")
        return _ordered(items, labels)
    text = _without_tail(text, labels)
    lines = [line for line in (raw.strip() for raw in text.splitlines()) if line]
    if lines and len(lines) > 1 and lines[0].endswith(":") and _find(lines[0][:-1], labels) is None:
        lines = lines[1:]
    if not lines:
        raise ParseFailure("no_label", "The answer is empty.")
    items = []
    for line in lines:
        line = re.sub(r"^(?:[-*•]|\d{1,3}[.)])\s+", "", line)
        stated = _STATED.match(line)
        rest = stated["rest"].strip() if stated else line
        if rest.endswith((",", ";")) or re.search(r"\b(?:and|or)$", rest):
            raise ParseFailure("truncated", "The list of labels is not complete.")
        if (one := _find(rest, labels)) is not None:
            items.append(one)
            continue
        items.extend(part for part in _split(rest, labels) if part)
    return _ordered(items, labels)


# ----------------------------------------------------------------------------------------------------------------------
def _lines(text: str) -> list[str]:
    text = unfenced(text)
    return [line.strip() for line in text.splitlines() if line.strip()] if text else []


def _stated(line: str, names: Sequence[str]) -> str | None:
    """The label that one line states, or None."""
    if line.startswith(("{", "[")):
        try:
            value = json_value(line)
        except ParseFailure:
            return None
        if isinstance(value, dict) and isinstance(value.get("label"), str):
            return _find(value["label"], names)
        return None
    plain = re.sub(r"^(?:#{1,6}\s+|>\s+|[-*•]\s+)", "", line)
    if (name := _find(plain, names)) is not None:
        return name
    loose = plain.replace("**", "").replace("__", "")
    found = _STATED.match(loose) or _JUDGED.match(loose)
    if found is None:
        return None
    rest = found.groupdict().get("rest") or found.groupdict().get("rest2") or ""
    if (name := _find(rest, names)) is not None:
        return name
    head = _leading(rest, names)
    if head is None or _NEGATION.search(rest):
        return None
    return head


def _leading(rest: str, names: Sequence[str]) -> str | None:
    """The longest label that a statement begins with, if what follows it is a break: `X, because ...`, `X. It ...`."""
    rest = rest.lstrip("\"'“‘`* ")
    for name in sorted(names, key=len, reverse=True):
        if rest[: len(name)].casefold() == name.casefold():
            tail = rest[len(name) :].lstrip("\"'”’`*")
            if re.match(r"(?:[.!;,:]\s|\s+[(–—-]|\s+(?:because|since|as)\b)", tail):
                return name
            return None
    return None


def _find(text: str, names: Sequence[str]) -> str | None:
    """The label that a text is, apart from case, quotation marks and a full stop; None if it is none."""
    for candidate in (text.strip(), *_peeled(text)):
        if candidate in names:
            return candidate
    folded = {name.casefold(): name for name in reversed(names)}
    if len(folded) < len(names):
        return None
    for candidate in (text.strip(), *_peeled(text)):
        if candidate.casefold() in folded:
            return folded[candidate.casefold()]
    return None


def _peeled(text: str) -> list[str]:
    steps, last = [], text.strip()
    for _ in range(4):
        text = unquoted(last.rstrip(".!, \t").strip())
        if text == last:
            break
        steps.append(text)
        last = text
    return steps


def _mentions(text: str, names: Sequence[str]) -> set[str]:
    """All labels that occur in a text as whole words, the longest at each place, in any case."""
    if not names:
        return set()
    ordered = sorted(names, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in ordered), re.IGNORECASE)
    folded = {name.casefold(): name for name in ordered}
    exact = set(names)
    return {match[0] if match[0] in exact else folded[match[0].casefold()] for match in pattern.finditer(text)}


def _without_tail(text: str, labels: Sequence[str]) -> str:
    """The answer without closing paragraphs of talk: sentences in which no label occurs."""
    head, *rest = re.split(r"\n\s*\n", text)
    talk = all(
        re.search(r"\S+\s+\S+\s+\S+.*[.!?]$", part.strip(), re.DOTALL) and not _mentions(part, labels) for part in rest
    )
    return head if talk else text


def _retracted(text: str, names: Sequence[str]) -> bool:
    """Whether the answer seems to take back what it stated."""
    return _RETRACTION.search(text) is not None and not any(_RETRACTION.search(name) for name in names)


def _known(name: str, labels: Sequence[str]) -> bool:
    return name.casefold() in {label.casefold() for label in labels}


def _split(line: str, labels: Sequence[str]) -> list[str]:
    """A line's items: cut at commas and semicolons, except inside a label that holds one."""
    with_commas = [re.escape(name) for name in sorted(labels, key=len, reverse=True) if "," in name or ";" in name]
    if with_commas:
        line = re.sub(
            "|".join(with_commas),
            lambda match: match[0].replace(",", "\0").replace(";", "\1"),
            line,
            flags=re.IGNORECASE,
        )
    parts = [part.replace("\0", ",").replace("\1", ";").strip() for part in re.split(r"[,;]", line)]
    if len(parts) > 1:
        parts[-1] = re.sub(r"^and\s+", "", parts[-1])
    if len(parts) == 1 and _find(parts[0], labels) is None and re.search(r"\sand\s", parts[0]):
        parts = re.split(r"\s+and\s+", parts[0])
    return parts


def _ordered(items: Sequence[str], labels: Sequence[str]) -> list[str]:
    if len(items) == 1 and _find(items[0], ["none"]) and not _known("none", labels):
        return []
    found = set()
    for item in items:
        name = _find(item, labels)
        if name is None:
            raise ParseFailure("unknown_label", "The answer names something that is no label of the list.")
        found.add(name)
    return [name for name in labels if name in found]
