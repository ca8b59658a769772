"""A person's labels one by one: a vote and an anchor, put on record, undone; lists of texts; what is known of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.denoise.stage import denoise
from factory.denoise.weighed import vote_odds
from factory.errors import InputError
from factory.programs.manage import reject_program
from factory.review.stage import evidence, label_texts, undo_labels
from factory.review.texts import Wanted, find_texts
from factory.warehouse.file import Warehouse
from tests.denoise.test_stage import make

Told = Callable[..., tuple[int, str, str]]


def multi() -> Warehouse:
    """Six texts, two labels that a text may have, a program each."""
    votes = np.array([[1, 0], [1, -1], [0, 1], [-1, -1], [-1, 1], [1, 1]])
    return make(votes, ["red", "blue"], kind="multi", targets=[0, 1], dev={})


def anchors(warehouse: Warehouse) -> list[Any]:
    return warehouse.query("SELECT text_no, label_no, yes, annotator FROM anchors ORDER BY ALL")


def votes(warehouse: Warehouse) -> list[Any]:
    return warehouse.query(
        "SELECT name, target_label_no, text_no, vote FROM votes JOIN programs USING (program_no) WHERE kind = 'trusted'"
        " ORDER BY ALL"
    )


def test_in_a_multi_task_an_answer_is_a_yes_or_a_no_for_each_label() -> None:
    warehouse = multi()
    label_texts(warehouse, {4: ["blue"], 2: []}, annotator="Ann")
    label_texts(warehouse, {4: ["red", "blue"]}, annotator="Bo")
    assert anchors(warehouse) == [
        (2, 0, False, "Ann"), (2, 1, False, "Ann"), (4, 0, False, "Ann"), (4, 0, True, "Bo"), (4, 1, True, "Ann"),
        (4, 1, True, "Bo"),
    ]  # fmt: skip
    label_texts(warehouse, {4: ["red"]}, annotator="Ann")
    assert ("asked answers by Ann", 1, 4, 0) in votes(warehouse)
    assert undo_labels(warehouse, annotator="Ann") == {"texts": [4]}
    assert ("asked answers by Ann", 1, 4, 1) in votes(warehouse)
    assert undo_labels(warehouse, annotator="Ann") == {"texts": [2, 4]}  # said at once, undone at once
    assert [row[3] for row in anchors(warehouse)] == ["Bo", "Bo"]
    assert {row[0] for row in votes(warehouse)} == {"asked answers by Bo"}
    with pytest.raises(InputError, match="no answer to undo"):
        undo_labels(warehouse, annotator="Ann")


def test_an_answer_to_the_audit_slice_is_an_anchor_and_no_vote() -> None:
    warehouse = make(np.array([[0], [1]]), ["a", "b"], dev={})
    with warehouse.lease() as db:
        db.execute("INSERT INTO anchors (text_no, label_no, yes, role, source) VALUES (1, 0, true, 'audit', 'model')")
    assert label_texts(warehouse, {1: ["b"], 2: ["b"]}) == {"answers": 2, "audit": 1}
    assert [row[2] for row in votes(warehouse)] == [2]
    assert warehouse.query("SELECT role FROM anchors WHERE source = 'person' ORDER BY text_no") == [
        ("audit",),
        ("teach",),
    ]
    undo_labels(warehouse)
    assert len(anchors(warehouse)) == 1


def test_filters_of_a_multi_task() -> None:
    warehouse = multi()
    denoise(warehouse, model="majority", encoder=None)

    def found(**wanted: Any) -> list[int]:
        return [text["text_no"] for text in find_texts(warehouse, Wanted(**wanted))["texts"]]

    assert found(show="uncovered") == [4]
    assert found(label="blue") == [3, 5, 6]
    assert found(show="conflict") == []  # what is said of two labels is no conflict
    label_texts(warehouse, {5: ["red"], 6: ["red", "blue"]})
    assert found(show="differs") == [5]
    assert found(show="answered") == [5, 6]
    with pytest.raises(InputError, match="did you mean `conflict`"):
        found(show="conflit")


def test_what_a_vote_counts_is_that_of_the_label_model_whoever_answers_later() -> None:
    warehouse = make(np.array([[0, 1], [1, 1]]), ["a", "b"], dev={})
    assert vote_odds(warehouse) == {}
    weights = [[-1.0, -3.0], [-2.0, 0.0], [0.0, -1.0], [-4.0, -1.0]]
    with warehouse.lease() as db:
        db.execute(
            "INSERT INTO label_models (label_model_no, key, name, config, params, chosen) VALUES (1, 'k', 'joint', ?, ?, true)",
            ['{"systems": ["student"]}', json.dumps({"the task": {"votes": {"weights": weights}}})],
        )
        db.execute("INSERT INTO soft_labels VALUES (1, 1, [0.5, 0.5], true, true)")
    label_texts(warehouse, {1: ["a"]})
    odds = {key: round(value, 3) for key, value in vote_odds(warehouse).items()}
    assert odds == {(1, 0): 7.389, (1, 1): 7.389, (2, 0): 2.718, (2, 1): 20.086}
    assert [(vote["name"], vote["says"]) for vote in evidence(warehouse, 1)["votes"]] == [("p0", "a"), ("p1", "b")]
    reject_program(warehouse, 1)
    assert vote_odds(warehouse) == {}  # the weights are those of other columns


def test_the_commands_do_what_the_pages_do(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    make(np.array([[0, 1], [1, 1], [-1, -1]]), ["a", "b"], dev={}, path=path)
    run = str(path)
    assert told("label", run, "1", "b", "--as", "Ann")[0] == 0
    code, out, _ = told("texts", run, "--show", "answered", "--json")
    assert (code, json.loads(out)["texts"][0]["answers"]) == (0, [{"by": "Ann", "labels": ["b"]}])
    code, out, _ = told("text", run, "1")
    assert "p0: a" in out
    assert "Ann: b" in out
    assert told("label", run, "--undo", "--as", "Ann")[0] == 0
    assert told("label", run, "--undo", "--as", "Ann")[0] == 2
    assert told("label", run)[0] == 2
    assert "text 9 is not in train" in told("label", run, "9", "a")[2]
