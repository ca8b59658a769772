"""Asking about texts, and reading answers back."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from factory.denoise.stage import denoise
from factory.errors import InputError
from factory.label_matrix import VoteSet
from factory.review import stage as review
from factory.review.pick import active_score, pick, spread
from factory.review.stage import ask, read_answers
from factory.warehouse.file import Warehouse
from tests.denoise.test_stage import make
from tests.denoise.topics import warehouse


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_answers_come_back_as_one_more_voter(tmp_path: Path, ending: str) -> None:
    made, gold = warehouse(silent=20)
    denoise(made, encoder=None)
    path = tmp_path / f"questions{ending}"
    asked = ask(made, budget=200, strategy="random", out=path)
    assert asked.did["questions"] == 200
    number = {bytes(value).hex(): no for no, value in made.query("SELECT text_no, content_hash FROM texts")}
    if ending == ".csv":
        rows = list(csv.DictReader(path.open(encoding="utf-8")))
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all((row["why"] == "no program votes") == (number[row["id"]] > 180) for row in rows)
    rows = [row for row in rows if number[row["id"]] > 180]
    for row in rows[:15]:
        row["label"] = ["sport", "money"][gold[number[row["id"]] - 1]]
    if ending == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_answers(made, path).did == {"answers": 15, "open": 5}
    read_answers(made, path)
    assert made.scalar("SELECT count(*) FROM votes WHERE text_no > 180") == 15
    assert not denoise(made, encoder=None).skipped
    assert (
        made.scalar(
            "SELECT count(*) FROM soft_labels JOIN label_models USING (label_model_no) WHERE name = 'majority' AND covered"
        )
        == 195
    )
    assert ask(made, budget=200, encoder="hashing").did["questions"] == 185


def test_label_studio_tasks_go_out_and_its_export_comes_back(tmp_path: Path) -> None:
    made, _ = warehouse(silent=5)
    denoise(made, encoder=None)
    path = tmp_path / "tasks.json"
    ask(made, budget=3, encoder="hashing", out=path)
    tasks = json.loads(path.read_text(encoding="utf-8"))
    assert set(tasks[0]["data"]) >= {"id", "text"}
    assert all("predictions" not in task for task in tasks if task["data"]["why"] == "no program votes")
    for task in tasks:
        task["annotations"] = [{"result": [{"from_name": "label", "value": {"choices": ["money"]}}]}]
    path.write_text(json.dumps(tasks), encoding="utf-8")
    assert read_answers(made, path).did == {"answers": 3, "open": 0}


def test_wrong_answers_are_refused_with_the_row(tmp_path: Path) -> None:
    made, _ = warehouse(silent=5)
    denoise(made, encoder=None)
    path = tmp_path / "a.jsonl"
    ask(made, budget=2, strategy="uncertainty", encoder="hashing", out=path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[1]["label"] = "weather"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl:2.*weather"):
        read_answers(made, path)
    path.write_text('{"id": "00", "label": "money"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="not in the warehouse"):
        read_answers(made, path)
    with pytest.raises(InputError, match="no strategy"):
        ask(made, strategy="luck")


def test_strategies_pick_what_they_say_and_do_not_depend_on_row_order() -> None:
    probs = np.array([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    votes = VoteSet.from_matrix(np.array([[0, 1], [0, 0], [0, -1], [-1, -1]]), 2)
    keys = np.array([7, 3, 5, 1], np.uint64)
    assert pick(2, probs, votes, keys=keys, strategy="uncertainty").tolist() == [3, 0]
    assert (
        pick(9, probs, votes, keys=keys, strategy="random", seed=1).tolist()
        == pick(9, probs, votes, keys=keys, strategy="random", seed=1).tolist()
    )
    order = [3, 1, 0, 2]
    again = pick(2, probs[order], votes.take(order), keys=keys[order], strategy="uncertainty")
    assert np.array(order)[again].tolist() == [3, 0]
    shut = np.array([True, True, True, False])
    assert pick(9, probs, votes, keys=keys, strategy="uncertainty", open_rows=shut).tolist() == [0, 2, 1]


def test_a_text_without_votes_is_doubted_as_texts_like_it_are() -> None:
    features = np.eye(3)[[0] * 20 + [1] * 20 + [2] * 2 + [0]]
    probs = np.array([[0.95, 0.05]] * 20 + [[0.05, 0.95]] * 20 + [[0.6, 0.4]] * 2 + [[0.5, 0.5]])
    votes = VoteSet.from_matrix(np.array([[0]] * 20 + [[1]] * 20 + [[0]] * 2 + [[-1]]), 2)
    keys = np.arange(43, dtype=np.uint64)
    assert pick(1, probs, votes, keys=keys).tolist() == [42]
    assert set(pick(2, probs, votes, keys=keys, features=features, strategy="uncertainty").tolist()) == {40, 41}


def test_a_batch_is_spread_over_doubtful_texts_that_are_unlike_each_other() -> None:
    features = np.eye(2)[[0, 0, 0, 1, 1]]
    probs = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.55, 0.45], [1.0, 0.0]])
    votes = VoteSet.from_matrix(np.zeros((5, 1), int), 2)
    assert set(pick(2, probs, votes, keys=np.arange(5, dtype=np.uint64), features=features).tolist()) == {0, 3}


def test_a_batch_is_spread_in_memory_that_grows_with_the_rows_and_not_with_their_square() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    tracemalloc.start()
    try:
        taken = spread(np.arange(4000), 800, features, rng.random(4000))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(set(taken.tolist())) == 800
    assert most < 4_000_000, "4,000 by 4,000 similarities are 64 MB, 800 by 4,000 are 13 MB"


def test_a_doubtful_answer_is_worth_asking_again_before_a_sure_one() -> None:
    probs = np.array([[0.55, 0.45], [0.99, 0.01], [0.55, 0.45]])
    matrix = np.full((3, 5), -1)
    matrix[0, 0] = matrix[1, 0] = 0
    matrix[2] = 0
    score = active_score(probs, VoteSet.from_matrix(matrix, 2))
    assert score[0] < score[1]
    assert score[0] < score[2]


def test_the_answer_of_a_doubtful_voter_is_asked_about_again_before_that_of_a_good_one() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 200)
    votes = np.full((202, 4), -1)
    for voter, accuracy in enumerate([0.95, 0.95, 0.95, 0.6]):
        votes[:200, voter] = np.where(rng.random(200) < accuracy, gold, 1 - gold)
    votes[200, 0], votes[201, 3] = 1, 1
    probs = np.where(np.append(gold, [1, 1])[:, None] == np.arange(2), 0.9, 0.1)
    score = active_score(probs, VoteSet.from_matrix(votes, 2))
    assert score[201] < score[200]


def answer(made: Warehouse, path: Path, label: str, *, annotator: str | None = None) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({**row, "label": label}) + "\n" for row in rows), encoding="utf-8")
    read_answers(made, path, annotator=annotator)


def test_an_answer_stands_against_every_program_and_programs_are_judged_by_it(tmp_path: Path) -> None:
    made, gold = warehouse(wrong=30)
    denoise(made, encoder=None)
    ask(made, budget=200, strategy="random", out=tmp_path / "a.jsonl")
    number = {bytes(value).hex(): no for no, value in made.query("SELECT text_no, content_hash FROM texts")}
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    said = [
        {**row, "label": ["sport", "money"][gold[number[row["id"]] - 1]]} for row in rows if number[row["id"]] <= 20
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said), encoding="utf-8")
    read_answers(made, tmp_path / "a.jsonl")
    denoise(made, encoder=None)
    for name, text_no, probs in made.query(
        "SELECT name, text_no, probs FROM soft_labels JOIN label_models USING (label_model_no) WHERE text_no <= 30"
    ):
        assert (np.argmax(probs) == gold[text_no - 1]) == (text_no <= 20), name


def test_where_people_contradict_each_other_the_programs_decide(tmp_path: Path) -> None:
    made, gold = warehouse()
    denoise(made, encoder=None)
    ask(made, budget=10, strategy="random", out=tmp_path / "a.jsonl")
    for name, label in (("ada", "money"), ("bo", "sport")):
        answer(made, tmp_path / "a.jsonl", label, annotator=name)
    denoise(made, encoder=None)
    found = made.query(
        "SELECT text_no, probs FROM soft_labels JOIN label_models USING (label_model_no) WHERE name = 'majority'"
        " AND text_no IN (SELECT text_no FROM votes JOIN programs USING (program_no) WHERE kind = 'trusted')"
    )
    assert len(found) == 10
    assert all(np.argmax(probs) == gold[text_no - 1] and max(probs) < 0.6 for text_no, probs in found)


def test_only_active_asks_again_and_says_what_was_answered(tmp_path: Path) -> None:
    made, _ = warehouse(silent=5)
    denoise(made, encoder=None)
    ask(made, budget=200, strategy="random", out=tmp_path / "a.jsonl")
    answer(made, tmp_path / "a.jsonl", "money")
    denoise(made, encoder=None)
    assert ask(made, budget=10, strategy="random").did["questions"] == 0
    again = ask(made, budget=10, strategy="active", encoder="hashing").did["asked"]
    assert len(again) == 10
    assert all("answered before: money" in row["why"] for row in again)


def test_every_annotator_is_a_voter_of_its_own(tmp_path: Path) -> None:
    made, _ = warehouse(silent=5)
    denoise(made, encoder=None)
    ask(made, budget=2, strategy="active", encoder="hashing", out=tmp_path / "a.jsonl")
    for name, label in (("ada", "money"), ("bo", "sport"), ("bo", "money")):
        answer(made, tmp_path / "a.jsonl", label, annotator=name)
    found = made.query(
        "SELECT p.name, count(*), min(vote) FROM votes JOIN programs p USING (program_no) WHERE kind = 'trusted'"
        " GROUP BY ALL ORDER BY ALL"
    )
    assert found == [("asked answers by ada", 2, 1), ("asked answers by bo", 2, 1)]


def test_of_many_texts_a_pool_is_looked_at_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "MOST_LOOKED_AT", 50)
    made, _ = warehouse(silent=5)
    denoise(made, encoder=None)
    assert (
        "50 of 200 training texts were looked at" in ask(made, budget=2, strategy="uncertainty", encoder="hashing").says
    )


def test_label_studio_tasks_suggest_every_label_of_a_multi_task_and_come_with_the_interface(tmp_path: Path) -> None:
    made = make(np.array([[1, 1], [1, 0], [0, 1]]), ["a & b", "c"], kind="multi", targets=[0, 1])
    denoise(made)
    ask(made, budget=3, strategy="uncertainty", encoder="hashing", out=tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    suggested = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks]
    assert ["a & b", "c"] in suggested
    interface = ElementTree.parse(tmp_path / "tasks.xml").getroot()
    assert [choice.get("value") for choice in interface.iter("Choice")] == ["a & b", "c"]
    assert interface.find("Choices").get("choice") == "multiple"
