"""Quality without gold: the audit slice, people's answers to it, and a report that has no score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory import prompts
from factory.annotation.stage import annotate
from factory.corpus.stage import ingest
from factory.denoise.stage import denoise
from factory.distill.stage import distill
from factory.evaluation.audit import LEAST_PEOPLE, audit_of
from factory.evaluation.heard import grouped, outlook_of
from factory.evaluation.stage import evaluate, store_gold, summary
from factory.llm import EngineSettings, ModelRef, make_engine
from factory.report import page
from factory.report.facts import gather
from factory.review.stage import ask, read_answers
from factory.task import load_card
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.anchors import audit_texts, read_anchors
from tests.evaluation.test_anchored_line import filled
from tests.evaluation.test_evaluate import CARD, FRUIT


def trained(folder: Path, *, audit: int = 70) -> Warehouse:
    """A line with anchors and an audit slice, whose test nobody evaluated."""
    warehouse, engine = filled(folder)
    annotate(warehouse, engine, anchors=audit + 60, audit=audit)
    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"])
    return warehouse


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return trained(tmp_path_factory.mktemp("audit"))


def answered(warehouse: Warehouse, path: Path, budget: int, *, wrong: int = 0) -> None:
    """A person answers so many questions of the audit slice, the first of them in another way than the texts have it."""
    ask(warehouse, strategy="audit", budget=budget, out=path, encoder="hashing")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for at, row in enumerate(rows):
        row["label"] = CARD.label_names[(row["text"].split()[0] not in FRUIT) ^ (at < wrong)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read_answers(warehouse, path)


def test_only_the_strategy_audit_asks_about_the_audit_slice_and_without_a_suggestion(made: Warehouse) -> None:
    of_audit = set(audit_texts(made))
    number = {bytes(content).hex(): no for no, content in made.query("SELECT text_no, content_hash FROM texts")}
    for strategy in ("auto", "random", "active", "uncertainty"):
        asked = ask(made, strategy=strategy, budget=300, encoder="hashing").did["asked"]
        assert not of_audit & {number[row["id"]] for row in asked}, strategy
    asked = ask(made, strategy="audit", budget=50).did["asked"]
    assert {number[row["id"]] for row in asked} < of_audit
    assert {row["suggested"] for row in asked} == {""}
    assert {row["probability"] for row in asked} == {""}


def test_answers_to_the_audit_slice_teach_nobody_and_are_not_asked_again(tmp_path: Path) -> None:
    warehouse = trained(tmp_path)
    answered(warehouse, tmp_path / "a.jsonl", 60)
    assert {one.source for one in read_anchors(warehouse, "teach")} == {"model"}
    assert len(read_anchors(warehouse, "audit", "person")) == 60
    assert warehouse.scalar("SELECT count(*) FROM programs WHERE kind = 'trusted'") == 0, "no votes"
    assert denoise(warehouse, encoder="none").skipped
    assert distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"]).skipped
    assert ask(warehouse, strategy="audit", budget=50).did["questions"] == 10


@pytest.mark.slow
def test_accuracy_is_told_only_once_people_have_answered_enough(tmp_path: Path) -> None:
    warehouse = trained(tmp_path)
    answered(warehouse, tmp_path / "few.jsonl", LEAST_PEOPLE - 1, wrong=5)
    few = audit_of(warehouse) or {}
    assert all(row["accuracy"] is None for row in few["systems"])
    assert "49 so far" in " ".join(few["sentences"])
    answered(warehouse, tmp_path / "one.jsonl", 1, wrong=1)
    enough = audit_of(warehouse) or {}
    told = {row["system"]: row["accuracy"] for row in enough["systems"]}["combined"]
    assert told["n"] == LEAST_PEOPLE
    assert told["low"] < 44 / 50 < told["high"]
    assert told["high"] - told["low"] <= told["alone"][1] - told["alone"][0]
    assert "agreement, not accuracy" not in " ".join(enough["sentences"])
    assert enough["people"]["share"] == pytest.approx(44 / 50), "the annotator's own error is told beside"
    assert "by people's answers `combined` is right on an estimated" in gather(warehouse)["first"][0]


def test_a_report_without_a_score_has_rivals_shares_doubts_and_texts_to_ask_about(
    made: Warehouse, tmp_path: Path
) -> None:
    facts = gather(made)
    audit, outlook = facts["audit"], facts["outlook"]
    rows = {row["system"]: row for row in audit["systems"]}
    rivals = {name: row for name, row in rows.items() if name.startswith("teacher_labels_")}
    assert rivals, "trained on the model's labels, but for those of the audit slice"
    assert all(row["spent"]["requests"] <= 60 for row in rivals.values())
    assert facts["first"][0].startswith(
        "There is no score, as no gold of `test` was given: `combined` agrees with the language model"
    )
    assert sum(outlook["shares"].values()) == pytest.approx(1)
    assert 0 <= outlook["doubtful"] <= 1 - outlook["sure"] <= 1
    sure = [row["sure"] for row in outlook["ask"]]
    assert sure == sorted(sure)
    assert len(sure) == min(100, outlook["n"])
    assert {row["label"] for row in facts["known"]["table"]} == set(CARD.label_names)
    assert all(share is not None for row in facts["known"]["table"] for share in row["shares"])
    page.write(made, tmp_path / "report")
    for ending in ("md", "html"):
        text = (tmp_path / f"report.{ending}").read_text(encoding="utf-8")
        assert text.index("There is no score, as no gold") < text.index("Agreement with the language model")
        assert "factory ask RUN --budget 100" in text
        assert "teacher_labels_" in text
    assert "Score against money" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.write(made, tmp_path / "report").skipped


def test_pairs_are_grouped_with_texts_the_most_frequent_first() -> None:
    found = grouped([("a or b", "1"), ("a or c", "2"), ("a or b", "3"), ("a or b", "4"), ("a or b", "5")])
    assert found == [
        {"labels": "a or b", "n": 4, "texts": ["1", "3", "4"]},
        {"labels": "a or c", "n": 1, "texts": ["2"]},
    ]


def test_without_a_student_there_is_no_outlook(tmp_path: Path) -> None:
    warehouse, _ = filled(tmp_path)
    assert outlook_of(warehouse) is None
    assert gather(warehouse)["first"] == [
        "There is no score, as no gold of `test` was given, and no audit slice says how often anybody agrees with the labels."
    ]


@pytest.mark.slow
def test_a_multi_task_has_rivals_agreement_and_an_outlook_too(tmp_path: Path) -> None:
    card = load_card({"name": "m", "kind": "multi", "text": "a line", "labels": {"red": "x", "big": "y"}})
    rng = np.random.default_rng(0)
    said = [np.flatnonzero(rng.random(2) < 0.5).tolist() for _ in range(160)]
    texts = [f"{'red' if 0 in of else 'blue'} {'big' if 1 in of else 'small'} thing {at}" for at, of in enumerate(said)]
    names = [[card.label_names[no] for no in of] for of in said]
    sources: dict[str, Any] = {"train": {"texts": texts[:120]}, "test": {"texts": texts[120:], "labels": names[120:]}}
    warehouse = Warehouse.open(tmp_path / "m.duckdb")
    ingest(warehouse, card, sources)
    numbers = dict(warehouse.query("SELECT text, text_no FROM texts"))
    with warehouse.lease() as db:
        for no in (0, 1):
            add = "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state, target_label_no)"
            db.execute(f"{add} VALUES ($1, $2, $2, 'python', 'hand', 'x', 'accepted', $3)", [no + 1, f"p{no}", no])
            votes = [(no + 1, numbers[text], int(no in of)) for text, of in zip(texts, said, strict=True)]
            db.executemany("INSERT INTO votes VALUES (?, ?, ?)", votes)
    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["student"])
    prompt, answers = prompts.load("annotate_multi"), tmp_path / "answers.jsonl"
    with answers.open("w", encoding="utf-8") as file:
        for text, of in zip(texts, names, strict=True):
            request = prompt.request({**prompts.card_values(card), "text": text}, ModelRef("m"))
            one = {"key": request.content_key, "sample_no": 0, "answer": "\n".join(of) or "none"}
            file.write(json.dumps({**one, "date": "2026-11-22", "model": "m"}) + "\n")
    engine = make_engine(EngineSettings(kind="recorded", answers=str(answers), model="m"), base=tmp_path)
    annotate(warehouse, engine, anchors=80, audit=30)
    rows = {row["system"]: row for row in (audit_of(warehouse, rivals=True) or {})["systems"]}
    assert rows["student"]["share"] > 0.9
    assert rows["teacher_labels_50"]["labels"]["red"][0] == rows["student"]["labels"]["red"][0]
    assert (outlook_of(warehouse) or {})["shares"]["big"] == pytest.approx(0.5, abs=0.2)
    store_gold(warehouse, sources)
    evaluate(warehouse, draws=50, label_equivalents=False, teacher_labels=[20, 40])
    found = (summary(warehouse) or {})["systems"]
    assert found["teacher_labels_40_active"]["score"] > 0.8
    page.write(warehouse, tmp_path / "report")
    assert "labels of the language model alone does" in (tmp_path / "report.md").read_text(encoding="utf-8")
