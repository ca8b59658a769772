"""Deferral: the least sure texts get no label, are written as requests, or are asked of an engine, and paid for once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from starlette.testclient import TestClient

from factory.errors import InputError
from factory.export.write import write_export
from factory.llm.batch_files import parse_results
from factory.predict.decide import sureness
from factory.predict.defer import Deferring, least_sure
from factory.predict.load import load_export
from factory.predict.serve import make_app
from factory.students import fit_student
from factory.task import Label, TaskCard
from tests.fake_server import FakeServer
from tests.topics import SPEC, SUBJECTS, sentences

HELD, _ = sentences(9, 50)
CARD = TaskCard(
    name="topics", text="a sentence", labels=tuple(Label(name=n, description=f"about {n}") for n in SUBJECTS)
)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of three topics that carries its card."""
    texts, labels = sentences(1, 200)
    out = tmp_path_factory.mktemp("defer") / "export"
    spec = replace(SPEC, card=CARD.model_dump(mode="json"), annotator="fake")
    write_export(fit_student("linear", texts, np.eye(3)[labels]), None, spec, out, HELD)
    return out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "text"])
        rows.writerows([[at, text] for at, text in enumerate(HELD)] + [["none", ""]])
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def engine_file(folder: Path, **settings: Any) -> Path:
    path = folder / "engine.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_of_equally_sure_texts_the_first_are_deferred_and_rows_without_a_text_never() -> None:
    sure = np.array([0.9, 0.5, np.nan, 0.7, 0.5, 0.6])
    assert least_sure(sure, 0.4).tolist() == [1, 4]
    assert Deferring(share=0.2).chosen(sure).tolist() == [False, True, False, False, False, False]
    assert Deferring(below=0.7).chosen(sure).tolist() == [False, True, False, False, True, True]
    assert sureness(np.array([[0.9, 0.4], [0.1, 0.05]]), multi=True).tolist() == pytest.approx([0.6, 0.9])
    for wrong in ({}, {"share": 0.1, "below": 0.5}, {"share": 1.0}, {"below": 0.0}):
        with pytest.raises(InputError):
            Deferring(**wrong)


def test_a_tenth_is_left_to_people_and_the_rows_keep_their_order(
    export: Path, file: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "out.csv"
    code, said, _ = told("predict", str(export), str(file), "--out", str(out), "--defer", "0.1", "--json")
    assert code == 0
    done, rows = json.loads(said), read(out)
    assert (done["rows"], done["no_text"], done["deferred"], done["answered"], done["nobody"]) == (51, 1, 5, 0, 5)
    assert [row["id"] for row in rows] == [*map(str, range(50)), "none"]
    model = load_export(export)
    sure = sureness(model.predict_proba(HELD), multi=False)
    expected = set(np.argsort(sure, kind="stable")[:5].tolist())
    assert {at for at, row in enumerate(rows) if row["deferred"] == "true"} == expected
    for at, (row, label) in enumerate(zip(rows, model.predict(HELD), strict=False)):
        assert row["label"] == ("" if at in expected else label)
        assert row["answered_by"] == ("nobody" if at in expected else "model")
        assert float(row["probability"]) == pytest.approx(sure[at], abs=1e-5)
    assert (rows[-1]["deferred"], rows[-1]["answered_by"], rows[-1]["probability"]) == ("false", "nobody", "")


def test_an_engine_is_asked_once_for_what_is_deferred_whatever_happens_to_the_output(
    export: Path, file: Path, tmp_path: Path, fake_server: Callable[..., FakeServer],
    told: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    server = fake_server()
    name = next(iter(SUBJECTS))
    server.control(reply=name)
    engine = engine_file(tmp_path, kind="server", url=server.url, model="fake")
    out, ledger = tmp_path / "out.csv", tmp_path / "out.csv.answers.duckdb"
    command = ("predict", str(export), str(file), "--out", str(out), "--defer", "0.2", "--engine", str(engine))
    code, _, words = told(*command)
    assert code == 0, words
    assert "10 of them deferred (10 answered by the engine)" in words
    rows = read(out)
    assert {row["label"] for row in rows if row["deferred"] == "true"} == {name}
    assert sum(row["answered_by"] == "engine" for row in rows) == 10
    assert server.stats()["requests"] == 10
    out.unlink()  # as if it had been killed before the end
    assert told(*command)[0] == 0
    assert read(out) == rows
    assert server.stats()["requests"] == 10
    assert ledger.is_file()


def test_an_answer_that_cannot_be_read_leaves_the_text_to_people(
    export: Path, file: Path, tmp_path: Path, fake_server: Callable[..., FakeServer],
    told: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    server = fake_server()
    server.control(reply="no idea")
    engine = engine_file(tmp_path, kind="server", url=server.url, model="fake")
    out = tmp_path / "out.csv"
    assert told("predict", str(export), str(file), "--out", str(out), "--defer", "0.1", "--engine", str(engine))[0] == 0
    deferred = [row for row in read(out) if row["deferred"] == "true"]
    assert [(row["label"], row["answered_by"]) for row in deferred] == [("", "nobody")] * 5


def test_requests_are_written_as_the_annotation_prompt_renders_the_card_and_results_are_taken_in(
    export: Path, file: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    out, requests, results = tmp_path / "out.csv", tmp_path / "ask.jsonl", tmp_path / "results.jsonl"
    first = ("predict", str(export), str(file), "--out", str(out), "--defer", "0.1")
    code, _, words = told(*first, "--defer-to", str(requests))
    assert code == 0
    assert f"5 requests written to {requests}" in words
    lines = [json.loads(line) for line in requests.read_text().splitlines()]
    assert len(lines) == 5
    assert all(line["body"]["model"] == "fake" for line in lines)
    system = lines[0]["body"]["messages"][0]["content"]
    assert "You label texts for a classification task" in system
    assert all(f"about {name}" in system for name in SUBJECTS)
    name = list(SUBJECTS)[1]
    body = {"choices": [{"index": 0, "message": {"content": name}, "finish_reason": "stop"}], "usage": {}}
    answered = [{"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}} for line in lines]
    results.write_text("".join(json.dumps(line) + "\n" for line in answered))
    assert len(list(parse_results(enumerate(results.read_bytes().splitlines(True), 1), "x"))) == 5
    engine = engine_file(tmp_path, kind="batch", model="fake", requests="more.jsonl", results=str(results))
    code, _, words = told(*first, "--engine", str(engine))
    assert code == 0, words
    assert {row["label"] for row in read(out) if row["answered_by"] == "engine"} == {name}
    assert not (tmp_path / "more.jsonl").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--defer", "0.1", "--defer-below", "0.5"), "a share of the texts, or what lies below"),
        (("--defer", "2"), "lies between 0 and 1"),
        (("--defer-to", "x.jsonl"), "nothing is deferred"),
        (("--defer", "0.1", "--engine", "engine.yaml"), "beside the output"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(
    export: Path, file: Path, told: Callable[..., tuple[int, str, str]], more: tuple[str, ...], words: str
) -> None:
    code, _, said = told("predict", str(export), str(file), *more)
    assert code == 2
    assert words in said


def test_many_files_stdin_and_an_export_without_a_card_are_refused(
    linear: Path, file: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, said = told("predict", str(linear), str(tmp_path), "--out", str(tmp_path / "o"), "--defer", "0.1")
    assert (code, "one file at a time" in said) == (2, True)
    code, _, said = told("predict", str(linear), "-", "--defer", "0.1")
    assert (code, "stdin is read once" in said) == (2, True)
    engine = engine_file(tmp_path, kind="server", url="http://127.0.0.1:9/v1", model="fake")
    out = str(tmp_path / "o.csv")
    code, _, said = told("predict", str(linear), str(file), "--out", out, "--defer", "0.1", "--engine", str(engine))
    assert (code, "carries no task card" in said) == (2, True)
    code, _, said = told("predict", str(linear), str(file), "--out", out, "--defer", "0.1", "--engine", str(file))
    assert code == 2


def test_the_server_marks_what_it_defers_and_asks_who_is_there(export: Path) -> None:
    model = load_export(export)
    sure = sureness(model.predict_proba(HELD), multi=False)
    below = float(np.median(sure))
    asked: list[list[str]] = []

    def answer(texts: Any, _: Any) -> list[tuple[str, ...] | None]:
        asked.append(list(texts))
        return [("other",), *[None] * (len(texts) - 1)]

    with TestClient(make_app(export, answer=answer)) as client:
        plain = client.post("/predict", json={"texts": HELD}).json()["results"]
        assert "deferred" not in plain[0]
        assert not asked
        found = client.post("/predict", json={"texts": HELD, "defer_below": below}).json()["results"]
        late = [at for at in range(len(HELD)) if sure[at] < below]
        assert asked == [[HELD[at] for at in late]]
        assert [at for at, row in enumerate(found) if row["deferred"]] == late
        assert (found[late[0]]["label"], found[late[0]]["answered_by"]) == ("other", "engine")
        assert (found[late[1]]["label"], found[late[1]]["answered_by"]) == (None, "nobody")
        kept = next(at for at in range(len(HELD)) if at not in late)
        assert (found[kept]["label"], found[kept]["answered_by"]) == (plain[kept]["label"], "model")


def test_a_server_whose_engine_fails_still_answers_what_it_is_sure_of(export: Path) -> None:
    def answer(*_: Any) -> list[tuple[str, ...] | None]:
        raise InputError("the balance is empty")

    with TestClient(make_app(export, answer=answer, defer_below=1.0)) as client:
        found = client.post("/predict", json={"texts": HELD[:3]}).json()["results"]
        assert {row["answered_by"] for row in found} <= {"model", "nobody"}
        assert any(row["answered_by"] == "nobody" for row in found)
        assert "the balance is empty" in client.get("/health").json()["engine_fault"]
