"""What people do with programs, and Snorkel's labelling functions in and out."""

from __future__ import annotations

import pytest

from factory.errors import InputError
from factory.programs import analysis, manage, stage, view
from factory.programs.snorkel import add_trusted, as_labeling_function
from factory.task import load_card, register
from factory.warehouse.file import Warehouse
from tests.programs.test_stage import CARD, TEXTS, add_texts, program


@pytest.fixture
def warehouse() -> Warehouse:
    warehouse = Warehouse.memory()
    register(warehouse, load_card(CARD))
    add_texts(warehouse, TEXTS)
    return warehouse


def test_an_edit_is_a_new_version_and_costs_its_own_votes_alone(warehouse: Warehouse) -> None:
    first = manage.add_program(warehouse, program("win", "spam"), name="win")
    manage.add_program(warehouse, program("song", "ham"), name="song")
    assert stage.vote(warehouse).did["votes"] == 120
    edited = manage.edit_program(warehouse, first["program_no"], program("prize 3", "spam"))
    old = view.show_program(warehouse, first["program_no"])
    assert old["state"] == "superseded"
    result = stage.vote(warehouse)
    assert result.did["votes"] == warehouse.scalar("SELECT count(*) FROM votes WHERE program_no = 3")
    diff = view.diff_program(warehouse, edited["program_no"])
    assert "-WORDS" in diff["diff"]
    assert diff["votes_changed"] > 0
    assert [row["program_no"] for row in view.list_programs(warehouse)] == [2, 3]
    assert len(view.list_programs(warehouse, every=True)) == 3


def test_a_program_that_does_not_run_is_not_added(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="may not be imported"):
        manage.add_program(warehouse, "import os\ndef label(text): return None", name="bad.py")
    with pytest.raises(InputError, match="speaks of all labels"):
        manage.add_program(warehouse, program("win", "spam"), name="x", target="spam")
    manage.add_program(warehouse, program("win", "spam"), name="x")
    with pytest.raises(InputError, match="this very source"):
        manage.add_program(warehouse, program("win", "spam"), name="y")
    with pytest.raises(InputError, match="no program 9"):
        view.show_program(warehouse, 9)


def test_rejecting_and_approving_are_kept_as_events(warehouse: Warehouse) -> None:
    number = manage.add_program(warehouse, program("win", "spam"), name="win")["program_no"]
    manage.reject_program(warehouse, number, reason="too broad")
    assert stage.vote(warehouse).did["programs"] == 0
    manage.approve_program(warehouse, number)
    assert stage.vote(warehouse).did["votes"] == 40
    events = view.show_program(warehouse, number)["events"]
    assert [(e["state"], e["reason"]) for e in events] == [
        ("accepted", None),
        ("rejected", "too broad"),
        ("accepted", None),
    ]


def test_a_trial_shows_votes_and_statuses(warehouse: Warehouse) -> None:
    number = manage.add_program(warehouse, program("win", "spam"), name="win")["program_no"]
    rows = view.test_program(warehouse, number, texts=["win", "x"])
    assert rows == [{"text": "win", "vote": "spam", "status": "ok"}, {"text": "x", "vote": None, "status": "abstain"}]


def test_the_analysis_reads_the_warehouse(warehouse: Warehouse) -> None:
    manage.add_program(warehouse, program("win", "spam"), name="win")
    manage.add_program(warehouse, program("win a", "ham"), name="wrong")
    stage.vote(warehouse)
    found = analysis.analyse(warehouse)
    assert found["rows"][0]["Coverage"] == pytest.approx(1 / 3)
    assert found["rows"][0]["Conflicts"] == pytest.approx(1 / 3)
    assert found["disagreements"][0]["texts"] == 40


def test_snorkel_functions_come_in_on_trust_and_go_out(warehouse: Warehouse) -> None:
    import pandas as pd
    from snorkel.labeling import PandasLFApplier, labeling_function

    @labeling_function()
    def mine(x: object) -> int:
        return 1 if "win" in x.text else -1  # type: ignore[attr-defined]

    with pytest.raises(InputError, match="outside the sandbox"):
        add_trusted(warehouse, [mine])
    added = add_trusted(warehouse, [mine], trust=True)
    assert added[0]["votes"] == 40
    assert stage.vote(warehouse).did["programs"] == 0
    frame = pd.DataFrame({"text": TEXTS[:12]})
    out = as_labeling_function(program("win", "spam"), ["ham", "spam"], name="ours")
    matrix = PandasLFApplier([mine, out]).apply(frame, progress_bar=False)
    assert (matrix[:, 0] == matrix[:, 1]).all()
