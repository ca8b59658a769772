"""What a run on some texts tells of many more on several nodes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.errors import InputError
from factory.pipeline.run import run_pipeline
from factory.pipeline.scale import Measured, at_scale, parse_count, plan_at_scale
from factory.programs import manage
from tests.pipeline.test_forecast import toy

RULES = "rules:\n  - {kind: contains, value: '1', label: ham, weight: 2}\n"
VOTE = Measured("vote", 100_000, 101.0, cores=2, driver_s=1.0, block=20_000)
"""A tenth of a second of a processor for 50 texts, and a second of the one process for all of them."""


def test_work_that_divides_is_quicker_by_the_nodes_until_one_process_is_the_slowest() -> None:
    [ten] = at_scale([VOTE], 100_000_000, 10, cores=2)["steps"]
    assert ten["one_node_s"] == pytest.approx(100_000)
    assert ten["seconds"] == pytest.approx(10_000)
    assert (ten["linear_to"], ten["why"]) == (100, "one process commits")
    [many] = at_scale([VOTE], 100_000_000, 1000, cores=2)["steps"]
    assert many["seconds"] == pytest.approx(1000), "no quicker than the one process"


def test_few_blocks_are_no_more_than_so_many_processors_can_take() -> None:
    found = at_scale([VOTE], 100_000, 20, cores=2)
    [step] = found["steps"]
    assert step["seconds"] == pytest.approx(40), "the time of one block"
    assert (step["linear_to"], step["why"]) == (3, "there are no more blocks")
    assert "the slowest is waited for" in found["first"]


def test_what_does_not_divide_or_does_not_grow_is_said() -> None:
    steps = [
        Measured("ingest", 1000, 2.0),
        Measured("distill", 10_000, 30.0, most=20_000),
        Measured("report", 5, 1.0, most=0),
    ]
    found = at_scale(steps, 1_000_000, 20, cores=2)
    assert [step["seconds"] for step in found["steps"]] == pytest.approx([2000, 60, 1])
    assert [step["linear_to"] for step in found["steps"]] == [1, 1, None]
    assert found["first"] == "`ingest` is done by one process on any number of nodes: 97% of the whole here."


@pytest.mark.parametrize(("text", "count"), [("100M", 100_000_000), ("2.5k", 2500), ("20_000", 20_000), ("1g", 10**9)])
def test_numbers_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "many", "-5", "5 texts", "1.2.3"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"cannot read `{text}` as a number of texts"):
        parse_count(text)


def test_a_plan_multiplies_what_was_measured(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, warehouse = toy(tmp_path, "  - vote: {}\n", rows=200)
    with pytest.raises(InputError, match="no step of this pipeline has been measured here"):
        plan_at_scale(pipeline, warehouse, 10**6, 20)
    manage.add_program(warehouse, RULES, name="one", kind="rules")
    run_pipeline(pipeline, folder=tmp_path / "run")
    copied, copy = [], shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", lambda one, other: (copied.append(Path(one).name), copy(one, other)))
    code, out, _ = told(
        "plan", str(tmp_path / "toy.yaml"), "--folder", str(tmp_path / "run"), "--texts", "1M", "--nodes", "20"
    )
    assert code == 0
    assert copied.count("toy.duckdb") == 1
    assert "1,000,000 texts on 20 nodes" in out
    assert "`vote` gains from" in " ".join(out.split())
    scale = plan_at_scale(pipeline, warehouse, 10**6, 20)
    vote = scale["steps"][-1]
    assert vote["measured"]["texts"] == 200
    assert vote["one_node_s"] >= vote["seconds"] > 0
    assert scale["disk_bytes"] > 10**6
