"""Rows of `programs`: one for each key, and who decided last."""

from __future__ import annotations

import pytest

from factory.warehouse.file import Warehouse
from factory.warehouse.tables import programs
from factory.warehouse.tables.programs import NewProgram, program_key


def new(source: str = "def label(text): return None", **more: object) -> NewProgram:
    return NewProgram("p", "python", "model", source, program_key("python", None, source), **more)  # type: ignore[arg-type]


def state_of(warehouse: Warehouse, number: int) -> tuple[str, str | None]:
    return warehouse.query("SELECT state, drop_reason FROM programs WHERE program_no = ?", [number])[0]  # type: ignore[return-value]


def test_the_key_of_a_program_is_frozen() -> None:
    assert program_key("python", "spam", "x") == "415fd597f0f301b383be6251db54ca451c457d3690448f94c23d32c0f0981439"


def test_a_program_refused_by_one_plan_is_accepted_by_a_later_one_that_accepts_it() -> None:
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        first = programs.offer(db, new(plan_no=1), reason="never_votes", detail="no votes")
    assert state_of(warehouse, first) == ("rejected", "never_votes")
    with warehouse.lease() as db:
        assert programs.offer(db, new(plan_no=2), reason=None, detail=None) == first
    assert state_of(warehouse, first) == ("accepted", None)
    assert [program.number for program in programs.accepted(warehouse)] == [first]
    events = warehouse.query("SELECT state, reason, actor FROM program_events ORDER BY rowid")
    assert events == [("rejected", "never_votes", "author"), ("accepted", None, "author")]


def test_a_program_that_a_person_rejected_stays_rejected() -> None:
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        number = programs.offer(db, new(), reason=None, detail=None)
        programs.set_state(db, number, "rejected", "wrong", "hand")
        programs.offer(db, new(plan_no=2), reason=None, detail=None)
    assert state_of(warehouse, number) == ("rejected", "wrong")
    assert [program.number for program in programs.rejected_by_people(warehouse)] == [number]
    assert programs.accepted(warehouse) == []


def test_an_accepted_program_is_not_refused_by_a_later_plan() -> None:
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        number = programs.offer(db, new(), reason=None, detail=None)
        programs.offer(db, new(plan_no=2), reason="votes_alike", detail=None)
    assert state_of(warehouse, number) == ("accepted", None)
    assert warehouse.scalar("SELECT count(*) FROM programs") == 1


def test_the_source_of_a_superseded_version_may_come_again() -> None:
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        old = programs.add(db, new(), actor="hand")
        programs.set_state(db, old, "superseded", "edited", "hand")
        assert programs.known(db, new().key) is None
        again = programs.offer(db, new(), reason=None, detail=None)
    assert again != old
    assert [program.number for program in programs.accepted(warehouse)] == [again]


@pytest.mark.parametrize("kinds", [(), ("python",), ("trusted", "python")])
def test_programs_are_found_by_kind_and_by_name(kinds: tuple[str, ...]) -> None:
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        number = programs.add(db, new(), actor="hand")
        voter = NewProgram("tom", "trusted", "hand", "", program_key("trusted", None, "tom"), target_no=1, plan_no=4)
        other = programs.add(db, voter, actor="ask", reason="answers read")
        assert programs.find(db, kind="trusted", target_no=1, name="tom") == other
        assert programs.find(db, kind="trusted", target_no=None, name="tom") is None
        assert programs.find(db, kind="trusted", target_no=1, plan_no=4) == other
    found = [program.number for program in programs.accepted(warehouse, kinds=kinds)]
    assert found == ([number] if kinds == ("python",) else [number, other])
