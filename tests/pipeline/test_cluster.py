"""`cluster: {ray: ADDRESS}` and `run --ray`: one switch for all work that divides."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from factory.errors import InputError
from factory.pipeline import run
from factory.pipeline.load import load_pipeline
from factory.programs import manage
from factory.spread import Work, done_by
from factory.warehouse.file import Warehouse

Told = Callable[..., tuple[int, str, str]]

CARD = "name: t\ntext: a comment\nlabels: {ham: about the song, spam: advertises something}\n"
PIPELINE = """
task: card.yaml
steps:
  - ingest: {train: texts.txt}
  - vote: {block: 2}
"""
RULES = """
rules:
  - {kind: contains, value: win, label: spam, weight: 2}
"""


def written(folder: Path, more: str = "") -> Path:
    (folder / "card.yaml").write_text(CARD, encoding="utf-8")
    (folder / "texts.txt").write_text("win a prize\ngreat song\nwin it all\na song\n", encoding="utf-8")
    path = folder / "pipeline.yaml"
    path.write_text(PIPELINE + more, encoding="utf-8")
    return path


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Addresses that were joined, and after each what was spread there: how many items."""
    found: list[Any] = []

    @contextmanager
    def on_ray(address: str | None) -> Iterator[None]:
        found.append(address)

        def elsewhere(work: Work[Any, Any], items: Iterator[Any], count: int, ahead: int) -> Generator[Any]:
            found.append(count)
            do = work.make(*work.given)
            return (do(item) for item in items)

        with done_by(elsewhere):
            yield

    monkeypatch.setattr(run, "on_ray", on_ray)
    return found


def test_a_pipeline_names_its_cluster(tmp_path: Path) -> None:
    assert load_pipeline(written(tmp_path)).cluster is None
    assert load_pipeline(written(tmp_path, "cluster: {ray: 10.0.0.1:6379}")).cluster == "10.0.0.1:6379"
    for wrong in ("ray", "{spark: local}", "{ray: 5}"):
        with pytest.raises(InputError, match=r"pipeline\.yaml:6: `cluster` is \{ray: ADDRESS\}"):
            load_pipeline(written(tmp_path, f"cluster: {wrong}"))


def test_the_switch_spreads_the_votes_of_a_run(tmp_path: Path, told: Told, joined: list[Any]) -> None:
    pipeline, folder = written(tmp_path, "cluster: {ray: local}"), tmp_path / "run"
    assert told("run", str(pipeline), "--folder", str(folder), "--only", "ingest")[0] == 0
    manage.add_program(Warehouse.open(folder / "pipeline.duckdb"), RULES, name="win", kind="rules")
    joined.clear()
    code, _, err = told("run", str(pipeline), "--folder", str(folder))
    assert code == 0, err
    assert joined == ["local", 3]
    votes = Warehouse.open(folder / "pipeline.duckdb").query("SELECT text_no, vote FROM votes ORDER BY 1")
    assert votes == [(1, 1), (3, 1)]


def test_ray_that_is_not_installed_is_said_before_anything_is_done(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = told("run", str(written(tmp_path)), "--ray", "--folder", str(tmp_path / "run"))
    assert code == 2
    assert 'Ray is not installed. Run: pip install "label-factory[ray]"' in " ".join(err.split())
    assert not list((tmp_path / "run").glob("*.duckdb"))
