"""What one pass left open, settled in sealed children: matches counted by Python's own patterns, and new runs cut into tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from factory.programs.frames import CHUNK, Job, frame_of
from factory.programs.pool import Pool
from factory.programs.sandbox.settling import MANY
from factory.programs.scanning import LONGEST_RUN, Scanned, Scanner
from factory.programs.tokens import Words

_MOST = 32_000


def resolve(pool: Pool, scanner: Scanner, scanned: Scanned, chunk: tuple[int, Callable[[int], bytes]]) -> None:
    """Fill in the outcomes that the engine alone could not tell.

    Args:
        pool: The sandbox.
        scanner: The tests.
        scanned: What one pass over the chunk gave; its `values` and `odd` are completed.
        chunk: The chunk's number, and what gives its frame.
    """
    for words, runs, sizes in scanned.runs:
        _learn(pool, words, words.new(runs))
        words.count(runs, sizes, scanned.values, scanned.odd)
    _settle(pool, scanner, scanned, chunk)


def _settle(pool: Pool, scanner: Scanner, scanned: Scanned, chunk: tuple[int, Callable[[int], bytes]]) -> None:
    jobs: list[Job] = []
    places: list[tuple[int, np.ndarray]] = []
    for column, (rows, pairs, cuts) in sorted(scanned.open.items()):
        op, found, view = scanner.specs[column]
        task = {
            "mode": "settle", "source": "", "labels": [], "target": None, "static": True, "classes": _MOST,
            "op": op, "found": found, "view": view, "rows": rows.tolist(), "pairs": pairs.tobytes(), "cuts": cuts.tobytes(),
        }  # fmt: skip
        jobs.append(Job(task, len(rows), chunk))
        places.append((column, rows))

    def take(number: int, raw: np.ndarray | None, said: dict[str, Any]) -> None:
        column, rows = places[number]
        scanned.values[rows, column] = -1 if raw is None else np.where((raw >= 0) & (raw < _MOST), raw, -1)

    pool.run_jobs(jobs, take)


def _learn(pool: Pool, words: Words, runs: Sequence[str]) -> None:
    """Have new runs cut into tokens."""
    short = [run for run in runs if len(run) <= LONGEST_RUN]
    found: dict[str, list[int] | None] = {run: [] for run in short}
    found |= {run: None for run in runs if len(run) > LONGEST_RUN}
    for head, listed in words.heads.items():
        numbers, several = words.numbers(head), len(listed) + 1
        codes = _codes(pool, head, listed, short)
        crowded = []
        for run, code in zip(short, codes, strict=True):
            mine = found[run]
            if mine is None or code == 0:
                continue
            if code < 0:
                found[run] = None
            elif code == several:
                crowded.append(run)
            else:
                mine.append(numbers[code - 1])
        places = _codes(pool, head, listed, [(run, place) for run in crowded for place in range(MANY + 1)])
        for at, run in enumerate(crowded):
            part, mine = places[at * (MANY + 1) : (at + 1) * (MANY + 1)], found[run]
            if mine is None or part[MANY] != 0 or min(part) < 0:
                found[run] = None
            else:
                mine += [numbers[code - 1] for code in part if code]
    for run, mine in found.items():
        words.learn(run, mine)


def _codes(pool: Pool, head: tuple[str, str], words: Sequence[str], items: Sequence[Any]) -> list[int]:
    """A number for each item, -1 where there is none; see `settling.finder`."""
    codes = np.full(len(items), -1, dtype=np.int64)
    task = {
        "mode": "tokens", "source": "", "labels": [], "target": None, "static": True, "classes": len(words) + 2,
        "pattern": head[0], "flags": head[1], "words": list(words),
    }  # fmt: skip

    def frame(start: int) -> bytes:
        return frame_of(items[start : start + CHUNK])

    starts = range(0, len(items), CHUNK)
    jobs = [Job(task, min(CHUNK, len(items) - start), (start, frame)) for start in starts]

    def take(number: int, raw: np.ndarray | None, said: dict[str, Any]) -> None:
        if raw is not None:
            at = number * CHUNK
            codes[at : at + len(raw)] = np.where((raw >= 0) & (raw < len(words) + 2), raw, -1)

    pool.run_jobs(jobs, take)
    return list(codes.tolist())
