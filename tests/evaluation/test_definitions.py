"""Pairs of labels that people read otherwise than the model: found beyond chance, shown with their texts, and sharpened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from factory import prompts
from factory.errors import InputError
from factory.evaluation.definitions import definitions_of, read_apart
from factory.llm.request import ModelRef
from factory.pipeline.load import load_pipeline
from factory.pipeline.sharpen import sharpen, sharpen_values
from factory.report import page
from factory.task import load_card
from factory.warehouse.file import Warehouse
from tests.annotation.test_carry import CARD, TEXTS, recorded, warehouse_of


def test_errors_spread_over_all_pairs_show_none_and_those_of_one_pair_do() -> None:
    rng = np.random.default_rng(0)
    people = rng.integers(4, size=200).tolist()
    even = [int(rng.integers(4)) if rng.random() < 0.3 else label for label in people]
    assert read_apart(even, people, 4) == []
    apart = [3 if label == 2 and at % 2 else label for at, label in enumerate(people)]
    [found] = read_apart(apart, people, 4)
    assert found["pair"] == (2, 3)
    assert found["apart"] == sum(a != b for a, b in zip(apart, people, strict=True))
    assert found["p"] < 1e-6
    assert read_apart(people, people, 4) == []


def test_of_two_labels_a_lean_to_one_side_is_shown() -> None:
    people = [0] * 50 + [1] * 50
    both_ways = [1] * 6 + [0] * 44 + [0] * 6 + [1] * 44
    one_way = [1] * 12 + [0] * 38 + [1] * 50
    assert read_apart(both_ways, people, 2) == []
    assert [one["pair"] for one in read_apart(one_way, people, 2)] == [(0, 1)]


@pytest.mark.slow
def test_a_sharper_wording_is_a_suggestion_with_its_price_and_changes_nothing(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    from factory.annotation.stage import annotate
    from factory.warehouse.tables.anchors import put_person

    warehouse = warehouse_of(tmp_path / "run" / "q.duckdb")
    annotate(warehouse, recorded(tmp_path / "first.jsonl", CARD), anchors=len(TEXTS), audit=len(TEXTS))
    numbers = {text: no for no, text in warehouse.query("SELECT text_no, text FROM texts")}
    with pytest.raises(InputError, match="do not differ on any pair"):
        sharpen(_pipeline(tmp_path, "first.jsonl"), [], folder=tmp_path / "run")
    people = {
        numbers[text]: [1 if label == "num" and "year" in text else CARD.label_names.index(label)]
        for text, label in TEXTS
    }
    with warehouse.lease() as db:
        put_person(db, people, "ann", None)
    [found] = definitions_of(warehouse)
    assert found["labels"] == ["loc", "num"]
    assert all(one["people"] == "loc" and one["model"] == "num" for one in found["texts"])
    with pytest.raises(InputError, match="They differ on loc and num"):
        sharpen(_pipeline(tmp_path, "first.jsonl"), ["hum", "num"], folder=tmp_path / "run")

    prompt = prompts.load("sharpen_meanings")
    request = prompt.request(sharpen_values(CARD, found), ModelRef("m"), labels=found["labels"])
    new = [{"label": "loc", "meaning": "A place, or a year."}, {"label": "num", "meaning": "A number that is no year."}]
    answer = {"key": request.content_key, "sample_no": 0, "answer": json.dumps({"meanings": new})}
    lines = (tmp_path / "first.jsonl").read_text()
    (tmp_path / "both.jsonl").write_text(lines + json.dumps(answer) + "\n")
    before = (tmp_path / "task.yaml").read_text()
    given = sharpen(_pipeline(tmp_path, "both.jsonl"), ["num", "loc"], folder=tmp_path / "run")
    assert (tmp_path / "task.yaml").read_text() == before
    suggested = load_card(Path(given["path"]))
    assert [label.description for label in suggested.labels] == [
        CARD.labels[0].description, "A place, or a year.", "A number that is no year.",
    ]  # fmt: skip
    change = given["plan"]["change"]
    hum = sum(label == "hum" for _, label in TEXTS)
    assert change["labels"] == [hum, len(TEXTS) - hum]
    [stage] = given["plan"]["stages"]
    assert (stage["stage"], stage["requests"]) == ("annotate", len(TEXTS) - hum)
    assert warehouse.scalar("SELECT count(*) FROM tasks") == 1, "the price was looked up on a copy"

    command = ("card", "sharpen", str(tmp_path / "q.yaml"), "--folder", str(tmp_path / "run"))
    code, out, _ = told(*command)
    assert code == 0, "the pair that is read apart most surely"
    assert "suggested: A place, or a year." in out
    assert f"labels of the model: {hum} stay, {len(TEXTS) - hum} are asked again" in out
    assert told(*command, "--labels", "loc")[0] == 2
    code, _, words = told(*command, "--out", str(tmp_path / "task.yaml"))
    assert (code, "the card in use" in words) == (2, True)
    code, _, words = told(*command, "--out", str(tmp_path / "first.jsonl"))
    assert (code, "no task card" in words) == (2, True)

    page.write(warehouse, tmp_path / "report")
    for end in ("md", "html"):
        assert "People read loc and num otherwise than the language model" in (tmp_path / f"report.{end}").read_text()


def _pipeline(folder: Path, answers: str) -> object:
    (folder / "task.yaml").write_text(json.dumps(CARD.model_dump(mode="json", exclude_defaults=True)))
    (folder / "q.yaml").write_text(
        json.dumps(
            {
                "name": "q", "task": "task.yaml", "engine": {"kind": "recorded", "answers": answers, "model": "m"},
                "steps": [
                    {"ingest": {"train": {"path": "train.jsonl", "text": "text"}}},
                    {"annotate": {"anchors": len(TEXTS), "audit": len(TEXTS)}},
                ],
            }
        )
    )  # fmt: skip
    return load_pipeline(folder / "q.yaml")


def test_nothing_is_said_where_nobody_answered() -> None:
    assert definitions_of(Warehouse.memory()) == []
