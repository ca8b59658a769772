"""A small run on disk for the pages: 60 texts of train, some of dev and test, rules that vote, soft labels, an evaluation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from factory.programs import manage, stage
from factory.studio.app import make_app
from factory.studio.desk import Desk
from factory.task import load_card, register
from factory.warehouse.file import Warehouse, insert

TOKEN = "a-token-of-the-test"
HOST = "http://127.0.0.1"
LABELS = {"ham": "about the song", "spam": "advertises something"}
TEXTS = [
    *(f"win a prize at site {n}" for n in range(20)), *(f"great song, I love it {n}" for n in range(20)),
    *(f"win this great song {n}" for n in range(10)), *(f"nothing to say {n}" for n in range(10)),
]  # fmt: skip
WIN = '{"rules": [{"kind": "word", "value": "win", "label": "spam"}]}'
GREAT = '{"rules": [{"kind": "contains", "value": "great", "label": "ham", "weight": 2, "unless": ["prize"]}]}'


def make(
    path: Path | None = None, *, labels: dict[str, str] | None = None, texts: list[str] | None = None, name: str = "win"
) -> Warehouse:
    """The run, in a folder or in memory; its texts are numbered from 0, train first."""
    labels, texts = labels or LABELS, texts or TEXTS
    first, second = list(labels)[:2]
    warehouse = Warehouse.memory() if path is None else Warehouse.open(path / "small.duckdb", patience_s=2.0)
    with warehouse.lease():  # the file is opened once
        register(warehouse, load_card({"name": "small", "text": "a comment", "labels": labels}))
        held = ["win win win", "a great day"]
        splits = [*["train"] * len(texts), "dev", "test"]
        every = [*texts, *held]
        with warehouse.lease() as db:
            insert(db, "texts", {
                "text_no": list(range(len(every))), "text": every, "origin": ["corpus"] * len(every),
                "content_hash": [hashlib.sha256(text.encode()).digest()[:16] for text in every],
            })  # fmt: skip
            for number, split in enumerate(("train", "dev", "test")):
                db.execute(
                    "INSERT INTO sources (source_no, split, path, format, columns, content_digest, n_rows, n_bad)"
                    " VALUES (?, ?, ?, 'csv', '{}', '', 0, 0)",
                    [number, split, f"{split}.csv"],
                )
            insert(db, "occurrences", {
                "source_no": [("train", "dev", "test").index(split) for split in splits], "row_no": list(range(len(every))),
                "text_no": list(range(len(every))), "split": splits, "kept": [True] * len(every),
            })  # fmt: skip
            db.execute("INSERT INTO gold VALUES (1, ?, ?, 1)", [len(texts), len(texts)])
        manage.add_program(warehouse, WIN.replace('"spam"', json.dumps(second)), name=name, kind="rules")
        manage.add_program(warehouse, GREAT.replace('"ham"', json.dumps(first)), name="great", kind="rules")
        stage.vote(warehouse)
        with warehouse.lease() as db:
            db.execute(
                "INSERT INTO label_models (label_model_no, key, name, config, params, chosen)"
                " VALUES (1, 'k', 'snorkel', ?, ?, true)",
                [
                    json.dumps({"systems": ["student"]}),
                    json.dumps({"the task": {"weights": [[-3, -1], [-4, 0], [0, -2], [-2, 0]]}}),
                ],
            )
            n = len(texts)
            insert(db, "soft_labels", {
                "label_model_no": [1] * n, "text_no": list(range(n)), "covered": [at < n - 10 for at in range(n)],
                "probs": [[0.2, 0.8] if "win" in text else [0.9, 0.1] for text in texts],
                "tie": [at in (40, 41) for at in range(n)],
            })  # fmt: skip
            cells = [{"gold": 0, "said": 1, "n": 1, "texts": [n + 1]}]
            db.execute(
                "INSERT INTO evaluations (evaluation_no, key, system, split, variant, n, n_scored, coverage, metrics, detail)"
                " VALUES (1, 'k', 'student', 'test', 'published', 1, 1, 1.0, ?, ?)",
                [
                    json.dumps({"metric": "accuracy", "accuracy": 0.5, "macro_f1": 0.4, "ci95": [0.3, 0.7]}),
                    json.dumps({"cells": cells, "per_class": {first: {"precision": 0.5, "recall": 0.25, "f1": 1 / 3}}}),
                ],
            )
    return warehouse


def client_of(warehouse: Warehouse, person: str | None = "Ann") -> TestClient:
    """A browser that was let in."""
    found = TestClient(make_app(Desk(warehouse, Path("runs/small"), person), token=TOKEN), base_url=HOST)
    assert found.get(f"/?token={TOKEN}").status_code == 200
    return found


def post(client: TestClient, path: str, values: Any = None, *, part: bool = False, **fields: Any) -> Any:
    """Post a form from a page of the studio."""
    headers = {"origin": HOST} | ({"hx-request": "true"} if part else {})
    return client.post(path, data=values or fields, headers=headers)
