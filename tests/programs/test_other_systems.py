"""Where the system is not Linux: Python programs need a word, rules need nothing, and nothing of POSIX alone is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from factory.errors import SandboxError
from factory.programs import stage
from factory.programs.manage import add_program
from factory.programs.sandbox.host import pool as host
from factory.programs.sandbox.host.pool import SANDBOX_VARIABLE, Pool, run_programs
from factory.task import load_card, register
from factory.warehouse.file import Warehouse
from tests.programs.test_stage import CARD, TEXTS, add_texts, program
from tests.programs.test_stage import add_program as add_stored

PYTHON = "def label(text):\n    return 0"
RULES = '[{"kind": "word", "value": "win", "label": "spam"}]'


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This system says that it is a Mac, and no pool is shared with other tests."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(host, "_SHARED", {})
    monkeypatch.delenv(SANDBOX_VARIABLE, raising=False)
    return monkeypatch


def test_python_needs_a_word_and_the_one_line_says_which(elsewhere: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SandboxError, match=r"cannot seal Python programs.*`sandbox: process`.*rules need nothing"
    ) as caught:
        run_programs([PYTHON], ["a"], ["x", "y"])
    assert "\n" not in str(caught.value)
    assert run_programs([PYTHON], ["a"], ["x", "y"], sandbox="process").votes.tolist() == [[0]]
    elsewhere.setenv(SANDBOX_VARIABLE, "process")
    with Pool(1) as pool:
        assert pool.run([PYTHON], ["a"], ["x", "y"]).votes.tolist() == [[0]]


def test_a_system_that_cannot_fork_says_so(elsewhere: pytest.MonkeyPatch) -> None:
    elsewhere.delattr(os, "fork")
    with pytest.raises(SandboxError, match="a system that can fork"):
        run_programs([PYTHON], ["a"], ["x", "y"], sandbox="process")


def test_rules_are_added_and_vote_and_python_votes_with_the_word(elsewhere: pytest.MonkeyPatch) -> None:
    warehouse = Warehouse.memory()
    register(warehouse, load_card(CARD))
    add_texts(warehouse, TEXTS)
    add_program(warehouse, RULES, name="rules", kind="rules")
    assert stage.vote(warehouse).did["votes"] == 40
    add_stored(warehouse, 7, program("song", "ham"))
    with pytest.raises(SandboxError):
        stage.vote(warehouse)
    assert stage.vote(warehouse, sandbox="process").did["votes"] == 80


def test_rules_vote_without_any_posix_module_and_without_a_process() -> None:
    code = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
import os, subprocess
del os.fork
subprocess.Popen = None
from factory.programs.blocks import AcceptedProgram, run_accepted
from factory.programs.sandbox.host.pool import shared_pool
from factory.programs.rules import read_rules
import factory.programs.manage, factory.programs.vote, factory.programs.snorkel, factory.programs.stage, factory.programs.trial
source = read_rules([{"kind": "word", "value": "win", "label": "spam"}], ["ham", "spam"], None).source
run = run_accepted(shared_pool(), [AcceptedProgram(1, source, None, "rules")], ["win", "x"], ["ham", "spam"])
print(run.votes.tolist(), run.layers)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[[1], [-1]] None"
