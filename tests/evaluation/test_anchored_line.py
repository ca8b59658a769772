"""Anchors through the line: the mixture, the student it teaches, rivals, and the audit slice that nothing learns from."""

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
from factory.errors import InputError
from factory.evaluation.audit import agreed, audit_of
from factory.evaluation.stage import evaluate, store_gold, summary
from factory.llm import EngineSettings, ModelRef, make_engine
from factory.report import page
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.anchors import put_person, read_anchors
from tests.evaluation.test_evaluate import CARD, FRUIT, corpus, line, put_votes


def filled(folder: Path) -> tuple[Warehouse, Any]:
    """A toy task with gold, votes of eight programs and a ninth that is always wrong, and a model that knows fruit from tools."""
    folder.mkdir(exist_ok=True)
    sources = corpus(folder, test_votes=False)
    rng = np.random.default_rng(9)
    labels = rng.integers(2, size=240)
    rows = [{"text": line(rng, int(label)), "label": CARD.label_names[label]} for label in labels]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    warehouse = Warehouse.open(folder / "w.duckdb")
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    put_votes(warehouse)
    with warehouse.lease() as db:
        db.execute(
            "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state)"
            " VALUES (9, 'k9', 'contrary', 'python', 'hand', 'def label(text):\n    return None', 'accepted')"
        )
        for text_no, text in db.execute("SELECT text_no, text FROM texts WHERE text_no % 2 = 0").fetchall():
            db.execute("INSERT INTO votes VALUES (9, ?, ?)", [text_no, int(text.split()[0] in FRUIT)])
    prompt, answers = prompts.load("annotate"), folder / "answers.jsonl"
    said = []
    for (text,) in warehouse.query("SELECT text FROM texts ORDER BY text_no"):
        request = prompt.request({**prompts.card_values(CARD), "text": text}, ModelRef("m"))
        name = CARD.label_names[int(text.split()[0] not in FRUIT)]
        said.append({"key": request.content_key, "sample_no": 0, "answer": name, "date": "2026-11-22", "model": "m"})
    answers.write_text("".join(json.dumps(one) + "\n" for one in said))
    return warehouse, make_engine(EngineSettings(kind="recorded", answers=str(answers), model="m"), base=folder)


@pytest.fixture(scope="module")
def anchored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, Any]:
    warehouse, engine = filled(tmp_path_factory.mktemp("anchored"))
    annotate(warehouse, engine, anchors=110, audit=30)
    denoise(warehouse, encoder="none")
    told = distill(warehouse, student="linear", encoder="hashing")
    evaluate(warehouse, draws=100, label_equivalents=False, teacher_labels=[20, 50])
    return warehouse, told


def test_the_mixture_and_the_student_it_taught_stand_in_the_table_beside_the_same_student_on_labels_alone(
    anchored: tuple[Warehouse, Any],
) -> None:
    warehouse, told = anchored
    found = (summary(warehouse) or {})["systems"]
    assert {
        "student",
        "majority",
        "mixture",
        "glass_box",
        "combined",
        "teacher_labels_20",
        "teacher_labels_50",
        "teacher_labels_110",
        "teacher_labels_20_active",
        "teacher_labels_50_active",
    } <= set(found)
    assert "teacher_labels_110_active" not in found, "nothing is left to choose"
    assert found["teacher_labels_50_active"]["spent"]["requests"] == 50
    assert found["teacher_labels_110"]["versus_combination"]["of"] == "combined"
    assert found["combined"]["versus_label_model"]["less"] == "mixture"
    assert found["mixture"]["score"] > 0.9
    assert found["glass_box"]["score"] == found["mixture"]["score"], "none of these test texts is one of training"
    assert found["combined"]["score"] > 0.9
    assert any("program 'contrary' is retired from the mixture: right on 0 of" in said for said in told.says)
    assert warehouse.scalar(
        "SELECT count(*) FROM soft_labels JOIN label_models USING (label_model_no) WHERE name = 'mixture'"
    ) == (warehouse.scalar("SELECT count(*) FROM texts"))


def test_what_each_system_was_bought_with_stands_beside_it(anchored: tuple[Warehouse, Any]) -> None:
    found = (summary(anchored[0]) or {})["systems"]
    assert found["mixture"]["spent"]["requests"] == found["glass_box"]["spent"]["requests"] == 110
    assert found["teacher_labels_50"]["spent"]["requests"] == 50
    assert 0 < found["teacher_labels_20"]["spent"]["tokens"] < found["teacher_labels_50"]["spent"]["tokens"]
    nothing = {"requests": 0, "tokens": 0, "tokens_in": 0, "tokens_out": 0, "cost": 0.0}
    assert found["full_gold"]["spent"] == nothing
    assert found["majority"]["spent"] == nothing, "these programs were written by hand"


def test_a_second_run_does_nothing_and_denoise_does_not_take_the_mixture_away(anchored: tuple[Warehouse, Any]) -> None:
    warehouse, _ = anchored
    assert denoise(warehouse, encoder="none").skipped
    assert distill(warehouse, student="linear", encoder="hashing").skipped
    assert evaluate(warehouse, draws=100, label_equivalents=False, teacher_labels=[20, 50]).skipped


def test_the_audit_slice_says_agreement_with_an_interval_and_never_accuracy(anchored: tuple[Warehouse, Any]) -> None:
    audit = audit_of(anchored[0])
    assert audit is not None
    assert audit["n"] == 30
    rows = {row["system"]: row for row in audit["systems"]}
    assert {"student", "combined", "mixture"} <= set(rows)
    assert rows["mixture"]["low"] < rows["mixture"]["share"] <= rows["mixture"]["high"]
    assert sum(n for n, _ in rows["mixture"]["labels"].values()) == 30
    said = " ".join(audit["sentences"])
    assert "agreement, not accuracy" in said
    assert agreed(0, 10).low == 0
    assert agreed(10, 10).high == pytest.approx(1)


def test_the_report_shows_it_with_gold_and_without(anchored: tuple[Warehouse, Any], tmp_path: Path) -> None:
    page.write(anchored[0], tmp_path / "report")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Agreement with the language model" in text
    assert "The same student on 110 labels of the language model alone does" in text.split("\n##")[0], "it comes first"
    assert "50 labels of the language model that it chose itself of 110" in text
    assert "## Prices" in text
    assert "the student's recipe on 50 labels of the language model alone" in text
    assert "Agreement with the language model" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.slow
def test_turned_answers_of_the_audit_slice_change_nothing_but_the_estimate(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        warehouse, engine = filled(tmp_path / name)
        annotate(warehouse, engine, anchors=90, audit=30)
        if name == "two":
            with warehouse.lease() as db:
                db.execute("UPDATE anchors SET label_no = 1 - label_no WHERE role = 'audit'")
        denoise(warehouse, encoder="none")
        distill(warehouse, student="linear", encoder="hashing", systems=["combined"])
        made.append(warehouse)
    one, two = made
    for table in ("soft_labels", "model_rows"):
        assert one.query(f"SELECT * FROM {table} ORDER BY ALL") == two.query(f"SELECT * FROM {table} ORDER BY ALL")
    assert (audit_of(one) or {})["systems"][0]["share"] == pytest.approx(
        1 - (audit_of(two) or {})["systems"][0]["share"]
    )


@pytest.mark.long
@pytest.mark.slow
def test_without_anchors_enough_there_is_no_mixture_and_the_line_is_as_it_was(tmp_path: Path) -> None:
    warehouse, engine = filled(tmp_path / "few")
    denoise(warehouse, encoder="none")
    plain = distill(warehouse, student="linear", encoder="hashing")
    assert "combined" not in plain.did["systems"]
    assert not any("mixture" in said for said in plain.says)
    keys = warehouse.query("SELECT system, key FROM models ORDER BY 1")
    annotate(warehouse, engine, anchors=60, audit=30)
    told = distill(warehouse, student="linear", encoder="hashing")
    assert told.skipped
    with pytest.raises(InputError, match="nothing to learn from: no mixture: 30 anchors teach, and it takes 50"):
        distill(warehouse, student="linear", encoder="hashing", systems=["combined"])
    assert warehouse.query("SELECT system, key FROM models ORDER BY 1") == keys
    with warehouse.lease() as db:
        others = [one.text_no for one in read_anchors(warehouse, "teach")]
        text_nos = [no for (no,) in warehouse.query("SELECT text_no FROM split_texts WHERE split = 'train' ORDER BY 1")]
        put_person(db, {no: [no % 2] for no in text_nos if no not in others}, "bo", None)
    told = distill(warehouse, student="linear", encoder="hashing")
    assert list(told.did["trained"]) == ["combined"], (
        "people's answers are anchors too, and today's systems are left alone"
    )
