"""Auditing labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from factory.denoise.stage import denoise
from factory.errors import InputError
from factory.review import stage as review
from factory.review.find_errors import find_issues
from factory.review.stage import audit, read_answers
from tests.denoise.test_stage import make
from tests.denoise.topics import topics, warehouse


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
            db.execute("INSERT INTO occurrences VALUES (1, ?, ?, 'dev', true, NULL)", [row, row + 1])
            db.execute("INSERT INTO gold VALUES (1, ?, ?, ?)", [row, row + 1, int(1 - label if row < 5 else label)])
    assert {row["text_no"] for row in audit(made, of="dev", encoder="hashing").did["issues"]} >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("kind", ["symmetric", "class-dependent"])
def test_audit_is_more_precise_than_cleanlabs_default(rate: float, kind: str) -> None:
    from cleanlab.filter import find_label_issues

    from factory.review.find_errors import out_of_sample

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


def test_the_evidence_names_the_label_models_probabilities_of_both_labels() -> None:
    made, _ = warehouse(wrong=10)
    denoise(made, model="majority")
    first = audit(made, encoder="hashing").did["issues"][0]
    assert first["evidence"]["label_model"] == f"{first['given']} 1.00, {first['likely']} 0.00"


def test_a_multi_task_is_audited_label_by_label() -> None:
    texts, gold = topics()
    votes = np.where(np.arange(3) < 0, -1, np.repeat(gold[:, None], 3, axis=1))
    votes[:5] = 1 - votes[:5]
    made = make(votes, ["money", "other"], kind="multi", targets=[0, 0, 0])
    with made.lease() as db:
        for row, text in enumerate(texts):
            db.execute("UPDATE texts SET text = ? WHERE text_no = ?", [text, row + 1])
    denoise(made, model="majority")
    issues = audit(made, encoder="hashing").did["issues"]
    assert {row["text_no"] for row in issues} >= {1, 2, 3, 4, 5}
    assert {row["label"] for row in issues} == {"money"}
    assert {row["given"] for row in issues} <= {"money", "not money"}
    assert "label_model" in issues[0]["evidence"]


def test_more_labels_than_can_be_audited_are_drawn_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "MOST_AUDITED", 50)
    made, _ = warehouse(wrong=10)
    denoise(made, model="majority")
    found = audit(made, encoder="hashing")
    assert found.did["texts"] == 50
    assert "50 of 200 labels were audited" in found.says


def test_another_ending_is_refused_before_any_work(tmp_path: Path) -> None:
    made, _ = warehouse()
    with pytest.raises(InputError, match="csv or"):
        audit(made, out=tmp_path / "issues.txt")


def test_the_evidence_of_a_multi_task_holds_what_a_person_said_of_every_label(tmp_path: Path) -> None:
    texts, gold = topics()
    votes = np.stack([gold, 1 - gold], axis=1)
    votes[:5] = 1 - votes[:5]
    made = make(votes, ["money", "sport"], kind="multi", targets=[0, 1])
    with made.lease() as db:
        for row, text in enumerate(texts):
            db.execute("UPDATE texts SET text = ? WHERE text_no = ?", [text, row + 1])
    key = dict(made.query("SELECT text_no, content_hash FROM texts"))
    path = tmp_path / "answers.jsonl"
    rows = [{"id": bytes(key[no]).hex(), "text": texts[no - 1], "label": "money|sport"} for no in range(1, 6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read_answers(made, path, annotator="ada")
    denoise(made, model="majority")
    found = [row for row in audit(made, encoder="hashing").did["issues"] if row["text_no"] <= 5]
    assert found
    assert all(row["evidence"]["votes"]["asked answers by ada"] == "money: yes; sport: yes" for row in found)
