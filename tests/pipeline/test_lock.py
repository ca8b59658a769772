"""One run at a time in a run's folder; what only looks, and the single steps, are let in."""

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


def test_looking_at_a_run_and_single_steps_are_not_refused(
    tmp_path: Path, at_work: subprocess.Popen[str], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["plan", "toy.yaml"], ["report", "run"], ["programs", "list", "run"]):
        assert told(*arguments, *(["--folder", "run"] if arguments[0] == "plan" else []))[0] == 0, arguments
    assert told("ingest", "toy.yaml", "--folder", "run")[0] == 0
    assert at_work.poll() is None


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
