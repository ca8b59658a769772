"""A run that is killed (SIGKILL) at any moment and started again ends as if nothing had happened, and pays for nothing twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from factory.warehouse.file import Warehouse
from tests.kills.comparing import ARE_ABOUT_THE_RUN, MAY_DIFFER, differences, folder_bytes
from tests.kills.harness import CONCURRENCY, Killed, Line

INSIDE = [
    # (step, what happens there, the how manieth time that it happens with some of the step's rows done and others not)
    ("0.ingest", "committed", 1),
    ("0.ingest", "commit", 2),
    ("1.author", "committed", 1),
    ("1.author", "insert", 1),
    ("2.vote", "commit", 3),
    ("2.vote", "committed", 9),
    ("3.synthesize", "committed", 1),
    ("3.synthesize", "insert", 1),
    ("4.vote", "committed", 1),
    ("4.vote", "insert", 2),
    ("5.annotate", "committed", 1),
    ("5.annotate", "insert", 1),
    ("6.denoise", "insert", 1),
    ("6.denoise", "insert", 2),
    ("7.distill", "committed", 1),
    ("7.distill", "insert", 2),
    ("8.evaluate", "progress", 1),
    ("8.evaluate", "progress", 2),
    ("9.export", "file", 1),
    ("9.export", "file", 3),
]
"""Moments inside a step. `insert` and `commit` lie in an open transaction. `evaluate` writes its rows at once, at its end, and
says how many systems it has scored; `export` writes files."""

ARRIVED = [("1.author", "answer", 3), ("3.synthesize", "answer", 4), ("5.annotate", "answer", 30)]
"""An answer has come and is not stored."""

OTHER = [("0.ingest", "begin", 1), ("0.ingest", "gold", 1), ("6.denoise", "commit", 1), ("7.distill", "file", 6)]
"""Before anything is done; while gold is stored; all of a transaction but its COMMIT; while a model's files are written."""

SOON = {("4.vote", "insert", 2), ("5.annotate", "answer", 30), ("7.distill", "committed", 1)}
"""Those that `.ci/run` does; the others are marked long."""


def marked(moments: list[tuple[str, str, int]]) -> list[object]:
    """Test parameters, marked slow, and long but for a few."""
    return [
        pytest.param(
            *moment,
            id="-".join(map(str, moment)),
            marks=[pytest.mark.slow, *([] if moment in SOON else [pytest.mark.long])],
        )
        for moment in moments
    ]


def ends_like_undisturbed(line: Line, killed: Killed) -> None:
    """Start the killed run again, and compare what it ends with and what it paid."""
    line.start_again()
    sent = line.server.settled()["samples"]
    wanted = line.samples - killed.answered_before
    lost = killed.sent - killed.stored
    assert lost <= CONCURRENCY * killed.largest + killed.unstored, (
        f"more was lost than was in flight or not stored yet: {killed}"
    )
    again = min(lost, CONCURRENCY * killed.largest)  # what came is in the journal, stored or not
    assert sent <= wanted + again, f"{sent} sent; {wanted} wanted; {killed}"
    assert not killed.left_behind, "processes of the killed run are still there"
    assert differences(line.undisturbed / "small.duckdb", line.warehouse) == []
    assert differences(line.undisturbed / "small.gold.duckdb", line.warehouse.with_suffix(".gold.duckdb")) == []
    assert folder_bytes(line.undisturbed / "export") == folder_bytes(line.run / "export")
    leftovers = {path.name for path in line.run.iterdir()} - {path.name for path in line.undisturbed.iterdir()}
    assert not leftovers, "the killed run left files that an undisturbed one does not leave"


def bounds(line: Line, step: str, kind: str) -> tuple[int, int]:
    """What is done before a step and after it, in the undisturbed run."""
    if kind == "progress":
        return 0, 3
    if kind == "file":
        folders = (line.snapshots / step, line.undisturbed)
        named = ([name for name in folder_bytes(folder) if ".duckdb" not in name] for folder in folders)
        before, after = (len([name for name in names if name != "run.lock"]) for names in named)
        return before, after
    return line.rows_of(step)


@pytest.mark.parametrize(("step", "kind", "nth"), marked(INSIDE))
def test_a_kill_inside_a_step_changes_nothing(line: Line, step: str, kind: str, nth: int) -> None:
    before, after = bounds(line, step, kind)
    killed = line.kill_at(f"{step}/{kind}/{nth}", (before, after))
    assert before < killed.done < after
    assert killed.in_transaction == (kind in {"insert", "commit"})
    if kind == "committed":
        assert before < killed.rows_left < after, "another process sees some of the rows and not all"
    if killed.in_transaction:
        assert killed.rows_left < killed.done, "what was not committed is gone"
    ends_like_undisturbed(line, killed)


@pytest.mark.parametrize(("step", "kind", "nth"), marked(ARRIVED))
def test_an_answer_that_came_and_was_not_stored_costs_no_more_than_itself(
    line: Line, step: str, kind: str, nth: int
) -> None:
    killed = line.kill_at(f"{step}/{kind}/{nth}")
    assert killed.unstored > 0
    assert killed.sent > killed.stored, "there is an answer that is not stored"
    ends_like_undisturbed(line, killed)
    # on record before they are sent: the server may not have seen all of them
    assert unknown_attempts(line.warehouse) <= CONCURRENCY, (
        "what was in flight is on record as unknown, and nothing else"
    )


@pytest.mark.slow
def test_what_came_and_was_never_stored_is_not_asked_for_again(line: Line) -> None:
    killed = line.kill_at("5.annotate/answer/30", store_every_s=600.0)
    assert (killed.stored, killed.unstored) == (0, 30)
    ends_like_undisturbed(line, killed)
    in_flight = killed.sent - 30
    assert line.server.settled()["samples"] == line.samples - killed.answered_before + in_flight


@pytest.mark.parametrize(("step", "kind", "nth"), marked(OTHER))
def test_a_kill_at_the_edge_of_a_step_changes_nothing(line: Line, step: str, kind: str, nth: int) -> None:
    ends_like_undisturbed(line, line.kill_at(f"{step}/{kind}/{nth}"))


@pytest.mark.long
@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_changes_nothing(line: Line) -> None:
    """A kill in step after step, without ever starting from an undisturbed copy."""
    chain = [
        ("1.author", "answer", 2),
        ("2.vote", "commit", 3),
        ("3.synthesize", "committed", 3),
        ("5.annotate", "answer", 9),
    ]
    chain += [("6.denoise", "insert", 2), ("7.distill", "committed", 1), ("8.evaluate", "progress", 2)]
    moments = [f"{step}/{kind}/{nth}" for step, kind, nth in chain]
    killed = [line.kill_at(moments[0]), *(line.go_on_until(moment) for moment in moments[1:])]
    line.server.reset()
    line.start_again()
    sent = sum(each.sent for each in killed) + line.server.settled()["samples"]
    lost = sum(each.sent - each.stored for each in killed)
    assert sent <= line.samples - killed[0].answered_before + lost
    assert differences(line.undisturbed / "small.duckdb", line.warehouse) == []
    assert folder_bytes(line.undisturbed / "export") == folder_bytes(line.run / "export")


@pytest.mark.slow
@pytest.mark.long
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
