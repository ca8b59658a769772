"""The layers are proved, what is missing is said, and strict refuses."""

from __future__ import annotations

import sys

import pytest

from factory.errors import SandboxError
from factory.programs.sandbox.host.pool import Pool, run_programs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel layers are Linux's")

SOURCE = "def label(text):\n    return 0"


def test_the_probe_can_do_nothing_here() -> None:
    layers = run_programs([SOURCE], ["a"], ["x", "y"]).layers
    assert "executable_memory" in layers
    assert {"open_read", "socket", "fork", "kill", "limit", "priority", "io_priority", "affinity", "scheduler"} < set(
        layers
    )
    assert layers.possible == ()


def test_what_is_missing_is_said_and_the_rest_still_runs() -> None:
    with Pool(1, refuse=["seccomp"]) as pool:
        run = pool.run([SOURCE], ["a"], ["x", "y"])
    assert run.votes.tolist() == [[0]]
    assert "executable_memory" in run.layers.possible
    assert "seccomp" in run.layers.says()
    assert {"open_read", "socket", "fork"} <= set(run.layers)


@pytest.mark.parametrize("layer", ["seccomp", "landlock"])
def test_strict_refuses_without_a_layer_and_names_it(layer: str) -> None:
    with Pool(1, strict=True, refuse=[layer]) as pool, pytest.raises(SandboxError, match=layer):
        pool.run([SOURCE], ["a"], ["x", "y"])


def test_a_worker_killed_in_mid_run_costs_its_task_and_is_replaced() -> None:
    import os
    import signal
    import threading
    import time

    slow = "def label(text):\n    n = 0\n    for i in range(200_000):\n        n += i\n    return 0"
    with Pool(2) as pool:
        assert pool.layers
        victim = pool._processes[0].pid
        threading.Timer(0.3, lambda: os.kill(victim, signal.SIGKILL)).start()
        began = time.monotonic()
        run = pool.run([slow, SOURCE, SOURCE, slow], ["a"] * 60, ["x", "y"])
        assert time.monotonic() - began < 60
        again = pool.run([SOURCE] * 4, ["a"] * 5, ["x", "y"])
    lost = [j for j in range(4) if (run.votes[:, j] == -1).any()]
    assert len(lost) <= 1
    assert all((run.status[:, j] == "crash").all() for j in lost)
    assert (again.votes == 0).all()


def test_busy_machines_give_no_false_timeouts() -> None:
    import multiprocessing

    spinning = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(4)]
    for process in spinning:
        process.start()
    try:
        source = "def label(text):\n    return sum(ord(c) for c in text * 20) % 2"
        run = run_programs([source] * 2, [f"text {i}" for i in range(1000)], ["x", "y"])
    finally:
        for process in spinning:
            process.terminate()
    assert (run.status == "ok").all()


def _spin() -> None:
    while True:
        pass
