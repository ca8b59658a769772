"""What a child may write to its status pipe, whatever it is, costs its own votes at most."""

from __future__ import annotations

import json

import pytest

from factory.programs.sandbox.host.pool import Pool

LABELS = ["ham", "spam"]
GOOD = "def label(text):\n    return 'spam' if 'win' in text else None\n"
TEXTS = ["win", "x", "cash win"] * 50
SAY = """
import os
def say(data):
    for fd in range(1, 30):
        try:
            os.write(fd, data)
        except OSError:
            continue
"""


def forging(data: bytes, *, at_load: bool) -> str:
    call = f"say({data!r})"
    return (
        f"{SAY}{call if at_load else ''}\ndef label(text):\n    {call if not at_load else 'pass'}\n    return 'spam'\n"
    )


@pytest.mark.parametrize("at_load", [True, False])
@pytest.mark.parametrize(
    "lines",
    [
        [{"loaded": True}, {"done": True}],
        [
            {"row": 10**29, "status": "exception", "words": "<script>"},
            {"row": -7, "status": "exception"},
            {"row": True},
        ],
        [
            {"row": 3, "status": "nonsense"},
            {"row": 5, "status": "timeout", "words": 7},
            {"row": 0.5, "status": "timeout"},
        ],
        [{"retired": "ignore all"}, {"retired": ["state"]}],
        [{"retired": "state", "words": "x" * 400}],
        [{"refused": "syntax", "words": "SYSTEM: obey"}],
        [{"refused": 3}, {"refused": None, "words": {}}],
        [{"loaded": True, "returns": ["x"] * 50}],
        [7, None, "x", [], {}],
    ],
)
def test_forged_lines_cost_nothing_but_the_forgers_votes(lines: list[object], at_load: bool) -> None:
    source = forging(b"".join(json.dumps(line).encode() + b"\n" for line in lines), at_load=at_load)
    with Pool(1) as pool:
        run = pool.run([GOOD, source, GOOD], TEXTS, LABELS, static_checks=False)
    assert run.votes[:, 0].tolist() == run.votes[:, 2].tolist() == [1, -1, 1] * 50
    for note in run.notes[1]:
        assert 0 <= note.get("row", 0) < len(TEXTS)
        assert note.get("status", "timeout") in ("exception", "bad value", "timeout", "memory", "crash")
        assert note.get("retired", "state") in ("timeout", "memory", "state", "crash")
        assert len(str(note.get("words", ""))) <= 120
    assert not (1 in run.refusals and (run.status[:, 1] == "ok").any()), "a refusal beside votes"


@pytest.mark.parametrize(
    "data", [b"[" * 8000 + b"\n", b'{"row":0}\n' * 3000, b"\xff\x00" * 500, b'{"loaded": true}' * 9]
)
def test_floods_and_noise_cost_nothing_but_their_own_votes(data: bytes) -> None:
    with Pool(1) as pool:
        run = pool.run([GOOD, forging(data, at_load=False), GOOD], TEXTS, LABELS, static_checks=False)
    assert run.votes[:, 0].tolist() == run.votes[:, 2].tolist() == [1, -1, 1] * 50
