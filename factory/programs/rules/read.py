"""Lists of rules read from a model's answer or from a file, with every rule that cannot be used and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from factory.programs.rules.folding import composed, whole
from factory.programs.rules.lists import KINDS, YES_NO, Cue, Rule, RuleList
from factory.programs.rules.patterns import compiled

MAX_RULES = 300
MAX_CUES = 60
"""Cues of one `with` or `unless`."""

MAX_VALUE = 1000
"""Characters of a value."""

MAX_SOURCE = 100_000
"""Characters of a list's source."""

MOST_WEIGHT = 100
_KEYS = ("kind", "value", "label", "weight", "with", "unless")


class RulesRefused(Exception):
    """A list cannot be used as it is.

    Attributes:
        code: `bad_rules` (the shape), `bad_rule` (some rules), `no_rules` (there is none that can be used).
        words: What is wrong, in our words.
    """

    def __init__(self, code: str, words: str) -> None:
        self.code, self.words = code, words
        super().__init__(f"{code}: {words}")


def read_rules(source: str | Mapping[str, Any] | Sequence[Any], labels: Sequence[str], target: str | None) -> RuleList:
    """Read and check a list.

    Args:
        source: JSON, YAML, or what either holds: a list of rules, alone or under the key `rules`.
        labels: Label names.
        target: In a task of kind `multi` the one label the list speaks of; its name stands for `yes` as well.

    Raises:
        RulesRefused: With every rule that cannot be used and why, up to five.

    Example:
        >>> read_rules([{"kind": "word", "value": "win", "label": "spam"}], ["ham", "spam"], None).source
        '{"rules":[{"kind":"word","label":"spam","value":"win"}]}'
    """
    found, faults = usable_rules(source, labels, target)
    if faults:
        raise RulesRefused("bad_rule", in_words(faults))
    return found


def usable_rules(
    source: str | Mapping[str, Any] | Sequence[Any], labels: Sequence[str], target: str | None
) -> tuple[RuleList, list[str]]:
    """The rules of a list that can be used, and what is wrong with each of the others; it takes what `read_rules` does.

    Raises:
        RulesRefused: It is not a list of rules, or none of them can be used.
    """
    found = _parsed(source) if isinstance(source, str) else source
    if isinstance(found, Mapping):
        unknown = sorted(set(map(str, found)) - {"rules"})
        if unknown or "rules" not in found:
            raise RulesRefused("bad_rules", f"a list of rules has the one key `rules`, not {_shown(unknown)}")
        found = found["rules"]
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise RulesRefused("bad_rules", "this is not a list of rules")
    if len(found) > MAX_RULES:
        raise RulesRefused("bad_rules", f"{len(found)} rules, and at most {MAX_RULES} are allowed")
    kept: dict[Rule, None] = {}
    faults: list[str] = []
    for number, row in enumerate(found, 1):
        try:
            kept[_rule(row, labels, target)] = None
        except ValueError as error:
            faults.append(f"rule {number}: {error}")
    if not kept:
        raise RulesRefused("no_rules", in_words(faults) or "the list is empty")
    return RuleList(tuple(kept)), faults


def in_words(faults: Sequence[str]) -> str:
    """Up to five faults, and how many more there are."""
    return "; ".join([*faults[:5], *([f"and {len(faults) - 5} more"] if len(faults) > 5 else [])])


def _rule(row: Any, labels: Sequence[str], target: str | None) -> Rule:
    if not isinstance(row, Mapping):
        raise ValueError("a rule is a mapping of `kind`, `value` and `label`")
    unknown = [str(key) for key in row if key not in _KEYS]
    if unknown:
        raise ValueError(f"unknown key {_shown(unknown)}; a rule has {', '.join(_KEYS)}")
    label = _label(row.get("label"), labels, target)
    cues = (_cues(row.get("with"), "with"), _cues(row.get("unless"), "unless"))
    return Rule(_cue({"kind": row.get("kind"), "value": row.get("value")}), label, _weight(row), *cues)


def _label(given: Any, labels: Sequence[str], target: str | None) -> str:
    names = {composed(name): name for name in (labels if target is None else YES_NO)}
    if target is not None:
        given = {True: "yes", False: "no"}[given] if isinstance(given, bool) else given
        names.setdefault(composed(target), "yes")
    if not isinstance(given, str) or composed(given) not in names:
        raise ValueError(f"its label {_shown([given])} is not one of {_shown(list(names))}")
    return names[composed(given)]


def _weight(row: Mapping[str, Any]) -> int:
    given = row.get("weight")
    if given is None:
        return 100
    try:
        weight = float(given) if not isinstance(given, bool) else 0.0
        hundredths = round(weight * 100)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"its weight {_shown([given])} is not a number") from None
    if not 0 < hundredths <= MOST_WEIGHT * 100 or abs(weight * 100 - hundredths) > 1e-6:
        raise ValueError(f"its weight is above 0 and at most {MOST_WEIGHT}, with two decimals")
    return hundredths


def _cues(given: Any, key: str) -> tuple[Cue, ...]:
    if given is None:
        return ()
    items = [given] if isinstance(given, (str, Mapping)) else given
    if not isinstance(items, Sequence) or len(items) > MAX_CUES:
        raise ValueError(f"`{key}` is a list of at most {MAX_CUES} words, or of mappings of `kind` and `value`")
    return tuple(dict.fromkeys(_cue(item) for item in items))


def _cue(given: Any) -> Cue:
    if isinstance(given, str):
        given = {"kind": "word", "value": given}
    if not isinstance(given, Mapping) or set(given) - {"kind", "value"}:
        raise ValueError("a cue is a word, or a mapping of `kind` and `value`")
    kind, value = given.get("kind"), given.get("value")
    if kind not in KINDS:
        raise ValueError(f"its kind {_shown([kind])} is not one of {', '.join(KINDS)}")
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_VALUE:
        raise ValueError(f"its value has 1 to {MAX_VALUE} characters, not blanks alone")
    if whole(value) != value or "\0" in value:
        raise ValueError("its value holds a lone surrogate or a NUL character")
    if kind == "regex":
        compiled(value)
    return Cue(kind, value)


def _parsed(source: str) -> Any:
    if len(source) > MAX_SOURCE:
        raise RulesRefused("bad_rules", f"the list has more than {MAX_SOURCE} characters")
    text = source.removeprefix("\ufeff")
    try:
        if text.lstrip()[:1] in ("{", "["):
            return json.loads(text, object_pairs_hook=_once)
        import yaml

        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.BaseLoader)):
            raise RulesRefused("bad_rules", "a list of rules has no aliases (`*name`)")
        return _values(yaml.compose(text, Loader=yaml.BaseLoader))
    except RecursionError:
        raise RulesRefused("bad_rules", "nested too deeply") from None
    except RulesRefused:
        raise
    except Exception as error:  # of either reader
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else getattr(error, "lineno", None)
        at = f" (line {line})" if line else ""
        raise RulesRefused("bad_rules", f"this is neither JSON nor YAML{at}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise RulesRefused("bad_rules", f"a key stands twice in {_shown([key for key, _ in pairs])}")
    return dict(pairs)


def _values(node: Any) -> Any:
    """YAML as strings, lists and mappings, so that `no` is a label."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return _once([(str(_values(key)), _values(value)) for key, value in node.value])
    if isinstance(node, yaml.SequenceNode):
        return [_values(item) for item in node.value]
    return node.value if isinstance(node, yaml.ScalarNode) else None


def _shown(names: Sequence[Any]) -> str:
    return ", ".join(repr(str(name)[:60]) for name in names[:10]) + (", ..." if len(names) > 10 else "") or "nothing"
