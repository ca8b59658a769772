"""A small pipeline, its undisturbed run with every moment written down, and runs that are killed at one of them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kills.driver import ROWS
from tests.kills.server import CountingServer

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")
QUICKSTART = ROOT / "pipelines" / "quickstart"
SIZES = {"train": 150, "train_gold": 150, "dev": 36, "test": 60}
CONCURRENCY = 6

PIPELINE = """
name: small
task: {task}
engine: {{kind: server, url: "${{url}}", model: counting, concurrency: {concurrency}, start: {concurrency}}}
steps:
  - ingest:
      train: {{path: train.csv, text: text}}
      reference: {{path: train_gold.csv, text: text, label: label}}
      dev: {{path: dev.csv, text: text, label: label}}
      test: {{path: test.csv, text: text, label: label}}
  - author: {{programs: 8}}
  - vote: {{block: 8}}
  - synthesize: {{method: few_shot, per_label: 4, seeds: none}}
  - vote: {{block: 8}}
  - annotate: {{split: test}}
  - denoise: {{model: dawid_skene}}
  - distill: {{student: linear, encoder: hashing, systems: [student, programs_only, synthesis_only]}}
  - evaluate: {{label_equivalents: false, draws: 200}}
  - export: {{system: student}}
"""


def environment() -> dict[str, str]:
    """The environment of the runs: one thread each, the checkout on the path."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def write_pipeline(folder: Path, text: str = PIPELINE) -> Path:
    """The small pipeline with its sources: the first rows of the quickstart's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        with (QUICKSTART / f"{name}.csv").open(encoding="utf-8", newline="") as source:
            rows = list(csv.reader(source))[: size + 1]
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as target:
            csv.writer(target).writerows(rows)
    path = folder / "small.yaml"
    path.write_text(text.format(task=QUICKSTART / "task.yaml", concurrency=CONCURRENCY), encoding="utf-8")
    return path


def command(pipeline: Path, run: Path, url: str) -> list[str]:
    """The arguments of `factory run`."""
    return ["run", str(pipeline), "--folder", str(run), "--set", f"url={url}", "--json"]


@dataclass(frozen=True)
class Killed:
    """What is known of a run that was killed.

    Attributes:
        moment: Where it stood still.
        done: How much of the step was done, as the process saw it: rows (those of an open transaction included), files, or
            what it said itself.
        total: What it said is to be done, if it said so.
        in_transaction: Whether a transaction was open.
        rows_left: Rows of the step that another process finds in the warehouse after the kill.
        unstored: Answers that had come and that the process did not know to be stored.
        answered_before: Answers that the warehouse held when this run began.
        sent: Samples that the server was asked for by this run.
        largest: Most samples that one request asked for.
        stored: Answers that this run stored.
        left_behind: Processes of the run that outlived it by more than ten seconds.
    """

    moment: str
    done: int
    total: int
    in_transaction: bool
    rows_left: int
    unstored: int
    answered_before: int
    sent: int
    largest: int
    stored: int
    left_behind: tuple[int, ...]


class Line:
    """The small pipeline: its undisturbed run, and killed ones."""

    def __init__(self, folder: Path, server: CountingServer, text: str = PIPELINE) -> None:
        self.server, self.folder = server, folder
        self.pipeline = write_pipeline(folder, text)
        self.run, self.snapshots, self.undisturbed = folder / "run", folder / "snapshots", folder / "undisturbed"
        self.census: list[dict[str, Any]] = []
        self.samples = 0

    @property
    def warehouse(self) -> Path:
        """The warehouse file of the run at hand."""
        return self.run / "small.duckdb"

    def go_undisturbed(self) -> None:
        """Run once without a kill; keep its folder, a copy for the start of every step, and the list of moments."""
        census = self.folder / "census.jsonl"
        arguments = ["--census", str(census), "--snapshots", str(self.snapshots), "--"]
        done = subprocess.run(
            [sys.executable, str(DRIVER), *arguments, *command(self.pipeline, self.run, self.server.url)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        self.census = [json.loads(line) for line in census.read_text().splitlines()]
        self.samples = self.server.settled()["samples"]
        self.run.rename(self.undisturbed)

    def rows_of(self, step: str) -> tuple[int, int]:
        """How many rows a step found and left in the undisturbed run."""
        steps = [seen["moment"].split("/")[0] for seen in self.census if "/begin/" in seen["moment"]]
        at = steps.index(step)
        after = self.snapshots / steps[at + 1] if at + 1 < len(steps) else self.undisturbed
        return count(self.snapshots / step / "small.duckdb", step), count(after / "small.duckdb", step)

    def as_finished(self) -> None:
        """Put the undisturbed run back in its place, and count the server's requests from zero."""
        if self.run.exists():
            shutil.rmtree(self.run)
        shutil.copytree(self.undisturbed, self.run)
        self.server.reset()

    def kill_at(self, moment: str, between: tuple[int, int] | None = None, *, store_every_s: float = 0.05) -> Killed:
        """Go on from the start of the moment's step, and kill the run when it gets there.

        What the second `vote` did is done by the first one when the synthetic texts are there already.
        """
        step = moment.split("/")[0]
        if self.run.exists():
            shutil.rmtree(self.run)
        shutil.copytree(self.snapshots / step, self.run)
        return self.go_on_until(moment.replace("4.vote", "2.vote"), between, store_every_s=store_every_s)

    def go_on_until(
        self, moment: str, between: tuple[int, int] | None = None, *, store_every_s: float = 0.05
    ) -> Killed:
        """Go on from where the run's folder stands, and kill the run at a moment.

        Args:
            moment: STEP/KIND/NTH, as `driver.py` has it.
            between: Only moments with more and fewer than so many of the step's rows done count.
            store_every_s: How long answers are gathered before they are stored.
        """
        import psutil

        self.server.reset()
        before = answers_in(self.warehouse)
        reader, writer = os.pipe()
        stop = ["--stop", moment, "--pipe", str(writer), "--store-every", str(store_every_s)]
        stop += [] if between is None else ["--between", *map(str, between)]
        child = subprocess.Popen(
            [sys.executable, str(DRIVER), *stop, "--", *command(self.pipeline, self.run, self.server.url)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[writer],
            text=True,
        )
        os.close(writer)
        with os.fdopen(reader) as told:
            line = told.readline()
        if not line:
            _, errors = child.communicate()
            raise AssertionError(f"the run ended (code {child.returncode}) without reaching {moment}: {errors[-3000:]}")
        seen = json.loads(line)
        family = psutil.Process(child.pid).children(recursive=True)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert child.stderr is not None
        child.stderr.close()
        _, alive = psutil.wait_procs(family, timeout=10)
        counts = self.server.settled()
        return Killed(
            moment=moment,
            done=seen["done"],
            total=seen["told"][1],
            in_transaction=seen["open"],
            rows_left=count(self.warehouse, moment.split("/")[0]),
            unstored=seen["unstored"],
            answered_before=before,
            sent=counts["samples"],
            largest=counts["largest"],
            stored=answers_in(self.warehouse) - before,
            left_behind=tuple(process.pid for process in alive),
        )

    def start_again(self) -> dict[str, Any]:
        """Run the plain command line to its end on what a kill left.

        Returns:
            What it printed with `--json`.
        """
        done = subprocess.run(
            [sys.executable, "-m", "factory.cli", *command(self.pipeline, self.run, self.server.url)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def count(warehouse: Path, step: str) -> int:
    """The rows of a step that a warehouse holds, read by a process that is not the run's."""
    import duckdb

    until = time.monotonic() + 10
    while True:
        try:
            with duckdb.connect(str(warehouse), read_only=True) as db:
                return int(db.execute(ROWS[step.partition(".")[2]]).fetchall()[0][0])
        except duckdb.IOException:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def answers_in(warehouse: Path) -> int:
    """How many answers a warehouse holds."""
    import duckdb

    if not warehouse.exists():
        return 0
    with duckdb.connect(str(warehouse), read_only=True) as db:
        return int(db.execute("SELECT count(*) FROM answers").fetchall()[0][0])
