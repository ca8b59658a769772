"""Ten million texts x 20 programs, with one kill in between: the cases `scale` (Python) and `scale_rules` of `votes.py`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from _harness import ROOT, Options, Row, Skip, case, row
from votes_programs import labels_of, recorded, rule_lists, simple_programs, texts_of

MINUTES = 20
"""Aim for ten million texts and twenty lists of rules on two cores; Python programs take longer."""


def many_texts(path: Path, count: int, texts: list[str]) -> None:
    """A warehouse with so many distinct texts of 200 to 300 characters: the beginning of one text and the end of another.

    Args:
        path: Of the warehouse.
        count: How many.
        texts: Real ones.
    """
    import pyarrow as pa

    from factory.task import load_card, register
    from factory.warehouse.file import Warehouse

    warehouse = Warehouse.open(path)
    register(warehouse, load_card(ROOT / "pipelines" / "agnews" / "task.yaml"))
    long = [text for text in texts if len(text) > 150]
    heads = sorted({text[:149].rpartition(" ")[0] for text in long})
    tails = sorted({text[-149:].partition(" ")[2] for text in long})
    heads = [head for head in heads if len(head) >= 100]
    tails = [tail for tail in tails if len(tail) >= 100]
    assert count <= len(heads) * len(tails)
    step = 500_000
    for start in range(0, count, step):
        with warehouse.lease() as db:
            db.register("heads", pa.table({"at": list(range(len(heads))), "head": heads}))
            db.register("tails", pa.table({"at": list(range(len(tails))), "tail": tails}))
            db.execute(
                f"""
                INSERT INTO texts
                SELECT n::INTEGER, from_hex(md5(n::VARCHAR)), head || ' ' || tail, NULL, 'corpus'
                FROM range({start}, {min(count, start + step)}) t(n)
                JOIN heads ON heads.at = n % {len(heads)}
                JOIN tails ON tails.at = (n // {len(heads)} + n % {len(heads)} * 7919) % {len(tails)} ORDER BY n
                """
            )
            db.unregister("heads")
            db.unregister("tails")


def _vote(path: str, block: int) -> None:
    from factory.programs.stage import vote
    from factory.warehouse.file import Warehouse

    vote(Warehouse.open(path), block=block)


def _memory_mb(pid: int) -> float:
    """Memory of a process and all below it in MB: the sum of PSS (a shared page counts in parts), where the kernel tells it."""
    import psutil

    total = 0.0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    for process in processes:
        try:
            found = process.memory_full_info()
            total += getattr(found, "pss", found.rss) / 2**20
        except psutil.Error:
            continue
    return total


@case("scale")
def scale(options: Options) -> list[Row]:
    try:
        sources, kind = list(recorded("agnews")), "recorded for agnews"
    except Skip:
        sources, kind = simple_programs(20), "plain"
    if options.extra.get("simple"):
        sources, kind = simple_programs(20), "plain"
    return at_scale(options, "scale", sources, "python", kind)


@case("scale_rules")
def scale_rules(options: Options) -> list[Row]:
    from factory.programs.rules import read_rules

    labels = labels_of("agnews")
    sources = [read_rules(list(rules), labels, None).source for rules in rule_lists("agnews")]
    return at_scale(options, "scale_rules", sources, "rules", f"{sum(map(len, rule_lists('agnews')))} rules")


def at_scale(options: Options, name: str, sources: list[str], form: str, kind: str) -> list[Row]:
    """Texts x 20 programs: seconds, memory of all processes, the second half's speed beside the first's, one kill in between."""
    count = int(options.extra.get("texts") or 0) or (20_000 if options.quick else 1_000_000)
    block = 20_000 if not options.quick else 5_000
    _STAMPS.clear()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.duckdb"
        many_texts(path, count, texts_of(replace(options, quick=False), "agnews"))
        from factory.warehouse.file import Warehouse

        warehouse = Warehouse.open(path)
        _insert_programs(warehouse, sources, form)
        peak = [0.0]
        stop = threading.Event()
        started = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_vote, args=(str(path), block))
        process.start()

        def watch() -> None:
            while not stop.is_set():
                if process.pid:
                    peak[0] = max(peak[0], _memory_mb(process.pid))
                stop.wait(2.0)

        watcher = threading.Thread(target=watch)
        watcher.start()
        kill_at = count // 4
        killed = False
        while process.is_alive():
            time.sleep(2.0 if killed else 0.5)
            if _done(warehouse) >= kill_at and not killed:
                for pid in _below(process.pid):
                    _end(pid)
                process.join()
                killed = True
                process = context.Process(target=_vote, args=(str(path), block))
                process.start()
        process.join()
        seconds = time.perf_counter() - started
        stop.set()
        watcher.join()
        found = warehouse.query("SELECT count(*), count(DISTINCT (program_no, text_no)) FROM votes")[0]
        blocks = warehouse.query("SELECT sum(n_texts), sum(n_votes), count(*) FROM vote_blocks")[0]
        assert found[0] == found[1] == blocks[1], "a vote is lost or doubled"
        assert blocks[0] == count * len(sources), "a text is not done"
        halves = _halves(warehouse, count)
        assert process.exitcode == 0
        size_mb = path.stat().st_size / 2**20
    cells = count * len(sources)
    sizes = {
        "texts": count,
        "programs": len(sources),
        "kind": kind,
        "votes": found[0],
        "peak_mb_all_processes": round(peak[0]),
        "killed_once": killed,
        "warehouse_mb": round(size_mb),
        "minutes_at_10M": round(seconds * 10_000_000 / count / 60, 1),
    }
    bound_s = MINUTES * 60.0 * count / 10_000_000
    sizes |= {"us_per_vote": round(seconds / cells * 1e6, 3)}
    return [
        row(
            f"{name}_seconds",
            round(seconds, 1),
            bound_s,
            peer_name=f"aim: {MINUTES} minutes for 10M",
            unit="s",
            smaller_is_better=True,
            **sizes,
        ),
        row(f"{name}_memory", round(peak[0]), 2000.0, peer_name="aim", unit="MB", smaller_is_better=True, texts=count),
        row(f"{name}_second_half", halves[1], halves[0], peer_name="first half", unit="texts/s", texts=count),
    ]


def _insert_programs(warehouse: Any, sources: list[str], form: str) -> None:
    from factory.warehouse.file import insert

    n = len(sources)
    with warehouse.lease() as db:
        insert(
            db,
            "programs",
            {
                "program_no": list(range(1, n + 1)),
                "program_key": [str(i) for i in range(n)],
                "name": [f"p{i}" for i in range(n)],
                "kind": [form] * n,
                "origin": ["hand"] * n,
                "source": sources,
                "state": ["accepted"] * n,
            },
        )


_STAMPS: list[tuple[float, int]] = []


def _done(warehouse: Any) -> int:
    """Texts that all programs have voted on, stamped with the time."""
    done = int(warehouse.scalar("SELECT coalesce(max(last_text_no) + 1, 0) FROM vote_blocks") or 0)
    if not _STAMPS or _STAMPS[-1][1] != done:
        _STAMPS.append((time.perf_counter(), done))
    return done


def _halves(warehouse: Any, count: int) -> tuple[float, float]:
    """Texts per second of the first and the second half, the restart left out."""
    speeds: list[float] = []
    for low, high in ((0, count // 2), (count // 2, count)):
        steps = [
            (after[0] - before[0], after[1] - before[1])
            for before, after in pairwise(_STAMPS)
            if low <= (before[1] + after[1]) / 2 < high and before[1] > 0
        ]
        ordinary = sorted(steps)[: max(1, int(len(steps) * 0.95))]
        seconds, texts = sum(s for s, _ in ordinary), sum(n for _, n in ordinary)
        speeds.append(round(texts / seconds, 1) if seconds else 0.0)
    return speeds[0], speeds[1]


def _below(pid: int | None) -> list[int]:
    import psutil

    if pid is None:
        return []
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return
