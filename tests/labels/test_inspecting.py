"""Auditing labels, and asking about texts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from labels.test_denoise import make

from factory.errors import InputError
from factory.labels.ask import active_score, pick
from factory.labels.audit import find_issues
from factory.labels.stage import ask, audit, denoise, read_answers
from factory.labels.votes import VoteSet
from factory.warehouse import Warehouse

WORDS = (("goal match team score", "ball pitch coach win"), ("bank stock market rate", "loan shares profit tax"))


def topics(n: int = 200) -> tuple[list[str], np.ndarray]:
    """Two easily told topics."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, n)
    texts = [
        " ".join(rng.permutation(" ".join(WORDS[label]).split())[:5]) + f" {row}" for row, label in enumerate(gold)
    ]
    return texts, gold


def warehouse(*, wrong: int = 0, silent: int = 0) -> tuple[Warehouse, np.ndarray]:
    """Three functions that are right but for `wrong` planted texts; the last `silent` texts get no votes."""
    texts, gold = topics()
    said = gold.copy()
    said[:wrong] = 1 - said[:wrong]
    votes = np.repeat(said[:, None], 3, axis=1)
    if silent:
        votes[-silent:] = -1
    made = make(votes, ["sport", "money"], dev={})
    with made.lease() as db:
        for row, text in enumerate(texts):
            db.execute("UPDATE texts SET text = ? WHERE text_no = ?", [text, row + 1])
    return made, gold


def test_planted_errors_in_denoised_labels_are_found_with_the_evidence(tmp_path: Path) -> None:
    made, _ = warehouse(wrong=10)
    denoise(made, model="majority")
    found = audit(made, encoder="hashing", limit=5, out=tmp_path / "issues.csv")
    rows = list(csv.DictReader((tmp_path / "issues.csv").open(encoding="utf-8")))
    hits = [int(row["text_no"]) for row in rows]
    assert sum(number <= 10 for number in hits) >= 9
    assert len(hits) <= 14
    assert len(found.did["issues"]) == 5
    first = found.did["issues"][0]
    assert first["given"] != first["likely"]
    assert set(first["evidence"]["votes"]) == {"p0", "p1", "p2"}
    assert len(first["evidence"]["nearest"]) == 3


def test_audit_of_dev_and_of_nothing() -> None:
    made, gold = warehouse()
    with pytest.raises(InputError, match="Run `denoise`"):
        audit(made)
    with pytest.raises(InputError, match="no labels of `dev`"):
        audit(made, of="dev")
    with made.lease() as db:
        for row, label in enumerate(gold):
            db.execute("INSERT INTO gold VALUES (1, ?, ?, ?)", [row, row + 1, int(1 - label if row < 5 else label)])
    assert {row["text_no"] for row in audit(made, of="dev", encoder="hashing").did["issues"]} >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("kind", ["symmetric", "class-dependent"])
def test_audit_is_more_precise_than_cleanlabs_default(rate: float, kind: str) -> None:
    from cleanlab.filter import find_label_issues

    from factory.labels.audit import out_of_sample

    rng = np.random.default_rng(3)
    gold = rng.integers(0, 3, 600)
    features = np.eye(3)[gold] * 1.2 + rng.normal(0, 0.6, (600, 3))
    features = np.hstack([features, rng.normal(0, 0.3, (600, 20))])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    bad = rng.random(600) < rate
    given = np.where(bad, (gold + (rng.integers(1, 3, 600) if kind == "symmetric" else 1)) % 3, gold)
    bad = given != gold
    mine = np.zeros(600, bool)
    mine[[issue.row for issue in find_issues(given, features, 3)]] = True
    theirs = find_label_issues(given, out_of_sample(features, given, 3))
    precision, recall = (bad & mine).sum() / mine.sum(), (bad & mine).sum() / bad.sum()
    assert precision >= (bad & theirs).sum() / theirs.sum()
    assert recall >= 0.5


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_answers_come_back_as_one_more_voter(tmp_path: Path, ending: str) -> None:
    made, gold = warehouse(silent=20)
    denoise(made, encoder=None)
    path = tmp_path / f"questions{ending}"
    asked = ask(made, budget=20, strategy="coverage", encoder="hashing", out=path)
    assert asked.did["questions"] == 20
    number = {bytes(value).hex(): no for no, value in made.query("SELECT text_no, content_hash FROM texts")}
    if ending == ".csv":
        rows = list(csv.DictReader(path.open(encoding="utf-8")))
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {number[row["id"]] for row in rows} == set(range(181, 201))
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
    assert ask(made, budget=50, strategy="coverage", encoder="hashing").did["asked"][0]["why"] == "no program votes"


def test_label_studio_tasks_go_out_and_its_export_comes_back(tmp_path: Path) -> None:
    made, _ = warehouse(silent=5)
    denoise(made, encoder=None)
    path = tmp_path / "tasks.json"
    ask(made, budget=3, encoder="hashing", out=path)
    tasks = json.loads(path.read_text(encoding="utf-8"))
    assert set(tasks[0]["data"]) >= {"id", "text"}
    for task in tasks:
        task["annotations"] = [{"result": [{"from_name": "label", "value": {"choices": ["money"]}}]}]
    path.write_text(json.dumps(tasks), encoding="utf-8")
    assert read_answers(made, path).did == {"answers": 3, "open": 0}


def test_wrong_answers_are_refused_with_the_row(tmp_path: Path) -> None:
    made, _ = warehouse(silent=5)
    denoise(made, encoder=None)
    path = tmp_path / "a.jsonl"
    ask(made, budget=2, strategy="uncertainty", out=path)
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
    assert pick(1, probs, votes, keys=keys, strategy="disagreement").tolist() == [0]
    assert pick(1, probs, votes, keys=keys, strategy="coverage").tolist() == [3]
    assert (
        pick(9, probs, votes, keys=keys, strategy="random", seed=1).tolist()
        == pick(9, probs, votes, keys=keys, strategy="random", seed=1).tolist()
    )
    order = [3, 1, 0, 2]
    again = pick(2, probs[order], votes.take(order), keys=keys[order], strategy="uncertainty")
    assert np.array(order)[again].tolist() == [3, 0]


def test_a_doubtful_answer_is_worth_asking_again_before_a_sure_one() -> None:
    probs = np.array([[0.55, 0.45], [0.99, 0.01], [0.55, 0.45]])
    score = active_score(probs, np.array([1, 1, 5]))
    assert score[0] < score[2] < score[1]
