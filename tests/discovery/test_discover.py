"""`factory discover` from texts to a card that `factory run` takes: replayed from recordings, round by round."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory.pipeline.load import load_pipeline
from factory.task import load_card
from tests.topics import SUBJECTS, sentences

Told = Callable[..., tuple[int, str, str]]
TEXTS, GOLD = sentences(5, 120)


def topic(text: str) -> str:
    return next(name for name, words in SUBJECTS.items() if any(word in text for word in words))


def reply(request: dict[str, Any], *, splits: bool) -> dict[str, Any]:
    """What a reader of the request says who sees the topics; with `splits` names them anew in every batch."""
    said = request["messages"][-1]["content"]
    shown = re.findall(r"^(\d+)\. <text>(.*)</text>$", said, re.MULTILINE)
    if request["prompt"] == "discover_labels":
        found: dict[str, list[int]] = {}
        for number, text in shown:
            found.setdefault(topic(text), []).append(int(number))
        mark = f" {len(said) % 7} {shown[0][1][:6]}" if splits else ""
        return {"labels": [{"name": f"{n}{mark}", "meaning": f"About {n}.", "texts": t} for n, t in found.items()]}
    if request["prompt"] == "name_cluster":
        name = topic(said.split("<text>")[1])
        return {"name": name, "meaning": f"About {name}.", "mixed": False}
    if request["prompt"] == "join_labels":
        lines = re.findall(r"^- (\d+) \(\d+ texts?\) (\S+): About (\w+)\.", said, re.MULTILINE)
        kinds: dict[str, list[int]] = {}
        for number, _, name in lines:
            kinds.setdefault(name, []).append(int(number))
        return {"labels": [{"from": at, "name": n, "meaning": f"It is about {n}."} for n, at in kinds.items()]}
    if request["prompt"] == "label_several":
        listed = re.findall(r"^- (\w+):", request["messages"][0]["content"], re.MULTILINE)
        assert listed[-1] == "other"
        backwards = listed[0] > listed[-2]
        return {"labels": {n: "food" if backwards and topic(t) == "money" else topic(t) for n, t in shown}}
    assert request["prompt"] == "revise_labels"
    assert "Label: " in said
    return {"reword": [{"label": "money", "meaning": "It is about money, and never about food."}]}


def answered(folder: Path, *, splits: bool = True) -> int:
    """Answer what is missing; how many requests."""
    requests = folder / "requests.jsonl"
    rows = [json.loads(line) for line in requests.read_text().splitlines()]
    requests.unlink()
    with (folder / "answers.jsonl").open("a") as file:
        for row in rows:
            told = {"key": row["key"], "sample_no": 0, "answer": json.dumps(reply(row, splits=splits))}
            file.write(json.dumps(told) + "\n")
    return len(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "mails.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label"])
        rows.writerows([text, f"secret{gold}"] for text, gold in zip(TEXTS, GOLD, strict=True))
    (tmp_path / "answers.jsonl").write_text("")
    engine = "kind: recorded\nmodel: any\nanswers: answers.jsonl\nrequests: requests.jsonl\n"
    (tmp_path / "engine.yaml").write_text(engine)
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    files = [str(folder / "mails.csv"), "--engine", str(folder / "engine.yaml"), "--out", str(folder / "out")]
    return ["discover", *files, "--encoder", "hashing", "--batch", "30", "--check", "30", "--json", *more]


def test_round_by_round_texts_become_a_card_that_a_pipeline_takes(folder: Path, told: Told) -> None:
    rounds = []
    while (done := told(*command(folder)))[0] != 0:
        assert done[0] == 4, done
        assert "secret" not in (folder / "requests.jsonl").read_text()
        rounds.append(answered(folder))
        assert len(rounds) < 6
    assert rounds == [3, 1, 2, 1]
    found = json.loads(done[1])
    assert set(found["labels"]) == set(SUBJECTS)
    assert found["found"]["coverage"] == 1.0
    assert found["found"]["agreement"] < 1.0
    assert any("torn between food and money" in line for line in found["unsure"])

    card = load_card(folder / "out" / "task.yaml")
    assert set(card.label_names) == {*SUBJECTS, "other"}
    assert card.label("money").description == "It is about money, and never about food."
    assert all(topic(text) == label.name for label in card.labels for text in label.examples)
    pipeline = load_pipeline(folder / "out" / "pipeline.yaml")
    assert pipeline.card == card
    assert pipeline.engine is not None
    assert Path(pipeline.engine["answers"]) == folder / "answers.jsonl"
    with (folder / "out" / "texts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) >= 90
    assert all(topic(row["text"]) == row["label"] for row in rows)
    page = (folder / "out" / "discovery.md").read_text()
    assert "torn between food and money" in page
    assert "reworded after the check: money" in page

    (folder / "answers.jsonl").write_text("")  # everything is in the ledger: a second run asks for nothing
    refused = told(*command(folder))
    assert refused[0] == 2
    assert "there already" in refused[2]
    before = (folder / "out" / "task.yaml").read_text()
    for name in ("task.yaml", "pipeline.yaml"):
        (folder / "out" / name).unlink()
    assert told(*command(folder))[0] == 0
    assert (folder / "out" / "task.yaml").read_text() == before


def test_clusters_are_named_joined_and_checked_alike(folder: Path, told: Told) -> None:
    asked = 0
    while (done := told(*command(folder, "--by", "embeddings", "--labels", "9")))[0] != 0:
        assert done[0] == 4, done
        asked += answered(folder)
    found = json.loads(done[1])
    assert set(found["labels"]) <= set(SUBJECTS)
    assert asked == 9 + 1 + 2 + 1
    assert any("labels were found where 9 were asked for" in line for line in found["unsure"])


def test_without_a_check_it_says_that_nothing_is_known(folder: Path, told: Told) -> None:
    while (done := told(*command(folder, "--check", "0")))[0] != 0:
        answered(folder, splits=False)
    found = json.loads(done[1])
    assert found["found"]["agreement"] is None
    assert any("no fresh text was labelled" in line for line in found["unsure"])


def test_an_answer_that_cannot_be_read_is_asked_again_and_then_said(folder: Path, told: Told) -> None:
    assert told(*command(folder))[0] == 4
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    wrong = rows[0]["key"]
    with (folder / "answers.jsonl").open("a") as file:
        file.write(json.dumps({"key": wrong, "sample_no": 0, "answer": "I cannot."}) + "\n")
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    answered(folder)
    assert told(*command(folder))[0] == 4
    [again] = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert "That answer cannot be used" in again["messages"][-1]["content"]
    with (folder / "answers.jsonl").open("a") as file:
        file.write(json.dumps({"key": again["key"], "sample_no": 0, "answer": "No."}) + "\n")
    while (done := told(*command(folder)))[0] != 0:
        answered(folder)
    assert "1 of 3 batches of texts have no proposals" in "".join(json.loads(done[1])["says"])


@pytest.mark.parametrize(
    ("texts", "words"), [(["one", "two"], "2 different texts are too few"), (["same"] * 50, "1 different")]
)
def test_too_few_texts_are_refused(folder: Path, told: Told, texts: list[str], words: str) -> None:
    (folder / "mails.csv").write_text("\n".join(["text", *texts]) + "\n")
    code, _, said = told(*command(folder))
    assert code == 2
    assert words in said


def test_the_card_is_plain_yaml_without_marks_to_fill_in(folder: Path, told: Told) -> None:
    while told(*command(folder))[0] != 0:
        answered(folder)
    card = yaml.safe_load((folder / "out" / "task.yaml").read_text())
    assert "TODO" not in str(card)
