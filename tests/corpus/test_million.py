"""A million rows are read in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = 1_000_000
MOST_MB = 1000
"""Peak of the process. Holding the texts and their hashes as Python objects would take several times as much."""

INGEST = """
import json, resource, sys, time
from pathlib import Path
from factory.corpus.stage import ingest
from factory.task import load_card
from factory.warehouse.file import Warehouse
import pyarrow.parquet
card = load_card({"name": "t", "text": "a line", "labels": {"a": "x", "b": "y"}})
warehouse = Warehouse.open(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
started = time.perf_counter()
did = dict(ingest(warehouse, card, {"train": sys.argv[1]}).did)
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
started = time.perf_counter()
again = ingest(warehouse, card, {"train": sys.argv[1]})
print(json.dumps({"before_mb": before, "peak_mb": peak, "seconds": seconds, "again_seconds": time.perf_counter() - started,
                  "skipped": again.skipped, **did}))
"""


def write(path: Path, rows: int) -> None:
    """Rows of about 600 characters, a tenth of them duplicates."""
    filler = " ".join(f"word{n}" for n in range(80))
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("text\n")
        for n in range(rows):
            text = f"row {n % (rows * 9 // 10)} {filler}"
            file.write(f"{text}\n" if path.suffix == ".csv" else json.dumps({"text": text}) + "\n")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_million_rows_are_read_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        import pyarrow.csv
        import pyarrow.parquet as pq

        write(tmp_path / "a.csv", ROWS)
        with pq.ParquetWriter(path, pyarrow.schema([("text", pyarrow.string())])) as writer:
            for batch in pyarrow.csv.open_csv(tmp_path / "a.csv"):
                writer.write_batch(batch)
    else:
        write(path, ROWS)
    done = subprocess.run(
        [sys.executable, "-c", INGEST, str(path), str(tmp_path / "w.duckdb")], text=True, capture_output=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(told)
    assert (told["rows"], told["texts"], told["duplicates"]) == (ROWS, ROWS * 9 // 10, ROWS // 10)
    assert told["peak_mb"] < MOST_MB, told
    assert told["skipped"]
    assert told["again_seconds"] < 5
