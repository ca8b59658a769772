"""What a person sees of a step that takes long: the count, the rate and the time left."""

from __future__ import annotations

import threading

import pytest

from factory.commands import progress as module
from factory.commands.progress import Pace, duration, shown_alone, shown_progress, step_lines
from factory.params import Params
from factory.pipeline.steps import Step
from factory.result import StageResult


def test_a_pace_tells_rate_and_time_left() -> None:
    pace = Pace()
    assert pace.words(256, 4040, "texts encoded", 0.0) == "", "nothing is known yet"
    assert pace.words(896, 4040, "texts encoded", 10.0) == "64/s, 49 s left"
    assert pace.words(4040, 4040, "texts encoded", 59.0).endswith("/s"), "nothing is left"


def test_a_pace_begins_again_with_another_count_and_forgets_what_is_long_ago() -> None:
    pace = Pace()
    pace.words(0, 100, "texts encoded", 0.0)
    assert pace.words(50, 100, "texts encoded", 10.0) == "5.0/s, 10 s left"
    assert pace.words(1, 8, "trials on dev", 11.0) == ""
    assert pace.words(3, 8, "trials on dev", 31.0) == "10 s each, 50 s left"
    assert pace.words(1, 8, "trials on dev", 32.0) == "", "counted anew"
    slow = Pace()
    slow.words(0, 1000, "steps, loss 1.5", 0.0)
    for second in range(1, 200):
        slow.words(100, 1000, f"steps, loss {second}", float(second))
    assert slow.words(110, 1000, "steps, loss 0.1", 200.0).startswith("6 s each"), "the last minute counts"
    assert Pace().words(3, 0, "answers", 5.0) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (100, "2 min"),
        (3599, "60 min"),
        (5000, "83 min"),
        (5400, "1 h 30 min"),
        (90000, "25 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_plain_lines_come_every_five_seconds_with_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with shown_alone("predict") as tell:
        for second in range(12):
            now[0] = float(second)
            tell(second * 100, 2000, "rows")
    assert capsys.readouterr().err.splitlines() == [
        "  predict: 500/2,000 rows, 100/s, 15 s left", "  predict: 1,000/2,000 rows, 100/s, 10 s left",
    ]  # fmt: skip


def test_a_step_that_tells_nothing_is_said_to_be_at_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.5)
    waited = threading.Event()
    with shown_progress() as (start, told):
        tell = start(Step("export", Params()), 0, 1)
        tell(1, 2, "writing and checking the export")
        waited.wait(2.5)
        told(Step("export", Params()), StageResult("export", says=("exported",)))
        waited.wait(2.0)
    lines = capsys.readouterr().err.splitlines()
    assert "  export: writing and checking the export, still at work after 1 s" in lines
    assert lines[-1] == "export      exported", "a step that has ended is silent"


def test_a_skipped_step_says_why() -> None:
    assert step_lines(StageResult("vote", skipped=True)) == ["vote        done already"]
    result = StageResult("evaluate", skipped=True, why="no test split: nothing to score")
    assert step_lines(result) == ["evaluate    no test split: nothing to score"]
