"""The report of a line without gold, and with odd names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import factory
from factory.commands.lines import show_evaluation
from factory.report import charts, page
from factory.report.known import known_of
from factory.report.line_facts import dropped_of, spend_of, votes_of
from factory.task import Label, TaskCard
from factory.warehouse.file import Warehouse, insert

CARD = TaskCard(
    name="toy", text="a line", labels=(Label(name="ham", description="x"), Label(name="spam", description="y"))
)
VOTES = [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (0, -1), (-1, -1), (0, 0)]
"""What two programs say of eight texts; -1 abstains."""


def add_program(db: Any, number: int) -> None:
    """An accepted program without a word of its own."""
    row = {"program_no": [number], "program_key": [str(number)], "name": [f"p{number}"], "kind": ["python"]}
    insert(db, "programs", row | {"source": ["x"], "state": ["accepted"], "origin": ["hand"]})


@pytest.fixture
def voted() -> Warehouse:
    warehouse = Warehouse.memory()
    factory.ingest(warehouse, CARD, train=[f"line number {n}" for n in range(len(VOTES))])
    with warehouse.lease() as db:
        for number in (1, 2):
            add_program(db, number)
            said = [(text, row[number - 1]) for text, row in enumerate(VOTES, start=1) if row[number - 1] >= 0]
            insert(
                db,
                "votes",
                {"program_no": [number] * len(said), "text_no": [t for t, _ in said], "vote": [v for _, v in said]},
            )
    return warehouse


def test_agreement_counts_the_others_alone(voted: Warehouse) -> None:
    """Texts with two votes: four where both agree, and one where they do not: 10 of 12 votes are those of the other."""
    known = known_of(voted, votes_of(voted))
    assert known["agreement"] == pytest.approx(10 / 12)
    assert known["sentences"][0] == "Programs speak of 88% of the 8 training texts, and disagree on 12%."
    assert "in 83% of the cases" in known["sentences"][1]


def test_three_programs_agree_with_most_of_the_others(voted: Warehouse) -> None:
    with voted.lease() as db:
        add_program(db, 3)
        db.execute("DELETE FROM votes")
        db.execute("INSERT INTO votes (program_no, text_no, vote) VALUES (1, 1, 0), (2, 1, 0), (3, 1, 1)")
    # the two that agree have one with them and one against: a tie of the others; the third has both against
    assert known_of(voted, votes_of(voted))["agreement"] == 0.0


def test_a_report_without_gold_says_so_at_its_top_and_what_to_do(voted: Warehouse, tmp_path: Path) -> None:
    factory.denoise(voted, encoder="none")
    page.write(voted, tmp_path / "report")
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        at = text.index("There is no score")
        assert at < text.index("The task")
        assert "factory ask RUN --budget 100 --out questions.csv" in text
        assert "The label model gives ham" in text
    assert "Systems on test" not in (tmp_path / "report.md").read_text()


def test_a_text_that_two_students_left_out_is_counted_once() -> None:
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        row = {"model_no": [1, 2, 2], "text_no": [7, 7, 8], "origin": ["corpus"] * 3, "probs": [[0.0]] * 3}
        insert(db, "model_rows", row | {"weight": [0.0] * 3, "drop_reason": ["uncovered"] * 3})
    assert dropped_of(warehouse) == [{"stage": "distill", "kind": "row", "reason": "uncovered", "count": 2}]


def test_an_unknown_cost_is_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert page._money(None) == "unknown"
    assert page._money(0.0) == "0"
    assert page._money(1.5) == "1.5000"
    rows = [("author", "m", "p", 1, 1, 10, 5, True, None, 0), ("annotate", "m", "p", 1, 1, 10, 5, True, 2.0, 0)]

    class Held:
        def query(self, sql: str, *_: Any) -> list[Any]:
            return rows if "FROM spend" in sql else []

    told = spend_of(Held())  # type: ignore[arg-type]
    assert told["total"]["cost"] is None
    assert told["total"]["tokens_in"] == 20


def test_names_that_the_font_lacks_are_drawn_without_a_warning() -> None:
    names = ["C/C++", "日本語", "🚀 launch", "naïve", "null"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = charts.confusion([[3, 1, 0, 0, 0], *[[0] * 5 for _ in range(4)]], names)
        charts.confusion([[1 if a == b else 0 for b in range(5)] for a in range(5)], names)
    assert picture.startswith("<svg")
    assert charts._short("naïve") == "naïve"
    assert charts._short("🚀 launch") == "U+1F680 launch"


def test_the_table_of_systems_shows_the_interval_of_the_figure_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    system = {
        "accuracy": 0.143, "macro_f1": 0.4, "ci95": [0.2, 0.684], "coverage": 1.0, "n_scored": 21,
        "metrics": {"accuracy": 0.143, "micro_f1": 0.5, "macro_f1": 0.4},
    }  # fmt: skip
    show_evaluation({"metric": "micro_f1", "split": "test", "n": 21, "systems": {"dev_only": system}})
    row = next(line for line in capsys.readouterr().out.splitlines() if "dev_only" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][:3] == ["dev_only", "0.500", "0.200-0.684"]
    show_evaluation({"metric": "accuracy", "split": "test", "n": 21, "systems": {"dev_only": system}})
    row = next(line for line in capsys.readouterr().out.splitlines() if "dev_only" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][1] == "0.143"
