"""Three nodes, two of which are killed: the tables and files of one machine, row by row."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from factory.corpus.stage import ingest
from factory.encoders.encoder import load_encoder
from factory.encoders.vectors import vectors_of
from factory.predict import shards
from factory.programs import stage
from factory.task import load_card
from factory.warehouse.file import Warehouse
from tests.cluster.nodes import Nodes, cluster
from tests.predict.test_shards import write_shards
from tests.programs.test_on_ray import PROGRAMS, filled, tables
from tests.programs.test_stage import CARD

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

DRIVER = """
import sys
from pathlib import Path
from factory.cluster.spreading import on_ray
from factory.corpus.stage import ingest
from factory.encoders.encoder import load_encoder
from factory.encoders.vectors import vectors_of
from factory.predict import shards
from factory.programs import stage
from factory.task import load_card
from factory.warehouse.file import Warehouse
from tests.programs.test_stage import CARD

def progress(done, total, what):
    print(done, total, what, file=sys.__stdout__, flush=True)
    if 0 < done < total:
        sys.stdin.readline()

folder, warehouse = Path(sys.argv[1]), Warehouse.open(Path(sys.argv[1]) / "w.duckdb")
with on_ray(sys.argv[3]):
    stage.vote(warehouse, block=50, progress=progress)
    ingest(Warehouse.open(folder / "texts.duckdb"), load_card(CARD), {"train": str(folder / "in")})
    vectors_of(warehouse, load_encoder("hashing"), range(700), progress)
    shards.predict(sys.argv[2], folder / "in", folder / "out", progress=progress)
"""


SEATS = {"blocks of votes": [1, 1, 1], "texts encoded": [1, 0, 1], "files": [1, 0, 1]}
"""How many actors each node has when the first of these are done."""
LOST = {"blocks of votes": 1, "files": 2}
"""Which node is killed then."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason='Ray is not installed: pip install "label-factory[ray]"')
    with cluster(3) as found:
        yield found


def read_in(path: Path) -> list[list[tuple[object, ...]]]:
    """What `ingest` wrote, but for the time of day."""
    sources = "(SELECT * EXCLUDE ingested_at FROM sources)"
    return [
        Warehouse.open(path).query(f"SELECT * FROM {name} ORDER BY ALL") for name in ("texts", "occurrences", sources)
    ]


def test_texts_votes_vectors_and_predictions_of_three_nodes_two_of_which_die_equal_those_of_one_machine(
    nodes: Nodes, linear: Path, tmp_path: Path
) -> None:
    filled(Warehouse.open(tmp_path / "w.duckdb"), 700)
    write_shards(tmp_path / "in", 8)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(linear), nodes.address]
    seen: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        assert driver.stderr is not None
        for line in driver.stdout:
            done, total, what = line.strip().split(maxsplit=2)
            if 0 < int(done) < int(total):
                if what not in seen:
                    seen.append(what)
                    until = time.monotonic() + 60
                    while nodes.seats() != SEATS[what] and time.monotonic() < until:
                        time.sleep(0.2)
                    assert nodes.seats() == SEATS[what]
                    if what in LOST:
                        nodes.kill(LOST[what])
                driver.stdin.write("\n")
                driver.stdin.flush()
        assert driver.wait() == 0, driver.stderr.read()
    assert seen == list(SEATS)
    here = filled(Warehouse.memory(), 700)
    stage.vote(here, block=50)
    assert tables(Warehouse.open(tmp_path / "w.duckdb")) == tables(here)
    assert len(tables(here)["vote_blocks"]) == len(PROGRAMS) * 700 / 50
    ingest(Warehouse.open(tmp_path / "mine.duckdb"), load_card(CARD), {"train": str(tmp_path / "in")})
    assert read_in(tmp_path / "texts.duckdb") == read_in(tmp_path / "mine.duckdb")
    mine = vectors_of(here, load_encoder("hashing"), range(700))
    theirs = Warehouse.open(tmp_path / "w.duckdb").query("SELECT vector FROM vectors ORDER BY text_no")
    assert np.array_equal(mine, np.array([vector for (vector,) in theirs], np.float32))
    shards.predict(linear, tmp_path / "in", tmp_path / "here")
    for file in sorted((tmp_path / "here").iterdir()):
        assert pq.read_table(tmp_path / "out" / file.name).equals(pq.read_table(file))
