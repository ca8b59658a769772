"""`predict` reads as `ingest` reads: the same dialects and values, the same column, every row in its place."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.distill.stage import distill
from factory.errors import InputError
from factory.export.stage import export
from factory.files.base import ReadOptions
from factory.files.records import open_texts
from factory.predict.load import load_export, predict_file
from factory.warehouse.file import Warehouse
from tests.topics import sentences

HELD, _ = sentences(21, 6)


def texts(path: Path, text: str | None = None, remembered: Any = (), **options: Any) -> list[str]:
    found = open_texts(ReadOptions(path, **options), text, (), remembered)
    return [one for chunk in found.chunks(3) for one in chunk.texts]


def column(path: Path, text: str | None = None, remembered: Any = (), **options: Any) -> str:
    return open_texts(ReadOptions(path, **options), text, (), remembered).words


def put(folder: Path, content: str | bytes, name: str = "m.csv") -> Path:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / name


def test_a_semicolon_file_with_commas_in_its_texts_is_labelled_as_the_comma_file_is(
    linear: Path, tmp_path: Path
) -> None:
    labels = []
    for mark in ",;":
        with (tmp_path / "m.csv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=mark)
            writer.writerows(
                [["ticket", "queue", "text"], *([n, "Invoices, charges", text] for n, text in enumerate(HELD))]
            )
        done = predict_file(linear, tmp_path / "m.csv", tmp_path / "out.csv")
        assert done["read"][0] == "texts from column `text`"
        with (tmp_path / "out.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["queue"] for row in rows] == ["Invoices, charges"] * len(HELD)
        labels.append([row["label"] for row in rows])
    assert labels[0] == labels[1] == load_export(linear).predict(HELD)


@pytest.mark.parametrize(
    ("content", "options", "found"),
    [
        ("text\na\n\nb\n\nc\n", {}, ["a", "", "b", "", "c"]),
        ("sep=;\ntext;n\na,b;1\n", {}, ["a,b"]),
        ("text,label,,\na,x,,\nb,y,,\n", {}, ["a", "b"]),
        ("id,text\n1,Das P\xe4ckchen\n".encode("cp1252"), {"encoding": "cp1252"}, ["Das Päckchen"]),
        ("text\tn\nä\t1\n".encode("utf-16"), {}, ["ä"]),
        (b'\xef\xbb\xbf"text",n\r\n"a ""b""",1\r\n', {}, ['a "b"']),
        (b"text,n\ra,1\rb,2\r", {}, ["a", "b"]),
        ("text,n\nnan,1\nNaN,2\n,3\nnone,4\n", {}, ["", "", "", "none"]),
        ("a,x\nb,y\n", {"header": ("text", "n")}, ["a", "b"]),
        ("one\ntwo\n", {"format": "lines"}, ["one", "two"]),
    ],
)
def test_a_csv_file_is_read_as_ingest_reads_it(tmp_path: Path, content: Any, options: Any, found: list[str]) -> None:
    assert texts(put(tmp_path, content), **options) == found


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (
            "a.jsonl",
            '{"text": 42}\n{"text": 1.0}\n{"text": true}\n{"text": null}\n{"text": NaN}\n{"n": 1}\n',
            ["42", "1", "true", "", "", ""],
        ),
        ("a.ndjson", '{"text": "a"}\n', ["a"]),
        ("a.json", '[{"text": "a"}, {"text": "b"}]', ["a", "b"]),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ("a.tab", "text\tn\na,b\t1\n", ["a,b"]),
        ("a.txt", "one\n\ntwo\n", ["one", "", "two"]),
    ],
)
def test_every_ending_and_every_value_is_taken(tmp_path: Path, name: str, content: str, found: list[str]) -> None:
    assert texts(put(tmp_path, content, name)) == found


def test_parquet_is_read_by_either_ending_with_numbers_and_nulls_in_every_form(tmp_path: Path) -> None:
    for kind, values, found in (
        (pa.string(), ["a", None], ["a", ""]), (pa.float64(), [1.5, float("nan"), 2.0], ["1.5", "", "2"]),
        (pa.binary(), [b"caf\xc3\xa9"], ["café"]), (pa.large_string(), ["a"], ["a"]), (pa.int8(), [3, None], ["3", ""]),
    ):  # fmt: skip
        pq.write_table(pa.table({"text": pa.array(values, kind, from_pandas=False)}), tmp_path / "a.pq")
        assert texts(tmp_path / "a.pq") == found
    pq.write_table(pa.table({"text": pa.array(["x", "y"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["x", "y"]


# Which column -----------------------------------------------------------------------------------------------------------
def test_without_a_memory_the_column_is_guessed_as_ingest_guesses_and_said(tmp_path: Path) -> None:
    path = put(tmp_path, "title,body,question\nA1,Sent from my phone,Where is my parcel?\n")
    assert column(path) == "texts from column `question`"
    assert texts(path) == ["Where is my parcel?"]


def test_the_column_of_training_is_taken_whatever_its_case_and_nothing_else_is(tmp_path: Path) -> None:
    path = put(tmp_path, "Text,Frage\na,b\n")
    assert column(path, remembered=[["frage"]]) == "texts from column `Frage`"
    assert column(path, remembered=[["nachricht"], ["text"]]) == "texts from column `Text`"
    assert column(path, text="text") == "texts from column `Text`"
    with pytest.raises(
        InputError, match=r"no column `nachricht`, in which the model's training texts were \(there are `Text`"
    ):
        column(path, remembered=[["nachricht"]])
    assert column(put(tmp_path, "text,Text\na,b\n", "two.csv"), text="Text") == "texts from column `Text`", (
        "the exact one"
    )


def test_a_first_line_that_may_be_a_text_is_not_lost_for_a_header(tmp_path: Path) -> None:
    path = put(tmp_path, "Where is my parcel\nI was charged twice\n")
    with pytest.raises(InputError, match="--format lines"):
        texts(path)
    assert texts(path, text="Where is my parcel") == ["I was charged twice"]


def test_an_export_remembers_the_columns_of_its_training_texts(warehouse: Warehouse, tmp_path: Path) -> None:
    with warehouse.lease() as db:
        for number, (split, kind, name) in enumerate(
            [("dev", "csv", "q"), ("train", "jsonl", "Frage"), ("train", "inline", "text")]
        ):
            db.execute(
                "INSERT INTO sources (source_no, split, path, format, columns, content_digest, n_rows, n_bad)"
                " VALUES (?, ?, 'f', ?, ?, '', 0, 0)",
                [number, split, kind, json.dumps({"text": [name], "label": None})],
            )
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student"])
    export(warehouse, tmp_path / "export")
    assert load_export(tmp_path / "export").text_columns == [["Frage"], ["q"]]
    path = put(tmp_path, f"text;FRAGE\nSent from my phone;{HELD[0]}\n")
    done = predict_file(tmp_path / "export", path, tmp_path / "out.jsonl")
    assert done["read"][0] == "texts from column `FRAGE`"
    with pytest.raises(InputError, match="no column `Frage`, in which the model's training texts were"):
        predict_file(tmp_path / "export", put(tmp_path, "text\na\n"), tmp_path / "out.jsonl")


# What comes out ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet", "tsv", "ndjson", "pq"])
def test_a_users_own_columns_come_out_as_they_were(linear: Path, tmp_path: Path, to: str) -> None:
    path = put(tmp_path, f'ID;text;"a b";label\n007;{HELD[0]};;gold\n;;"x;y";\n')
    predict_file(linear, path, tmp_path / f"out.{to}")
    if to in ("csv", "tsv"):
        with (tmp_path / f"out.{to}").open(newline="") as file:
            rows: list[Any] = list(csv.DictReader(file, delimiter="\t" if to == "tsv" else ","))
    elif to in ("jsonl", "ndjson"):
        rows = [json.loads(line) for line in (tmp_path / f"out.{to}").read_text().splitlines()]
    else:
        rows = pq.read_table(tmp_path / f"out.{to}").to_pylist()
    assert [(row["ID"], row["a b"], row["input_label"]) for row in rows] == [("007", "", "gold"), ("", "x;y", "")]
    assert [bool(row["label"]) for row in rows] == [True, False]


def test_each_json_row_keeps_its_own_keys(linear: Path, tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": HELD[0], "more": {"a": [1, None]}},
        {"text": HELD[1], "note": "\u2028\x1b[31m"},
        {"id": None},
    ]
    path = put(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "m.jsonl")
    predict_file(linear, path, tmp_path / "out.jsonl")
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert "\x1b" not in written
    found = [json.loads(line) for line in written.splitlines()]
    assert [{name: row[name] for name in given} for row, given in zip(found, rows, strict=True)] == rows
    assert all(
        set(row) == {*given, "label", "probability", "probabilities"} for row, given in zip(found, rows, strict=True)
    )


@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet"])
def test_an_input_without_rows_keeps_its_columns(linear: Path, tmp_path: Path, to: str) -> None:
    predict_file(linear, put(tmp_path, "id,text,note\n"), tmp_path / f"out.{to}")
    if to == "parquet":
        names = pq.read_schema(tmp_path / "out.parquet").names
    else:
        names = (tmp_path / f"out.{to}").read_text().strip().split(",")
    assert names[:3] == ["id", "text", "note"] or to == "jsonl"


@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet"])
def test_the_same_command_may_be_run_again_and_another_file_is_not_lost(linear: Path, tmp_path: Path, to: str) -> None:
    path, out = put(tmp_path, f"text\n{HELD[0]}\n"), tmp_path / f"out.{to}"
    for _ in range(2):
        predict_file(linear, path, out)
    out.write_text("my only copy\n")
    with pytest.raises(InputError, match=r"is there already, and it is not an earlier output of `predict`.*--force"):
        predict_file(linear, path, out)
    assert out.read_text() == "my only copy\n"
    predict_file(linear, path, out, force=True)
    assert out.read_bytes() != b"my only copy\n"
    with pytest.raises(InputError, match="this is the file that is read"):
        predict_file(linear, path, path, force=True)
    (tmp_path / "link.csv").symlink_to(path)
    with pytest.raises(InputError, match="this is the file that is read"):
        predict_file(linear, path, tmp_path / "link.csv", force=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('text,n\n"never closed,1\nb,2\n', r"m.csv:2: broken_row: a quote is opened here and never closed"),
        (b"id,text\n1,fine\n2,caf\xe9\n", r"m.csv:3: not_utf8: bytes that are not UTF-8.*--encoding cp1252"),
        (b"caf\xe9,text\n1,fine\n", r"names of its columns.*`--encoding cp1252`"),
    ],
)
def test_a_row_that_cannot_be_kept_is_named_by_line_and_nothing_is_written(
    linear: Path, tmp_path: Path, content: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        predict_file(linear, put(tmp_path, content), tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv"]


def test_the_command_takes_the_encoding_and_says_the_column(
    linear: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    path = put(tmp_path, "Nr;Frage\n1;für die Börse\n".encode("latin-1"))
    out = tmp_path / "out.csv"
    code, _, err = told(
        "predict", str(linear), str(path), "--text", "frage", "--encoding", "latin-1", "--out", str(out)
    )
    assert code == 0, err
    assert err.splitlines()[:2] == ["texts from column `Frage`", f"{path}: columns are taken as separated by ';'"]
    assert "für die Börse" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz", "m.jsonl", "m.txt", "m.parquet", "m.json"])
def test_one_file_tells_how_far_it_is(linear: Path, tmp_path: Path, name: str) -> None:
    path, rows = tmp_path / name, [{"text": f"the vet saw a cat {number}"} for number in range(2500)]
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith("json"):
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif name.endswith("jsonl"):
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        content = "text\n" + "".join(f"{row['text']}\n" for row in rows)
        path.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    told: list[tuple[int, int, str]] = []
    predict_file(linear, path, tmp_path / "out.csv", text="text", progress=lambda *words: told.append(words))
    last = 2501 if path.suffix in (".csv", ".gz", ".txt") else 2500
    total = 0 if path.suffix == ".json" else last
    assert len(told) >= 3
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (last, total, "rows" if path.suffix in (".json", ".parquet") else "lines")


def test_the_command_tells_how_far_it_is_and_what_becomes_of_formulas(
    linear: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.commands.progress.LINE_S", 0.0)
    code, _, err = told("predict", str(linear), str(put(tmp_path, "text\n=1+1\n")), "--out", str(tmp_path / "out.csv"))
    assert code == 0, err
    assert "  predict: 2/2 lines" in err
    assert "\n=1+1," in (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert "is written as it is" in " ".join(told("predict", "--help")[1].split())
