"""Many files through one export: shard to shard, whole or not at all, and never twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import factory
from factory.errors import InputError
from factory.predict import shards
from factory.predict.load import load_export, predict_file
from tests.topics import sentences

ROOT = Path(__file__).resolve().parents[2]


def write_shards(folder: Path, count: int = 4, rows: int = 30) -> dict[str, list[str]]:
    """Parquet files of texts: name to texts."""
    folder.mkdir(parents=True)
    written = {}
    for number in range(count):
        texts, _ = sentences(100 + number, rows + number)
        name = f"part-{number}.parquet"
        pq.write_table(pa.table({"id": pa.array(range(len(texts)), pa.int16()), "text": texts}), folder / name)
        written[name] = texts
    return written


def labels(file: Path) -> list[Any]:
    found: list[Any] = pq.read_table(file).column("label").to_pylist()
    return found


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_each_shard_gives_one_shard_with_the_same_rows(linear: Path, tmp_path: Path) -> None:
    written = write_shards(tmp_path / "in")
    told: list[tuple[int, int]] = []
    done = factory.predict(
        linear, tmp_path / "in", tmp_path / "out", progress=lambda done, total, _: told.append((done, total))
    )
    rows = sum(map(len, written.values()))
    assert done == done | {"rows": rows, "shards": 4, "done_already": 0, "out": str(tmp_path / "out")}
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert names(tmp_path / "out") == sorted(written)
    for name, texts in written.items():
        table = pq.read_table(tmp_path / "out" / name)
        assert table.column("text").to_pylist() == texts
        assert table.schema.field("id").type == pa.int16()
        assert labels(tmp_path / "out" / name) == load_export(linear).predict(texts)


def test_what_is_done_is_left_alone_and_what_changed_is_not(linear: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "in")
    out = tmp_path / "out"
    pattern = tmp_path / "in" / "part-*.parquet"
    shards.predict(linear, pattern, out)
    before = {name: (out / name).stat().st_mtime_ns for name in names(out)}
    assert shards.predict(linear, pattern, out) == {
        "rows": 0, "no_text": 0, "seconds": pytest.approx(0, abs=60), "out": str(out), "read": [], "never_seen": [], "shards": 0,
        "done_already": 4,
    }  # fmt: skip

    texts, _ = sentences(7, 5)
    pq.write_table(pa.table({"text": texts}), tmp_path / "in" / "part-1.parquet")
    (out / "part-2.parquet").write_bytes((out / "part-2.parquet").read_bytes()[:-9])
    (out / "part-3.parquet").unlink()
    (out / ".part-3.parquet.draft").write_bytes(b"left by a kill")
    assert shards.predict(linear, pattern, out)["shards"] == 3
    assert names(out) == sorted(before), "the draft is gone"
    assert [name for name in before if (out / name).stat().st_mtime_ns == before[name]] == ["part-0.parquet"]
    assert labels(out / "part-1.parquet") == load_export(linear).predict(texts)
    assert shards.predict(linear, pattern, out, abstain_below=0.5)["shards"] == 4, "another question is another answer"


def test_a_shard_that_cannot_be_read_ends_the_run_and_the_rest_goes_on_later(linear: Path, tmp_path: Path) -> None:
    written = write_shards(tmp_path / "in")
    (tmp_path / "in" / "part-2.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match=r"part-2\.parquet: this is not a Parquet file"):
        shards.predict(linear, tmp_path / "in", tmp_path / "out")
    assert names(tmp_path / "out") == ["part-0.parquet", "part-1.parquet"]
    pq.write_table(pa.table({"text": written["part-2.parquet"]}), tmp_path / "in" / "part-2.parquet")
    done = shards.predict(linear, tmp_path / "in", tmp_path / "out")
    assert (done["shards"], done["done_already"]) == (2, 2)


def test_a_shard_without_rows_keeps_its_columns(linear: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "in", 2)
    pq.write_table(pq.read_table(tmp_path / "in" / "part-0.parquet").slice(0, 0), tmp_path / "in" / "part-0.parquet")
    assert shards.predict(linear, tmp_path / "in", tmp_path / "out")["rows"] == 31
    empty, full = (pq.read_schema(tmp_path / "out" / f"part-{number}.parquet") for number in range(2))
    assert empty.equals(full)


def test_folders_and_other_kinds_of_files_are_kept_apart(linear: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_shards(folder / "a", 1)
    write_shards(folder / "b", 1)
    (folder / "b" / "part-0.jsonl").write_text(json.dumps({"text": "the match"}) + "\n")
    (folder / "b" / "_SUCCESS").write_text("")
    shards.predict(linear, folder / "*" / "*", folder / "out")
    wanted = ["a/part-0.parquet", "b/part-0.jsonl.parquet", "b/part-0.parquet"]
    assert names(folder / "out") == wanted
    assert shards.predict(linear, folder / "*" / "*", folder / "out")["done_already"] == 3, "its own output is no input"


def test_a_file_with_a_bracket_in_its_name_is_a_file(linear: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows[1].jsonl"
    file.write_text(json.dumps({"text": "the match"}) + "\n")
    assert shards.predict(linear, file, tmp_path / "out.jsonl") == {
        "rows": 1, "no_text": 0, "seconds": pytest.approx(0, abs=60), "out": str(tmp_path / "out.jsonl"),
        "read": ["texts from column `text`"], "never_seen": [],
    }  # fmt: skip


def test_a_shard_labelled_again_by_itself_does_not_pass_for_one_of_a_run(linear: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "in", 1)
    shards.predict(linear, tmp_path / "in", tmp_path / "out")
    predict_file(linear, tmp_path / "out" / "part-0.parquet", tmp_path / "again.parquet")
    assert b"label_factory" not in (pq.read_metadata(tmp_path / "again.parquet").metadata or {})


KILLED = """
import os, signal, sys
from factory.predict import shards

def progress(done, total, what):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

shards.predict(*sys.argv[1:4], ray=len(sys.argv) > 4, progress=progress)
"""


def killed(export: Path, folder: Path, *more: str) -> None:
    """Label a folder's shards `in` into `out` in a process that is killed after the second."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-c", KILLED, str(export), str(folder / "in"), str(folder / "out"), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == -9, done.stderr


def test_a_run_that_is_killed_goes_on_where_it_was(linear: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "in")
    killed(linear, tmp_path)
    assert names(tmp_path / "out") == ["part-0.parquet", "part-1.parquet"]
    assert shards.predict(linear, tmp_path / "in", tmp_path / "out")["shards"] == 2


@pytest.mark.slow
@pytest.mark.long
def test_shards_on_ray_equal_those_of_the_loop(ray: Any, linear: Path, tmp_path: Path) -> None:
    written = write_shards(tmp_path / "in", 5)
    here = shards.predict(linear, tmp_path / "in", tmp_path / "here", abstain_below=0.5)
    there = shards.predict(linear, tmp_path / "in", tmp_path / "there", abstain_below=0.5, ray=True)
    assert {**there, "seconds": 0, "out": ""} == {**here, "seconds": 0, "out": ""}
    for name in written:
        assert pq.read_table(tmp_path / "there" / name).equals(pq.read_table(tmp_path / "here" / name))
    again = shards.predict(linear, tmp_path / "in", tmp_path / "there", abstain_below=0.5, ray=True)
    assert (again["shards"], again["done_already"]) == (0, 5)


@pytest.mark.slow
@pytest.mark.long
def test_a_transformer_on_ray_says_what_it_says_here(ray: Any, transformer: Path, tmp_path: Path) -> None:
    written = write_shards(tmp_path / "in", 2)
    shards.predict(transformer, tmp_path / "in", tmp_path / "out", scope=0.05, ray=True)
    for name, texts in written.items():
        table = pq.read_table(tmp_path / "out" / name)
        assert table.column("label").to_pylist() == load_export(transformer).predict(texts)
        assert {"in_scope", "scope"} <= set(table.column_names)


@pytest.mark.slow
@pytest.mark.long
def test_a_bad_shard_on_ray_is_the_same_clear_line(ray: Any, linear: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "in")
    (tmp_path / "in" / "part-2.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match=r"part-2\.parquet: this is not a Parquet file"):
        shards.predict(linear, tmp_path / "in", tmp_path / "out", ray=True)
    assert "part-2.parquet" not in names(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.long
def test_the_command_on_ray_goes_on_after_a_kill_and_prints_one_json_object(linear: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='Ray is not installed: pip install "label-factory[ray]"')
    written = write_shards(tmp_path / "in", 6)
    killed(linear, tmp_path, "ray")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    command = ["predict", str(linear), str(tmp_path / "in" / "*.parquet"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", *command, "--ray", "--json"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shards"] + found["done_already"] == 6
    assert found["done_already"] >= 2
    assert "WARNING" not in done.stderr, "Ray Data's own lines are kept away"
    assert names(tmp_path / "out") == sorted(written)
