"""What a run on some texts tells of a run on many more, on several nodes: `factory plan --texts 100M --nodes 20`.

Times are those that the steps took here, on record in `stage_runs`. What one process does of a step that divides, reading its
blocks and committing its votes, is timed for the plan. Both are taken to grow with the texts.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from factory.errors import InputError
from factory.pipeline.load import Pipeline
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.votes import Said, put_block, shares_voted

GROWS = ("ingest", "vote", "denoise", "distill")
"""Steps whose work grows with the texts. What is asked is bounded by its step, and what is scored by the texts with gold."""


@dataclass(frozen=True)
class Measured:
    """What a step took on this machine.

    Attributes:
        step: Its verb.
        texts: On how many texts.
        seconds: In all.
        cores: How many processors its work had.
        driver_s: Of the seconds, those of the one process that reads and commits; None where the step does not divide.
        block: Texts of an item of work.
        most: It grows up to so many texts; None without an end; 0 if it does not grow.
    """

    step: str
    texts: int
    seconds: float
    cores: int = 1
    driver_s: float | None = None
    block: int = 1
    most: int | None = None

    def work(self, texts: int) -> tuple[float, float, float]:
        """Seconds on so many texts: of the one process, of all processors together, and of the largest item."""
        most = math.inf if self.most is None else self.most
        times = min(texts, most) / min(self.texts, most) if most and self.texts else 1.0
        if self.driver_s is None:
            return self.seconds * times, 0.0, 0.0
        driver, rest = self.driver_s, max(self.seconds - self.driver_s, 0.0) * self.cores
        return driver * times, rest * times, rest * min(self.block, texts) / max(self.texts, 1)

    def takes(self, texts: int, processors: int) -> float:
        """Seconds on so many texts and processors: reading and committing goes on beside the work."""
        driver, rest, item = self.work(texts)
        return max(driver, rest / processors, item)

    def linear_to(self, texts: int, cores: int) -> tuple[int, str]:
        """Beyond how many nodes of so many processors more of them bring nothing, at least 1, and why."""
        driver, rest, item = self.work(texts)
        if self.driver_s is None:
            return 1, "does not divide"
        if driver >= item:
            return max(1, math.ceil(rest / max(driver, 1e-9) / cores)), "one process commits"
        return max(1, math.ceil(rest / max(item, 1e-9) / cores)), "there are no more blocks"


def parse_count(text: str) -> int:
    """A number as people write it.

    Raises:
        InputError: It is none.

    Example:
        >>> parse_count("100M"), parse_count("20_000"), parse_count("1.5k")
        (100000000, 20000, 1500)
    """
    found = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)\s*([kKmMgGbB]?)", text.strip())
    if found is None:
        raise InputError(f"cannot read `{text}` as a number of texts", fix="Give `100M`, `20k` or `5000`")
    factor = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "b": 1_000_000_000}[found[2].lower()]
    return round(float(re.sub("[_,]", "", found[1])) * factor)


def at_scale(measured: Sequence[Measured], texts: int, nodes: int, *, cores: int) -> dict[str, Any]:
    """What the steps take on so many texts and nodes.

    Args:
        measured: What they took here.
        texts: How many there will be.
        nodes: How many machines.
        cores: Processors of each.

    Returns:
        `{"texts", "nodes", "cores", "steps": [{"step", "measured": {...}, "one_node_s", "seconds", "linear_to", "why"}],
        "one_node_s", "seconds", "first"}`; `first` says which step stops being linear first, and why.
    """
    steps: list[dict[str, Any]] = []
    for one in measured:
        linear_to, why = one.linear_to(texts, cores)
        grows = one.most != 0
        steps.append(
            {
                "step": one.step, "measured": asdict(one), "one_node_s": one.takes(texts, cores),
                "seconds": one.takes(texts, cores * nodes), "linear_to": linear_to if grows else None,
                "why": why if grows else "does not grow with the texts",
            }
        )  # fmt: skip
    told = {name: sum(step[name] for step in steps) for name in ("one_node_s", "seconds")}
    return {"texts": texts, "nodes": nodes, "cores": cores, "steps": steps, **told, "first": _first(steps, told)}


_THEN = {
    "one process commits": "reading and committing, which one process does, take as long as all the rest",
    "there are no more blocks": "every block has a processor, and the slowest is waited for",
}
"""What holds where a step that divides gains no more, by why."""


def _first(steps: Sequence[Mapping[str, Any]], told: Mapping[str, float]) -> str:
    """Which step is not quicker with more nodes first, in words."""
    whole = [step for step in steps if step["why"] == "does not divide"]
    divided = sorted((step for step in steps if step["why"] in _THEN), key=lambda step: step["linear_to"])
    words = []
    if whole:
        worst = max(whole, key=lambda step: step["seconds"])
        share = worst["seconds"] / max(told["seconds"], 1e-9)
        words.append(f"`{worst['step']}` is done by one process on any number of nodes: {share:.0%} of the whole here.")
    if divided:
        one = divided[0]
        nodes = f"up to {one['linear_to']:,} nodes" if one["linear_to"] > 1 else "no second node"
        words.append(f"`{one['step']}` gains from {nodes}: then {_THEN[one['why']]}.")
    return " ".join(words)


def plan_at_scale(
    pipeline: Pipeline, warehouse: Warehouse, texts: int, nodes: int, *, cores: int | None = None
) -> dict[str, Any]:
    """What the pipeline takes on so many texts and nodes like this machine, from what it took here.

    Args:
        pipeline: One that has run, on a part of the texts.
        warehouse: Where that run is on record.
        texts, nodes, cores: As of `at_scale`; by default nodes have the processors of this machine.

    Returns:
        What `at_scale` gives, and `disk_bytes` of the warehouse.

    Raises:
        InputError: It has not run yet.
    """
    measured = _measured(pipeline, warehouse)
    there = int(warehouse.scalar("SELECT count(*) FROM texts"))
    size = warehouse.path.stat().st_size if warehouse.path is not None else 0
    if not measured or not there:
        fix = "Run it once on a part of the texts, some 100,000: its times are what is multiplied"
        raise InputError("no step of this pipeline has been measured here", where=pipeline.path, fix=fix)
    found = at_scale(measured, texts, nodes, cores=cores or os.cpu_count() or 1)
    return {**found, "disk_bytes": round(size * texts / there)}


def _measured(pipeline: Pipeline, warehouse: Warehouse) -> list[Measured]:
    """The steps of a pipeline that have run, as they did when they had most to do."""
    train = int(warehouse.scalar("SELECT count(*) FROM split_texts WHERE split = 'train'"))
    rows = warehouse.query(
        "SELECT stage, did::VARCHAR, epoch(ended_at - started_at) FROM stage_runs WHERE NOT skipped ORDER BY ended_at"
    )
    found = []
    for step in {step.verb: step for step in pipeline.steps}.values():
        ran = [(json.loads(did), float(seconds)) for stage, did, seconds in rows if stage == step.verb]
        if not ran:
            continue
        params = step.params.model_dump()
        count = {"ingest": "new_rows", "vote": "texts"}.get(step.verb)
        if count is None:
            most = None if step.verb in GROWS else 0
            if (step.verb == "distill" and _reads_vectors(params)) or (
                step.verb == "denoise" and params["encoder"] is not None and train <= params["encode_at_most"]
            ):
                most = params["encode_at_most"]
            found.append(Measured(step.verb, train, ran[-1][1], most=most))
            continue
        did, seconds = max(ran, key=lambda one: one[0].get(count, 0))
        n = int(did.get(count, 0))
        if step.verb == "vote" and n:
            block = int(params["block"])
            driver = min(_driver_s(warehouse, block) * n, seconds)
            found.append(Measured("vote", n, seconds, os.cpu_count() or 1, driver, block))
        elif n:
            found.append(Measured(step.verb, n, seconds))
    return found


def _reads_vectors(params: Mapping[str, Any]) -> bool:
    from factory.students.base import student_class

    kinds = params["try_students"] if params["student"] == "auto" else [params["student"]]
    return any(student_class(kind).takes != "texts" or student_class(kind).slow for kind in kinds)


def _driver_s(warehouse: Warehouse, block: int) -> float:
    """Seconds per text that one process reads a block of texts and commits its votes, timed with as many as there are here."""
    said = shares_voted(warehouse)
    sql = "SELECT text_no, text FROM texts WHERE origin <> 'passage' ORDER BY text_no LIMIT ?"
    with tempfile.TemporaryDirectory(prefix="factory-plan-") as folder:
        timed = Warehouse.open(Path(folder) / "timed.duckdb")
        for first in (1, 0):  # the second time nothing is new to Python and DuckDB
            began = time.perf_counter()
            table = warehouse.arrow(sql, [block])
            numbers, n = table.column("text_no").to_numpy(), len(table.column("text").to_pylist())
            read = time.perf_counter() - began
            given = []
            for program_no, share in said.items():
                voted = np.resize(numbers, round(n * share)).astype(np.int32)
                given.append(Said(program_no, voted, np.zeros(len(voted), np.int32), {}))
            began = time.perf_counter()
            with timed.lease() as db:
                put_block(db, first * n, first * n + n - 1, n, given)
        took = read + time.perf_counter() - began
    return took / max(n, 1)
