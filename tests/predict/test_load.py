"""Files in and out of an export: every kind, any size, what is asked beside the label, and mistakes of a user."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from factory.errors import InputError
from factory.files.base import ReadOptions
from factory.files.records import open_texts
from factory.predict.load import load_export, predict_file
from tests.topics import SUBJECTS, sentences

HELD, GOLD = sentences(9, 50)
FAR = ["SELECT a FROM b WHERE c = 1;", "0x7f 0x00 0x1a", "zzz qqq xyzzy plugh", "lorem ipsum dolor sit amet"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "txt"])
@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet"])
def test_files_of_every_kind_are_labelled(linear: Path, tmp_path: Path, kind: str, to: str) -> None:
    file = tmp_path / f"in.{kind}"
    _write(file, HELD)
    done = predict_file(linear, file, tmp_path / f"out.{to}")
    assert done["rows"] == len(HELD)
    assert _labels(tmp_path / f"out.{to}") == load_export(linear).predict(HELD)


def test_below_a_threshold_there_is_no_label(linear: Path, tmp_path: Path) -> None:
    _write(tmp_path / "in.jsonl", HELD)
    predict_file(linear, tmp_path / "in.jsonl", tmp_path / "out.jsonl", abstain_below=1.0)
    assert set(_labels(tmp_path / "out.jsonl")) == {None}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.docx", b"", "does not say which format"),
        ("x.csv", b"a,b\nsome text,other text\n", "no column looks like the text"),
        ("x.jsonl", b'{"text": "a"}\nnot json\n', "x.jsonl:2: broken_row: this line is not JSON"),
        ("x.csv", b"text\n\xff\xfe\n", "x.csv:2: not_utf8.*--encoding"),
        ("x.parquet", b"PAR1 nonsense", "not a Parquet file"),
        ("x.jsonl.gz", b"\x1f\x8b\x08\x00 cut short", "damaged"),
        ("x.jsonl.zst", b"\x28\xb5\x2f\xfd cut short", "damaged"),
        ("x.csv", b"id,text\n1,fine\n2,too,many\n", "x.csv:3: broken_row: 3 cells where the header has 2"),
        ("x.csv", b"text,text\na,b\n", "stands twice"),
        ("x.csv", b"", "the file is empty"),
        ("x.csv", "text\na\n".encode("utf-16-le"), "not a text file.*encoding"),
        ("x.csv", "text\na\n".encode("utf-16")[:-1], "cannot be decoded"),
        ("x.jsonl", b'{"text": "a"}\n{"text": ["b"]}\n', "x.jsonl:2: broken_row: column 'text' holds a list"),
        ("x.jsonl", b"[" * 100_000, "not JSON"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "b", "new": 1}\n', "lacks"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    linear: Path, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        predict_file(linear, tmp_path / name, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("content", [b"id,text\n", b"id,text\n1,fine\n"])
def test_a_column_that_is_not_there_is_one_clear_line(linear: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"x.csv: there is no column `body` \(there are `id`, `text`\)"):
        predict_file(linear, tmp_path / "x.csv", tmp_path / "out.csv", text="body")


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.zst", "jsonl", "txt"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_says_how_to_read(linear: Path, tmp_path: Path, kind: str, encoding: str) -> None:
    file = tmp_path / f"in.{kind}"
    if kind in ("jsonl", "txt"):
        _write(file, HELD)
        content = file.read_text()
    else:
        content = "id,text\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(HELD))
    packed = {"gz": gzip.compress, "zst": zstandard.compress}.get(kind.rpartition(".")[2], bytes)
    file.write_bytes(packed(content.encode(encoding)))
    assert predict_file(linear, file, tmp_path / "out.jsonl")["rows"] == len(HELD)
    assert _labels(tmp_path / "out.jsonl") == load_export(linear).predict(HELD)


@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "txt"])
def test_a_row_without_a_text_stays_and_gets_no_label(linear: Path, tmp_path: Path, kind: str, to: str) -> None:
    nothing: list[Any] = ["", " \t ", *([None, None] if kind in ("jsonl", "parquet") else [])]
    _write(tmp_path / f"in.{kind}", [HELD[0], *nothing, HELD[1]])
    done = predict_file(linear, tmp_path / f"in.{kind}", tmp_path / f"out.{to}", abstain_below=0.0)
    assert (done["rows"], done["no_text"], done["abstained"]) == (len(nothing) + 2, len(nothing), 0)
    records = _records(tmp_path / f"out.{to}")
    right = load_export(linear).predict(HELD[:2])
    assert [record["label"] or None for record in records] == [right[0], *[None] * len(nothing), right[1]]
    for record in records[1:-1]:
        given = record.get("probabilities") or {f"p_{name}": record[f"p_{name}"] for name in SUBJECTS}
        assert {record["probability"], *given.values()} <= {None, ""}


def test_a_file_of_nothing_but_empty_texts_is_no_trouble(static: Path, tmp_path: Path) -> None:
    _write(tmp_path / "in.jsonl", ["", " "])
    done = predict_file(static, tmp_path / "in.jsonl", tmp_path / "out.jsonl", sets=0.1, scope=0.05)
    assert (done["no_text"], done["out_of_scope"]) == (2, 0)
    assert [record["set"] for record in _records(tmp_path / "out.jsonl")] == [None, None]


def test_of_fields_a_row_with_one_of_them_has_a_text(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title,body\nfirst,\n, \n")
    (chunk,) = open_texts(ReadOptions(tmp_path / "in.csv"), None, ["title", "body"]).chunks(10)
    assert chunk.texts == ["title: first\nbody: ", ""]


def test_how_many_rows_have_no_text_is_said(
    linear: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "in.csv").write_text('id,text\n1,fine\n2,""\n')
    code, out, err = told("predict", str(linear), str(tmp_path / "in.csv"))
    assert (code, len(out.splitlines())) == (0, 2)
    assert err.splitlines() == ["texts from column `text`", "1 of 2 rows have no text and got no label"]
    code, out, err = told("predict", str(linear), str(tmp_path / "in.csv"), "--out", str(tmp_path / "o.csv"), "--json")
    assert json.loads(out)["no_text"] == 1
    (tmp_path / "in.csv").write_text("id,text\n")
    code, _, err = told("predict", str(linear), str(tmp_path / "in.csv"), "--out", str(tmp_path / "o.csv"))
    assert code == 0
    assert "in.csv: there is no row in it" in err


def test_columns_of_the_input_stay_and_keep_their_types(linear: Path, tmp_path: Path) -> None:
    table = pa.table({
        "text": HELD[:3],
        "label": ["gold", None, "gold"],
        "n": pa.array([1, None, 3], pa.int8()),
        "when": pa.array([0, 1, 2], pa.timestamp("ms")),
        "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "in.parquet")
    predict_file(linear, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column("input_label").to_pylist() == ["gold", None, "gold"]
    assert found.column("label").to_pylist() == load_export(linear).predict(HELD[:3])
    for name in ("n", "when", "tags"):
        assert found.column(name).equals(table.column(name)), name
    for ending in ("csv", "jsonl"):
        predict_file(linear, tmp_path / "in.parquet", tmp_path / f"out.{ending}")
        first = _records(tmp_path / f"out.{ending}")[0]
        assert first["input_label"] == "gold"
        assert first["tags"] in ("a", ["a"])


def test_a_column_that_begins_with_nothing_is_written_all_the_same(linear: Path, tmp_path: Path) -> None:
    rows = [{"text": HELD[0], "note": None}] * 1500 + [{"text": HELD[1], "note": "late"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict_file(linear, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("note").to_pylist()[-1] == "late"


@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet"])
def test_a_file_without_rows_gives_a_file_without_rows(linear: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "in.csv").write_text("id,text\n")
    assert predict_file(linear, tmp_path / "in.csv", tmp_path / f"out.{to}")["rows"] == 0
    assert _records(tmp_path / f"out.{to}") == []


def test_everything_an_export_carries_is_offered(static: Path, tmp_path: Path) -> None:
    multi = load_export(static).multi
    texts = [*HELD, *FAR]
    _write(tmp_path / "in.jsonl", texts)
    done = predict_file(
        static, tmp_path / "in.jsonl", tmp_path / "out.jsonl", target_precision=0.9, sets=0.1, scope=0.05
    )
    rows = _records(tmp_path / "out.jsonl")
    names = list(SUBJECTS)
    assert np.mean([names[gold] in row["set"] for row, gold in zip(rows, GOLD, strict=False)]) >= 0.8
    assert np.mean([row["in_scope"] for row in rows[: len(HELD)]]) >= 0.85
    assert [row["in_scope"] for row in rows[len(HELD) :]] == [False] * len(FAR)
    assert done["out_of_scope"] == sum(not row["in_scope"] for row in rows)
    said = [(row.get("labels") or [row.get("label")])[0] for row in rows[: len(HELD)]]
    right = [name == names[gold] for name, gold in zip(said, GOLD, strict=True) if name is not None]
    assert np.mean(right) >= 0.85
    assert done["abstained"] == sum(not row["labels" if multi else "label"] for row in rows)
    for ending in ("csv", "parquet"):
        predict_file(static, tmp_path / "in.jsonl", tmp_path / f"out.{ending}", sets=0.1, scope=0.05)
        record = _records(tmp_path / f"out.{ending}")[0]
        assert {"set", "in_scope", "scope"} <= set(record)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sets": 0.1}, "no calibration for label sets. Calibration needs gold in a `dev` split"),
        ({"target_precision": 0.9}, "no calibration for a target precision"),
        ({"scope": 0.05}, "nothing to judge scope by"),
        ({"sets": 10.0}, "between 0 and 1"),
        ({"scope": 0.0}, "between 0 and 1"),
        ({"target_precision": 1.0}, "between 0 and 1"),
        ({"abstain_below": 80.0}, "between 0 and 1"),
        ({"abstain_below": 0.8, "target_precision": 0.9}, "cannot both"),
        ({"precision": "int4"}, "no precision"),
    ],
)
def test_what_cannot_be_asked_of_an_export_is_one_clear_line(
    linear: Path, tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    _write(tmp_path / "in.jsonl", HELD)
    with pytest.raises(InputError, match=words):
        predict_file(linear, tmp_path / "in.jsonl", tmp_path / "out.jsonl", **asked)


def test_memory_does_not_grow_with_the_file(linear: Path, tmp_path: Path) -> None:
    """A file of 12 MB goes through in no more than a few chunks' memory above that of a small one."""
    line = json.dumps({"text": HELD[0] + " and so on" * 20}) + "\n"
    peaks = []
    for rows in (2000, 50_000):
        file = tmp_path / f"{rows}.jsonl"
        file.write_text(line * rows)
        code = (
            "import resource, sys\nfrom factory.predict.load import predict_file\n"
            f"done = predict_file({str(linear)!r}, {str(file)!r}, {str(tmp_path / 'out.jsonl')!r})\n"
            "print(done['rows'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.split())
        assert count == rows
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 25_000, peaks


@pytest.mark.slow
def test_predicting_with_a_static_export_starts_in_less_than_a_second(static: Path, tmp_path: Path) -> None:
    """By the clock where the machine has a core to spare, else by the processor's time."""
    _write(tmp_path / "in.jsonl", HELD[:3])
    command = [sys.executable, "-m", "factory.cli", "predict", str(static), str(tmp_path / "in.jsonl")]
    seconds: list[float] = []
    while len(seconds) < 12 and min(seconds, default=1.0) >= 1.0:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = os.getloadavg()[0] > (os.cpu_count() or 1)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime if busy else took)
        assert len(done.stdout.splitlines()) == 3
    assert min(seconds) < 1.0, seconds


def test_predicting_imports_nothing_slow(static: Path, tmp_path: Path) -> None:
    _write(tmp_path / "in.csv", HELD[:3])
    code = (
        "import sys\nfrom factory.predict.load import predict_file\n"
        f"predict_file({str(static)!r}, {str(tmp_path / 'in.csv')!r}, {str(tmp_path / 'out.csv')!r}, scope=0.05, sets=0.1)\n"
        "print([name for name in ('torch', 'transformers', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'onnxruntime', 'duckdb')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


BLOCKED = (
    "fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "torch", "transformers", "sentence_transformers", "sklearn",
    "scipy", "snorkel", "setfit", "vllm", "openai", "dspy", "ray",
)  # fmt: skip


def test_predict_needs_nothing_of_posix_alone_nor_any_library_of_training(
    linear: Path, static: Path, transformer: Path, tmp_path: Path
) -> None:
    """As on Windows: these modules are not there, neither for our code nor for what it imports."""
    _write(tmp_path / "in.csv", HELD[:3])
    code = f"""
import importlib, pkgutil, sys
BLOCKED = {BLOCKED!r}
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
assert not set(BLOCKED) & set(sys.modules)
sys.meta_path.insert(0, Blocked())
import factory.predict
for found in pkgutil.iter_modules(factory.predict.__path__):
    importlib.import_module(f"factory.predict.{{found.name}}")
from factory.cli import main
for folder in sys.argv[2:]:
    out = f"{{sys.argv[1]}}/{{folder.replace('/', '_')}}.jsonl"
    before, sys.argv = sys.argv, ["factory", "predict", folder, f"{{sys.argv[1]}}/in.csv", "--out", out]
    try:
        main()
    except SystemExit as left:
        assert not left.code, left.code
    sys.argv = before
"""
    folders = [str(folder) for folder in (linear, static, transformer)]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for folder in folders:
        rows = _records(tmp_path / f"{folder.replace('/', '_')}.jsonl")
        said = [row["labels" if "labels" in row else "label"] for row in rows]
        assert said == load_export(folder).predict(HELD[:3])


def _write(file: Path, texts: list[str]) -> None:
    lines = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))
    if file.name.endswith(".gz"):
        file.write_bytes(gzip.compress(lines.encode()))
    elif file.name.endswith(".zst"):
        file.write_bytes(zstandard.compress(lines.encode()))
    elif file.suffix == ".jsonl":
        file.write_text(lines)
    elif file.suffix == ".txt":
        file.write_text("".join(f"{text}\n" for text in texts))
    elif file.suffix == ".csv":
        with file.open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["id", "text"])
            table.writerows(enumerate(texts))
    else:
        pq.write_table(pa.table({"id": list(range(len(texts))), "text": texts}), file)


def _labels(file: Path) -> list[str | None]:
    if file.suffix == ".jsonl":
        return [json.loads(line)["label"] for line in file.read_text().splitlines()]
    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            return [row["label"] for row in csv.DictReader(stream)]
    found: list[str | None] = pq.read_table(file).column("label").to_pylist()
    return found


def _records(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            return list(csv.DictReader(stream))
    found: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return found
