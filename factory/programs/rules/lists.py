"""What a list of rules is, how it is kept (canonical JSON), and how people see it (a rule on each line).

A rule is a cue and the label it speaks for. A cue is found in a text, or not::

    word          the value occurs as a word or phrase        compared as `factory.programs.rules.folding` says
    contains      it occurs anywhere, inside words too         "
    starts_with   the text begins with it                      "
    regex         it is a pattern that RE2 finds in the text as it stands; case counts only after `(?-i)`

A rule matches where its cue is found, at least one cue of `with` (if there are any), and none of `unless`. A list votes for the
label with the largest sum of weights of its matching rules; it abstains where nothing matches, or where labels tie. In a task of
kind `multi` a list speaks of one label, and its rules' labels are `yes` and `no`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from factory.canonical import canonical_json
from factory.programs.rules.folding import fold

KINDS = ("word", "contains", "starts_with", "regex")

YES_NO = ("yes", "no")
"""Labels of the rules of a list that speaks of one label."""


@dataclass(frozen=True)
class Cue:
    """What is looked for: a kind of `KINDS` and its value."""

    kind: str
    value: str

    @property
    def needle(self) -> str:
        """What the engines look for: the pattern, or the folded value (blanks at the ends of `contains` are kept)."""
        if self.kind == "regex":
            return self.value
        folded = fold(self.value)
        if self.kind == "word":
            return folded.strip()
        first = " " if self.kind == "starts_with" or self.value[:1].isspace() else ""
        return first + folded.strip() + (" " if self.value[-1:].isspace() else "")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        cue: What must be found.
        label: The label it speaks for.
        weight: In hundredths, above 0.
        beside: Cues of which at least one must be found too, if there are any (`with`).
        unless: Cues of which none may be found.
    """

    cue: Cue
    label: str
    weight: int = 100
    beside: tuple[Cue, ...] = ()
    unless: tuple[Cue, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The rule as it is kept; what is as by default is left out."""
        row: dict[str, Any] = {"kind": self.cue.kind, "value": self.cue.value, "label": self.label}
        if self.weight != 100:
            row["weight"] = self.weight // 100 if self.weight % 100 == 0 else self.weight / 100
        for key, cues in (("with", self.beside), ("unless", self.unless)):
            if cues:
                row[key] = [c.value if c.kind == "word" else {"kind": c.kind, "value": c.value} for c in cues]
        return row


@dataclass(frozen=True)
class RuleList:
    """A program of rules."""

    rules: tuple[Rule, ...]

    @property
    def source(self) -> str:
        """Canonical JSON: what is kept, and what a program's identity is made from."""
        return canonical_json({"rules": [rule.as_json() for rule in self.rules]}).decode()

    @property
    def lines(self) -> str:
        """JSON with a rule on each line, for people, editors and diffs; `read_rules` reads it back."""
        rows = ",\n".join("  " + json.dumps(rule.as_json(), ensure_ascii=False) for rule in self.rules)
        return f'{{"rules": [\n{rows}\n]}}\n'
