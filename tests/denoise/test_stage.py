"""`denoise` on a small warehouse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.denoise.stage import denoise
from factory.errors import InputError
from factory.task import Label, TaskCard, register
from factory.warehouse.file import Warehouse, insert


def make(votes: np.ndarray, labels: list[str], *, kind: str = "single", targets: list[int | None] | None = None,
         dev: dict[int, int] | None = None, splits: list[str] | None = None, path: Path | None = None,
         **card: Any) -> Warehouse:  # fmt: skip
    """A warehouse (in memory, or at `path`) with one text per row of votes [n, m]; programs in column order."""
    warehouse = Warehouse.memory() if path is None else Warehouse.open(path)
    register(
        warehouse,
        TaskCard(
            name="t", kind=kind, text="a text", labels=tuple(Label(name=n, description=n) for n in labels), **card
        ),
    )
    n, m = votes.shape
    with warehouse.lease() as db:
        insert(db, "texts", {"text_no": list(range(1, n + 1)), "text": [f"text {i}" for i in range(n)], "origin": ["corpus"] * n,
                             "content_hash": [hashlib.sha256(f"text {i}".encode()).digest()[:16] for i in range(n)]})  # fmt: skip
        for number, split in enumerate(["train", "dev", "test"]):
            db.execute(
                "INSERT INTO sources (source_no, split, path, format, columns, content_digest, n_rows, n_bad)"
                " VALUES (?, ?, 'x', 'csv', '{}', '', 0, 0)",
                [number, split],
            )
        for row in range(n):
            split = (splits or ["train"] * n)[row]
            db.execute(
                "INSERT INTO occurrences VALUES (?, ?, ?, ?, true, NULL)",
                [["train", "dev", "test"].index(split), row, row + 1, split],
            )
        for text_no, label in (dev or {}).items():
            db.execute("INSERT INTO gold VALUES (1, ?, ?, ?)", [text_no - 1, text_no, label])
        for j in range(m):
            db.execute(
                "INSERT INTO programs (program_no, program_key, name, kind, origin, target_label_no, source, state)"
                " VALUES (?, ?, ?, 'python', 'hand', ?, '', 'accepted')",
                [j + 1, f"k{j}", f"p{j}", None if targets is None else targets[j]],
            )
        rows, columns = np.nonzero(votes >= 0)
        insert(db, "votes", {"program_no": (columns + 1).astype(np.int32), "text_no": (rows + 1).astype(np.int32),
                             "vote": votes[rows, columns].astype(np.int32)})  # fmt: skip
    return warehouse


def soft(warehouse: Warehouse, name: str) -> list[tuple[Any, ...]]:
    return warehouse.query(
        "SELECT text_no, probs, covered, tie FROM soft_labels JOIN label_models USING (label_model_no) WHERE name = ?"
        " ORDER BY text_no",
        [name],
    )


VOTES = np.array([[0, 0, -1], [1, 1, 0], [0, 1, -1], [-1, -1, -1], [1, -1, 1], [0, 0, 0]])


def test_majority_and_snorkel_are_stored_for_every_text_and_one_is_chosen() -> None:
    warehouse = make(VOTES, ["a", "b"])
    result = denoise(warehouse)
    assert not result.skipped
    assert [row[0] for row in warehouse.query("SELECT name FROM label_models ORDER BY 1")] == ["majority", "snorkel"]
    assert warehouse.scalar("SELECT count(*) FROM soft_labels") == 12
    assert warehouse.query("SELECT name, config->'systems' FROM label_models WHERE chosen")[0][1] == '["student"]'
    found = soft(warehouse, "majority")
    assert [row[1] for row in found[:3]] == [[1.0, 0.0], pytest.approx([1 / 3, 2 / 3]), [0.5, 0.5]]
    assert [row[2] for row in found] == [True, True, True, False, True, True]
    assert [row[3] for row in found] == [False, False, True, False, False, False]


def test_a_second_run_is_skipped_and_a_new_vote_is_not() -> None:
    warehouse = make(VOTES, ["a", "b"])
    denoise(warehouse)
    before = warehouse.query("SELECT * FROM soft_labels ORDER BY ALL")
    assert denoise(warehouse).skipped
    assert warehouse.query("SELECT * FROM soft_labels ORDER BY ALL") == before
    with warehouse.lease() as db:
        db.execute("INSERT INTO votes VALUES (1, 4, 1)")
    assert not denoise(warehouse).skipped
    assert soft(warehouse, "majority")[3][1:] == ([0.0, 1.0], True, False)
    assert warehouse.scalar("SELECT count(*) FROM label_models WHERE chosen") == 1


def test_uncovered_texts_get_what_the_parameter_says() -> None:
    assert soft_after("drop")[3][1:3] == ([0.5, 0.5], False)
    assert soft_after("prior", balance=[0.9, 0.1])[3][1:3] == (pytest.approx([0.9, 0.1]), False)
    assert soft_after("default", default_label="b")[3][1:3] == ([0.0, 1.0], False)
    with pytest.raises(InputError, match="default label"):
        soft_after("default")


def soft_after(uncovered: Any, **more: Any) -> list[tuple[Any, ...]]:
    warehouse = make(VOTES, ["a", "b"])
    denoise(warehouse, uncovered=uncovered, **more)
    return soft(warehouse, "majority")


def test_rejected_programs_do_not_count() -> None:
    warehouse = make(VOTES, ["a", "b"])
    with warehouse.lease() as db:
        db.execute("UPDATE programs SET state = 'rejected' WHERE program_no = 1")
    denoise(warehouse)
    assert soft(warehouse, "majority")[1][1] == [0.5, 0.5]


def test_no_programs_or_no_votes_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="no accepted programs"):
        denoise(make(np.zeros((3, 0), int), ["a", "b"]))
    with pytest.raises(InputError, match="votes on any training text"):
        denoise(make(np.full((3, 2), -1), ["a", "b"]))
    with pytest.raises(InputError, match="no label model `snorkl`"):
        denoise(make(VOTES, ["a", "b"]), model="snorkl")


def test_fewer_than_three_programs_leave_majority_alone() -> None:
    warehouse = make(VOTES[:, :2], ["a", "b"])
    denoise(warehouse)
    assert warehouse.query("SELECT name, chosen FROM label_models") == [("majority", True)]
    with pytest.raises(InputError, match="three labelling functions"):
        denoise(warehouse, model="snorkel")


def test_a_multi_task_is_one_binary_problem_per_label_with_null_where_nothing_is_known() -> None:
    votes = np.array([[1, 1, -1], [0, -1, -1], [-1, 0, 1], [-1, -1, -1]])
    warehouse = make(votes, ["a", "b"], kind="multi", targets=[0, 0, 1])
    denoise(warehouse)
    assert [row[1] for row in soft(warehouse, "majority")] == [[1.0, None], [0.0, None], [0.0, 1.0], [None, None]]
    assert [row[2] for row in soft(warehouse, "majority")] == [True, True, True, False]


def test_dev_and_test_texts_get_labels_but_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 200)
    votes = np.where(rng.random((200, 4)) < 0.8, gold[:, None], 1 - gold[:, None])
    splits = ["train"] * 150 + ["test"] * 50
    warehouse = make(votes, ["a", "b"], splits=splits)
    denoise(warehouse, model="snorkel")
    before = soft(warehouse, "snorkel")
    assert len(before) == 200
    with warehouse.lease() as db:
        db.execute("DELETE FROM votes WHERE text_no > 150")
    denoise(warehouse, model="snorkel")
    assert soft(warehouse, "snorkel")[:150] == before[:150]


def test_dev_gold_is_used_only_when_asked_for_and_for_student_dev_alone() -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 2, 600)
    wrong = np.where(rng.random((600, 5)) < 0.6, 1 - gold[:, None], gold[:, None])
    good = np.where(rng.random((600, 3)) < 0.93, gold[:, None], 1 - gold[:, None])
    votes = np.hstack([np.repeat(wrong[:, :1], 3, axis=1), good])
    dev = {row + 1: int(gold[row]) for row in range(500, 600)}
    splits = ["train"] * 500 + ["dev"] * 100
    plain, told = make(votes, ["a", "b"], splits=splits), make(votes, ["a", "b"], splits=splits, dev=dev)
    for warehouse in (plain, told):
        denoise(warehouse)
    query = "SELECT name, chosen, reason FROM label_models ORDER BY ALL"
    assert plain.query(query) == told.query(query)
    denoise(told, use_dev=True)
    rows = told.query("SELECT name, config->'systems' FROM label_models WHERE chosen")
    assert sorted(system for _, systems in rows for system in json.loads(systems)) == ["student", "student_dev"]


def test_passages_are_not_labelled_and_votes_on_them_are_left_out() -> None:
    warehouse = make(VOTES, ["a", "b"])
    with warehouse.lease() as db:
        db.execute("UPDATE texts SET origin = 'passage' WHERE text_no IN (2, 6)")
    denoise(warehouse, encoder=None)
    found = soft(warehouse, "majority")
    assert [row[0] for row in found] == [1, 3, 4, 5]
    assert [row[1] for row in found] == [[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]
