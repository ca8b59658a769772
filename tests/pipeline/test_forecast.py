"""How long this machine will compute, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from factory.commands.plan import show_plan
from factory.encoders import encoder as encoders
from factory.encoders.vectors import vectors_of
from factory.pipeline import forecast as module
from factory.pipeline.forecast import forecast
from factory.pipeline.load import Pipeline, load_pipeline
from factory.pipeline.preview import plan_pipeline
from factory.warehouse.file import Warehouse

CARD = "{name: toy, text: a line, labels: [{name: ham, description: fine}, {name: spam, description: not fine}]}"
N = 2000


class Slow(encoders.TransformerEncoder):
    """Embeds a hundred texts a second, by a clock of its own."""

    def __init__(self, clock: list[float], name: str = "slow") -> None:
        encoders.Encoder.__init__(self, name, "k" * 64, 8, f"encoder: {name}")
        self._folder, self.clock = Path("somewhere"), clock

    def encode(self, texts, progress=None):  # type: ignore[no-untyped-def]
        self.clock[0] += len(texts) / 100
        return np.zeros((len(texts), 8), np.float32)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    clock = [0.0]
    found = Slow(clock)
    monkeypatch.setattr(encoders, "load_encoder", lambda name="auto", warehouse=None: found)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    return found


def toy(folder: Path, steps: str, rows: int = N, engine: str = "") -> tuple[Pipeline, Warehouse]:
    (folder / "train.csv").write_text("text\n" + "".join(f"line number {n}\n" for n in range(rows)))
    (folder / "toy.yaml").write_text(
        f"name: toy\ntask: {CARD}\n{engine}steps:\n  - ingest: {{train: train.csv}}\n{steps}"
    )
    pipeline = load_pipeline(folder / "toy.yaml")
    warehouse = Warehouse.open(folder / "run" / "toy.duckdb")
    pipeline.steps[0].stage(warehouse, pipeline.card, train=str(folder / "train.csv"))
    return pipeline, warehouse


def test_embedding_is_timed_on_this_machine_and_counted_once(tmp_path: Path, slow: Slow) -> None:
    pipeline, warehouse = toy(tmp_path, "  - denoise: {}\n  - distill: {student: hybrid, systems: [student]}\n")
    found = forecast(pipeline, pipeline.steps[1:], warehouse)
    denoise, distill = found["steps"]
    assert denoise["what"].endswith("2,000 texts to embed")
    assert denoise["seconds"] == pytest.approx([16, 30])
    assert "embed" not in distill["what"], "the texts are embedded by then"
    assert found["measured"] == "100 texts/s with slow on this machine, measured just now"
    assert found["quicker"] is None, "20 seconds are not worth a word"


def test_what_is_embedded_already_costs_nothing(tmp_path: Path, slow: Slow) -> None:
    pipeline, warehouse = toy(tmp_path, "  - denoise: {}\n")
    vectors_of(warehouse, slow, [n for (n,) in warehouse.query("SELECT text_no FROM texts")][:1900])
    before = slow.clock[0]
    [denoise] = forecast(pipeline, pipeline.steps[1:], warehouse)["steps"]
    assert denoise["what"].endswith(", 100 texts to embed")
    assert slow.clock[0] == before, "a few texts are not worth a measurement"


def test_a_quicker_student_is_named_where_embedding_takes_minutes(tmp_path: Path, slow: Slow) -> None:
    pipeline, warehouse = toy(tmp_path, "  - denoise: {}\n  - distill: {systems: [student]}\n", rows=7000)
    quicker = forecast(pipeline, pipeline.steps[1:], warehouse)["quicker"]
    assert quicker["how"] == "denoise: {model: snorkel} and distill: {student: static}"
    assert 30 < quicker["seconds"][0] < quicker["seconds"][1] < 60


def test_only_votes_need_no_vectors_and_tuning_needs_more(tmp_path: Path, slow: Slow) -> None:
    steps = "  - denoise: {model: snorkel}\n  - distill: {student: finetune, systems: [student]}\n"
    pipeline, warehouse = toy(tmp_path, steps)
    denoise, distill = forecast(pipeline, pipeline.steps[1:], warehouse)["steps"]
    assert denoise["seconds"] is None
    # at most 200 batches of 16 texts, three times as dear as embedding
    assert distill["seconds"][0] > 0.5 * 3 * 3200 / 100


ENGINE = "engine: {kind: server, url: 'http://127.0.0.1:9/v1', model: none}\n"


def test_a_plan_says_what_would_be_computed_again(tmp_path: Path, told: Callable[..., tuple[int, str, str]]) -> None:
    rule = "def label(text):\n    return 'ham' if '1' in text else 'spam'\n"
    (tmp_path / "rule.py").write_text(rule)
    (tmp_path / "other.py").write_text(rule.replace("'1'", "'2'"))
    steps = "  - vote: {}\n  - denoise: {encoder: none}\n  - distill: {student: linear, encoder: hashing, systems: [student]}\n"
    pipeline, _ = toy(tmp_path, steps, rows=40)
    arguments = [str(tmp_path / "toy.yaml"), "--folder", str(tmp_path / "run")]
    added = ["programs", "add", str(tmp_path / "run")]
    assert told(*added, str(tmp_path / "rule.py"))[0] == 0
    planned = plan_pipeline(pipeline, folder=tmp_path / "run")
    assert [one["step"] for one in planned["compute"]["steps"]] == ["vote", "denoise", "distill"]
    assert told("run", *arguments)[0] == 0
    code, out, _ = told("plan", *arguments)
    assert (code, out) == (0, "nothing left to ask or to compute\n")
    assert told(*added, str(tmp_path / "other.py"))[0] == 0
    _, out, _ = told("plan", *arguments)
    assert "nothing left to ask\n" in out
    assert all(f"│ {verb}" in out for verb in ("vote", "denoise", "distill"))
    assert told("run", *arguments)[0] == 0


@pytest.mark.parametrize(("rows", "words"), [(6, "less than"), (3000, None)])
def test_a_plan_says_when_labelling_every_text_is_cheaper_than_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, words: str | None
) -> None:
    pipeline, _ = toy(tmp_path, "  - author: {programs: 8}\n  - vote: {}\n", rows=rows, engine=ENGINE)
    planned = plan_pipeline(pipeline, folder=tmp_path / "run")
    direct = planned["direct"]
    assert direct["texts"] == rows
    assert (direct["tokens"] < direct["instead"][0]) == (words is not None)
    show_plan(planned, prompt=False)
    out = capsys.readouterr().out
    assert ("annotate: {split: train, as_votes: true}" in out) == (words is not None)
    assert words is None or words in out
