"""Every kind of bad input is one clear line that says what to do, and exit code 2; never a traceback."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TASK = """name: toy
text: a line
labels: {ham: a fine line, spam: no fine line}
"""
PIPELINE = """name: toy
task: task.yaml
steps:
  - ingest:
      train: {path: train.csv, text: text}
      dev: {path: dev.csv, text: text, label: label}
      test: {path: test.csv, text: text, label: label}
"""
ASKS = '  - author: {programs: 2}\nengine: {kind: server, url: "http://127.0.0.1:9/v1", model: none}\n'
FILES = {
    "task.yaml": TASK,
    "pipeline.yaml": PIPELINE,
    "train.csv": "text\none\ntwo\nthree\n",
    "dev.csv": "text,label\nfour,ham\nfive,spam\n",
    "test.csv": "text,label\nsix,ham\nseven,spam\n",
}

Change = dict[str, str | bytes | None]


def swap(old: str, new: str) -> Change:
    """The pipeline with one part of it changed."""
    assert old in PIPELINE
    return {"pipeline.yaml": PIPELINE.replace(old, new)}


LONG = 10_000_000

CASES: dict[str, tuple[Change, str]] = {
    # The pipeline
    "no pipeline": ({"pipeline.yaml": None}, "pipeline.yaml"),
    "empty pipeline": ({"pipeline.yaml": ""}, "pipeline.yaml"),
    "no YAML": ({"pipeline.yaml": "name: [toy\n"}, "pipeline.yaml:"),
    "binary YAML": ({"pipeline.yaml": b"\xff\xfe\x00\x01"}, "UTF-8"),
    "tab in YAML": ({"pipeline.yaml": "name: toy\nsteps:\n\t- ingest: {}\n"}, "pipeline.yaml:3"),
    "unknown key": ({"pipeline.yaml": PIPELINE + "setps: []\n"}, "did you mean `steps`"),
    "unknown step": ({"pipeline.yaml": PIPELINE + "  - distil: {}\n"}, "distill"),
    "unknown parameter": ({"pipeline.yaml": PIPELINE + "  - denoise: {modle: auto}\n"}, "did you mean `model`"),
    "wrong value": ({"pipeline.yaml": PIPELINE + "  - denoise: {seed: many}\n"}, "seed"),
    "no engine": ({"pipeline.yaml": PIPELINE + "  - author: {programs: 2}\n"}, "engine"),
    "unset variable": (swap("train.csv, text", "'${data}/train.csv', text"), "data"),
    "objects in YAML": ({"pipeline.yaml": "name: !!python/object/apply:os.getcwd []\n"}, "pipeline.yaml:1"),
    "a key twice": ({"pipeline.yaml": PIPELINE + "name: other\n"}, "pipeline.yaml:8: `name` stands twice"),
    "a budget in words": ({"pipeline.yaml": PIPELINE + "budget: plenty\n"}, "`plenty` is no budget"),
    "a folder as pipeline": ({"pipeline.yaml": None, "pipeline.yaml/.keep": ""}, "no such pipeline file"),
    # The task card
    "no card": ({"task.yaml": None}, "no task card at"),
    "unknown key in card": (
        {"task.yaml": TASK + "guidlines: x\n"}, "task.yaml:4: unknown key `guidlines`; did you mean `guidelines`"
    ),
    "one label": ({"task.yaml": "name: toy\ntext: x\nlabels: {ham: x}\n"}, "two labels or more"),
    "label without description": ({"task.yaml": TASK.replace("a fine line", "''")}, "task.yaml:3"),
    "a description still to be written": (
        {"task.yaml": TASK.replace("no fine line", "TODO say"), "pipeline.yaml": PIPELINE + ASKS}, "`spam` is still a TODO"
    ),
    "a label twice": ({"task.yaml": TASK.replace("spam:", "ham:")}, "task.yaml:3: `ham` stands twice"),
    "a label twice in a list": (
        {"task.yaml": "name: toy\ntext: x\nlabels: [{name: a, description: x}, {name: a, description: y}]\n"},
        "label 'a' stands twice",
    ),
    # Sources
    "unknown split": (swap("train:", "trian:"), "train"),
    "missing file": ({"train.csv": None}, "train.csv: no such file"),
    "an empty folder": (swap("train.csv", "empty") | {"empty/.keep": ""}, "no dataset can be read here"),
    "a folder as CSV": (swap("train.csv,", "empty, format: csv,") | {"empty/.keep": ""}, "this is a folder"),
    "unknown format": (swap("train.csv", "task.yaml"), "does not say which format"),
    "wrong column": (swap("train.csv, text: text", "train.csv, text: comment"), "no column `comment`"),
    "wrong label column": (
        swap("dev.csv, text: text, label: label", "dev.csv, text: text, label: lable"), "Did you mean `label`"
    ),
    "unknown source key": (swap("train.csv, text", "train.csv, txet"), "did you mean `text`"),
    "empty file": ({"train.csv": ""}, "train.csv: the file is empty"),
    "header alone in test": ({"test.csv": "text\n"}, "test.csv: there is no row in it"),
    "no labels in test": ({"test.csv": "text\nsix\n"}, "no column `label`"),
    "a header and no row": ({"train.csv": "text\n"}, "train.csv: there is no row in it"),
    "a blank first line": ({"train.csv": "\n\ntext\none\n"}, "its first line is"),
    "a quote in the middle": ({"train.csv": 'text,b\n"a"b",c\n'}, "train.csv:2: broken_row"),
    "UTF-16 cut in half": ({"train.csv": "text\none\n".encode("utf-16")[:-1]}, "train.csv"),
    "a folder with the name of a file": ({"train.csv": None, "train.csv/.keep": ""}, "no dataset can be read here"),
    "a list as text": (
        {"train.jsonl": '{"text": ["a", "b"]}\n', **swap("train.csv", "train.jsonl")}, "train.jsonl:1: broken_row: column"
    ),
    "a number among objects": (
        {"train.json": '[{"text": "a"}, 3]', **swap("train.csv", "train.json")}, "train.json:2: broken_row"
    ),
    "damaged zstd": ({"train.csv.zst": b"no archive", **swap("train.csv", "train.csv.zst")}, "the archive is damaged"),
    "double column": ({"train.csv": "text,text\na,b\n"}, "`text` stands twice"),
    "binary file": ({"train.csv": bytes(range(256)) * 40}, "no text file"),
    "another encoding": ({"train.csv": b"text\ncaf\xe9\n"}, "train.csv:2: not_utf8"),
    "a NUL in a text": ({"train.csv": "text\none\ntw\x00o\n"}, "train.csv:3: nul"),
    "half a surrogate": (
        {"train.jsonl": '{"text": "a\\ud800"}\n', **swap("train.csv", "train.jsonl")}, "train.jsonl:1: lone_surrogate"
    ),
    "a 10 MB line": ({"train.csv": "text\none\n" + "x" * LONG + "\ntwo\n"}, "train.csv:3: line_too_long: 10,000,001 characters"),
    "empty text": ({"train.csv": 'text\none\n""\n'}, "train.csv:3: empty_text"),
    "empty label": ({"dev.csv": "text,label\nfour,ham\nfive,\n"}, "dev.csv:3: empty_label"),
    "label not on the card": (
        {"dev.csv": "text,label\nfour,eggs\n"}, "dev.csv:2: unknown_label: label 'eggs' is not on the card"
    ),
    "label of test not on the card": ({"test.csv": "text,label\nsix,eggs\n"}, "test.csv:2: unknown_label"),
    "a row too short": ({"dev.csv": "text,label\nfour\n"}, "dev.csv:2: broken_row"),
    "a quote never closed": ({"train.csv": 'text\n"one\ntwo\n'}, "train.csv:2: broken_row"),
    "broken JSON line": (
        {"train.jsonl": '{"text": "a"}\n{"text":\n', **swap("train.csv", "train.jsonl")}, "train.jsonl:2: broken_row"
    ),
    "archive cut off": (
        {"train.csv.gz": gzip.compress(b"text\n" + os.urandom(9999).hex().encode())[:3000], **swap("train.csv", "train.csv.gz")},
        "damaged or cut off",
    ),
    "no Parquet": ({"train.parquet": b"PAR1", **swap("train.csv", "train.parquet")}, "no Parquet file"),
    # The warehouse
    "warehouse is no database": ({"run/toy.duckdb": b"hello " * 9999}, "not a DuckDB file"),
    "folder is a file": ({"run": b""}, "run"),
}  # fmt: skip


def prepare(folder: Path, change: Change) -> None:
    for name, content in {**FILES, **change}.items():
        if content is None:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def is_one_clear_line(code: int, out: str, err: str, words: str) -> None:
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("factory: ")]
    assert len(lines) == 1, err
    assert lines[0] == err.strip().splitlines()[-1]
    assert words in lines[0]
    assert len(lines[0]) < 600
    assert "Traceback" not in err


def test_the_unchanged_line_runs(tmp_path: Path, told: Callable[..., tuple[int, str, str]]) -> None:
    prepare(tmp_path, {})
    code, _, err = told("run", str(tmp_path / "pipeline.yaml"), "--folder", str(tmp_path / "run"))
    assert code == 0, err


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]], name: str
) -> None:
    change, words = CASES[name]
    prepare(tmp_path, change)
    is_one_clear_line(*told("run", str(tmp_path / "pipeline.yaml"), "--folder", str(tmp_path / "run")), words)


ARGUMENTS: dict[str, tuple[list[str], str]] = {
    "--set without =": (["run", "pipeline.yaml", "--set", "data"], "--set takes NAME=VALUE, not 'data'"),
    "--set of no variable": (
        ["run", "pipeline.yaml", "--set", "steps.author.programs=3"],
        "--set steps.author.programs: the pipeline has no",
    ),
    "--set without a name": (["run", "pipeline.yaml", "--set", "=x"], "--set takes NAME=VALUE"),
    "--param that is no YAML": (["ingest", "pipeline.yaml", "--param", "train={"], "is not YAML"),
    "--budget in words": (["run", "pipeline.yaml", "--folder", "run", "--budget", "plenty"], "`plenty` is no budget"),
    "--only of a step that is not there": (["run", "pipeline.yaml", "--folder", "run", "--only", "distill"], "no step `distill`"),
    "a folder that cannot be": (["run", "pipeline.yaml", "--folder", "/proc/run"], "/proc/run: the folder cannot be made"),
    "a card as pipeline": (["run", "task.yaml"], "task.yaml:2: unknown key `text`"),
    "an engine that is none": (["author", "pipeline.yaml", "--engine", "kind=oracle"], "kind"),
    "lineage of a kind that is none": (["lineage", "made", "frog", "1"], "no lineage of any `frog`"),
    "lineage of a number that is none": (["lineage", "made", "text", "99"], "there is no text 99"),
    "predict onto its own input": (["predict", "made", "dev.csv", "--out", "dev.csv"], "dev.csv: this is the file that is read"),
    "predict many onto their own folder": (["predict", "made", "./*.csv", "--out", "."], "this is the folder that is read"),
    "predict many without a folder": (["predict", "made", "*.csv"], "Name one with --out"),
    "predict many into a file": (["predict", "made", "*.csv", "--out", "task.yaml"], "task.yaml: many files need a folder"),
    "predict many that are none": (["predict", "made", "*.docx", "--out", "out"], "*.docx: there is no such file"),
    "predict many without an export": (["predict", "made", "*.csv", "--out", "out"], "no export"),
    "predict one file on Ray": (["predict", "made", "dev.csv", "--ray"], "dev.csv: Ray labels many files"),
    "predict without an export": (["predict", "made", "dev.csv"], "no export"),
    "a program that is none": (["programs", "show", "made", "999"], "there is no program 999"),
    "batch results that are none": (["batch", "read", "pipeline.yaml", "dev.csv", "--folder", "made"], "dev.csv:1: this line is"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_arguments_are_one_clear_line_and_exit_code_2(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arguments, words = ARGUMENTS[name]
    prepare(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    if "made" in arguments:
        assert told("run", "pipeline.yaml", "--folder", "made")[0] == 0
    is_one_clear_line(*told(*arguments), words)


ON_RAY: dict[str, list[str]] = {
    "a pipeline's step": ["run", "pipeline.yaml", "--folder", "run"],
    "a verb": ["vote", "task.yaml", "--param", "ray=true", "--folder", "made"],
    "predict": ["predict", "made", "*.csv", "--ray", "--out", "out"],
}


@pytest.mark.parametrize("name", ON_RAY)
def test_what_asks_for_ray_says_how_to_install_it_before_anything_is_done(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    prepare(tmp_path, {"pipeline.yaml": PIPELINE + "  - vote: {ray: true}\n"})
    monkeypatch.chdir(tmp_path)
    is_one_clear_line(*told(*ON_RAY[name]), 'Ray is not installed. Run: pip install "label-factory[ray]"')
    assert not (tmp_path / "out").exists()


def test_more_kinds_than_the_issue_asks_for() -> None:
    assert len(CASES) >= 25


def test_a_newer_warehouse_is_one_clear_line(tmp_path: Path, told: Callable[..., tuple[int, str, str]]) -> None:
    from factory.warehouse.file import Warehouse

    prepare(tmp_path, {})
    with Warehouse.open(tmp_path / "run" / "toy.duckdb").lease() as db:
        db.execute("INSERT INTO migrations (version, name) VALUES (999, 'later')")
    is_one_clear_line(
        *told("run", str(tmp_path / "pipeline.yaml"), "--folder", str(tmp_path / "run")),
        "Install a newer label-factory",
    )


def test_a_warehouse_held_by_another_process_is_one_clear_line_that_names_it(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory.warehouse.file import Warehouse

    prepare(tmp_path, {})
    path = tmp_path / "run" / "toy.duckdb"
    Warehouse.open(path)
    patient = Warehouse.__init__

    def hasty(self: Warehouse, path: Path | None, *, patience_s: float = 60.0) -> None:
        patient(self, path, patience_s=0.3)

    monkeypatch.setattr(Warehouse, "__init__", hasty)
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "1"
        result = told("run", str(tmp_path / "pipeline.yaml"), "--folder", str(tmp_path / "run"))
    finally:
        holder.kill()
        holder.communicate()
    is_one_clear_line(*result, f"in use by process {holder.pid}")


def mounted(folder: Path, options: str, before: str = "true") -> subprocess.CompletedProcess[str]:
    """Run the pipeline with `run` on a small file system of its own, which ends with the process."""
    script = (
        f"mkdir -p {folder}/run && mount -t tmpfs -o size=1m tmpfs {folder}/run && {before}"
        f" && mount -o remount,{options} {folder}/run || exit 99;"
        f" exec {sys.executable} -m factory.cli run {folder}/pipeline.yaml --folder {folder}/run"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr[:40]:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()[:100]}")
    return done


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    prepare(tmp_path, {"train.csv": "text\n" + "".join(f"{os.urandom(40).hex()}\n" for _ in range(20_000))})
    done = mounted(tmp_path, "size=1m")
    is_one_clear_line(done.returncode, done.stdout, done.stderr, "disk is full")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_read_only_mount_is_one_clear_line(tmp_path: Path) -> None:
    prepare(tmp_path, {})
    done = mounted(tmp_path, "ro")
    is_one_clear_line(done.returncode, done.stdout, done.stderr, "where you may write")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_finished_run_on_a_read_only_mount_that_grows_is_one_clear_line(tmp_path: Path) -> None:
    from factory.warehouse.file import Warehouse

    prepare(tmp_path, {})
    Warehouse.open(tmp_path / "held.duckdb")
    done = mounted(
        tmp_path,
        "size=20m,ro",
        before=f"mount -o remount,size=20m {tmp_path}/run && cp {tmp_path}/held.duckdb {tmp_path}/run/toy.duckdb",
    )
    is_one_clear_line(done.returncode, done.stdout, done.stderr, "where you may write")
