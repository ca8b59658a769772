"""Three nodes, two of which are killed: the tables and files of one machine, row by row."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from factory.predict import shards
from factory.programs import stage
from factory.warehouse.file import Warehouse
from tests.cluster.nodes import Nodes, cluster
from tests.predict.test_shards import write_shards
from tests.programs.test_on_ray import PROGRAMS, filled, tables

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

DRIVER = """
import sys
from pathlib import Path
from factory.predict import shards
from factory.programs import stage
from factory.warehouse.file import Warehouse

def progress(done, total, what):
    print(done, total, what, file=sys.__stdout__, flush=True)
    if 0 < done < total:
        sys.stdin.readline()

folder = Path(sys.argv[1])
stage.vote(Warehouse.open(folder / "w.duckdb"), block=50, ray=True, progress=progress)
shards.predict(sys.argv[2], folder / "in", folder / "out", ray=True, progress=progress)
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason='Ray is not installed: pip install "label-factory[ray]"')
    with cluster(3) as found:
        yield found


def test_votes_and_predictions_of_three_nodes_two_of_which_die_equal_those_of_one_machine(
    nodes: Nodes, linear: Path, tmp_path: Path
) -> None:
    filled(Warehouse.open(tmp_path / "w.duckdb"), 700)
    write_shards(tmp_path / "in", 8)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": nodes.address}
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(linear)]
    killed: dict[str, list[int]] = {}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        assert driver.stderr is not None
        for line in driver.stdout:
            done, total, what = line.split(maxsplit=2)
            if 0 < int(done) < int(total):
                if what not in killed:
                    killed[what] = nodes.seats()
                    nodes.kill(len(killed))
                driver.stdin.write("\n")
                driver.stdin.flush()
        assert driver.wait() == 0, driver.stderr.read()
    assert list(killed) == ["blocks of votes\n", "files\n"]
    here = filled(Warehouse.memory(), 700)
    stage.vote(here, block=50)
    assert tables(Warehouse.open(tmp_path / "w.duckdb")) == tables(here)
    assert len(tables(here)["vote_blocks"]) == len(PROGRAMS) * 700 / 50
    shards.predict(linear, tmp_path / "in", tmp_path / "here")
    for file in sorted((tmp_path / "here").iterdir()):
        assert pq.read_table(tmp_path / "out" / file.name).equals(pq.read_table(file))
    print(killed)
