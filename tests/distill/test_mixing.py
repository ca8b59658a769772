"""The mixture of a warehouse whose texts have any number of labels: a problem per label, over the same texts and vectors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.denoise.stage import denoise
from factory.distill.stage import distill
from factory.students.stored import predict_texts, stored_model
from factory.task import Label, TaskCard, register
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.anchors import NewAnchor, put_model
from factory.warehouse.tables.labels import label_models, soft_labels

WORDS = {"sport": "match goal coach league", "food": "soup bread roast oven", "war": "front truce siege raid"}
CARD = TaskCard(
    name="topics",
    text="a line",
    kind="multi",
    labels=tuple(Label(name=name, description=f"about {name}") for name in WORDS),
)
TEXTS, TAUGHT = 600, 120
SHARES = np.array([0.4, 0.3, 0.02])


def filled(folder: Path) -> tuple[Warehouse, np.ndarray]:
    """600 texts; for each label three programs that see two of its four words, and one of sport that is mostly wrong; 120
    anchors, of which two say yes to `war`."""
    rng = np.random.default_rng(5)
    gold = rng.random((TEXTS, 3)) < SHARES
    gold[:TAUGHT, 2] = np.arange(TAUGHT) < 2
    warehouse = Warehouse.open(folder / "w.duckdb")
    register(warehouse, CARD)
    votes: list[tuple[int, int, int]] = []
    with warehouse.lease() as db:
        for number, row in enumerate(gold):
            said = [str(rng.choice(words.split())) for words, yes in zip(WORDS.values(), row, strict=True) if yes]
            text = " ".join([*said, "and", *rng.choice(["rain", "wind", "sun", "hail", "fog"], 3), f"({number})"])
            hashed = hashlib.sha256(text.encode()).digest()[:16]
            db.execute("INSERT INTO texts VALUES (?, ?, ?, NULL, 'corpus')", [number, hashed, text])
            db.execute("INSERT INTO occurrences VALUES (0, ?, ?, 'train', true, NULL)", [number, number])
            for at, words in enumerate(WORDS.values()):
                for program in range(3):
                    sees = any(word in text for word in words.split()[program : program + 2])
                    if sees if rng.random() > 0.1 else rng.random() < 0.2:
                        votes.append((at * 3 + program, number, 1))
            if rng.random() < 0.5:
                votes.append((9, number, int(not row[0])))
        for program in range(10):
            db.execute(
                "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state, target_label_no)"
                " VALUES (?, ?, ?, 'rules', 'hand', '', 'accepted', ?)",
                [program, f"k{program}", f"p{program}", program // 3 if program < 9 else 0],
            )
        db.executemany("INSERT INTO votes VALUES (?, ?, ?)", votes)
        anchors = [
            NewAnchor(no, frozenset(np.flatnonzero(gold[no]).tolist()), "teach", "agreed", 0.2, no)
            for no in range(TAUGHT)
        ]
        put_model(db, 1, anchors, [0, 1, 2])
    denoise(warehouse, encoder="none")
    return warehouse, gold


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, np.ndarray, Any]:
    warehouse, gold = filled(tmp_path_factory.mktemp("multi"))
    told = distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"])
    return warehouse, gold, told


def said_by(warehouse: Warehouse, name: str) -> np.ndarray:
    number = next(
        model.number for model in label_models(warehouse) if model.name == name or (model.chosen and not name)
    )
    return soft_labels(warehouse, number).probs


def right(said: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """How often each label's yes and no are right on texts without an anchor."""
    return np.asarray(((np.nan_to_num(said) >= 0.5) == gold)[TAUGHT:].mean(axis=0))


def test_each_label_has_a_mixture_that_is_better_than_its_label_model_and_teaches_a_student(
    mixed: tuple[Warehouse, np.ndarray, Any],
) -> None:
    warehouse, gold, told = mixed
    mixture, model = said_by(warehouse, "mixture"), said_by(warehouse, "")
    assert right(mixture, gold)[:2].mean() > right(model, gold)[:2].mean() + 0.02
    assert right(mixture, gold)[:2].min() > 0.93
    student = predict_texts(warehouse, stored_model(warehouse, "combined"), range(TEXTS))
    assert right(student, gold)[:2].min() > 0.93
    assert any("yes and no for each of 2 labels, on 120 anchors" in line for line in told.says)
    assert any("'p9' is retired" in line for line in told.says)


def test_a_label_of_too_few_anchors_keeps_its_label_model_and_it_is_said(
    mixed: tuple[Warehouse, np.ndarray, Any],
) -> None:
    warehouse, _, told = mixed
    assert np.array_equal(said_by(warehouse, "mixture")[:, 2], said_by(warehouse, "")[:, 2], equal_nan=True)
    line = next(line for line in told.says if "keeps its label model" in line)
    assert line.startswith("label 'war' keeps its label model: of the anchors that teach, 2 say yes and 118 no")


def test_a_second_run_does_nothing(mixed: tuple[Warehouse, np.ndarray, Any]) -> None:
    warehouse = mixed[0]
    assert distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"]).skipped


def test_a_label_without_programs_has_a_mixture_from_texts_and_anchors(tmp_path: Path) -> None:
    warehouse, gold = filled(tmp_path)
    with warehouse.lease() as db:
        db.execute("DELETE FROM votes WHERE program_no BETWEEN 3 AND 5")
        db.execute("UPDATE programs SET state = 'rejected' WHERE program_no BETWEEN 3 AND 5")
    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["combined"])
    assert right(said_by(warehouse, "mixture"), gold)[1] > 0.85


def test_no_more_of_the_heap_is_encoded_than_students_learn_from(tmp_path: Path) -> None:
    warehouse, _ = filled(tmp_path)
    distill(warehouse, student="linear", encoder="hashing", systems=["combined"], encode_at_most=200)
    texts = warehouse.scalar(
        "SELECT count(*) FROM soft_labels JOIN label_models USING (label_model_no) WHERE name = 'mixture'"
    )
    assert 200 <= texts <= 200 + TAUGHT
