"""The recorded answers of a large language model, as what the mutations start from: what each says is told without a parser."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import lru_cache

import yaml

from factory.resources import shipped
from factory.task import load_card

_TAGGED = re.compile(r"<text>((?:(?!</?text>).)*)</text>\s*", re.DOTALL)
_FENCED = re.compile(r"```python\n((?:(?!```).)*)```\s*", re.DOTALL)

STANDS_FOR = {"self_guide_output": "annotate"}
"""Prompts without recorded answers whose answers have the form of another's."""


@lru_cache(maxsize=1)
def _all() -> dict[str, list[tuple[str, str]]]:
    """`(pipeline, answer)` by prompt, each different answer of a pipeline once."""
    found: dict[str, dict[tuple[str, str], None]] = {}
    for path in sorted(shipped("pipelines").glob("*/*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                found.setdefault(row["prompt"], {})[(path.parent.name, row["answer"])] = None
    return {prompt: list(answers) for prompt, answers in found.items()}


@lru_cache
def labels_of_pipeline(pipeline: str) -> tuple[str, ...]:
    """The labels that the model chose from."""
    folder = shipped("pipelines")
    task = yaml.safe_load((folder / f"{pipeline}.yaml").read_text(encoding="utf-8"))["task"]
    return load_card(folder / task).label_names


def answers(prompt: str) -> list[str]:
    """The different recorded answers to a prompt."""
    return [answer for _, answer in _all().get(STANDS_FOR.get(prompt, prompt), [])]


def pick_label(prompt: str, rng: random.Random) -> tuple[Sequence[str], str, str]:
    """The labels of a task, a recorded answer that is one of them or abstains, and another label."""
    pipeline, right = rng.choice(_all()[STANDS_FOR.get(prompt, prompt)])
    names = labels_of_pipeline(pipeline)
    return names, right, rng.choice([name for name in names if name != right])


def texts(prompt: str) -> list[list[str]]:
    """The texts of each recorded answer that holds texts between tags and nothing else."""
    found = [_TAGGED.findall(answer) for answer in answers(prompt) if not _TAGGED.sub("", answer)]
    return [[text.strip() for text in group] for group in found if group]


def programs(prompt: str) -> list[str]:
    """The program of each recorded answer that is one fence."""
    return [match[1] for answer in answers(prompt) if (match := _FENCED.fullmatch(answer)) is not None]
