"""The hostile suite: nothing outside is touched and no other program loses a vote, layer by layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parent / "hostile_run.py"
USER = 1234


def run(**config: Any) -> dict[str, Any]:
    """One run in a process of its own, so that a kill would not end the tests."""
    if config.get("user") and os.getuid() != 0:
        pytest.skip("only root can become another user; these runs are as an ordinary user in any case")
    done = subprocess.run([sys.executable, str(RUN), json.dumps(config)], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def assert_untouched(found: dict[str, Any]) -> None:
    assert found["programs"] >= 60
    assert found["lost"] == []
    assert found["breaches"] == []
    assert found["canary"] == "untouched"
    assert found["files"] == ["canary"]
    assert found["calls"] == 0
    assert found["victim_alive"]
    assert found["left_over"] == []


@pytest.mark.slow
def test_hostile_programs_touch_nothing_and_cost_no_other_vote() -> None:
    found = run(static=True)
    assert_untouched(found)
    if sys.platform == "linux":
        assert found["missing"] == {} or "namespaces" in found["missing"]


@pytest.mark.slow
@pytest.mark.long
def test_the_kernel_layers_hold_without_the_static_check() -> None:
    assert_untouched(run(static=False))


@pytest.mark.slow
@pytest.mark.long
def test_the_kernel_layers_hold_for_an_ordinary_user() -> None:
    found = run(static=False, user=USER)
    assert_untouched(found)
    assert found["uid"] == USER


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("layer", ["seccomp", "landlock", "namespaces", "limits", "unprivileged"])
@pytest.mark.parametrize("user", [None, USER])
def test_each_layer_may_be_missing_and_the_others_still_hold(layer: str, user: int | None) -> None:
    if layer == "unprivileged" and user:
        pytest.skip("an ordinary user has no rights to leave")
    found = run(static=False, refuse=[layer], user=user)
    assert_untouched(found)
    assert layer in found["missing"]


@pytest.mark.slow
def test_the_static_check_holds_where_the_kernel_gives_nothing() -> None:
    found = run(static=True, refuse=["seccomp", "landlock", "namespaces"], user=USER)
    assert_untouched(found)
    assert set(found["possible"]) >= {"kill", "executable_memory"}
