"""Anchors: the audit slice is uniform, the rest is drawn by strata with its probability, and what is drawn is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.annotation.anchors import Stratum, allocate, draw
from factory.annotation.stage import annotate
from factory.errors import InputError
from factory.llm import Pending
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.anchors import put_person, read_anchors, teaching_digest
from tests.annotation.test_annotate_stage import recorded, warehouse_with

TEXTS = [f"message number {number}" for number in range(60)]
SAYS = {text: "spam" if number % 3 == 0 else "ham" for number, text in enumerate(TEXTS)}


def with_votes(texts: list[str] = TEXTS, kind: str = "single") -> Warehouse:
    """Two programs: texts 0 to 29 agreed, 30 to 44 in conflict, the others uncovered."""
    made = warehouse_with(texts, kind)
    with made.lease() as db:
        for number in (1, 2):
            db.execute(
                "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state)"
                " VALUES (?, ?, ?, 'rules', 'hand', '', 'accepted')",
                [number, f"k{number}", f"p{number}"],
            )
        votes = [(1, text, 0) for text in range(45)] + [(2, text, int(text >= 30)) for text in range(20, 45)]
        db.executemany("INSERT INTO votes VALUES (?, ?, ?)", votes)
    return made


def table(made: Warehouse) -> list[tuple[Any, ...]]:
    return made.query("SELECT * FROM anchors ORDER BY ALL")


def test_the_audit_slice_is_the_head_of_the_random_order_and_the_rest_is_drawn_by_strata() -> None:
    order = list(range(1000))
    strata: dict[int, Stratum] = {
        no: "agreed" if no % 10 < 8 else "conflict" if no % 10 == 8 else "uncovered" for no in order
    }
    drawn = draw(order, strata, 300, 100)
    audit, teach = drawn[:100], drawn[100:]
    assert [one.text_no for one in audit] == order[:100]
    assert {one.role for one in audit} == {"audit"}
    assert {one.p for one in audit} == {0.1}
    count = {name: sum(one.stratum == name for one in teach) for name in ("agreed", "conflict", "uncovered")}
    assert sum(count.values()) == 200
    assert count["agreed"] / 720 < 0.8 * count["conflict"] / 90, "texts in conflict are drawn more often"
    assert sum(1 / one.p for one in teach) == pytest.approx(900), "the probabilities make up for it"
    assert draw(order, strata, 50, 100) == [*draw(order, strata, 50, 50)]


def test_a_stratum_that_is_used_up_leaves_its_share_to_the_others() -> None:
    assert allocate({"agreed": 3, "conflict": 2, "uncovered": 0}, 10) == {"agreed": 3, "conflict": 2, "uncovered": 0}
    assert allocate({"agreed": 100, "conflict": 2, "uncovered": 5}, 50) == {"agreed": 45, "conflict": 1, "uncovered": 4}


def test_anchors_are_stored_with_role_and_probability_and_a_stopped_run_ends_as_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    made, stopped = with_votes(), with_votes()
    result = annotate(made, recorded(tmp_path, "annotate", SAYS), anchors=30, audit=10)
    assert result.did["answered"] == 30
    assert any("10 for the audit slice, 20 that teach" in line for line in result.says)
    audit, teach = read_anchors(made, "audit"), read_anchors(made, "teach")
    assert (len(audit), len(teach)) == (10, 20)
    assert all(one.p == 10 / 60 for one in audit)
    assert sum(1 / (one.p or 0) for one in teach) == pytest.approx(50)
    assert {one.stratum for one in teach} == {"agreed", "conflict", "uncovered"}
    assert all(one.labels == {int(one.text_no % 3 == 0)} for one in audit + teach)
    with pytest.raises(Pending):
        annotate(stopped, recorded(tmp_path, "annotate", dict(list(SAYS.items())[:40])), anchors=30, audit=10)
    with stopped.lease() as db:
        db.execute("DELETE FROM votes")  # the strata were frozen with the plan
    annotate(stopped, recorded(tmp_path, "annotate", SAYS), anchors=30, audit=10)
    assert table(stopped) == table(made)


def test_the_audit_slice_grows_by_the_same_order_and_the_plan_asked_for_last_counts(tmp_path: Path) -> None:
    made = with_votes()
    engine = recorded(tmp_path, "annotate", SAYS)
    annotate(made, engine, anchors=30, audit=10)
    first = table(made)
    annotate(made, engine, anchors=20, audit=15)
    audit = {one.text_no for one in read_anchors(made, "audit")}
    assert len(audit) == 15
    assert {row[0] for row in first if row[3] == "audit"} < audit
    again = annotate(made, engine, anchors=30, audit=10)
    assert again.skipped
    assert table(made) == first


def test_a_multi_task_keeps_yes_and_no_of_every_label(tmp_path: Path) -> None:
    made = with_votes(kind="multi")
    says = {text: "none" if number % 2 else "ham\nspam" for number, text in enumerate(TEXTS)}
    annotate(made, recorded(tmp_path, "annotate_multi", says, kind="multi"), anchors=20, audit=5)
    assert len(table(made)) == 40
    assert all(one.labels == (set() if one.text_no % 2 else {0, 1}) for one in read_anchors(made, "teach"))


def test_a_persons_answer_takes_the_role_of_its_text_and_the_place_of_the_models(tmp_path: Path) -> None:
    made = with_votes()
    with made.lease() as db:
        put_person(db, {number: [1] for number in range(60)}, None, None)
    assert len(read_anchors(made, "teach")) == 60
    annotate(made, recorded(tmp_path, "annotate", SAYS), anchors=30, audit=10)
    audit, teach = read_anchors(made, "audit"), read_anchors(made, "teach")
    assert len(audit) == 10
    assert len(teach) == 50
    assert all(one.source == "person" and one.labels == {1} for one in audit + teach)
    assert sum(one.p is not None for one in teach) == 20, "nobody drew the others"
    assert [one.labels for one in read_anchors(made, "audit", "model")] == [
        {int(one.text_no % 3 == 0)} for one in audit
    ]
    before = teaching_digest(made)
    with made.lease() as db:
        put_person(db, {audit[0].text_no: [0]}, "bo", None)
        put_person(db, {audit[0].text_no: [0]}, "al", None)
    assert read_anchors(made, "audit")[0].labels == {0}, "two of three people say so"
    assert teaching_digest(made) == before, "nothing of the audit slice is in it"


@pytest.mark.parametrize("other", [{"as_votes": True}, {"limit": 5}, {"texts": "uncovered_or_tied"}, {"split": "test"}])
def test_what_contradicts_anchors_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="anchors"):
        annotate(with_votes(), recorded(tmp_path, "annotate", SAYS), anchors=5, **other)


def test_without_anchors_a_plan_is_keyed_as_it_always_was(tmp_path: Path) -> None:
    made = with_votes()
    annotate(made, recorded(tmp_path, "annotate", SAYS), split="train")
    config = made.scalar("SELECT config FROM plans")
    assert not any(name in config for name in ("anchors", "audit", "among"))
    assert table(made) == []


def test_anchors_that_were_bought_stay_when_programs_say_something_else_and_their_number_is_filled_up(
    tmp_path: Path,
) -> None:
    made = with_votes()
    engine = recorded(tmp_path, "annotate", SAYS)
    annotate(made, engine, anchors=30, audit=10)
    before = {one.text_no: one.p for one in read_anchors(made, "teach")}
    with made.lease() as db:  # all is agreed on now: a new draw would take others
        db.execute("DELETE FROM votes WHERE program_no = 2")
    result = annotate(made, engine, anchors=40, audit=10, extend=True)
    after = {one.text_no: one.p for one in read_anchors(made, "teach")}
    assert len(after) == 30
    assert before.items() <= after.items()
    assert [one.text_no for one in read_anchors(made, "audit")] == result_of_audit(made)
    assert annotate(made, engine, anchors=40, audit=10, extend=True).skipped, "the draw is frozen in its plan"
    assert result.did["answered"] == 40


def result_of_audit(made: Warehouse) -> list[int]:
    """The texts that the first plan drew for the audit slice."""
    plan = made.scalar("SELECT min(plan_no) FROM plans WHERE stage = 'annotate'")
    rows = made.query(
        "SELECT (parents ->> 'text_no')::INTEGER FROM slots WHERE plan_no = ? AND parents ->> 'role' = 'audit' ORDER BY 1",
        [plan],
    )
    return [number for (number,) in rows]
