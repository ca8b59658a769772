"""Gold cannot leak: what the gold of test and reference says changes nothing but gold and evaluations."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kills.comparing import contents, folder_bytes
from tests.kills.harness import Line, command, environment

MAY_CHANGE = {"evaluations"}
"""Tables that gold may change, beside those of the gold file (the gold of dev stands in `gold`, and is not touched here)."""


def with_labels(source: Path, target: Path, change: Callable[[list[str]], list[str]]) -> None:
    """A copy of a CSV whose labels (its second column) are changed."""
    with source.open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    labels = change([row[1] for row in rows])
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *([row[0], label] for row, label in zip(rows, labels, strict=True))])


def shuffled(labels: list[str]) -> list[str]:
    """The labels in another order."""
    return [labels[at] for at in np.random.default_rng(7).permutation(len(labels))]


def run(line: Line, folder: Path) -> tuple[dict[str, Any], str]:
    """Run the pipeline file of a folder from nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", *command(folder / "small.yaml", folder / "run", line.server.url)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


def copy_of(line: Line, folder: Path) -> Path:
    """The line's sources and pipeline in a folder of their own."""
    folder.mkdir()
    for name in ("train.csv", "train_gold.csv", "dev.csv", "test.csv", "small.yaml"):
        shutil.copy(line.folder / name, folder / name)
    return folder


def tables(path: Path, moved: Path, here: Path) -> dict[str, list[Any]]:
    """Every table but evaluations; the sources' paths without the folder they lie in."""
    found = {name: rows for name, rows in contents(path).items() if name not in MAY_CHANGE}
    return {name: [repr(row).replace(str(moved), str(here)) for row in rows] for name, rows in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        "test labels shuffled",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("reference labels shuffled", "reference removed")),
    ],
)
def test_gold_of_test_and_reference_changes_no_table_and_no_byte_of_the_export(
    line: Line, tmp_path: Path, changed: str
) -> None:
    folder = copy_of(line, tmp_path / "changed")
    if changed == "test labels shuffled":
        with_labels(line.folder / "test.csv", folder / "test.csv", shuffled)
    elif changed == "reference labels shuffled":
        with_labels(line.folder / "train_gold.csv", folder / "train_gold.csv", shuffled)
    else:
        text = (folder / "small.yaml").read_text(encoding="utf-8")
        kept = [row for row in text.splitlines() if "reference:" not in row]
        (folder / "small.yaml").write_text("\n".join(kept) + "\n", encoding="utf-8")
        (folder / "train_gold.csv").unlink()
    found, _ = run(line, folder)

    expected = tables(line.undisturbed / "small.duckdb", line.folder, line.folder)
    got = tables(folder / "run" / "small.duckdb", folder, line.folder)
    assert sorted(got) == sorted(expected)
    for name in expected:
        assert got[name] == [row.replace(str(line.undisturbed), str(line.run)) for row in expected[name]], name
    assert folder_bytes(Path(found["export"])) == folder_bytes(line.undisturbed / "export")
    if changed == "test labels shuffled":
        before = contents(line.undisturbed / "small.duckdb")["evaluations"]
        assert contents(folder / "run" / "small.duckdb")["evaluations"] != before


@pytest.mark.long
@pytest.mark.slow
def test_shuffled_dev_labels_end_the_run_with_a_word_about_it(line: Line, tmp_path: Path) -> None:
    folder = copy_of(line, tmp_path / "changed")
    with_labels(line.folder / "dev.csv", folder / "dev.csv", shuffled)
    found, said = run(line, folder)
    assert found["evaluation"]["systems"]["student"]["accuracy"] > 0
    assert "dev disagrees with the programs" in said
