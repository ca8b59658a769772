"""What `votes.py` runs: recorded programs, lists of rules with their cues, the same as plain functions, and the texts."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from _harness import ROOT, Options, Skip

SETS = {"agnews": ("agnews", ("train", "test")), "imdb": ("imdb", ("train", "test"))}


@cache
def recorded(name: str) -> tuple[str, ...]:
    """The recorded programs of a pipeline that pass the static check, in the order of the plan."""
    from factory import prompts
    from factory.programs.sandbox.sealed.policy import Refused, check

    path = ROOT / "pipelines" / name / "answers.jsonl"
    found: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        answer = json.loads(line)
        if answer.get("prompt") != "author_program":
            continue
        try:
            source = prompts.load("author_program").parse(answer["answer"])
            check(source)
        except (prompts.ParseFailure, Refused):
            continue
        if source not in found:
            found.append(source)
    if not found:
        raise Skip(f"no programs are recorded in {path}")
    return tuple(found[:20])


def texts_of(options: Options, name: str) -> list[str]:
    """All texts of a set, or a few in quick runs."""
    import pyarrow.parquet as pq

    folder, splits = SETS[name]
    texts: list[str] = []
    for split in splits:
        table = pq.read_table(options.data / folder / f"{split}.parquet", columns=["text"])
        texts += table.column("text").to_pylist()
    return texts[:2_000] if options.quick else texts


def labels_of(name: str) -> list[str]:
    """Label names of a pipeline's card."""
    from factory.task import load_card

    return load_card(ROOT / "pipelines" / name / "task.yaml").label_names


def plain_function(source: str, labels: list[str]) -> Callable[[Any], int]:
    """The program as an ordinary function of a data point, as Snorkel calls it."""
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(compile(source, "<program>", "exec"), namespace)
    label, index = namespace["label"], {name: number for number, name in enumerate(labels)}

    def call(x: Any) -> int:
        if not isinstance(x.text, str):  # Dask calls once with a missing value to see the type
            return -1
        vote = label(x.text)
        return -1 if vote is None else index[vote] if isinstance(vote, str) else int(vote)

    return call


@cache
def rule_lists(name: str) -> tuple[tuple[dict[str, Any], ...], ...]:
    """A list of 40 rules for each recorded program, made of the cues that stand in its source: mostly words, some beginnings and
    patterns, some with `unless` and `with`. Which label a rule speaks for makes no difference to the time."""
    from factory.programs.rules import RulesRefused, read_rules

    labels, lists = labels_of(name), []
    for at, source in enumerate(recorded(name)):
        found: dict[tuple[str, str], None] = {}
        for node in ast.walk(ast.parse(source)):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            if "\\b" in node.value and "(?" not in node.value.replace("(?:", ""):
                found[("regex", node.value[:200])] = None
            for cue in re.findall(r"[a-z][a-z'-]+(?: [a-z]+)?", node.value.lower()):
                if len(cue) > 2:
                    found[("contains" if len(found) % 8 == 7 else "word", cue)] = None
        rules: list[dict[str, Any]] = []
        for kind, value in found:
            rule: dict[str, Any] = {"kind": kind, "value": value, "label": labels[(at + len(rules)) % len(labels)]}
            if len(rules) % 10 == 3:
                rule["unless"] = ["not", "no"]
            if len(rules) % 10 == 7:
                rule["with"] = ["the", "a"]
            try:
                read_rules([rule], labels, None)
            except RulesRefused:
                continue
            rules.append(rule)
        lists.append(tuple(rules[:40]))
    return tuple(lists)


def rules_function(rules: tuple[dict[str, Any], ...], labels: list[str]) -> Callable[[Any], int]:
    """A list of rules as the function of a data point that a person would write for Snorkel."""
    index = {label: number for number, label in enumerate(labels)}
    table = [
        (_test(r["kind"], r["value"]), index[r["label"]], _tests(r.get("with")), _tests(r.get("unless"))) for r in rules
    ]

    def call(x: Any) -> int:
        if not isinstance(x.text, str):  # Dask calls once with a missing value to see the type
            return -1
        text = x.text.lower()
        sums = [0] * len(labels)
        for test, label, beside, unless in table:
            if test(text) and (not beside or any(t(text) for t in beside)) and not any(t(text) for t in unless):
                sums[label] += 1
        most = max(sums)
        return sums.index(most) if most and sums.count(most) == 1 else -1

    return call


def _test(kind: str, value: str) -> Callable[[str], Any]:
    if kind == "contains":
        return lambda text: value in text
    return re.compile(value if kind == "regex" else rf"\b{re.escape(value)}\b", re.I if kind == "regex" else 0).search


def _tests(words: list[str] | None) -> list[Callable[[str], Any]]:
    return [_test("word", word) for word in words or ()]


SIMPLE = """import re
WORDS = {words!r}
RX = re.compile(r"\\b(?:{pattern})\\b")


def label(text):
    t = text.lower()
    hits = len(RX.findall(t))
    if hits >= 2 or any(w in t for w in WORDS):
        return {label!r}
    return None
"""


def simple_programs(count: int) -> list[str]:
    """Programs of the plainest kind, where none are recorded."""
    cues = {
        "Business": ["stocks", "shares", "market", "oil", "prices", "profit", "quarter", "bank", "economy"],
        "Sports": ["game", "season", "team", "coach", "players", "win", "cup", "league", "goal"],
        "World": ["iraq", "president", "minister", "government", "police", "killed", "troops", "election", "nuclear"],
        "Sci/Tech": ["software", "internet", "microsoft", "google", "computer", "security", "users", "phone", "nasa"],
    }
    labels = labels_of("agnews")
    found = []
    for number in range(count):
        label = labels[number % len(labels)]
        words = cues.get(label, list(cues.values())[number % 4])
        shift = number // 4
        picked = [words[(shift + i) % len(words)] for i in range(4)]
        found.append(SIMPLE.format(words=[f"{picked[0]} {picked[1]}"], pattern="|".join(picked), label=label))
    return found
