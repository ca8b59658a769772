"""A run whose engine answers by file: one round trip for all that can be asked at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

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
