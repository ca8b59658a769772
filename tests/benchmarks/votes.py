"""Votes per second: programs in the sandbox beside Snorkel's appliers on the same functions, and at ten million texts.

    python tests/benchmarks/votes.py                        # all recorded programs on all texts of AG News and IMDb
    python tests/benchmarks/votes.py --quick                # 2,000 texts each
    python tests/benchmarks/votes.py --only scale --texts 1000000

The programs are those recorded for the pipelines (`pipelines/{agnews,imdb}/answers.jsonl`), all that were accepted, chosen by
nothing but the authoring stage. Votes of every run are compared cell by cell. `processor_us_per_vote` is the processor time of
all processes, round by round: it says something on a busy machine too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _harness import ROOT, Options, Row, Skip, case, compare, main, row

SETS = {"agnews": ("agnews", ("train", "test")), "imdb": ("imdb", ("train", "test"))}


# What is run ----------------------------------------------------------------------------------------------------------------
@cache
def recorded(name: str) -> tuple[str, ...]:
    """The recorded programs of a pipeline that pass the static check, in the order of the plan."""
    from factory import prompts
    from factory.programs.sandbox.sealed.policy import Refused, check

    path = ROOT / "pipelines" / name / "answers.jsonl"
    found: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        answer = json.loads(line)
        if answer.get("prompt") != "author_program":
            continue
        try:
            source = prompts.load("author_program").parse(answer["answer"])
            check(source)
        except (prompts.ParseFailure, Refused):
            continue
        if source not in found:
            found.append(source)
    if not found:
        raise Skip(f"no programs are recorded in {path}")
    return tuple(found[:20])


def texts_of(options: Options, name: str) -> list[str]:
    """All texts of a set, or a few in quick runs."""
    import pyarrow.parquet as pq

    folder, splits = SETS[name]
    texts: list[str] = []
    for split in splits:
        table = pq.read_table(options.data / folder / f"{split}.parquet", columns=["text"])
        texts += table.column("text").to_pylist()
    return texts[:2_000] if options.quick else texts


def labels_of(name: str) -> list[str]:
    """Label names of a pipeline's card."""
    from factory.task import load_card

    return load_card(ROOT / "pipelines" / name / "task.yaml").label_names


def plain_function(source: str, labels: list[str]) -> Callable[[Any], int]:
    """The program as an ordinary function of a data point, as Snorkel calls it."""
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(compile(source, "<program>", "exec"), namespace)
    label, index = namespace["label"], {name: number for number, name in enumerate(labels)}

    def call(x: Any) -> int:
        if not isinstance(x.text, str):  # Dask calls once with a missing value to see the type
            return -1
        vote = label(x.text)
        return -1 if vote is None else index[vote] if isinstance(vote, str) else int(vote)

    return call


def appliers(functions: list[Callable[[Any], int]], texts: list[str]) -> dict[str, Callable[[], Any]]:
    """Snorkel's appliers over these functions."""
    import dask.dataframe as dd
    import pandas as pd
    from snorkel.labeling import LabelingFunction, LFApplier, PandasLFApplier
    from snorkel.labeling.apply.dask import DaskLFApplier

    lfs = [LabelingFunction(f"lf{j}", f) for j, f in enumerate(functions)]
    frame = pd.DataFrame({"text": texts})
    points = [SimpleNamespace(text=text) for text in texts]
    parts = dd.from_pandas(frame, npartitions=2)
    return {
        "PandasLFApplier": lambda: PandasLFApplier(lfs).apply(frame, progress_bar=False),
        "LFApplier": lambda: LFApplier(lfs).apply(points, progress_bar=False),
        "DaskLFApplier": lambda: DaskLFApplier(lfs).apply(parts, scheduler="processes"),
    }


# Beside Snorkel -------------------------------------------------------------------------------------------------------------
def beside_snorkel(options: Options, name: str) -> list[Row]:
    """Votes per second of the sandbox, beside the three appliers on the same functions, in the same rounds.

    Every run of ours and of the peers must give equal votes.
    """
    from factory.programs.sandbox.host.pool import Pool

    sources, labels, texts = list(recorded(name)), labels_of(name), texts_of(options, name)
    functions = [plain_function(source, labels) for source in sources]
    cells = len(texts) * len(sources)
    votes: list[np.ndarray] = []
    processor: dict[str, list[float]] = {}

    def per_second(name: str, function: Callable[[], Any]) -> Callable[[], float]:
        def measured() -> float:
            began, spent = time.perf_counter(), _processor_s()
            found = function()
            seconds = time.perf_counter() - began
            processor.setdefault(name, []).append(round((_processor_s() - spent) / cells * 1e6, 2))
            votes.append(np.asarray(getattr(found, "votes", found)))
            differing = int((votes[0] != votes.pop()).sum()) if len(votes) > 1 else 0
            if differing:
                raise AssertionError(f"{differing} votes differ")
            return cells / seconds

        return measured

    with Pool(2) as pool:
        assert pool.layers, "the workers have started before the clock does"
        found = compare(
            per_second("python", lambda: pool.run(sources, texts, labels)),
            {peer: per_second(peer, function) for peer, function in appliers(functions, texts).items()},
            rounds=1 if options.quick or name == "imdb" else 2,
            warm_up=False,
        )
    return found.rows(
        f"python_{name}", unit="votes/s", texts=len(texts), programs=len(sources), equal_votes=True,
        processor_us_per_vote=processor, workers=2, peer_version="snorkel 0.10.0",
    )  # fmt: skip


def _processor_s() -> float:
    """Seconds of processor time of this process and all below it."""
    import psutil

    mine = psutil.Process()
    times = [mine.cpu_times()]
    for child in mine.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times.append(child.cpu_times())
    return float(sum(one.user + one.system + one.children_user + one.children_system for one in times))


@case("python_agnews")
def python_agnews(options: Options) -> list[Row]:
    return beside_snorkel(options, "agnews")


@case("python_imdb")
def python_imdb(options: Options) -> list[Row]:
    return beside_snorkel(options, "imdb")


def overhead(options: Options, name: str) -> Row:
    """What the sandbox adds to a vote: one worker beside the same functions in this process, on one core each."""
    from factory.programs.sandbox.host.pool import Pool

    sources, labels, texts = list(recorded(name)), labels_of(name), texts_of(options, name)[:10_000]
    functions = [plain_function(source, labels) for source in sources]
    points = [SimpleNamespace(text=text) for text in texts]
    cells = len(texts) * len(sources)
    with Pool(1) as pool:
        pool.run(sources, texts[:100], labels)

        def ours() -> float:
            began = time.process_time(), time.perf_counter()
            pool.run(sources, texts, labels)
            return (time.perf_counter() - began[1]) / cells * 1e6

        def theirs() -> float:
            began = time.perf_counter()
            for function in functions:
                for point in points:
                    function(point)
            return (time.perf_counter() - began) / cells * 1e6

        found = compare(ours, {"in process": theirs}, rounds=1 if options.quick else 5)
    added = float(np.median(np.array(found.ours) - np.array(found.peers["in process"])))
    rows = found.rows(
        f"python_overhead_{name}",
        unit="us/vote",
        smaller_is_better=True,
        texts=len(texts),
        programs=len(sources),
        added_us_per_vote=round(added, 3),
    )
    return rows[0]


@case("python_overhead_agnews")
def overhead_agnews(options: Options) -> Row:
    return overhead(options, "agnews")


# Many texts -----------------------------------------------------------------------------------------------------------------
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


SIMPLE = """import re
WORDS = {words!r}
RX = re.compile(r"\\b(?:{pattern})\\b")


def label(text):
    t = text.lower()
    hits = len(RX.findall(t))
    if hits >= 2 or any(w in t for w in WORDS):
        return {label!r}
    return None
"""


def simple_programs(count: int) -> list[str]:
    """Programs of the plainest kind, where none are recorded."""
    cues = {
        "Business": ["stocks", "shares", "market", "oil", "prices", "profit", "quarter", "bank", "economy"],
        "Sports": ["game", "season", "team", "coach", "players", "win", "cup", "league", "goal"],
        "World": ["iraq", "president", "minister", "government", "police", "killed", "troops", "election", "nuclear"],
        "Sci/Tech": ["software", "internet", "microsoft", "google", "computer", "security", "users", "phone", "nasa"],
    }
    labels = labels_of("agnews")
    found = []
    for number in range(count):
        label = labels[number % len(labels)]
        words = cues.get(label, list(cues.values())[number % 4])
        shift = number // 4
        picked = [words[(shift + i) % len(words)] for i in range(4)]
        found.append(SIMPLE.format(words=[f"{picked[0]} {picked[1]}"], pattern="|".join(picked), label=label))
    return found


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
    """Texts x 20 programs: seconds, memory of all processes, the second half's speed beside the first's, one kill in between."""
    count = int(options.extra.get("texts") or 0) or (20_000 if options.quick else 1_000_000)
    block = 20_000 if not options.quick else 5_000
    try:
        sources = list(recorded("agnews"))
        kind = "recorded for agnews"
    except Skip:
        sources, kind = simple_programs(20), "plain"
    if options.extra.get("simple"):
        sources, kind = simple_programs(20), "plain"
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "scale.duckdb"
        many_texts(path, count, texts_of(replace(options, quick=False), "agnews"))
        from factory.warehouse.file import Warehouse

        warehouse = Warehouse.open(path)
        _insert_programs(warehouse, sources)
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
    return [
        row("scale_seconds", round(seconds, 1), 1800.0 * count / 10_000_000, peer_name="bound: 30 minutes for 10M", unit="s",
            smaller_is_better=True, us_per_vote=round(seconds / cells * 1e6, 3), **sizes),
        row("scale_memory", round(peak[0]), 2000.0, peer_name="bound", unit="MB", smaller_is_better=True, texts=count),
        row("scale_second_half", halves[1], halves[0], peer_name="first half", unit="texts/s", texts=count),
    ]  # fmt: skip


def _insert_programs(warehouse: Any, sources: list[str]) -> None:
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
                "kind": ["python"] * n,
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


@case("labels_151")
def many_labels(options: Options) -> Row:
    """151 labels (clinc150): one program that knows the words of every label's name."""
    import pyarrow.parquet as pq

    from factory.programs.sandbox.host.pool import Pool

    table = pq.read_table(options.data / "clinc150" / "train.parquet", columns=["text", "label"])
    texts = table.column("text").to_pylist()[: 1_000 if options.quick else None]
    labels = sorted(set(table.column("label").to_pylist()))
    cues = {label: [word for word in label.split("_") if len(word) > 2] for label in labels}
    source = (
        f"CUES = {cues!r}\n\n\ndef label(text):\n    words = set(text.lower().split())\n    best, most = None, 0\n"
        "    for name, cues in CUES.items():\n        n = sum(1 for cue in cues if cue in words)\n"
        "        if n > most:\n            best, most = name, n\n    return best\n"
    )
    with Pool(2) as pool:
        assert pool.layers, "the workers have started before the clock does"
        began = time.perf_counter()
        votes = pool.run([source], texts, labels).votes
        seconds = time.perf_counter() - began
    assert votes.dtype == np.int16
    gold = np.array([labels.index(name) for name in table.column("label").to_pylist()[: len(texts)]])
    voted = votes[:, 0] >= 0
    accuracy = float((votes[voted, 0] == gold[voted]).mean())
    return row("labels_151", len(texts) / seconds, unit="votes/s", labels=len(labels), texts=len(texts),
               largest_vote=int(votes.max()), accuracy_of_votes=round(accuracy, 3))  # fmt: skip


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--texts", type=int, help="scale: how many texts (10,000,000 takes half an hour)")
    parser.add_argument("--simple", action="store_true", help="scale: plain programs instead of the recorded ones")


if __name__ == "__main__":
    main(__doc__, _arguments)
