"""The line beyond one machine: many texts through every station on three nodes of a Ray cluster, and plainly, on this machine.

    python tests/benchmarks/scale.py                        # 1,000,000 texts
    python tests/benchmarks/scale.py --texts 20000
    python tests/benchmarks/scale.py --quick                # 5,000 texts

A folder of Parquet files is read, voted on by twelve lists of rules and two Python programs, denoised, learned from by a static
student and labelled by it, once by `factory run` and `factory predict`, once by the same with `--ray`. `ours` are the seconds on
the nodes, the peer is the plain run; every table and every predicted file of the two is compared. The nodes have one processor
each and share those of this machine, so this shows what Ray costs and that nothing differs, not how much is gained. The plain
run comes first, so what is made once on a machine (an encoder's graph, its vectors of tokens) counts there if it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from _harness import ROOT, Options, Skip, case, emit, main, row

NODES, STORE, FILES = 3, 150 << 20, 20
CUES = {
    "billing": ["charge", "refund", "invoice", "card", "price", "voucher", "bill", "twice"],
    "delivery": ["parcel", "tracking", "courier", "package", "shipped", "late", "address", "arrived"],
    "account": ["password", "login", "profile", "username", "privacy", "code", "email", "locked"],
    "technical": ["app", "crash", "error", "button", "screen", "slow", "browser", "bug"],
    "cancellation": ["cancel", "stop", "pause", "unsubscribe", "renew", "return", "downgrade", "quit"],
    "praise": ["thank", "love", "great", "wonderful", "happy", "perfect", "best", "amazing"],
}
FORMS = (
    "hello, about the {0}: {1} and {2} since {3}, please look at {4} ({5})",
    "we wrote about {3} and the {1}, then {4} said {2}; the {0} is {5}",
    "why {1}? my {0} came with {3} and {4}, {2} number {5}",
    "{2} again. order {5}, {0}, {1}: nothing of {3} or {4} was told to us",
)
PYTHON = """
import re

CUES = {cues!r}


def label(text):
    words = re.findall(r"[a-z]+", text.lower())
    counts = [(sum(words.count(cue) for cue in cues), name) for name, cues in CUES.items()]
    most = max(count for count, _ in counts)
    best = [name for count, name in counts if count == most]
    return best[0] if most >= {least} and len(best) == 1 else None
"""
PIPELINE = """
name: scale
task: {{name: scale, text: a message to a shop, labels: {labels}}}
steps:
  - ingest: {{train: {{path: texts, text: text}}}}
  - vote: {{block: {block}}}
  - denoise: {{encoder: none}}
  - distill: {{student: static, systems: [student]}}
  - export: {{system: student}}
"""
STAGES = ("ingest", "vote", "denoise", "distill", "export", "predict")


def write_texts(folder: Path, count: int) -> None:
    """So many texts in `FILES` Parquet files: each has one cue of its label, another one of any, and words of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = np.array([a + b + c for a in syllables for b in syllables for c in ("", "s", "ly")])
    cues = np.array(list(CUES.values()))
    each = -(-count // FILES)
    for number, start in enumerate(range(0, count, each)):
        n = min(each, count - start)
        label, other = rng.integers(0, len(cues), (2, n))
        first, second = cues[label, rng.integers(0, 8, n)], cues[other, rng.integers(0, 8, n)]
        same = rng.random(n) < 0.6
        second = np.where(same, cues[label, rng.integers(0, 8, n)], second)
        drawn = words[rng.integers(0, len(words), (n, 3))]
        texts = [
            FORMS[form].format(own[0], one, two, own[1], own[2], start + at)
            for at, (form, one, two, own) in enumerate(
                zip(rng.integers(0, len(FORMS), n), first, second, drawn, strict=True)
            )
        ]
        pq.write_table(pa.table({"text": texts}), folder / f"part-{number:02d}.parquet")


def programs() -> Iterator[tuple[str, str, str]]:
    """Name, kind and source: two lists of rules for each label, and two Python programs that know them all."""
    for name, cues in CUES.items():
        for at, some in enumerate((cues[:5], cues[3:])):
            rules = [{"kind": "word", "value": cue, "label": name, "weight": 2} for cue in some]
            yield f"{name}-{at}", "rules", json.dumps({"rules": rules})
    for least in (1, 2):
        kept = {name: cues[: 8 - least] for name, cues in CUES.items()}
        yield f"python-{least}", "python", PYTHON.format(cues=kept, least=least)


class Memory:
    """The peak of each process in MB (VmHWM: what it held at most, what it shares counted), by what it is."""

    def __init__(self) -> None:
        self.peaks: dict[str, dict[int, float]] = defaultdict(dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at everything below this process until the block ends."""
        stop = threading.Event()
        watcher = threading.Thread(target=lambda: [self._look() for _ in iter(lambda: stop.wait(2.0), True)])
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()

    def _look(self) -> None:
        import psutil

        for process in psutil.Process().children(recursive=True):
            try:
                role, status = _role(process.cmdline()), Path(f"/proc/{process.pid}/status").read_text()
            except (psutil.Error, OSError):
                continue
            held = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
            if held:  # else it has ended
                self.peaks[role][process.pid] = held / 1024

    def largest(self) -> dict[str, int]:
        """The largest process of each role."""
        return {role: round(max(peaks.values())) for role, peaks in sorted(self.peaks.items())}


def _role(line: list[str]) -> str:
    words = " ".join(line)
    named = {"ray::Seat": "worker", "raylet/raylet": "raylet", "gcs_server": "head", "factory.cli": "driver"}
    named |= {"ray::": "other of Ray's", "site-packages/ray/": "other of Ray's"}
    return next((role for word, role in named.items() if word in words), "sandbox")


def run(folder: Path, pipeline: Path, address: str | None) -> tuple[dict[str, float], dict[str, int]]:
    """The whole line into `folder/run`: seconds of each stage and the peaks of memory."""
    from factory.programs.manage import add_program
    from factory.warehouse.file import Warehouse

    target, memory = folder / "run", Memory()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment |= {} if address is None else {"RAY_ADDRESS": address}
    more = [] if address is None else ["--ray"]

    def factory(*words: str) -> float:
        began = time.perf_counter()
        command = [sys.executable, "-m", "factory.cli", *words, *more, "--json"]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return time.perf_counter() - began

    with memory.watching():
        factory("run", str(pipeline), "--folder", str(target), "--only", "ingest")
        warehouse = Warehouse.open(target / "scale.duckdb")
        for name, kind, source in programs():
            add_program(warehouse, source, name=name, kind=kind)
        factory("run", str(pipeline), "--folder", str(target))
        taken = factory("predict", str(target / "export"), str(folder / "texts"), "--out", str(target / "labelled"))
    spans = warehouse.query("SELECT stage, epoch(ended_at - started_at) FROM stage_runs WHERE NOT skipped")
    return {**{stage: float(seconds) for stage, seconds in spans}, "predict": taken}, memory.largest()


def differing(one: Path, other: Path) -> tuple[dict[str, int], list[str]]:
    """Rows of every table of two runs, files of predictions among them, and the tables that are not equal."""
    import duckdb

    from tests.kills.comparing import ARE_ABOUT_THE_RUN, MAY_DIFFER

    counts, unequal = {}, []
    with duckdb.connect(config={"memory_limit": "6GB"}) as db:
        db.execute(f"ATTACH '{one}/scale.duckdb' AS a (READ_ONLY); ATTACH '{other}/scale.duckdb' AS b (READ_ONLY)")
        sql = "SELECT table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY 1"
        names = [name for (name,) in db.execute(sql, ["a"]).fetchall()]
        if names != [name for (name,) in db.execute(sql, ["b"]).fetchall()]:
            unequal.append("names of tables")
        pairs = {}
        for name in set(names) - ARE_ABOUT_THE_RUN:
            columns = [found[0] for found in db.execute(f"SELECT column_name FROM (DESCRIBE a.{name})").fetchall()]
            kept = ", ".join(f'"{column}"' for column in columns if column not in MAY_DIFFER.get(name, ()))
            pairs[name] = [f"SELECT {kept} FROM {side}.{name}" for side in "ab"]
        pairs["predictions"] = [
            f"SELECT * EXCLUDE filename, parse_filename(filename) FROM read_parquet('{side}/labelled/*', filename = true)"
            for side in (one, other)
        ]
        for name, (left, right) in sorted(pairs.items()):
            n, m, more, less = db.execute(
                f"SELECT (SELECT count(*) FROM ({left})), (SELECT count(*) FROM ({right})),"
                f" (SELECT count(*) FROM ({left} EXCEPT {right})), (SELECT count(*) FROM ({right} EXCEPT {left}))"
            ).fetchall()[0]
            counts[name] = n
            if n != m or more or less:
                unequal.append(f"{name}: {n:,} rows and {m:,}, {more:,} and {less:,} of them not in the other")
    return {name: n for name, n in counts.items() if n}, unequal


@case("nodes")
def nodes(options: Options) -> None:
    """Plainly and on nodes: equal tables, seconds of each stage, memory, and the plan that follows."""
    try:
        import ray  # noqa: F401
    except ImportError:
        raise Skip('Ray is not installed: pip install "label-factory[ray]"') from None
    from factory.pipeline.load import load_pipeline
    from factory.pipeline.scale import plan_at_scale
    from factory.warehouse.file import Warehouse
    from tests.cluster.nodes import cluster

    count = 5_000 if options.quick else int(options.extra["texts"])
    sizes: dict[str, Any] = {"texts": count, "nodes": NODES, "processors_here": os.cpu_count()}
    with tempfile.TemporaryDirectory(dir=options.extra["folder"]) as name:
        folder = Path(name)
        pipeline = folder / "scale.yaml"
        labels = json.dumps({label: f"about {label}" for label in CUES})
        pipeline.write_text(PIPELINE.format(labels=labels, block=min(20_000, max(count // 20, 1000))))
        write_texts(folder / "texts", count)
        took: dict[str, dict[str, float]] = {}
        for where in ("plain", "nodes"):
            with cluster(NODES, store=STORE) if where == "nodes" else nullcontext() as found:
                took[where], peaks = run(folder, pipeline, found.address if found else None)
            shutil.move(folder / "run", folder / where)
            for role, megabytes in peaks.items():
                emit(row("memory", megabytes, unit="MB", where=where, largest_process=role, **sizes))
            print(where, took[where], file=sys.stderr, flush=True)
        told = {where: {**seconds, "all": sum(seconds.values())} for where, seconds in took.items()}
        for stage in (*STAGES, "all"):
            ours, plain = round(told["nodes"][stage], 2), round(told["plain"][stage], 2)
            emit(row(
                "seconds", ours, plain, peer_name="plainly", unit="s", smaller_is_better=True, stage=stage,
                overhead_s=round(ours - plain, 2), **sizes,
            ))  # fmt: skip
        counts, unequal = differing(folder / "plain", folder / "nodes")
        emit(row("tables_that_differ", len(unequal), unit="tables", differ=unequal, rows=counts, **sizes))
        assert not unequal, unequal
        plan = plan_at_scale(load_pipeline(pipeline), Warehouse.open(folder / "plain" / "scale.duckdb"), count, 20)
        for step in plan["steps"]:
            emit(row(
                "planned_for_20_nodes", round(step["seconds"], 2), round(step["one_node_s"], 2), peer_name="one node",
                unit="s", smaller_is_better=True, step=step["step"], gains_up_to=step["linear_to"], why=step["why"], texts=count,
            ))  # fmt: skip
        emit(row(
            "planned_for_20_nodes", round(plan["seconds"], 1), round(plan["one_node_s"], 1), peer_name="one node", unit="s",
            smaller_is_better=True, step="all", first=plan["first"], texts=count,
        ))  # fmt: skip


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where to work; the folder for temporary files by default")


if __name__ == "__main__":
    main(__doc__, _more)
