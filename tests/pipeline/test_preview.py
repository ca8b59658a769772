"""What a plan tells, and that it does no more work than telling it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from factory.pipeline import collect as planning
from factory.pipeline.collect import collect
from factory.pipeline.load import Pipeline, load_pipeline
from factory.pipeline.preview import plan_pipeline
from factory.pipeline.steps import make_step
from factory.synthesis.bands import Band
from factory.synthesis.materials import dealt
from factory.warehouse.file import Warehouse
from tests.kills.harness import environment

TOLD = "Somebody writes about the {} of order {}, at some length, and wants to hear from us soon."
CARD = "{name: toy, text: a line, labels: [{name: ham, description: fine}, {name: spam, description: not fine}]}"
PIPELINE = f"""name: toy
task: {CARD}
engine: {{kind: server, url: "http://127.0.0.1:9/v1", model: none}}
data: {{train: train.csv, test: test.csv}}
steps:
  author: {{programs: 3}}
  synthesize: {{per_label: 4, encoder: hashing}}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Pipeline:
    lines = [TOLD.format(what, number) for number in range(60) for what in ("colour", "price", "delivery")]
    (tmp_path / "train.csv").write_text("text\n" + "".join(f'"{line}"\n' for line in lines))
    (tmp_path / "test.csv").write_text("text,label\nseven,ham\neight,spam\n")
    (tmp_path / "toy.yaml").write_text(PIPELINE)
    return load_pipeline(tmp_path / "toy.yaml")


def test_a_plan_counts_what_a_run_would_ask(toy: Pipeline, tmp_path: Path) -> None:
    planned = plan_pipeline(toy, folder=tmp_path / "run")
    with_care = collect(toy, Warehouse.open(tmp_path / "x.duckdb"), tmp_path)
    asked, later = with_care.missing, with_care.later
    assert {stage["stage"]: stage["requests"] for stage in planned["stages"]} == {
        stage: len(calls) for stage, calls in asked.items()
    }
    assert set(asked) == {"author", "synthesize", "annotate"}
    assert planned["later"] == later == []
    exact = sum(len(m["content"]) for call in asked["synthesize"] for m in call.request.messages) / 4
    told = next(stage for stage in planned["stages"] if stage["stage"] == "synthesize")
    assert told["tokens_in"][0] == pytest.approx(exact, rel=0.1)
    # 10 now (5 per label at 1.2 times the 4 that are wanted), and at most 3 times 4 for each of the two labels
    assert told["answers"] == [10, 24]
    assert told["tokens_in"][1] == pytest.approx(2.4 * told["tokens_in"][0], rel=0.01)
    programs = next(stage for stage in planned["stages"] if stage["stage"] == "author")
    assert programs["answers"] == [3, 18], "3 now; 6 candidates, each repaired twice"


CHECKED = "synthesize: {method: self_guide, per_label: 10, candidates: 2, texts_per_answer: 5, check_samples: 4}"


def test_what_is_decided_no_longer_counts_towards_the_most(toy: Pipeline, tmp_path: Path) -> None:
    """Texts and the checks of them: 2 labels, 20 texts each in 4 answers, and 4 samples of every check."""
    (tmp_path / "checked.yaml").write_text(PIPELINE[: PIPELINE.index("  author")] + f"  {CHECKED}\n")
    pipeline, folder = load_pipeline(tmp_path / "checked.yaml"), tmp_path / "run"
    told = next(one for one in plan_pipeline(pipeline, folder=folder)["stages"] if one["stage"] == "synthesize")
    assert told["answers"][1] == 2 * (4 + 20 * 4)
    warehouse = Warehouse.open(folder / "toy.duckdb")
    collector = collect(pipeline, warehouse, folder)
    first = len(collector.missing["synthesize"])
    with warehouse.lease() as db:
        db.execute("UPDATE slots SET state = 'dropped' WHERE slot_no = 0")
    assert (
        planning.most_answers(
            make_step("synthesize", {"method": "self_guide", "per_label": 10, "candidates": 2}), warehouse, first - 1
        )
        == told["answers"][1] - 1
    )


def test_a_step_that_hangs_on_answers_has_a_range_from_nothing(toy: Pipeline, tmp_path: Path) -> None:
    more = "  annotate: {split: train, texts: uncovered_or_tied, share: 0.1, as_votes: true}\n"
    (tmp_path / "more.yaml").write_text(PIPELINE.replace("  synthesize: {per_label: 4, encoder: hashing}\n", more))
    planned = plan_pipeline(load_pipeline(tmp_path / "more.yaml"), folder=tmp_path / "run")
    [step] = planned["later"]
    assert (step["step"], step["answers"]) == ("annotate", [0, 18]), "a tenth of 180 texts at most"
    assert step["tokens_in"][0] == 0 < step["tokens_in"][1]


def test_a_plan_loads_no_library_of_students_or_encoders(toy: Pipeline, tmp_path: Path) -> None:
    code = (
        "import sys, factory.cli; sys.argv = ['factory', 'plan', 'toy.yaml', '--json']\n"
        "try:\n    factory.cli.main()\nfinally:\n"
        "    slow = {'torch', 'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'datasketch', 'snorkel'}\n"
        "    print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["stages"]) == 3
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(("annotate", "wanted"), [("all", []), ("uncovered_or_tied", ["vote"])])
def test_steps_on_which_no_request_hangs_are_not_done(
    toy: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, annotate: str, wanted: list[str]
) -> None:
    (tmp_path / "other.yaml").write_text(
        f"name: other\ntask: {CARD}\nengine: {{kind: server, url: 'http://127.0.0.1:9/v1', model: none}}\n"
        "steps:\n  - ingest: {train: train.csv}\n  - vote: {}\n  - denoise: {}\n  - distill: {}\n"
        f"  - annotate: {{split: train, texts: {annotate}}}\n  - denoise: {{}}\n  - export: {{}}\n"
    )
    done: list[str] = []
    call_step = planning.call_step

    def noted(step: Any, *rest: Any) -> Any:
        done.append(step.verb)
        return call_step(step, *rest)

    monkeypatch.setattr(planning, "call_step", noted)
    planned = plan_pipeline(load_pipeline(tmp_path / "other.yaml"), folder=tmp_path / "run")
    assert done == ["ingest", *wanted, "annotate"]
    assert [stage["stage"] for stage in planned["stages"]] == ["annotate"]


def test_passages_are_dealt_as_many_as_would_be_found() -> None:
    queries = [("ham", 7, "x"), ("spam", 8, "y")]
    found = dealt(queries, range(100), demos=Band((1, 2)), sources=Band((3, 50), quantiles=(0.9, 1.0)), exclude=[7, 8])
    assert [(len(query.demos), len(query.sources)) for query in found] == [(2, 10), (2, 10)]
    assert not {7, 8} & {number for query in found for number in (*query.demos, *query.sources)}
    assert not set(found[0].sources) & set(found[1].sources)
