"""A toy task whose programs are real: rules and Python vote, a model that knows fruit from tools gives anchors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from factory import prompts
from factory.annotation.stage import annotate
from factory.corpus.stage import ingest
from factory.denoise.stage import denoise
from factory.distill.stage import distill
from factory.evaluation.stage import store_gold
from factory.llm import EngineSettings, ModelRef, make_engine
from factory.programs.manage import add_program
from factory.programs.stage import vote
from factory.task import load_card
from factory.warehouse.file import Warehouse

CARD = load_card({"name": "toy", "text": "a line", "labels": {"fruit": "about fruit", "tool": "about tools"}})
FRUIT = ["apple", "pear", "plum", "cherry", "grape"]
TOOL = ["hammer", "saw", "chisel", "drill", "wrench"]
RULES = {
    "sweet words": [
        {"kind": "word", "value": "apple", "label": "fruit"},
        {"kind": "word", "value": "Pear", "label": "fruit", "weight": 2, "unless": ["wrench"]},
    ],
    "hard words": [
        {"kind": "contains", "value": "hamm", "label": "tool"},
        {"kind": "regex", "value": r"saw\w*", "label": "tool"},
        {"kind": "word", "value": "drill", "label": "tool", "with": ["number"]},
    ],
    "often wrong": [
        {"kind": "word", "value": "plum", "label": "tool"},
        {"kind": "word", "value": "cherry", "label": "fruit"},
    ],
}
PYTHON = {
    "late fruit": 'def label(text):\n    """fruit of late summer"""\n'
    "    return 'fruit' if 'grape' in text or 'plum' in text else None",
    "other tools": "# tools with an edge\ndef label(text):\n    return 'tool' if 'chisel' in text or 'wrench' in text else None",
}


def line(rng: np.random.Generator, label: int) -> str:
    """Mostly words of the label, and at times one of the other."""
    words = rng.choice(FRUIT if label == 0 else TOOL, 2)
    if rng.random() < 0.25:
        words[1] = rng.choice(TOOL if label == 0 else FRUIT)
    return f"{words[0]} and {words[1]} number {rng.integers(1000)}"


def voted(folder: Path, *, python: bool = True, train: int = 260) -> tuple[Warehouse, Any]:
    """The warehouse after `vote`, and the engine that gives anchors."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    sources: dict[str, Any] = {}
    said = []
    prompt = prompts.load("annotate")
    for split, size in {"train": train, "test": 60}.items():
        rows = []
        for label in rng.integers(2, size=size).tolist():
            text = line(rng, label)
            rows.append({"text": text, "label": CARD.label_names[label]})
            key = prompt.request({**prompts.card_values(CARD), "text": text}, ModelRef("m")).content_key
            said.append(
                {"key": key, "sample_no": 0, "answer": CARD.label_names[label], "date": "2026-11-22", "model": "m"}
            )
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources[split] = {"path": str(path), "text": "text", **({} if split == "train" else {"label": "label"})}
    (folder / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in said))
    warehouse = Warehouse.open(folder / "w.duckdb")
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    for name, rules in RULES.items():
        add_program(warehouse, json.dumps({"rules": rules}), name=name, kind="rules")
    for name, source in PYTHON.items() if python else ():
        add_program(warehouse, source, name=name)
    vote(warehouse)
    engine = make_engine(EngineSettings(kind="recorded", answers=str(folder / "answers.jsonl"), model="m"), base=folder)
    return warehouse, engine


def mixed(folder: Path, *, python: bool = True, encoder: str = "hashing", student: str = "linear") -> Warehouse:
    """The warehouse after `distill`: with a mixture, and the student that it taught."""
    warehouse, engine = voted(folder, python=python)
    annotate(warehouse, engine, anchors=130, audit=30)
    denoise(warehouse, encoder="none")
    distill(warehouse, student=student, encoder=encoder, systems=["student", "combined"])
    return warehouse
