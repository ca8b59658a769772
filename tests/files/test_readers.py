"""Readers: every format gives the same rows, in bounded batches, and what cannot be read is named by line."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import InputError
from factory.files.base import MAX_LINE_CHARS
from factory.files.lines import opened
from factory.files.open import open_source
from factory.files.source import SourceSpec, load_specs

ROWS = [
    {"text": "a plain one", "label": "x"},
    {"text": 'with, comma; and "quotes"\nand a line end', "label": "y"},
    {"text": "ünïcödé 日本語 🎈", "label": "x"},
]


def read(path: Path, **spec: Any) -> list[tuple[int, dict[str, Any]]]:
    opened = open_source(SourceSpec(path=str(path), **spec).reading())
    out = []
    for batch in opened.batches(list(opened.columns)):
        assert not batch.bad, batch.bad
        for at, row_no in enumerate(batch.row_nos):
            out.append((row_no, {name: values[at] for name, values in batch.columns.items()}))
    return out


def faults(path: Path, **spec: Any) -> list[tuple[int, str]]:
    opened = open_source(SourceSpec(path=str(path), **spec).reading())
    return [(bad.row_no, bad.reason) for batch in opened.batches(list(opened.columns)) for bad in batch.bad]


def write_csv(path: Path, rows: list[dict[str, str]], **options: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], **options)
        writer.writeheader()
        writer.writerows(rows)


def write_as(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if kind == "csv":
        write_csv(path, ROWS)
    elif kind == "tsv":
        write_csv(path, ROWS, delimiter="\t")
    elif kind == "csv.gz":
        write_csv(folder / "plain.csv", ROWS)
        path.write_bytes(gzip.compress((folder / "plain.csv").read_bytes()))
    elif kind == "jsonl":
        path.write_bytes(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "jsonl.zst":
        import zstandard

        path.write_bytes(zstandard.ZstdCompressor().compress(lines))
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "saved":
        import datasets

        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet", "saved"])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    assert [row for _, row in read(write_as(tmp_path, kind))] == ROWS


def of_folder(path: Path, **spec: Any) -> list[str]:
    """The files that a folder means."""
    return [Path(one.path).name for one in load_specs({"train": {"path": str(path), **spec}})["train"]]


def test_a_folder_of_data_files_is_a_source_for_each_file_of_its_part(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "train-1.jsonl", "test.jsonl"):
        (tmp_path / name).write_text(json.dumps(ROWS[0]) + "\n")
    assert of_folder(tmp_path) == ["train-0.jsonl", "train-1.jsonl"]
    assert of_folder(tmp_path, part="test") == ["test.jsonl"]
    with pytest.raises(InputError, match="no part `dev`"):
        of_folder(tmp_path, part="dev")
    with pytest.raises(InputError, match="`limit`"):
        of_folder(tmp_path, limit=3)
    (tmp_path / "train.csv").write_text("text\na\n")
    with pytest.raises(InputError, match=r"several formats \(csv, jsonl\)"):
        of_folder(tmp_path)
    assert of_folder(tmp_path, format="csv") == ["train.csv"]


def test_class_numbers_of_a_dataset_become_names(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    data.save_to_disk(str(tmp_path / "d"))
    assert [row["label"] for _, row in read(tmp_path / "d")] == ["spam", "ham"]


def test_wrench_json_gives_class_names_and_votes(tmp_path: Path) -> None:
    (tmp_path / "label.json").write_text(json.dumps({"0": "HAM", "1": "SPAM"}))
    rows = {str(i): {"label": i % 2, "weak_labels": [-1, i % 2], "data": {"text": f"text {i}"}} for i in range(3)}
    (tmp_path / "train.json").write_text(json.dumps(rows))
    assert [row for _, row in read(tmp_path / "train.json")] == [
        {"text": f"text {i}", "votes": [-1, i % 2], "label": ["HAM", "SPAM"][i % 2]} for i in range(3)
    ]
    opened = open_source(SourceSpec(path=str(tmp_path / "train.json")).reading())
    assert list(opened.vote_labels) == ["HAM", "SPAM"]


def test_a_json_document_larger_than_the_buffer_is_streamed(tmp_path: Path) -> None:
    rows = [{"text": f"{i} " + "x" * 1000, "label": "a"} for i in range(3000)]
    (tmp_path / "big.json").write_text(json.dumps(rows, indent=1))
    assert [row for _, row in read(tmp_path / "big.json")] == rows


def test_row_numbers_of_text_files_are_lines(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ROWS)
    assert [row_no for row_no, _ in read(tmp_path / "a.csv")] == [2, 3, 5]  # the second row takes two lines
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    assert [row_no for row_no, _ in read(tmp_path / "a.jsonl")] == [1, 3]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"text": "a"}\n{"text": \n{"text": "b"}\n', [(2, "broken_row")]),
        (b'{"text": "a"}\n[1, 2]\n"x"\n', [(2, "broken_row"), (3, "broken_row")]),
        (
            b'{"text": "a"}\n' + b'{"text": "' + b"x" * (MAX_LINE_CHARS + 10) + b'"}\n' + b'{"text": "b"}\n',
            [(2, "line_too_long")],
        ),
    ],
)
def test_broken_json_lines_are_named_by_line(tmp_path: Path, content: bytes, expected: list[tuple[int, str]]) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert faults(tmp_path / "a.jsonl") == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,label\na,x\nb\nc,y,z\nd,x\n", [(3, "broken_row"), (4, "broken_row")]),
        ('text,label\na,x\n"never closed,x\n', [(3, "broken_row")]),
        ('text,label\na,x\n"b"c,x\nd,y\n', [(3, "broken_row")]),
        ("text,label\na,x\n" + "x" * (MAX_LINE_CHARS + 10) + ",y\nd,y\n", [(3, "line_too_long")]),
    ],
)
def test_broken_csv_rows_are_named_by_line(tmp_path: Path, content: str, expected: list[tuple[int, str]]) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert faults(tmp_path / "a.csv") == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_understood(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("text,label\nünï,x\n", encoding=encoding)
    assert [row["text"] for _, row in read(tmp_path / "a.csv")] == ["ünï"]


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\ncafé “x”,y\n".encode("cp1252"))
    assert [row["text"] for _, row in read(tmp_path / "a.csv", encoding="cp1252")] == ["café “x”"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", bytes(range(256)) * 8, "not a text file"),
        ("a.csv", b"text,text\na,b\n", "stands twice"),
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b"not json\nat all\n", "not JSON lines"),
        ("a.jsonl", bytes(range(256)) * 8, "not a text file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9999, mtime=0)[:60], "cut off"),
        ("a.jsonl.gz", b"no archive", "damaged"),
        ("a.jsonl.zst", b"no archive", "damaged"),
        ("a.parquet", b"PAR1 and nothing", "not a Parquet file"),
        ("a.json", b'"text"', "not a JSON object or list"),
        ("a.json", b'{"0": {"text": "a"}', "cut off"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', "comma"),
        ("a.json", b"[]", "no rows"),
        ("a.weird", b"text", "which format"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        read(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_an_unknown_encoding_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(InputError, match="unknown encoding"):
        read(tmp_path / "a.csv", encoding="klingon")


def test_a_hub_name_without_a_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match="Couldn't reach the hub"):
        open_source(SourceSpec(path="someone/something", format="dataset").reading())


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=60)


@settings(max_examples=30, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12))
def test_csv_and_jsonl_give_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    folder = tmp_path_factory.mktemp("round")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["text"])
        writer.writerows([value] for value in values)
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"text": value}, ensure_ascii=False) + "\n" for value in values), "utf-8"
    )
    assert [row["text"] for _, row in read(folder / "a.csv")] == values
    assert [row["text"] for _, row in read(folder / "a.jsonl")] == values


def test_a_zstandard_file_that_is_cut_off_is_refused_and_one_of_several_frames_is_read(tmp_path: Path) -> None:
    import random

    import zstandard

    rng = random.Random(0)
    lines = [f'{{"text": "row {number} {rng.random()}"}}\n'.encode() for number in range(20_000)]
    whole = zstandard.compress(b"".join(lines[:12_000])) + zstandard.compress(b"".join(lines[12_000:]))
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(whole)
    with opened(path, None) as (stream, _):
        assert sum(1 for _ in stream) == 20_000
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(InputError, match="damaged or cut off"), opened(path, None) as (stream, _):
        list(stream)
