"""What `run_programs` promises: votes, statuses, and failures that stay where they are."""

from __future__ import annotations

import numpy as np
import pytest

from factory.errors import InputError
from factory.label_matrix import vote_dtype
from factory.programs import run_programs

LABELS = ["ham", "spam"]
GOOD = (
    "import re\nRX = re.compile(r'win|free', re.I)\ndef label(text):\n    return 'spam' if RX.search(text) else None\n"
)


def test_names_indices_and_abstentions_become_votes() -> None:
    sources = [GOOD, "def label(text):\n    return 1 if 'x' in text else -1", "def label(text):\n    return 'ham'"]
    run = run_programs(sources, ["win x", "nothing"], LABELS)
    assert run.votes.tolist() == [[1, 1, 0], [-1, -1, 0]]
    assert run.status.tolist() == [["ok", "ok", "ok"], ["abstain", "abstain", "ok"]]
    assert run.votes.dtype == np.int8


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise ValueError('x')", "exception"),
        ("return text[999]", "exception"),
        ("return label(text)", "exception"),
        ("return 'nonsense'", "bad value"),
        ("return 1.0", "bad value"),
        ("return True", "bad value"),
        ("return 2", "bad value"),
        ("return ['ham']", "bad value"),
        ("while True: pass", "timeout"),
        ("return 'x' * 10**12", "memory"),
    ],
)
def test_a_failing_program_loses_its_own_vote_and_no_other(body: str, status: str) -> None:
    hostile = f"def label(text):\n    if 'bad' in text:\n        {body}\n    return 0"
    run = run_programs([GOOD, hostile, GOOD], ["free", "bad free", "free"], LABELS)
    assert run.status[:, 1].tolist() == ["ok", status, "ok"]
    assert run.votes.tolist() == [[1, 0, 1], [1, -1, 1], [1, 0, 1]]


def test_a_refused_program_says_why_and_where() -> None:
    run = run_programs(["import os\ndef label(text):\n    return 0"], ["a"], LABELS)
    assert run.status.tolist() == [["rejected"]]
    assert run.refusals == {0: ("import", "line 1: the module `os` may not be imported")}


def test_a_target_takes_yes_no_and_abstain() -> None:
    source = "def label(text):\n    return True if 'y' in text else False if 'n' in text else None"
    run = run_programs([source], ["y", "n", "-"], ["oil", "gold"], target="gold")
    assert run.votes[:, 0].tolist() == [1, 0, -1]


def test_votes_widen_with_the_classes_and_never_wrap() -> None:
    labels = [f"c{i}" for i in range(151)]
    run = run_programs(["def label(text):\n    return 'c150'"], ["a"], labels)
    assert run.votes.tolist() == [[150]]
    assert run.votes.dtype == np.int16
    assert [vote_dtype(k) for k in (127, 128, 32_767, 32_768)] == [np.int8, np.int16, np.int16, np.int32]


def test_odd_texts_and_none_at_all_are_fine() -> None:
    texts = ["", "a\0b", "\ud800 lone", "é" * 200_000]
    run = run_programs(["def label(text):\n    return 0 if len(text) else None"], texts, LABELS)
    assert run.votes[:, 0].tolist() == [-1, 0, 0, 0]
    assert run_programs([GOOD], [], LABELS).votes.shape == (0, 1)
    assert run_programs([], ["a"], LABELS).votes.shape == (1, 0)


def test_a_text_that_is_no_string_is_refused() -> None:
    with pytest.raises(InputError):
        run_programs([GOOD], [None], LABELS)  # type: ignore[list-item]


def test_many_texts_keep_their_order_over_chunks_and_workers() -> None:
    texts = [f"text {i} {'win' if i % 7 == 0 else ''}" for i in range(23_000)]
    run = run_programs([GOOD, GOOD], texts, LABELS)
    expected = [1 if i % 7 == 0 else -1 for i in range(23_000)]
    assert run.votes[:, 0].tolist() == expected
    assert run.votes[:, 1].tolist() == expected
