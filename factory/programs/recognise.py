"""Programs that are keyword and regex tests, run as such: one pass of one engine over each text for all of them.

A sealed child learns which tests a program makes (`sandbox/symbolic.py`). The host scans every text once for the patterns of all
recognised programs (Hyperscan: linear time, nothing backtracks), counts what each program's tests come to, and has a sealed child
turn each *distinct* outcome into a vote by running the program's own code on it; most texts share few outcomes. Exact on ASCII
texts; other texts, and outcomes that are not modelled, run as plain Python in the sandbox. Before a program is taken, its votes on a
sample must equal those of the plain run.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from factory.programs.pool import CHUNK, STATUS, Job, Pool, ProgramRun, frame_of, take_codes, vote_dtype

MAX_FALLBACK = 0.3
"""Share of sample texts that may have to run as Python before a program is run as Python altogether."""

MAX_MEMO = 200_000
_PLAIN = re.compile(r"(?:\\x[0-9a-f]{2}|\\[AbBz]|[\[\]|()?:,-]|\{[0-9]{1,4},(?:[0-9]{1,4})?\})*\Z")
_FALLBACK = -100


@dataclass
class Recognised:
    """A program as tests.

    Attributes:
        source: The program.
        target: Its label, or None.
        specs: Its observations: operation (`any`, `distinct`, `count`), patterns, and whether a count is exact.
        memo: Vote code by outcome; `_FALLBACK` where the program must run.
    """

    source: str
    target: str | None
    specs: list[tuple[str, tuple[str, ...], bool]]
    memo: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Id:
    """What a hit of one scanned pattern adds to: a column of the outcomes; `once` where a text counts once."""

    pattern: str
    column: int
    once: bool


def available() -> bool:
    """Whether the one-pass engine can be imported here."""
    try:
        import hyperscan  # noqa: F401
    except ImportError:
        return False
    return True


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
        self._scanner: _Scanner | None = None
        if recognise and self.sources and available():
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
        found: dict[int, list[tuple[str, tuple[str, ...], bool]]] = {}

        def take(index: int, raw: np.ndarray | None, said: dict[str, Any]) -> None:
            specs = _specs_of(said.get("learned"))
            if specs is None:
                self.why[index] = "it looks at its text in ways that are no plain tests"
            elif not specs:
                self.why[index] = "it tests nothing"
            else:
                found[index] = specs

        self.pool.run_jobs(jobs, take)
        good = _compilable({p for specs in found.values() for _, patterns, _ in specs for p in patterns})
        for index, specs in sorted(found.items()):
            if all(pattern in good for _, patterns, _ in specs for pattern in patterns):
                self.recognised[index] = Recognised(self.sources[index], self.targets[index], specs)
            else:
                self.why[index] = "a pattern is too large for the one-pass engine"
        self._scanner = _Scanner(list(self.recognised.values())) if self.recognised else None

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
        self._scanner = _Scanner(list(self.recognised.values())) if self.recognised else None

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
        failed: list[BaseException] = []

        def as_python() -> None:
            try:
                run = self.pool.run(
                    [self.sources[i] for i in plain], texts, self.labels, target=[self.targets[i] for i in plain]
                )
                for at, index in enumerate(plain):
                    votes[:, index], codes[:, index] = run.votes[:, at], run.codes[:, at]
                    notes[index] = run.notes[at]
                    if at in run.refusals:
                        refusals[index] = run.refusals[at]
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=as_python, daemon=True) if plain else None
        if thread is not None:
            thread.start()
        hits = [self._scanned(texts[start : start + CHUNK]) for start in range(0, n, CHUNK)]
        if thread is not None:
            thread.join()
        if failed:
            raise failed[0]
        layers = self.pool.layers
        again: dict[int, list[np.ndarray]] = {index: [] for index in self.recognised}
        for at, start in enumerate(range(0, n, CHUNK)):
            found, fallbacks = self._votes(hits[at])
            for index, column in found.items():
                part = slice(start, start + len(column))
                votes[part, index] = np.maximum(column, -1)
                codes[part, index] = column < 0
                again[index].append(fallbacks[index] + start)
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
        jobs, places, cache = [], [], {}
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
        return self._votes(self._scanned(texts))

    def _scanned(self, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        assert self._scanner is not None
        return self._scanner.scan(texts)

    def _votes(
        self, scanned: tuple[list[np.ndarray], np.ndarray]
    ) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """Codes `[n]` of each recognised program, and the rows that must run as Python."""
        outcomes, odd = scanned
        indices = sorted(self.recognised)
        distinct: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        wanted: list[tuple[int, list[bytes], list[tuple[int, ...]]]] = []
        for at, index in enumerate(indices):
            program = self.recognised[index]
            if len(program.memo) > MAX_MEMO:
                program.memo.clear()
            rows, inverse = _unique_rows(outcomes[at])
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
            unknown = (column == _FALLBACK) | odd
            votes[index] = np.where(unknown, -1, column)
            fallbacks[index] = np.flatnonzero(unknown)
        return votes, fallbacks

    def _run_outcomes(self, wanted: Sequence[tuple[int, list[bytes], list[tuple[int, ...]]]]) -> None:
        """Have sealed children turn outcomes into votes by the programs' own code."""
        jobs, places = [], []
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


# ----------------------------------------------------------------------------------------------------------------------------
class _Scanner:
    """One database of all patterns of some programs."""

    def __init__(self, programs: list[Recognised]) -> None:
        import hyperscan

        self.widths = [len(program.specs) for program in programs]
        self.starts = np.concatenate([[0], np.cumsum(self.widths)])
        ids: list[_Id] = []
        for program, start in zip(programs, self.starts, strict=False):
            for at, (op, patterns, exact) in enumerate(program.specs):
                column = int(start) + at
                if op == "any" or not exact:
                    ids.append(_Id("|".join(f"(?:{p})" for p in patterns), column, True))
                else:
                    ids += [_Id(pattern, column, op == "distinct") for pattern in patterns]
        self.columns = np.array([i.column for i in ids], dtype=np.int64)
        self.many = np.array([not i.once for i in ids], dtype=bool)
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=[i.pattern.encode() for i in ids],
            ids=list(range(len(ids))),
            elements=len(ids),
            flags=[hyperscan.HS_FLAG_SINGLEMATCH if i.once else 0 for i in ids],
        )

    def scan(self, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Outcomes `[n, width]` int16 of each program, and `[n]` whether a text is not ASCII (its outcomes mean nothing)."""
        scan = self._database.scan
        hits: list[int] = []
        ends: list[int] = []
        odd = np.zeros(len(texts), dtype=bool)
        lengths = []
        add, end = hits.append, ends.append

        def on_match(number: int, start: int, stop: int, flags: int, context: Any) -> None:
            add(number)
            end(stop)

        for at, text in enumerate(texts):
            if text.isascii():
                scan(text.encode(), match_event_handler=on_match)
            else:
                odd[at] = True
            lengths.append(len(hits))
        numbers = np.array(hits, dtype=np.int64)
        rows = np.repeat(np.arange(len(texts)), np.diff([0, *lengths]))
        if self.many.any() and len(numbers):
            places = np.stack([rows, numbers, np.where(self.many[numbers], np.array(ends, dtype=np.int64), 0)])
            places = np.unique(places, axis=1)
            rows, numbers = places[0], places[1]
        values = np.zeros((len(texts), int(self.starts[-1])), dtype=np.int16)
        np.add.at(values, (rows, self.columns[numbers]), 1)
        cuts = zip(self.starts[:-1], self.starts[1:], strict=True)
        return [np.ascontiguousarray(values[:, start:stop]) for start, stop in cuts], odd


def _unique_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows `[k, width]` and, for each row, which of them it is."""
    generator = np.random.default_rng(20_240_229)
    weights = generator.integers(1, 1 << 62, values.shape[1], dtype=np.int64)
    with np.errstate(over="ignore"):
        sums = values.astype(np.int64) @ weights
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    rows = values[first]
    if not np.array_equal(rows[inverse], values):
        rows, inverse = np.unique(values, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
    return rows, inverse


def _specs_of(line: Any) -> list[tuple[str, tuple[str, ...], bool]] | None:
    """A child's observations, every part of them checked; None if there are none to trust."""
    try:
        found = json.loads(line)["learned"]
    except (TypeError, ValueError, KeyError, RecursionError):
        return None
    specs = []
    if not isinstance(found, list) or len(found) > 1000:
        return None
    for spec in found:
        if not (isinstance(spec, list) and len(spec) == 3 and spec[0] in ("any", "distinct", "count")):
            return None
        patterns = spec[1]
        if not isinstance(patterns, list) or not all(isinstance(p, str) and len(p) < 60_000 for p in patterns):
            return None
        if not all(_PLAIN.match(p) for p in patterns):
            return None
        specs.append((str(spec[0]), tuple(patterns), bool(spec[2])))
    return specs


def _compilable(patterns: set[str]) -> set[str]:
    """The patterns that the engine takes; found by halving, since it names none."""
    import hyperscan

    def good(some: list[str]) -> list[str]:
        if not some:
            return []
        try:
            hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK).compile(
                expressions=[p.encode() for p in some],
                ids=list(range(len(some))),
                elements=len(some),
                flags=[0] * len(some),
            )
        except Exception as error:
            if (
                type(error).__module__.partition(".")[0] not in ("hyperscan", "_hyperscan", "builtins")
                or len(some) == 1
            ):
                return []
            half = len(some) // 2
            return good(some[:half]) + good(some[half:])
        return some

    return set(good(sorted(patterns)))


def _frame_function(items: Sequence[Any]) -> Any:
    def frame(_: int) -> bytes:
        return frame_of(items)

    return frame


def _frames_of(texts: Sequence[str], rows: np.ndarray) -> Any:
    def frame(_: int) -> bytes:
        return frame_of([texts[int(row)] for row in rows])

    return frame


__all__ = ["STATUS", "Applier", "Recognised", "available"]
