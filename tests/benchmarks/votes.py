"""Votes per second: programs of both forms beside Snorkel's appliers on the same functions, and at ten million texts.

    python tests/benchmarks/votes.py                        # all recorded programs on all texts of AG News and IMDb
    python tests/benchmarks/votes.py --quick                # 2,000 texts each
    python tests/benchmarks/votes.py --only scale_rules --texts 10000000

The programs are those recorded for the pipelines (`pipelines/{agnews,imdb}/answers.jsonl`), all that were accepted, chosen by
nothing but the authoring stage; and lists of rules made of the cues in them, beside the functions that a person would write for
them (a compiled pattern for each rule). Votes of every run are compared cell by cell. `processor_us_per_vote` is the processor
time of all processes, round by round: it says something on a busy machine too.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import votes_scale  # noqa: F401  (its cases)
from _harness import Options, Row, case, compare, main, row
from votes_programs import labels_of, plain_function, recorded, rule_lists, rules_function, texts_of


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


def beside_snorkel(
    name: str,
    run: Callable[[], np.ndarray],
    functions: list[Callable[[Any], int]],
    texts: list[str],
    *,
    rounds: int,
    only: str = "",
    differing: float = 0.0,
    **sizes: Any,
) -> list[Row]:
    """Votes per second of ours beside Snorkel's appliers on the same functions, in the same rounds.

    Args:
        name: Of the case.
        run: Ours: the votes `[n, m]`.
        functions: The peers'.
        texts: The texts.
        rounds: How often.
        only: The one applier that is a peer; all three by default.
        differing: Share of votes in which a peer's run may differ from our first.
        sizes: What else the row says.
    """
    cells = len(texts) * len(functions)
    first: list[np.ndarray] = []
    processor: dict[str, list[float]] = {}
    apart: dict[str, float] = {}

    def per_second(name: str, function: Callable[[], Any]) -> Callable[[], float]:
        def measured() -> float:
            began, spent = time.perf_counter(), _processor_s()
            votes = np.asarray(function())
            seconds = time.perf_counter() - began
            processor.setdefault(name, []).append(round((_processor_s() - spent) / cells * 1e6, 2))
            first[:] = first or [votes]
            apart[name] = float((first[0] != votes).mean())
            assert apart[name] <= differing, f"{name}: {apart[name]:.2%} of the votes differ"
            return cells / seconds

        return measured

    found = compare(
        per_second("ours", run),
        {
            peer: per_second(peer, function)
            for peer, function in appliers(functions, texts).items()
            if only in (peer, "")
        },
        rounds=rounds,
        warm_up=False,
    )
    return found.rows(
        name, unit="votes/s", texts=len(texts), programs=len(functions), share_of_votes_that_differ=apart,
        processor_us_per_vote=processor, peer_version="snorkel 0.10.0", **sizes,
    )  # fmt: skip


def python_programs(options: Options, name: str) -> list[Row]:
    from factory.programs.sandbox.host.pool import Pool

    sources, labels, texts = list(recorded(name)), labels_of(name), texts_of(options, name)
    functions = [plain_function(source, labels) for source in sources]
    rounds = 1 if options.quick or name == "imdb" else 2
    with Pool(2) as pool:
        assert pool.layers, "the workers have started before the clock does"
        return beside_snorkel(
            f"python_{name}", lambda: pool.run(sources, texts, labels).votes, functions, texts, rounds=rounds, workers=2
        )


def lists_of_rules(options: Options, name: str) -> list[Row]:
    """The voter is made anew in every run. Functions and lists differ on a few texts: of `\\b`, folding and white space."""
    from factory.programs.rules import RuleVoter, read_rules

    lists, labels, texts = rule_lists(name), labels_of(name), texts_of(options, name)
    if not options.quick:  # the peer takes milliseconds for a text
        texts = texts[:: len(texts) // {"agnews": 20_000, "imdb": 4_000}[name]]
    read = [read_rules(list(rules), labels, None) for rules in lists]
    return beside_snorkel(
        f"rules_{name}",
        lambda: RuleVoter(read, [labels] * len(read)).votes(texts),
        [rules_function(rules, labels) for rules in lists],
        texts,
        rounds=1 if options.quick else 2,
        only="PandasLFApplier",
        differing=0.002,
        rules=sum(map(len, lists)),
        patterns=sum(rule["kind"] == "regex" for rules in lists for rule in rules),
        workers=1,
    )


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
    return python_programs(options, "agnews")


@case("python_imdb")
def python_imdb(options: Options) -> list[Row]:
    return python_programs(options, "imdb")


@case("rules_agnews")
def rules_agnews(options: Options) -> list[Row]:
    return lists_of_rules(options, "agnews")


@case("rules_imdb")
def rules_imdb(options: Options) -> list[Row]:
    return lists_of_rules(options, "imdb")


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
