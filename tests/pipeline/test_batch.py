"""A run whose engine answers by file: one round trip for all that can be asked at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_service import BatchService

from factory.warehouse.file import Warehouse

Told = Callable[..., tuple[int, str, str]]
CARD = "{name: toy, text: a line, labels: [{name: ham, description: fine}, {name: spam, description: not fine}]}"
PIPELINE = f"""name: toy
task: {CARD}
engine: {{kind: batch, model: m, requests: requests.jsonl, results: results.jsonl}}
data: {{train: train.csv}}
steps:
  author: {{programs: 3}}
  synthesize: {{method: few_shot, per_label: 2, seeds: none, encoder: hashing}}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.csv").write_text("text\n" + "".join(f"line number {n}\n" for n in range(40)))
    (tmp_path / "toy.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> Counter[str]:
    lines = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    programs = ["label(text" in str(line["body"]["messages"]) for line in lines]
    return Counter("author" if program else "synthesize" for program in programs)


def test_a_run_writes_the_requests_of_all_stages_at_once_and_says_so(toy: Path, told: Told) -> None:
    code, _, err = told("run", "toy.yaml", "--folder", "run")
    assert code == 4
    last = err.splitlines()[-1]
    count = written(toy)
    assert set(count) == {"author", "synthesize"}
    told_of = f"{count['author']} of `author` and {count['synthesize']} of `synthesize`"
    assert f"{count.total()} requests are to be answered ({told_of})" in last
    assert "factory batch read" in last
    first = (toy / "requests.jsonl").read_bytes()
    assert told("batch", "write", "toy.yaml", "again.jsonl", "--folder", "run")[0] == 0
    assert sorted((toy / "again.jsonl").read_bytes().splitlines()) == sorted(first.splitlines())


def test_one_step_alone_writes_its_own_requests(toy: Path, told: Told) -> None:
    assert told("run", "toy.yaml", "--folder", "run", "--only", "ingest", "--only", "author")[0] == 4
    assert set(written(toy)) == {"author"}


def test_what_came_back_with_an_error_is_told_stays_open_and_is_written_again(toy: Path, told: Told) -> None:
    assert told("run", "toy.yaml", "--folder", "run")[0] == 4
    asked = [json.loads(line) for line in (toy / "requests.jsonl").read_text().splitlines()]
    errors = [
        {"response": None, "error": {"code": "batch_expired", "message": "This request expired"}},
        {"response": {"status_code": 402, "body": {"error": {"message": "Insufficient Balance"}}}, "error": None},
    ]
    lines = [{"custom_id": line["custom_id"], **errors[at % 2]} for at, line in enumerate(asked)]
    (toy / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        code, _, err = told("run", "toy.yaml", "--folder", "run")
        assert code == 4
        last = err.splitlines()[-1]
        assert f"{len(asked)} of them came back without an answer" in last
        assert last.count("This request expired") == last.count("Insufficient Balance") == 1
        again = [json.loads(line)["custom_id"] for line in (toy / "requests.jsonl").read_text().splitlines()]
        assert sorted(again) == sorted(line["custom_id"] for line in asked)


def test_a_hosted_batch_is_submitted_by_a_run_alone_and_fetched_by_the_next(toy: Path, told: Told) -> None:
    with BatchService(polls=0) as service:
        engine = f"engine: {{kind: batch, url: '{service.url}', model: m, wait: false, poll_s: 0.01}}"
        lines = PIPELINE.splitlines()
        lines[2] = engine
        (toy / "toy.yaml").write_text("\n".join(lines) + "\n")
        assert told("plan", "toy.yaml", "--folder", "run")[0] == 0
        assert told("engine", "check", "toy.yaml")[0] == 0
        assert not service.keys_seen, "neither a plan nor a check asks anybody"
        code, _, err = told("run", "toy.yaml", "--folder", "run")
        assert code == 4
        assert "are submitted as batch_0. Run again later" in err.splitlines()[-1]
        assert told("plan", "toy.yaml", "--folder", "run")[0] == 0
        assert service.calls["poll"] == 0
        told("run", "toy.yaml", "--folder", "run")
        n = len(service.answered)
        assert n > 0
        assert Warehouse.open(toy / "run" / "toy.duckdb").scalar("SELECT count(DISTINCT request_key) FROM answers") == n
        assert set(service.submitted.values()) == {1}
