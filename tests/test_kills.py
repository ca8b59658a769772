"""A run that is killed (SIGKILL) at any moment and started again ends as if nothing had happened, and pays for nothing twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from factory.warehouse import Warehouse
from tests.kills.comparing import ARE_ABOUT_THE_RUN, MAY_DIFFER, differences, folder_bytes
from tests.kills.harness import CONCURRENCY, Killed, Line

INSIDE = [
    # (step, what happens there, at which share of all such moments of the step)
    ("0.ingest", "committed", 0.5),
    ("0.ingest", "commit", 0.7),
    ("1.author", "committed", 0.4),
    ("1.author", "insert", 0.7),
    ("1.author", "commit", 0.8),
    ("2.vote", "commit", 0.3),
    ("2.vote", "committed", 0.6),
    ("3.synthesize", "committed", 0.5),
    ("3.synthesize", "insert", 0.7),
    ("4.vote", "committed", 0.3),
    ("4.vote", "insert", 0.7),
    ("5.annotate", "committed", 0.4),
    ("5.annotate", "insert", 0.6),
    ("6.denoise", "insert", 0.3),
    ("6.denoise", "insert", 0.7),
    ("7.distill", "committed", 0.3),
    ("7.distill", "insert", 0.6),
    ("8.evaluate", "progress", 0.4),
    ("8.evaluate", "progress", 0.6),
]
"""Moments at which some of the step's rows are there and others are not; `evaluate` writes its rows at once, at its end, and
says how many systems it has scored."""

EXPORTING = [("9.export", "file", 0.4), ("9.export", "file", 0.8)]
"""Moments at which some of the export's files are there and others are not."""

ARRIVED = [("1.author", "answer", 0.3), ("3.synthesize", "answer", 0.5), ("5.annotate", "answer", 0.6)]
"""An answer has come and is not stored."""

OTHER = [
    ("0.ingest", "begin", 1.0),
    ("0.ingest", "gold", 0.5),
    ("6.denoise", "commit", 1.0),
    ("7.distill", "file", 0.5),
]
"""Before anything is done; while gold is stored; all of a transaction but its COMMIT; while a model's files are written."""

FAST = {("1.author", "answer", 0.3), ("4.vote", "insert", 0.7), ("7.distill", "committed", 0.3)}
"""Those that every test run does; the rest is marked slow."""


def marked(moments: list[tuple[str, str, float]]) -> list[object]:
    """Test parameters, all but the fast ones marked slow."""
    return [
        pytest.param(*moment, id="-".join(map(str, moment)), marks=() if moment in FAST else pytest.mark.slow)
        for moment in moments
    ]


def ends_like_undisturbed(line: Line, killed: Killed) -> None:
    """Start the killed run again, and compare what it ends with and what it paid."""
    line.start_again()
    sent = line.server.settled()["samples"]
    wanted = line.samples - already_answered(line, killed.moment)
    lost = killed.sent - killed.stored
    assert lost <= CONCURRENCY + killed.unstored, f"more was lost than was in flight or not stored yet: {killed}"
    assert sent <= wanted + lost, f"{sent} sent; {wanted} wanted; {killed}"
    assert not killed.left_behind, "processes of the killed run are still there"
    assert differences(line.undisturbed / "small.duckdb", line.warehouse) == []
    assert differences(line.undisturbed / "small.gold.duckdb", line.warehouse.with_suffix(".gold.duckdb")) == []
    assert folder_bytes(line.undisturbed / "export") == folder_bytes(line.run / "export")
    leftovers = {path.name for path in line.run.iterdir()} - {path.name for path in line.undisturbed.iterdir()}
    assert not leftovers, "the killed run left files that an undisturbed one does not leave"


def already_answered(line: Line, moment: str) -> int:
    """Answers that were stored before the step of a moment began."""
    from tests.kills.harness import answers_in

    return answers_in(line.snapshots / moment.split("/")[0] / "small.duckdb")


@pytest.mark.parametrize(("step", "kind", "share"), marked(INSIDE))
def test_a_kill_inside_a_step_changes_nothing(line: Line, step: str, kind: str, share: float) -> None:
    killed = line.kill_at(line.moment(step, kind, share))
    before, after = line.rows_of(step) if kind != "progress" else (0, killed.told[1])
    done = killed.rows if kind != "progress" else killed.told[0]
    assert before < done < after, f"not inside {step}: {before} < {done} < {after}"
    assert killed.in_transaction == (kind in {"insert", "commit"})
    ends_like_undisturbed(line, killed)


@pytest.mark.parametrize(("step", "kind", "share"), marked(EXPORTING))
def test_a_kill_while_the_export_is_written_changes_nothing(line: Line, step: str, kind: str, share: float) -> None:
    killed = line.kill_at(line.moment(step, kind, share))
    before = len([name for name in folder_bytes(line.snapshots / step) if ".duckdb" not in name])
    after = len([name for name in folder_bytes(line.undisturbed) if ".duckdb" not in name])
    assert before < killed.files < after
    ends_like_undisturbed(line, killed)


@pytest.mark.parametrize(("step", "kind", "share"), marked(ARRIVED))
def test_an_answer_that_came_and_was_not_stored_costs_no_more_than_itself(
    line: Line, step: str, kind: str, share: float
) -> None:
    killed = line.kill_at(line.moment(step, kind, share))
    assert killed.sent > killed.stored, "there is an answer that is not stored"
    ends_like_undisturbed(line, killed)
    unknown = unknown_attempts(line.warehouse)
    assert 1 <= unknown <= killed.sent - killed.stored, "what was lost is on record as unknown"


@pytest.mark.parametrize(("step", "kind", "share"), marked(OTHER))
def test_a_kill_at_the_edge_of_a_step_changes_nothing(line: Line, step: str, kind: str, share: float) -> None:
    ends_like_undisturbed(line, line.kill_at(line.moment(step, kind, share)))


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_changes_nothing(line: Line) -> None:
    """One kill in every step that follows, without ever starting from an undisturbed copy."""
    moments = [
        line.moment(*moment)
        for moment in (INSIDE[2], INSIDE[6], ARRIVED[1], INSIDE[10], INSIDE[12], INSIDE[15], INSIDE[18])
    ]
    killed = [line.kill_at(moments[0]), *(line.go_on_until(moment) for moment in moments[1:])]
    line.server.reset()
    before = already_answered(line, moments[0])
    line.start_again()
    sent = sum(each.sent for each in killed) + line.server.settled()["samples"]
    lost = sum(each.sent - each.stored for each in killed)
    assert sent <= line.samples - before + lost
    assert differences(line.undisturbed / "small.duckdb", line.warehouse) == []
    assert folder_bytes(line.undisturbed / "export") == folder_bytes(line.run / "export")


@pytest.mark.slow
def test_two_undisturbed_runs_are_equal(line: Line) -> None:
    """What the comparison of killed runs rests on."""
    if line.run.exists():
        shutil.rmtree(line.run)
    line.start_again()
    assert differences(line.undisturbed / "small.duckdb", line.warehouse) == []
    assert folder_bytes(line.undisturbed / "export") == folder_bytes(line.run / "export")


def test_the_list_of_columns_that_may_differ_is_short_and_real() -> None:
    columns = set(Warehouse.memory().query("SELECT table_name, column_name FROM duckdb_columns()"))
    assert {(table, name) for table, names in MAY_DIFFER.items() for name in names} <= columns
    assert {table for table, _ in columns} >= ARE_ABOUT_THE_RUN
    assert sum(len(names) for names in MAY_DIFFER.values()) <= 20


def unknown_attempts(warehouse: Path) -> int:
    """Calls on record whose outcome nobody knows."""
    import duckdb

    with duckdb.connect(str(warehouse), read_only=True) as db:
        return int(db.execute("SELECT count(*) FROM attempts WHERE outcome = 'unknown'").fetchall()[0][0])
