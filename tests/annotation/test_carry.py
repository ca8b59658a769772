"""A changed card: answers whose labels it does not touch are kept, with their requests; the others are asked again, once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from factory import prompts
from factory.annotation.stage import annotate
from factory.corpus.stage import ingest
from factory.evaluation.rivals import model_labels
from factory.llm import EngineSettings, ModelRef, make_engine
from factory.task import TaskCard, label_names, load_card
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.anchors import read_anchors

CARD = load_card(
    {
        "name": "q",
        "text": "a question",
        "labels": {"hum": "It asks for a person.", "loc": "It asks for a place.", "num": "A number."},
    }
)
SPLIT = load_card(
    {
        "name": "q", "text": "a question",
        "labels": {
            "hum": "It asks for a person.", "loc": "It asks for a place.",
            "date": {"description": "It asks when.", "was": "num"}, "count": {"description": "How many.", "was": ["num"]},
        },
    }
)  # fmt: skip
TEXTS = [
    *((f"who wrote book {n}", "hum") for n in range(20)),
    *((f"where is town {n}", "loc") for n in range(14)),
    *((f"in what year was {n} built" if n % 2 else f"how many are {n}", "num") for n in range(16)),
]


def warehouse_of(path: Path, card: TaskCard = CARD) -> Warehouse:
    file = path.parent.parent / "train.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in TEXTS))
    warehouse = Warehouse.open(path)
    ingest(warehouse, card, {"train": {"path": str(file), "text": "text"}})
    return warehouse


def recorded(path: Path, card: TaskCard, prompt: str = "annotate") -> Any:
    """An engine with an answer by this card to every text."""
    told = []
    for text, label in TEXTS:
        if label not in card.label_names:
            label = "date" if "year" in text else "count"
        request = prompts.load(prompt).request({**prompts.card_values(card), "text": text}, ModelRef("m"))
        told.append({"key": request.content_key, "sample_no": 0, "answer": label})
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    return make_engine(EngineSettings(kind="recorded", answers=str(path), model="m"), base=path.parent)


def said(warehouse: Warehouse, role: Any) -> Counter[str]:
    names = label_names(warehouse)
    return Counter(names[label] for one in read_anchors(warehouse, role) for label in one.labels)


def asked(warehouse: Warehouse) -> int:
    return int(warehouse.scalar("SELECT count(*) FROM requests"))


def test_of_a_split_label_the_anchors_are_asked_again_and_no_others(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path / "run" / "q.duckdb")
    params: dict[str, Any] = {"anchors": 30, "audit": 10}
    annotate(warehouse, recorded(tmp_path / "a.jsonl", CARD), **params)
    before = {role: read_anchors(warehouse, role) for role in ("audit", "teach")}  # type: ignore[arg-type]
    num = label_names(warehouse).index("num")
    again = sum(num in one.labels for anchors in before.values() for one in anchors)
    assert 0 < again < 30
    kept_requests = dict(warehouse.query("SELECT text_no, request_key FROM annotations"))

    ingest(warehouse, SPLIT, {"train": {"path": str(tmp_path / "train.jsonl"), "text": "text"}})
    engine = recorded(tmp_path / "b.jsonl", SPLIT)
    annotate(warehouse, engine, **params)
    assert asked(warehouse) == 30 + again
    assert annotate(warehouse, engine, **params).skipped
    names = label_names(warehouse)
    for role, anchors in before.items():
        now = {one.text_no: one for one in read_anchors(warehouse, role)}  # type: ignore[arg-type]
        assert set(now) == {one.text_no for one in anchors}, "the same texts, in the same roles"
        for one in anchors:
            assert (now[one.text_no].stratum, now[one.text_no].p) == (one.stratum, one.p)
            if num in one.labels:
                assert {names[label] for label in now[one.text_no].labels} <= {"date", "count"}
            else:
                assert now[one.text_no].labels == one.labels
    newest = warehouse.query(
        "SELECT text_no, request_key, label_no FROM annotations WHERE plan_no = (SELECT max(plan_no) FROM plans)"
    )
    assert len(newest) == 30
    for text_no, key, label in newest:
        assert (kept_requests[text_no] == key) == (names[label] in ("hum", "loc")), "a kept answer keeps its request"
    assert {names[label] for one in model_labels(warehouse) for label in one.labels} == {"hum", "loc", "date", "count"}


def test_another_meaning_of_one_label_asks_its_texts_and_another_guideline_asks_all(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path / "run" / "q.duckdb")
    annotate(warehouse, recorded(tmp_path / "a.jsonl", CARD), split="train")
    told = CARD.model_dump(mode="json")
    told["labels"][1]["description"] = "It asks for a place, or for a way to it."
    sources = {"train": {"path": str(tmp_path / "train.jsonl"), "text": "text"}}
    for card, more in ((load_card(told), 14), (load_card({**told, "guidelines": "Think twice."}), 50)):
        before = asked(warehouse)
        ingest(warehouse, card, sources)
        result = annotate(warehouse, recorded(tmp_path / "b.jsonl", card), split="train")
        assert asked(warehouse) - before == more
        assert result.did["answered"] == 50


def test_the_votes_of_a_prompted_function_are_cast_once(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path / "run" / "q.duckdb")
    params: dict[str, Any] = {"split": "train", "as_votes": True}
    annotate(warehouse, recorded(tmp_path / "a.jsonl", CARD, "prompted_vote"), **params)
    ingest(warehouse, SPLIT, {"train": {"path": str(tmp_path / "train.jsonl"), "text": "text"}})
    annotate(warehouse, recorded(tmp_path / "b.jsonl", SPLIT, "prompted_vote"), **params)
    assert warehouse.query("SELECT state FROM programs ORDER BY program_no") == [("superseded",), ("accepted",)]
    assert asked(warehouse) == 50 + 16
    names = label_names(warehouse)
    votes = warehouse.query("SELECT vote FROM votes JOIN programs USING (program_no) WHERE state = 'accepted'")
    assert Counter(names[vote] for (vote,) in votes) == {"hum": 20, "loc": 14, "date": 8, "count": 8}
