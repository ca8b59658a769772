from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.corpus.export import export_data
from factory.corpus.stage import ingest
from factory.errors import ExportError, InputError
from factory.task import Label, TaskCard, register
from factory.warehouse.file import Warehouse

CARD = TaskCard(
    name="t", text="a message", labels=(Label(name="ham", description="honest"), Label(name="spam", description="not"))
)


def filled(texts: list[tuple[str, str]]) -> Warehouse:
    warehouse = Warehouse.memory()
    ingest(
        warehouse,
        CARD,
        {
            "train": {"texts": ["an unlabelled text of no concern"]},
            "dev": {"texts": [text for text, _ in texts], "labels": [label for _, label in texts]},
        },
    )
    return warehouse


def add_synthetic(warehouse: Warehouse, text: str, label_no: int, *, drop_reason: str | None = None) -> None:
    with warehouse.lease() as db:
        number = db.execute("SELECT coalesce(max(synthetic_no), 0) + 1 FROM synthetic").fetchall()[0][0]
        db.execute(
            "INSERT INTO texts (text_no, content_hash, text, origin)"
            " SELECT coalesce(max(text_no), 0) + 1, unhex(substr(sha256(?), 1, 32)), ?, 'synthetic' FROM texts",
            [text, text],
        )
        db.execute(
            "INSERT INTO synthetic (synthetic_no, plan_no, slot_no, part_no, text_no, text, label_no, method, seed_text_no,"
            " demo_text_nos, prompt_version, request_key, sample_no, state, drop_reason)"
            " SELECT ?, 1, ?, 0, max(text_no), ?, ?, 'few_shot', 1, [1], 'v', 'k', 0, ?, ? FROM texts",
            [number, number, text, label_no, "dropped" if drop_reason else "accepted", drop_reason],
        )


TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t"), min_size=1, max_size=60
).filter(str.strip)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(TEXTS, st.sampled_from(["ham", "spam"])), min_size=1, max_size=8, unique_by=lambda row: row[0]
    )
)
def test_export_and_ingest_are_inverse(rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("export")
    warehouse = filled(rows)
    wanted = warehouse.query("SELECT text, label_no FROM gold JOIN texts USING (text_no) ORDER BY row_no")
    export_data(warehouse, out / "data", formats=("parquet", "jsonl", "wrench"))
    for source in (
        {"path": str(out / "data/parquet/dev.parquet")},
        {"path": str(out / "data/jsonl/dev.jsonl")},
        {"path": str(out / "data/wrench/dev.json"), "format": "wrench", "text": "text", "label": "label"},
    ):
        again = Warehouse.memory()
        ingest(again, CARD, {"train": {"texts": ["an unlabelled text of no concern"]}, "dev": source})
        assert again.query("SELECT text, label_no FROM gold JOIN texts USING (text_no) ORDER BY row_no") == wanted, (
            source
        )


def test_load_dataset_reads_the_folder_in_a_fresh_process(tmp_path: Path) -> None:
    warehouse = filled([("one text", "ham"), ("another text", "spam")])
    add_synthetic(warehouse, "a written text", 1)
    add_synthetic(warehouse, "a bad text", 0, drop_reason="refusal")
    result = export_data(warehouse, tmp_path / "data", formats=("parquet", "jsonl", "datasets"), dropped=True)
    assert result.did["rows"] == {"train": 1, "dev": 2}
    code = (
        "import datasets, json, sys; d = datasets.load_dataset(sys.argv[1]);"
        " e = datasets.load_from_disk(sys.argv[1] + '/datasets');"
        "print(json.dumps([d['train'][0], list(d['dev']['text']), e['train'][0]], default=str))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    row, dev, disk = json.loads(done.stdout)
    assert row["text"] == "a written text"
    assert row["label"] == "spam"
    assert row["soft_label"] == [0.0, 1.0]
    assert row["origin"] == "synthetic"
    assert [parent.split(":")[0] for parent in row["parents"]] == ["seed", "demonstration"]
    assert dev == ["one text", "another text"]
    assert disk == row
    import pyarrow.parquet as pq

    dropped = pq.read_table(tmp_path / "data/dropped/dropped.parquet").to_pylist()
    assert [(row["text"], row["drop_reason"], row["weight"]) for row in dropped] == [("a bad text", "refusal", 0.0)]


def test_an_unchanged_warehouse_is_not_exported_again(tmp_path: Path) -> None:
    warehouse = filled([("one text", "ham")])
    assert not export_data(warehouse, tmp_path / "data").skipped
    assert export_data(warehouse, tmp_path / "data").skipped
    add_synthetic(warehouse, "a written text", 1)
    assert not export_data(warehouse, tmp_path / "data").skipped


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="something else"):
        export_data(filled([("one text", "ham")]), tmp_path / "data")
    assert (tmp_path / "data" / "thesis.txt").exists()


def test_nothing_to_export_is_said(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    register(warehouse, CARD)
    with pytest.raises(InputError, match="nothing to export"):
        export_data(warehouse, tmp_path / "data")
