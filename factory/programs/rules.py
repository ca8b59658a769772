"""Lists of simple rules, as weak models can write them, turned into programs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = "# made from a list of rules"
"""First line of a program that was made from rules."""


def rules_to_python(
    rules: Sequence[Mapping[str, Any]], labels: Sequence[str], *, target: str | None = None
) -> tuple[str | None, list[str]]:
    """A program that votes for the label with the most matching rules and abstains on a tie or without any.

    Args:
        rules: Each `kind` (`word`, `contains`, `starts_with`, `regex`), `value` and `label`. Case never matters.
        labels: Label names a rule may speak for.
        target: In a `multi` task the one label; the program then says True or abstains.

    Returns:
        The source (None if no rule can be used), and for every rule left out the reason.

    Example:
        >>> source, dropped = rules_to_python([{"kind": "word", "value": "win", "label": "spam"}], ["ham", "spam"])
        >>> print(source.splitlines()[3])
            (re.compile('\\\\bwin\\\\b', re.I), 'spam'),
    """
    kept: list[tuple[str, str]] = []
    dropped = []
    for number, rule in enumerate(rules, 1):
        pattern, reason = _pattern(rule, labels)
        if pattern is None:
            dropped.append(f"rule {number}: {reason}")
        elif (pattern, str(rule["label"])) in kept:
            dropped.append(f"rule {number}: stands twice")
        else:
            kept.append((pattern, str(rule["label"])))
    if not kept:
        return None, dropped
    lines = [HEAD, "import re", "RULES = ["]
    lines += [f"    (re.compile({_quoted(pattern)}, re.I), {_quoted(label)})," for pattern, label in kept]
    lines += ["]", "", "", "def label(text):"]
    if target is not None:
        lines += ["    return True if any(pattern.search(text) for pattern, name in RULES) else None"]
    else:
        lines += [
            "    counts = {}",
            "    for pattern, name in RULES:",
            "        if pattern.search(text):",
            "            counts[name] = counts.get(name, 0) + 1",
            "    if not counts:",
            "        return None",
            "    most = max(counts.values())",
            "    best = [name for name, count in counts.items() if count == most]",
            "    return best[0] if len(best) == 1 else None",
        ]
    return "\n".join(lines) + "\n", dropped


def essence(source: str) -> str:
    """What makes a program its own: for one made from rules the rules alone, else all of it."""
    if not source.startswith(HEAD):
        return source
    return "\n".join(line for line in source.splitlines() if line.startswith("    (re.compile("))


def _pattern(rule: Mapping[str, Any], labels: Sequence[str]) -> tuple[str | None, str]:
    """The regular expression of a rule, or why there is none."""
    kind, value, label = rule.get("kind"), rule.get("value"), rule.get("label")
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or not value.isprintable():
        return None, "its value is empty, too long or not printable"
    try:
        value.encode()
    except UnicodeEncodeError:
        return None, "its value is no text"
    if label not in labels:
        return None, "its label is not on the card"
    if kind == "word":
        head = r"\b" if _is_word(value[0]) else ""
        tail = r"\b" if _is_word(value[-1]) else ""
        return head + re.escape(value) + tail, ""
    if kind == "contains":
        return re.escape(value), ""
    if kind == "starts_with":
        return r"\A" + re.escape(value), ""
    if kind != "regex":
        return None, "its kind is unknown"
    try:
        compiled = re.compile(value, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError):
        return None, "its regular expression is not valid"
    if compiled.search("") is not None:
        return None, "its regular expression matches every text"
    return value, ""


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _quoted(text: str) -> str:
    return ascii(text)
