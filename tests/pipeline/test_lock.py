"""One at a time in a run's folder; what only looks is let in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factory.errors import InputError
from factory.pipeline.lock import LOCK, alone_in
from tests.kills.harness import environment

Told = Callable[..., tuple[int, str, str]]

PIPELINE = """name: toy
task: {name: toy, text: a line, labels: [{name: ham, description: fine}, {name: spam, description: not fine}]}
engine: {kind: server, url: "%s", model: fake, patience_s: 60}
steps:
  - ingest: {train: {path: train.csv, text: text}}
  - author: {programs: 2}
"""


@pytest.fixture
def at_work(tmp_path: Path, fake_server: Callable[..., object]) -> Iterator[subprocess.Popen[str]]:
    """A `factory run` that waits for a model's answer."""
    server = fake_server(latency_s=120.0)
    (tmp_path / "train.csv").write_text("text\none\ntwo\nthree\n")
    (tmp_path / "toy.yaml").write_text(PIPELINE % server.url)  # type: ignore[attr-defined]
    child = subprocess.Popen(
        [sys.executable, "-m", "factory.cli", "run", "toy.yaml", "--folder", "run"],
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    assert child.stderr.readline().startswith("ingest"), "the run got past its first step"
    yield child
    child.kill()
    child.wait()
    child.stderr.close()


def test_a_second_run_is_refused_at_once_and_a_killed_one_blocks_nobody(
    tmp_path: Path, at_work: subprocess.Popen[str], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = time.process_time()
    code, out, err = told("run", "toy.yaml", "--folder", "run")
    assert time.process_time() - before < 1
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"process {at_work.pid} is at work on a run in this folder" in err
    assert f"kill {at_work.pid}" in err
    assert "--folder" in err
    at_work.kill()
    at_work.wait()
    assert (tmp_path / "run" / LOCK).exists()
    assert told("run", "toy.yaml", "--folder", "run", "--only", "ingest")[0] == 0
    assert not (tmp_path / "run" / LOCK).exists()


def test_looking_at_a_run_is_not_refused(
    tmp_path: Path, at_work: subprocess.Popen[str], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["plan", "toy.yaml", "--folder", "run"], ["report", "run"], ["programs", "list", "run"]):
        assert told(*arguments)[0] == 0, arguments
    assert at_work.poll() is None


WRITES = [
    ["ingest", "toy.yaml", "--folder", "run"], ["author", "toy.yaml", "--folder", "run"],
    ["vote", "toy.yaml", "--folder", "run"], ["programs", "approve", "run", "1"], ["programs", "reject", "run", "1"],
    ["programs", "add", "run", "rule.py"], ["programs", "edit", "run", "1", "--file", "rule.py"],
    ["ask", "run", "--read", "answers.csv"], ["batch", "write", "toy.yaml", "out.jsonl", "--folder", "run"],
    ["batch", "read", "toy.yaml", "out.jsonl", "--folder", "run"], ["export", "data", "run", "data"],
    ["export", "model", "run", "model"],
]  # fmt: skip


def test_whatever_writes_into_a_run_at_work_is_refused_and_told_which_process_it_is(
    tmp_path: Path, at_work: subprocess.Popen[str], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rule.py").write_text("def label(text):\n    return None\n")
    for arguments in WRITES:
        code, out, err = told(*arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert f"process {at_work.pid} is at work on a run in this folder" in err, (arguments, err)
    assert at_work.poll() is None


def test_a_verb_that_is_run_twice_at_once_pays_once(
    tmp_path: Path, fake_server: Callable[..., object], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake_server(latency_s=120.0)
    (tmp_path / "train.csv").write_text("text\none\ntwo\nthree\n")
    (tmp_path / "toy.yaml").write_text(PIPELINE % server.url)  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    assert told("ingest", "toy.yaml", "--folder", "run")[0] == 0
    child = subprocess.Popen(
        [sys.executable, "-m", "factory.cli", "author", "toy.yaml", "--folder", "run"],
        cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not server.stats()["requests"] and time.monotonic() < until:  # type: ignore[attr-defined]
            time.sleep(0.05)
        asked = server.stats()["requests"]  # type: ignore[attr-defined]
        assert asked
        code, _, err = told("author", "toy.yaml", "--folder", "run")
        assert code == 2
        assert f"process {child.pid} is at work" in err
        assert server.stats()["requests"] == asked  # type: ignore[attr-defined]
    finally:
        child.kill()
        child.wait()


def test_a_run_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"), pytest.raises(InputError, match=f"process {os.getpid()} "):
        alone_in(tmp_path / "run").__enter__()
    with alone_in(tmp_path / "run"), alone_in(tmp_path / "other"):
        pass
    assert not list(tmp_path.rglob(LOCK))


def test_where_no_lock_can_be_had_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with alone_in(tmp_path / "file" / "run"):
        pass


def test_a_lock_of_somebody_who_leaves_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was opened is removed before it is locked: another run would make, and lock, another."""
    import fcntl

    flock, calls = fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(file)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone_in(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())
    assert len(calls) == 2


def test_a_system_without_fcntl_locks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows: `msvcrt.locking` of a byte beyond the process id, which stays readable."""
    held: set[tuple[int, int]] = set()

    class Msvcrt:
        LK_NBLCK = 2

        @staticmethod
        def locking(file: int, how: int, n: int) -> None:
            key = (os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR))
            assert (how, n) == (2, 1)
            assert key[1] > 100, "the process id can be read"
            if key in held:
                raise PermissionError(13, "Permission denied")
            held.add(key)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt)
    with alone_in(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()} "):
        alone_in(tmp_path).__enter__()
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with alone_in(tmp_path), alone_in(tmp_path):
        pass  # a system that knows no locks


def test_the_lock_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
