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
    heads = list(words.heads.items())
    codes = _codes(pool, [(head, listed, short) for head, listed in heads])
    crowded = [
        [short[at] for at in np.flatnonzero(mine == len(listed) + 1).tolist()]
        for (_, listed), mine in zip(heads, codes, strict=True)
    ]
    places = _codes(
        pool,
        [
            (head, listed, [(run, place) for run in some for place in range(MANY + 1)])
            for (head, listed), some in zip(heads, crowded, strict=True)
        ],
    )
    for (head, listed), mine, some, there in zip(heads, codes, crowded, places, strict=True):
        numbers = words.numbers(head)
        for at in np.flatnonzero(mine).tolist():
            run, code = short[at], int(mine[at])
            held = found[run]
            if code < 0:
                found[run] = None
            elif held is not None and code <= len(listed):
                held.append(numbers[code - 1])
        for run, part in zip(some, there.reshape(-1, MANY + 1).tolist(), strict=True):
            held = found[run]
            if held is None or part[MANY] != 0 or min(part) < 0:
                found[run] = None
            else:
                held += [numbers[code - 1] for code in part if code]
    for run, held in found.items():
        words.learn(run, held)


def _codes(pool: Pool, asked: Sequence[tuple[tuple[str, str], Sequence[str], Sequence[Any]]]) -> list[np.ndarray]:
    """For each `(head, words, items)` a number for each item, -1 where there is none; see `settling.finder`.

    Heads with the same items share what is sent of them.
    """
    found = [np.full(len(items), -1, dtype=np.int64) for _, _, items in asked]
    frames: dict[int, Callable[[int], bytes]] = {}
    jobs: list[tuple[int, int, Job]] = []
    for number, (head, words, items) in enumerate(asked):
        task = {
            "mode": "tokens", "source": "", "labels": [], "target": None, "static": True, "classes": len(words) + 2,
            "pattern": head[0], "flags": head[1], "words": list(words),
        }  # fmt: skip
        frame = frames.setdefault(id(items), _frames(items))
        for start in range(0, len(items), CHUNK):
            jobs.append((start, number, Job(task, min(CHUNK, len(items) - start), (start, frame))))
    jobs.sort(key=lambda job: job[:2])

    def take(at: int, raw: np.ndarray | None, said: dict[str, Any]) -> None:
        start, number, _ = jobs[at]
        if raw is not None:
            several = len(asked[number][1]) + 1
            found[number][start : start + len(raw)] = np.where((raw >= 0) & (raw <= several), raw, -1)

    pool.run_jobs([job for _, _, job in jobs], take)
    return found


def _frames(items: Sequence[Any]) -> Callable[[int], bytes]:
    def frame(start: int) -> bytes:
        return frame_of(items[start : start + CHUNK])

    return frame
