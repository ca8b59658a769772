"""Programs that are keyword, token and regex tests, run as such: one pass over each text for all of them.

A sealed child learns which tests a program makes (`sandbox/symbolic.py`). The host scans every text once for the patterns of all
recognised programs (`scanning.py`). What the engine cannot tell exactly (how many matches `findall` gives, look-around) is
settled in a sealed child by Python's own patterns, only on the texts where the engine found something (`settling.py`). Then a
sealed child turns each *distinct* outcome into a vote by running the program's own code on it; most texts share few outcomes.
Characters beyond ASCII are carried by stand-ins where that is exact; other texts, and outcomes that are not modelled, run as
plain Python in the sandbox. Before a program is taken, its votes on a sample must equal those of the plain run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from factory.programs.frames import CHUNK, Frames, Job, frame_of
from factory.programs.pool import STATUS, Pool, ProgramRun, take_codes, vote_dtype
from factory.programs.resolving import resolve
from factory.programs.scanning import Scanned, Scanner, engine_fails, unique_rows
from factory.programs.specs import Spec, specs_of

MAX_FALLBACK = 0.3
"""Share of sample texts that may have to run as Python before a program is run as Python altogether."""

MAX_MEMO = 200_000
_FALLBACK = -100


@dataclass
class Recognised:
    """A program as tests.

    Attributes:
        source: The program.
        target: Its label, or None.
        specs: Its observations.
        memo: Vote code by outcome; `_FALLBACK` where the program must run.
    """

    source: str
    target: str | None
    specs: list[Spec]
    memo: dict[bytes, int] = field(default_factory=dict)


class Applier:
    """Runs programs over texts, those that are plain tests in one pass and the others as Python.

    Example:
        >>> applier = Applier(Pool(workers=1), ["def label(text):\\n    return 0 if 'win' in text.lower() else None"], ["spam"])
        >>> applier.run(["WIN!", "no"]).votes.tolist()
        [[0], [-1]]
    """

    def __init__(
        self,
        pool: Pool,
        sources: Sequence[str],
        labels: Sequence[str],
        *,
        targets: Sequence[str | None] | None = None,
        sample: Sequence[str] = (),
        recognise: bool = True,
    ) -> None:
        """Learn the programs.

        Args:
            pool: The sandbox.
            sources: The programs.
            labels: Label names; votes are their indices.
            targets: The one label of each program of a `multi` task.
            sample: Texts on which a recognised program's votes must equal its plain votes.
            recognise: Whether to look for programs that are plain tests at all.
        """
        self.pool = pool
        self.sources = list(sources)
        self.labels = list(labels)
        self.targets = list(targets) if targets is not None else [None] * len(self.sources)
        self.why: dict[int, str] = {}
        self.recognised: dict[int, Recognised] = {}
        self._scanner: Scanner | None = None
        if not recognise or not self.sources:
            return
        if why := engine_fails():
            self.why = dict.fromkeys(range(len(self.sources)), why)
            return
        self._learn()
        if sample and self.recognised:
            self._compare(list(sample))

    # ----------------------------------------------------------------------------------------------------------------------
    def _learn(self) -> None:
        """Ask sealed children what each program tests."""
        empty = frame_of([])
        chunk = (0, lambda _: empty)
        jobs = [
            Job({"source": s, "labels": self.labels, "target": t, "static": True, "mode": "learn"}, 0, chunk)
            for s, t in zip(self.sources, self.targets, strict=True)
        ]
        found: dict[int, list[Spec]] = {}

        def take(index: int, raw: np.ndarray | None, said: dict[str, Any]) -> None:
            specs = specs_of(said.get("learned"))
            if specs is None:
                self.why[index] = "it looks at its text in ways that are no plain tests"
            elif not specs:
                self.why[index] = "it tests nothing"
            else:
                found[index] = specs

        self.pool.run_jobs(jobs, take)
        for index, specs in sorted(found.items()):
            self.recognised[index] = Recognised(self.sources[index], self.targets[index], specs)
        self._scanner = self._scanner_of(sorted(self.recognised))

    def _scanner_of(self, indices: list[int]) -> Scanner | None:
        """A scanner of these programs; those whose patterns the engine does not take are given back to Python."""
        import hyperscan

        try:
            return Scanner({index: self.recognised[index].specs for index in indices}) if indices else None
        except hyperscan.error:
            taken = _takeable(self.recognised, indices)
        for index in indices:
            if index not in taken:
                self.why[index] = "a pattern is too large for the one-pass engine"
                del self.recognised[index]
        return Scanner({index: self.recognised[index].specs for index in taken}) if taken else None

    def _compare(self, sample: list[str]) -> None:
        """Take programs back that vote otherwise on the sample, or must run as Python too often."""
        indices = sorted(self.recognised)
        plain = self.pool.run(
            [self.sources[i] for i in indices], sample, self.labels, target=[self.targets[i] for i in indices]
        )
        mine, fallbacks = self._outcomes(sample)
        ascii_rows = max(1, sum(text.isascii() for text in sample))
        for at, index in enumerate(indices):
            rows = np.ones(len(sample), dtype=bool)
            rows[fallbacks[index]] = False
            wanted = np.where(plain.codes[:, at] <= 1, plain.votes[:, at], -2)
            shares = sum(1 for row in fallbacks[index] if sample[row].isascii()) / ascii_rows
            if not np.array_equal(mine[index][rows], wanted[rows]):
                self.why[index] = "its votes as tests differ from its votes as Python"
            elif shares > MAX_FALLBACK:
                self.why[index] = f"{shares:.0%} of texts need it as Python"
            else:
                continue
            del self.recognised[index]
        if len(self.recognised) <= 0.7 * len(indices):
            self._scanner = self._scanner_of(sorted(self.recognised))

    # ----------------------------------------------------------------------------------------------------------------------
    def run(self, texts: Sequence[str]) -> ProgramRun:
        """Votes and statuses of all programs on all texts, as `Pool.run` gives them."""
        n, m = len(texts), len(self.sources)
        plain = [index for index in range(m) if index not in self.recognised]
        if not self.recognised:
            return self.pool.run(self.sources, texts, self.labels, target=self.targets)
        votes = np.full((n, m), -1, dtype=vote_dtype(len(self.labels)), order="F")
        codes = np.zeros((n, m), dtype=np.uint8, order="F")
        refusals: dict[int, tuple[str, str]] = {}
        notes: list[list[dict[str, Any]]] = [[] for _ in range(m)]
        frames = Frames(texts)

        def as_python() -> None:
            targets = [self.targets[i] for i in plain]
            run = self.pool.run([self.sources[i] for i in plain], texts, self.labels, target=targets, frames=frames)
            for at, index in enumerate(plain):
                votes[:, index], codes[:, index] = run.votes[:, at], run.codes[:, at]
                notes[index] = run.notes[at]
                if at in run.refusals:
                    refusals[index] = run.refusals[at]

        # the workers do one thing after the other; meanwhile this thread scans what comes next
        with ThreadPoolExecutor(1) as workers:
            first = [workers.submit(as_python)] if plain else []
            starts = range(0, n, CHUNK)
            later = []
            for start in starts:
                scanned = self._scanned(texts[start : start + CHUNK])
                later.append(workers.submit(self._votes, scanned, (start, frames.of)))
            for done in first:
                done.result()
            again: dict[int, list[np.ndarray]] = {index: [] for index in self.recognised}
            for start, finished in zip(starts, later, strict=True):
                found, fallbacks = finished.result()
                for index, column in found.items():
                    part = slice(start, start + len(column))
                    votes[part, index] = np.maximum(column, -1)
                    codes[part, index] = column < 0
                    again[index].append(fallbacks[index] + start)
        layers = self.pool.layers
        self._as_python_again(
            texts, {i: np.concatenate(rows) for i, rows in again.items() if rows}, votes, codes, notes
        )
        return ProgramRun(votes, codes, layers, refusals, notes)

    def _as_python_again(
        self,
        texts: Sequence[str],
        rows: dict[int, np.ndarray],
        votes: np.ndarray,
        codes: np.ndarray,
        notes: list[list[dict[str, Any]]],
    ) -> None:
        """Run recognised programs as Python on the texts where their tests do not tell."""
        jobs: list[tuple[int, Job]] = []
        places: list[tuple[int, np.ndarray]] = []
        cache: dict[bytes, int] = {}
        for index, mine in sorted(rows.items()):
            for start in range(0, len(mine), CHUNK):
                part = mine[start : start + CHUNK]
                key = part.tobytes()
                if key not in cache:
                    cache[key] = len(cache)
                task = {
                    "source": self.sources[index],
                    "labels": self.labels,
                    "target": self.targets[index],
                    "static": True,
                }
                jobs.append((cache[key], Job(task, len(part), (cache[key], _frames_of(texts, part)))))
                places.append((index, part))
        order = sorted(range(len(jobs)), key=lambda k: jobs[k][0])

        def take(k: int, raw: np.ndarray | None, said: dict[str, Any]) -> None:
            index, part = places[order[k]]
            some_votes, some_codes = np.full(len(part), -1, dtype=votes.dtype), np.zeros(len(part), dtype=np.uint8)
            classes = 2 if self.targets[index] is not None else len(self.labels)
            take_codes(raw, some_votes, some_codes, classes)
            votes[part, index], codes[part, index] = some_votes, some_codes
            for item in said.get("rows") or []:
                if isinstance(item, dict) and isinstance(item.get("row"), int) and 0 <= item["row"] < len(part):
                    words = "".join(c for c in str(item.get("words", "")) if c.isprintable())[:120]
                    status = str(item.get("status", ""))[:20]
                    notes[index].append({"row": int(part[item["row"]]), "status": status, "words": words})
            if said.get("retired"):
                notes[index].append({"retired": str(said["retired"])[:40], "row": int(part[0])})

        self.pool.run_jobs([jobs[k][1] for k in order], take)

    # ----------------------------------------------------------------------------------------------------------------------
    def _outcomes(self, texts: Sequence[str]) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        return self._votes(self._scanned(texts), (0, Frames(texts).of))

    def _scanned(self, texts: Sequence[str]) -> Scanned:
        assert self._scanner is not None
        return self._scanner.scan(texts)

    def _votes(
        self, scanned: Scanned, chunk: tuple[int, Callable[[int], bytes]]
    ) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """Codes `[n]` of each recognised program, and the rows that must run as Python."""
        assert self._scanner is not None
        resolve(self.pool, self._scanner, scanned, chunk)
        outcomes, odd = self._scanner.outcomes(scanned), scanned.odd
        indices = sorted(self.recognised)
        distinct: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        wanted: list[tuple[int, list[bytes], list[tuple[int, ...]]]] = []
        for index in indices:
            program = self.recognised[index]
            if len(program.memo) > MAX_MEMO:
                program.memo.clear()
            rows, inverse = unique_rows(outcomes[index])
            distinct[index] = rows, inverse
            missing = [row for row in rows if row.tobytes() not in program.memo]
            if missing:
                wanted.append((index, [row.tobytes() for row in missing], [tuple(row.tolist()) for row in missing]))
        self._run_outcomes(wanted)
        votes, fallbacks = {}, {}
        for index in indices:
            rows, inverse = distinct[index]
            memo = self.recognised[index].memo
            column = np.array([memo[row.tobytes()] for row in rows], dtype=np.int32)[inverse]
            unknown = (column == _FALLBACK) | odd | (outcomes[index] < 0).any(axis=1)
            votes[index] = np.where(unknown, -1, column)
            fallbacks[index] = np.flatnonzero(unknown)
        return votes, fallbacks

    def _run_outcomes(self, wanted: Sequence[tuple[int, list[bytes], list[tuple[int, ...]]]]) -> None:
        """Have sealed children turn outcomes into votes by the programs' own code."""
        jobs: list[Job] = []
        places: list[tuple[Recognised, list[bytes], int]] = []
        for index, keys, rows in wanted:
            program = self.recognised[index]
            task = {
                "source": program.source,
                "labels": self.labels,
                "target": program.target,
                "static": True,
                "mode": "symbolic",
                "specs": [list(spec) for spec in program.specs],
            }
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                jobs.append(Job(task, len(part), (len(jobs), _frame_function(part))))
                places.append(
                    (program, keys[start : start + CHUNK], 2 if program.target is not None else len(self.labels))
                )

        def take(k: int, raw: np.ndarray | None, said: dict[str, Any]) -> None:
            program, keys, classes = places[k]
            for at, key in enumerate(keys):
                code = _FALLBACK if raw is None else int(raw[at])
                program.memo[key] = code if -1 <= code < classes else _FALLBACK

        self.pool.run_jobs(jobs, take)


def _takeable(programs: dict[int, Recognised], indices: list[int]) -> list[int]:
    """The programs whose patterns the engine compiles, found by halving, since it names no culprit."""
    import hyperscan

    try:
        Scanner({index: programs[index].specs for index in indices})
    except hyperscan.error:
        if len(indices) <= 1:
            return []
        half = len(indices) // 2
        return _takeable(programs, indices[:half]) + _takeable(programs, indices[half:])
    return indices


def _frame_function(items: Sequence[Any]) -> Any:
    def frame(_: int) -> bytes:
        return frame_of(items)

    return frame


def _frames_of(texts: Sequence[str], rows: np.ndarray) -> Any:
    def frame(_: int) -> bytes:
        return frame_of([texts[int(row)] for row in rows])

    return frame


__all__ = ["STATUS", "Applier", "Recognised"]
