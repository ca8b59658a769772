"""Votes computed elsewhere are the votes computed here, in the same order, in the same transactions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.cluster import spreading
from factory.cluster.spreading import on_ray
from factory.errors import ClusterError, SandboxError
from factory.programs import stage
from factory.programs import vote as voting
from factory.programs.blocks import AcceptedProgram, Voter
from factory.programs.sandbox.host.process import Layers
from factory.programs.sandbox.host.result import ProgramRun
from factory.spread import Work, done_by, spread
from factory.task import load_card, register
from factory.warehouse.file import Warehouse
from tests.programs import processes
from tests.programs.test_stage import CARD, add_program, add_texts, program

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("votes", "vote_blocks", "vote_failures")
PROGRAMS = [
    program("win", "spam"),
    program("song", "ham"),
    "import re\ndef label(text):\n    return 1 if len(re.findall('[0-9]', text)) > 2 else None",
    "def label(text):\n    return int(text[-1]) // (7 - int(text[-1]))",
    "N = [0]\ndef label(text):\n    N[0] += 1\n    return N[0] % 2",
]
LAYERS = Layers((), (), ("seccomp",))


def filled(warehouse: Warehouse, texts: int, programs: Sequence[str] = PROGRAMS) -> Warehouse:
    """A warehouse with a task, texts and programs."""
    register(warehouse, load_card(CARD))
    add_texts(warehouse, [f"{'win a prize' if i % 3 == 0 else 'great song'} {i}" for i in range(texts)])
    for number, source in enumerate(programs, start=1):
        add_program(warehouse, number, source)
    return warehouse


def tables(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that `vote` wrote."""
    return {name: warehouse.query(f"SELECT * FROM {name} ORDER BY ALL") for name in TABLES}


def test_a_program_that_retires_is_left_out_of_the_same_blocks_however_far_was_read_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Program 2 retires in every block: it counts in the first three, and in none after them."""

    def run(_: Any, programs: Sequence[AcceptedProgram], texts: Sequence[str], labels: Sequence[str]) -> ProgramRun:
        votes = np.array([[p.number % 2 for p in programs]] * len(texts), dtype=np.int8)
        notes: list[list[dict[str, Any]]] = [
            [{"retired": "crash", "row": 0}] if p.number == 2 else [] for p in programs
        ]
        return ProgramRun(votes, np.zeros(votes.shape, np.uint8), LAYERS, {}, notes)

    def all_ahead(work: Work[Any, Any], items: Iterator[Any], count: int, ahead: int) -> Generator[ProgramRun]:
        for programs, texts in list(items):
            yield run(None, programs, texts, [])

    monkeypatch.setattr(voting, "run_accepted", run)
    here, elsewhere = filled(Warehouse.memory(), 60), filled(Warehouse.memory(), 60)
    one = stage.vote(here, block=10)
    with done_by(all_ahead):
        other = stage.vote(elsewhere, block=10)
    assert tables(here) == tables(elsewhere)
    assert one == other
    assert (
        here.scalar("SELECT count(*) FROM vote_blocks WHERE program_no = 2 AND n_votes > 0")
        == voting.MAX_RETIRED_BLOCKS
    )


@pytest.mark.slow
@pytest.mark.long
def test_votes_on_ray_equal_those_here_row_by_row(ray: Any) -> None:
    here, there = filled(Warehouse.memory(), 700), filled(Warehouse.memory(), 700)
    one, other = stage.vote(here, block=50), stage.vote(there, block=50, ray=True)
    assert one == other, "the same counts, and the same lines for a person"
    assert tables(here) == tables(there)
    assert stage.vote(there, block=50, ray=True).skipped
    add_program(there, 9, program("great", "ham"))
    assert stage.vote(there, block=50, ray=True).did["texts"] == 700, "a new program costs its column"
    assert ray.is_initialized(), "a session of the caller's own is left as it is"


@pytest.mark.slow
@pytest.mark.long
def test_a_layer_that_is_missing_in_a_worker_is_said_and_strict_refuses(ray: Any) -> None:
    asked = (AcceptedProgram(1, "def label(text):\n    return 0", None),), ["a"]
    with on_ray():
        (_, run), _ = spread(Work(Voter, (["x", "y"], False, "kernel", ["seccomp"])), [(0, asked)] * 2, 2)
        assert run.votes.tolist() == [[0]]
        assert run.layers is not None
        assert "seccomp" in run.layers.says()
        with pytest.raises(SandboxError, match=r"seccomp.*strict asks for all of them"):
            list(spread(Work(Voter, (["x", "y"], True, "kernel", ["seccomp"])), [(0, asked)] * 2, 2))


def kill_the_workers() -> int:
    """Kill every actor of the session of this process; how many there were."""
    found = processes.actors()
    for actor in found:
        actor.kill()
    return len(found)


@pytest.mark.slow
@pytest.mark.long
def test_a_lost_worker_is_replaced_and_its_block_is_run_again(ray: Any) -> None:
    killed: list[int] = []

    def progress(done: int, total: int, what: str) -> None:
        if not killed:
            killed.append(kill_the_workers())

    here, there = filled(Warehouse.memory(), 700), filled(Warehouse.memory(), 700)
    stage.vote(here, block=50)
    stage.vote(there, block=50, ray=True, progress=progress)
    assert killed == [2]
    assert tables(here) == tables(there)


@pytest.mark.slow
@pytest.mark.long
def test_a_worker_that_is_lost_for_good_is_one_clear_line(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading, "LOSSES", 0)
    warehouse = filled(Warehouse.memory(), 700)
    with pytest.raises(ClusterError, match=r"a Ray worker was lost: .*run the same command again"):
        stage.vote(warehouse, block=50, ray=True, progress=lambda *_: kill_the_workers())
    done = warehouse.scalar("SELECT count(*) FROM vote_blocks")
    assert 0 < done < len(PROGRAMS) * 700 / 50
    stage.vote(warehouse, block=50, ray=True)
    undisturbed = filled(Warehouse.memory(), 700)
    stage.vote(undisturbed, block=50)
    assert tables(warehouse) == tables(undisturbed)


KILLED = """
import os, signal, sys
from factory.programs import stage
from factory.warehouse.file import Warehouse
from tests.programs.processes import actors, command_lines

lost = []

def progress(done, total, what):
    if sys.argv[2] == "lose a worker" and not lost:
        lost.extend(actors())
        lost[0].kill()
    if sys.argv[2] == "kill" and done * 3 > total:
        print(*(one.pid for one, line in command_lines() if "Agent" not in line), file=sys.__stdout__, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

stage.vote(Warehouse.open(sys.argv[1]), block=50, ray=True, progress=progress)
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_run_on_ray_that_is_killed_goes_on_and_leaves_no_process_behind(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='Ray is not installed: pip install "label-factory[ray]"')
    path = tmp_path / "w.duckdb"
    filled(Warehouse.open(path), 700)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)

    def run(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(path), what]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    killed = run("kill")
    assert killed.returncode == -9, killed.stderr
    # Ray's agents are not counted: they look for its dead server for a minute or two before they end
    family = [int(pid) for pid in killed.stdout.split()]
    assert len(family) > 4, "Ray and the sandbox were running"
    done = Warehouse.open(path).scalar("SELECT count(*) FROM vote_blocks")
    assert 0 < done < len(PROGRAMS) * 700 / 50
    until = time.monotonic() + 30
    while any(map(processes.lives, family)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not list(filter(processes.lives, family))

    again = run("lose a worker")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "", "what Ray says of a lost worker is no result"
    undisturbed = filled(Warehouse.memory(), 700)
    stage.vote(undisturbed, block=50)
    assert tables(Warehouse.open(path)) == tables(undisturbed)
