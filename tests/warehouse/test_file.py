"""The warehouse: migrations, leases, locks between processes, and readers beside a writer."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from factory.errors import WarehouseError
from factory.warehouse import migrations as schema
from factory.warehouse import turn
from factory.warehouse.file import Warehouse, insert, next_no
from factory.warehouse.migrations import migrations
from tests.kills.comparing import contents
from tests.kills.harness import Line, command, environment

ROOT = Path(__file__).resolve().parent.parent


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process of ours."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_new_file_has_every_table_and_opening_it_again_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "w.duckdb"
    warehouse = Warehouse.open(path)
    assert warehouse.query("SELECT version FROM migrations ORDER BY 1") == [(number,) for number, _, _ in migrations()]
    before = path.stat().st_mtime_ns
    Warehouse.open(path)
    assert path.stat().st_mtime_ns == before


def test_every_view_and_walk_can_be_read_in_an_empty_warehouse() -> None:
    warehouse = Warehouse.memory()
    views = [name for (name,) in warehouse.query("SELECT view_name FROM duckdb_views() WHERE NOT internal")]
    assert {"lineage", "spend", "program_summary", "dropped", "split_texts"} <= set(views)
    for view in views:
        warehouse.query(f"FROM {view}")
    warehouse.query("FROM ancestors('model', '1')")
    warehouse.query("FROM descendants('text', '1')")


def test_a_lease_commits_on_leaving_and_rolls_back_on_an_exception(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    with warehouse.lease() as db:
        db.execute("INSERT INTO labels VALUES (0, 'a', 'x', true)")
    with pytest.raises(duckdb.ConversionException), warehouse.lease() as db:
        db.execute(
            "INSERT INTO labels VALUES (1, 'b', 'x', true); INSERT INTO labels VALUES ('no number', 'b', 'x', true)"
        )
    assert warehouse.query("SELECT name FROM labels") == [("a",)]


def test_a_lease_inside_a_lease_joins_it(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")

    def fail_outside() -> None:
        with warehouse.lease():
            with warehouse.lease() as db:
                db.execute("INSERT INTO labels VALUES (0, 'a', 'x', true)")
            assert warehouse.scalar("SELECT count(*) FROM labels") == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail_outside()
    assert warehouse.scalar("SELECT count(*) FROM labels") == 0


@pytest.mark.parametrize("spelling", ["w/../w/w.duckdb", "link.duckdb", "folder/w.duckdb"])
def test_a_lease_joins_whatever_the_file_is_called(tmp_path: Path, spelling: str) -> None:
    warehouse = Warehouse.open(tmp_path / "w" / "w.duckdb")
    (tmp_path / "link.duckdb").symlink_to(tmp_path / "w" / "w.duckdb")
    (tmp_path / "folder").symlink_to(tmp_path / "w")
    with warehouse.lease() as db:
        db.execute("INSERT INTO labels VALUES (0, 'a', 'x', true)")
        other = Warehouse.open(tmp_path / spelling)
        with other.lease() as joined:
            assert joined.execute("SELECT name FROM labels").fetchall() == [("a",)]
    assert other.gold_path == (tmp_path / spelling).with_suffix(".gold.duckdb")


def test_a_lease_bounds_the_memory_of_its_own_transaction_alone(tmp_path: Path) -> None:
    limit = "SELECT current_setting('memory_limit')"
    for warehouse, bounded in ((Warehouse.open(tmp_path / "w.duckdb"), True), (Warehouse.memory(), False)):
        own = warehouse.scalar(limit)
        with warehouse.lease(memory="300MB"):
            inside = warehouse.scalar(limit)
            assert inside == ("286.1 MiB" if bounded else own)
            with warehouse.lease(memory="400MB"):
                assert warehouse.scalar(limit) == inside
        assert warehouse.scalar(limit) == own


def test_threads_wait_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")

    def work() -> None:
        for _ in range(10):
            with warehouse.lease() as db:
                number = next_no(db, "labels", "label_no", first=0)
                db.execute("INSERT INTO labels VALUES (?, 'x', 'x', true)", [number])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warehouse.query("SELECT count(*), count(DISTINCT label_no), max(label_no) FROM labels") == [(40, 40, 39)]


def test_two_processes_write_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    Warehouse.open(path)
    code = (
        "import sys; from factory.warehouse.file import Warehouse, next_no\n"
        "w = Warehouse.open(sys.argv[1])\n"
        "for _ in range(8):\n"
        "    with w.lease() as db:\n"
        "        db.execute('INSERT INTO labels VALUES (?, ?, ?, true)', [next_no(db, 'labels', 'label_no'), 'x', 'x'])\n"
    )
    workers = [python(code, str(path)) for _ in range(3)]
    for worker in workers:
        _, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
    assert Warehouse.open(path).query("SELECT count(*), count(DISTINCT label_no) FROM labels") == [(24, 24)]


def test_a_file_held_by_another_process_is_one_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    Warehouse.open(path)
    holder = python(
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()", str(path)
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline().strip() == "held"
        warehouse = Warehouse(path, patience_s=0.3)
        for held in (warehouse.lease, warehouse.read):
            with pytest.raises(WarehouseError, match=f"in use by process {holder.pid}") as error, held():
                pass
            assert "\n" not in str(error.value)
    finally:
        holder.kill()
        holder.communicate()
    Warehouse.open(path).query("FROM labels")


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    warehouse = Warehouse.open(path)
    with warehouse.lease() as db:
        db.execute("INSERT INTO migrations (version, name) VALUES (9999, 'later')")
    with pytest.raises(WarehouseError, match=r"version 9999.*Install a newer"):
        Warehouse.open(path)


def test_a_file_of_an_older_version_is_migrated_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.duckdb"
    warehouse = Warehouse.open(path)
    with warehouse.lease() as db:
        db.execute("INSERT INTO labels VALUES (0, 'a', 'x', true)")
    newest = migrations()[-1][0]
    more = [*migrations(), (newest + 1, "more", "CREATE TABLE later (x INTEGER); INSERT INTO later VALUES (7);")]
    monkeypatch.setattr(schema, "migrations", lambda: more)
    warehouse = Warehouse.open(path)
    assert warehouse.query("FROM later") == [(7,)]
    assert warehouse.query("SELECT name FROM labels") == [("a",)]
    Warehouse.open(path)
    assert warehouse.query("FROM later") == [(7,)]


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.duckdb"
    Warehouse.open(path)
    newest = migrations()[-1][0]
    bad = [*migrations(), (newest + 1, "bad", "CREATE TABLE later (x INTEGER); SELECT nonsense FROM nowhere;")]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: bad)
        with pytest.raises(duckdb.Error):
            Warehouse.open(path)
    assert Warehouse.open(path).scalar("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'later'") == 0


@pytest.mark.parametrize(
    ("content", "words"), [(b"text, not a database" * 500, "not a DuckDB file"), (None, "not made by the factory")]
)
def test_another_file_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "w.duckdb"
    if content is not None:
        path.write_bytes(content)
    else:
        with duckdb.connect(str(path)) as db:
            db.execute("CREATE TABLE mine (x INTEGER)")
    with pytest.raises(WarehouseError, match=words) as error:
        Warehouse.open(path)
    assert "\n" not in str(error.value)


def test_insert_takes_columns_and_leaves_the_others_their_defaults() -> None:
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        assert insert(db, "bad_rows", {"source_no": [1, 1], "row_no": [1, 2], "drop_reason": ["a", "b"]}) == 2
        assert insert(db, "bad_rows", {"source_no": [], "row_no": [], "drop_reason": []}) == 0
    assert warehouse.query("SELECT row_no, detail FROM bad_rows ORDER BY 1") == [(1, None), (2, None)]


def test_a_file_that_became_shorter_under_a_reader_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    opened: list[bool] = []
    real = turn.connect

    class Broken:
        def execute(self, *_: Any) -> Any:
            raise duckdb.IOException("IO Error: Could not read enough bytes from file")

        def close(self) -> None:
            pass

    def connect(path: str, *, read_only: bool = False) -> Any:
        opened.append(read_only)
        return Broken() if len(opened) <= times else real(path, read_only=read_only)

    monkeypatch.setattr(turn, "connect", connect)
    times = 2
    assert warehouse.scalar("SELECT 7") == 7
    assert opened == [True] * 3
    times = 99
    with pytest.raises(duckdb.IOException):
        warehouse.scalar("SELECT 7")


READ = """
import sys, time
from factory.warehouse.file import Warehouse
warehouse = Warehouse(__import__('pathlib').Path(sys.argv[1]))
with warehouse.read() as db:
    views = [v for (v,) in db.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()]
rounds, stop = 0, __import__('pathlib').Path(sys.argv[2])
print('reading', flush=True)
while not stop.exists():
    for view in views:
        warehouse.query(f"FROM {view} LIMIT 1000")
    warehouse.query("FROM ancestors('text', '3')")
    rounds += 1
    time.sleep(float(sys.argv[3]))
print(rounds, flush=True)
"""


def test_every_view_is_read_in_a_loop_beside_a_writer_and_neither_fails(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    warehouse = Warehouse.open(path)
    reader = python(READ, str(path), str(tmp_path / "stop"), "0")
    assert reader.stdout is not None
    assert reader.stdout.readline().strip() == "reading"
    written, until = 0, time.monotonic() + 4
    while time.monotonic() < until:
        with warehouse.lease() as db:
            first = next_no(db, "texts", "text_no")
            rows = range(first, first + 200)
            insert(
                db,
                "texts",
                {
                    "text_no": rows,
                    "content_hash": [n.to_bytes(16) for n in rows],
                    "text": list(map(str, rows)),
                    "origin": ["corpus"] * 200,
                },
            )
            insert(
                db,
                "occurrences",
                {
                    "source_no": [1] * 200,
                    "row_no": rows,
                    "text_no": rows,
                    "split": ["train"] * 200,
                    "kept": [True] * 200,
                },
            )
            insert(db, "votes", {"program_no": [1] * 200, "text_no": rows, "vote": [0] * 200})
        written += 200
        time.sleep(0.02)
    (tmp_path / "stop").touch()
    out, err = reader.communicate(timeout=60)
    assert reader.returncode == 0, err
    assert int(out.split()[-1]) >= 2
    assert written >= 600
    assert warehouse.scalar("SELECT count(*) FROM texts") == written


@pytest.mark.long
@pytest.mark.slow
def test_every_view_is_read_in_a_loop_while_a_whole_run_writes_and_neither_fails(line: Line, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    path = folder / "small.duckdb"
    Warehouse.open(path)
    reader = python(READ, str(path), str(tmp_path / "stop"), "0.2")
    assert reader.stdout is not None
    assert reader.stdout.readline().strip() == "reading"
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", *command(line.pipeline, folder, line.server.url)],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    (tmp_path / "stop").touch()
    out, err = reader.communicate(timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    assert reader.returncode == 0, err
    assert int(out.split()[-1]) >= 2
    expected, found = contents(line.undisturbed / "small.duckdb"), contents(path)
    assert {name for name in expected if expected[name] != found[name]} <= {"exports"}, "being read changes nothing"


def killed_in_a_transaction(path: str, ready: Any) -> None:
    """Write much, and wait inside the transaction to be killed."""
    with Warehouse.open(path).lease() as db:
        db.execute("INSERT INTO votes SELECT 1, range, 0 FROM range(500000)")
        ready.set()
        time.sleep(60)


def test_a_process_killed_inside_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    warehouse = Warehouse.open(path)
    with warehouse.lease() as db:
        db.execute("INSERT INTO votes VALUES (9, 9, 9)")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=killed_in_a_transaction, args=(str(path), ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    assert warehouse.query("FROM votes") == [(9, 9, 9)]
    with warehouse.lease() as db:
        db.execute("INSERT INTO votes VALUES (1, 1, 1)")
    assert warehouse.scalar("SELECT count(*) FROM votes") == 2
