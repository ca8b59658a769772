"""From an empty folder to a run by pages alone, the files that pages write, and what is refused. A whole run: test_browser."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from factory.pipeline.edit import earlier_card, edited, revisions, save_card
from factory.pipeline.load import load_pipeline
from factory.pipeline.lock import alone_in
from factory.pipeline.place import pipeline_of, place_of
from factory.pipeline.run import run_pipeline
from factory.studio import runner as running
from factory.studio.app import make_app
from factory.studio.desk import Desk
from factory.task import label_names, load_card
from tests.studio.made import HOST, TOKEN, make, post

LINES = "text\n" + "".join(f"{word} number {n}\n" for n in range(6) for word in ("win a prize", "great song"))
INGEST = (
    "name: small\ntask: task.yaml\nengine: {kind: recorded, answers: none.jsonl}\n"
    "steps:\n  - ingest: {train: {path: t.csv, text: text}}\n"
)
CARD = "name: small\ntext: a comment\nlabels: {ham: about the song, spam: advertises something}\n"


def client_at(folder: Path) -> tuple[TestClient, Desk]:
    desk = Desk.at(folder, person="Ann")
    client = TestClient(make_app(desk, token=TOKEN), base_url=HOST)
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client, desk


def started(folder: Path) -> tuple[TestClient, Desk]:
    (folder / "t.csv").write_text(LINES)
    client, desk = client_at(folder)
    page = post(client, "/start", file="t.csv", labels="ham, spam")
    assert page.url.path == "/card"
    return client, desk


def card_form(**more: Any) -> dict[str, Any]:
    return {
        "text": "a comment", "guidelines": "", "name": ["ham", "spam"], "meaning": ["about the song", "advertises"],
        "new_name": ["", ""], "new_meaning": ["", ""], "new_was": ["", ""],
    } | more  # fmt: skip


def test_an_empty_folder_leads_to_a_card_and_a_pipeline_and_nothing_runs_before_they_are_filled_in(
    tmp_path: Path,
) -> None:
    client, desk = started(tmp_path)
    assert (tmp_path / "task.yaml").is_file()
    refused = post(client, "/run/start")
    assert refused.status_code == 422
    assert "the engine&#39;s `model` is still MODEL" in refused.text
    assert "still a TODO" in client.get("/run").text
    assert "is written" in post(client, "/card", card_form()).text
    assert load_card(tmp_path / "task.yaml").label("spam").description == "advertises"
    assert "nothing was run yet" in client.get("/programs").text
    bad = post(client, "/run/pipeline", pipeline=INGEST.replace("steps", "stepps"))
    assert bad.status_code == 422
    assert "pipeline.yaml:4: unknown key `stepps`; did you mean `steps`?" in bad.text
    assert "MODEL" in (tmp_path / "pipeline.yaml").read_text()
    assert post(client, "/run/pipeline", pipeline=INGEST).status_code == 200
    assert load_pipeline(tmp_path / "pipeline.yaml").name == "small"
    assert desk.folder == tmp_path / "factory-runs" / "small"
    assert f"factory run {tmp_path}/pipeline.yaml --folder {desk.folder}" in client.get("/run").text


def test_a_file_that_cannot_be_a_start_is_said_in_one_line(tmp_path: Path) -> None:
    client, _ = client_at(tmp_path)
    assert client.get("/card").url.path == client.get("/run").url.path == "/start"
    assert "no such file" in post(client, "/start", file="gone.csv").text
    assert post(client, "/start", file=" ").status_code == 422
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_begun_while_another_process_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, desk = started(tmp_path)
    post(client, "/card", card_form())
    post(client, "/run/pipeline", pipeline=INGEST)
    begun: list[Any] = []
    monkeypatch.setattr(desk.runner, "start", lambda words, folder: begun.append(words))
    with alone_in(desk.folder):
        refused = post(client, "/run/start")
        assert refused.status_code == 409
        assert refused.text.count('role="alert"') == 1
        assert post(client, "/card", card_form(text="b")).status_code == 409
    assert begun == []
    post(client, "/run/start", budget="5 requests")
    where = [str(tmp_path / "pipeline.yaml"), "--folder", str(desk.folder)]
    assert begun == [["run", *where, "--budget", "5 requests"]]
    assert post(client, "/run/stop").status_code == 409


def test_a_command_begun_here_is_stopped_with_its_pipe_and_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, sys\nprint('at it', sys.argv[1:], flush=True)\nos.read(0, 1)\nsys.exit(130)\n"
    (tmp_path / "fake.py").write_text(code)
    real = running.subprocess.Popen
    monkeypatch.setattr(
        running.subprocess,
        "Popen",
        lambda words, **more: real([sys.executable, str(tmp_path / "fake.py"), *words[3:]], **more),
    )
    runner = running.Runner()
    runner.start(["run", "x"], tmp_path)
    deadline = time.monotonic() + 20
    while not runner.standing(tmp_path)["lines"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert runner.standing(tmp_path) == {
        "pid": runner.pid, "ended": None, "wrong": False, "lines": ["at it ['run', 'x']"]
    }  # fmt: skip
    with pytest.raises(Exception, match="at work already"):
        runner.start(["run", "x"], tmp_path)
    runner.stop()
    assert runner.standing(tmp_path)["ended"] == running.ENDS[130]


def test_a_warehouse_knows_the_pipeline_it_was_run_by(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(LINES)
    (tmp_path / "task.yaml").write_text("name: small\ntext: a text\nlabels: {ham: a, spam: b}\n")
    (tmp_path / "pipeline.yaml").write_text(INGEST)
    run_pipeline(load_pipeline(tmp_path / "pipeline.yaml"), folder=tmp_path / "runs")
    desk = Desk.at(tmp_path / "runs")
    assert desk.pipeline == tmp_path / "pipeline.yaml"
    assert pipeline_of(desk.warehouse) == (tmp_path / "pipeline.yaml", {})
    assert place_of(tmp_path).warehouse == tmp_path / "factory-runs" / "small" / "small.duckdb"


def test_a_card_is_changed_in_its_file_and_on_record_and_changed_back(tmp_path: Path) -> None:
    made = make(tmp_path)
    (tmp_path / "task.yaml").write_text(
        "name: small\ntext: a comment\nlabels: {ham: about the song, spam: advertises something}\n"
    )
    (tmp_path / "pipeline.yaml").write_text(INGEST)
    (tmp_path / "t.csv").write_text(LINES)
    desk = Desk(made, tmp_path, "Ann", place=place_of(tmp_path / "pipeline.yaml", tmp_path))
    client = TestClient(make_app(desk, token=TOKEN), base_url=HOST)
    client.get(f"/?token={TOKEN}")
    form = card_form(new_name=["joke", ""], new_meaning=["is funny", ""], new_was=["ham", ""])
    priced = post(client, "/card/price", form, part=True)
    assert "Nothing was changed yet" in priced.text
    assert "<html" not in priced.text
    whole = post(client, "/card/price", form)
    assert 'value="joke"' in whole.text
    assert label_names(made) == ["ham", "spam"]
    assert "is written" in post(client, "/card", form).text
    assert label_names(made) == ["ham", "spam", "joke"]
    assert load_card(tmp_path / "task.yaml").label("joke").was == ("ham",)
    assert (
        client.get("/texts").status_code
        == client.get("/texts/1").status_code
        == client.get("/programs").status_code
        == 200
    )
    first = revisions(made)[-1]
    post(client, "/card/back", task_no=first["task_no"])
    assert load_card(tmp_path / "task.yaml").label_names == ["ham", "spam"]
    assert label_names(made) == ["ham", "spam", "joke"]  # numbers are append-only
    assert [one["card"].label_names[-1] for one in revisions(made)] == ["spam", "joke", "spam"]
    assert earlier_card(made, first["card"]).label_names == ["ham", "spam", "joke"]
    for wrong in (
        {"new_name": ["spam", ""], "new_meaning": ["x", ""]},
        {"name": ["hamm", "spam"]},
        {"meaning": ["", "b"]},
    ):
        assert post(client, "/card", card_form(**wrong)).status_code == 422


def test_a_card_that_comes_with_the_package_is_not_written(tmp_path: Path) -> None:
    pipeline = load_pipeline("quickstart")
    with pytest.raises(Exception, match="comes with label-factory"):
        save_card(pipeline, edited(pipeline.card, text="another"), None)


def test_the_commands_change_a_card_as_the_page_does(tmp_path: Path, told: Callable[..., tuple[int, str, str]]) -> None:
    made = make(tmp_path)
    (tmp_path / "task.yaml").write_text(CARD)
    (tmp_path / "small.yaml").write_text(INGEST)
    where = (str(tmp_path / "small.yaml"), "--folder", str(tmp_path))
    code, _, said = told(
        "card", "edit", *where, "--meaning", "ham=about music", "--add", "joke=is funny", "--was", "joke=ham"
    )
    assert (code, "run the pipeline again" in said) == (0, True)
    card = load_card(tmp_path / "task.yaml")
    assert (card.label("ham").description, card.label("joke").was) == ("about music", ("ham",))
    assert label_names(made) == ["ham", "spam", "joke"]
    assert told("card", "undo", *where)[0] == 0
    assert load_card(tmp_path / "task.yaml").label_names == ["ham", "spam"]
    assert told("card", "edit", *where, "--meaning", "hamm=x")[0] == 2
