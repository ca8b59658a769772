"""The stage `vote` against the warehouse: which program lacks which texts, and filling that, block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from factory.cluster.spreading import on_ray_if
from factory.programs.blocks import AcceptedProgram, Asked, Block, Gap, Voter, accepted_programs, run_accepted
from factory.programs.sandbox.host.pool import Sandbox, shared_pool
from factory.programs.sandbox.host.result import STATUS
from factory.result import Progress, StageResult, no_progress
from factory.spread import Work, spread
from factory.task import label_names
from factory.warehouse.tables.votes import Said, done_blocks, forget_stale, put_block

if TYPE_CHECKING:
    from factory.programs.sandbox.host.result import ProgramRun
    from factory.warehouse.file import Warehouse

FAILURES_KEPT = 1000
"""Rows of `vote_failures` for one program and block; the counts are in `vote_blocks` in any case."""

MAX_RETIRED_BLOCKS = 3
"""Blocks in which a program may retire before it is left out of all that follow."""

FAILING_SHOWN = 5
"""Programs whose failures are told by name."""

_ROW_FAILURES = ("exception", "bad value", "timeout", "memory", "crash")


def vote_texts(
    warehouse: Warehouse,
    *,
    block: int = 20_000,
    strict: bool = False,
    sandbox: Sandbox = "kernel",
    ray: bool = False,
    begin: Callable[[], None] = lambda: None,
    progress: Progress = no_progress,
) -> StageResult:
    """See `factory.programs.stage.vote`."""
    with on_ray_if(ray):
        return _vote(warehouse, block, strict, sandbox, begin, progress)


def _vote(
    warehouse: Warehouse, block: int, strict: bool, sandbox: Sandbox, begin: Callable[[], None], progress: Progress
) -> StageResult:
    labels = label_names(warehouse)
    programs = accepted_programs(warehouse, labels)
    stale = forget_stale(warehouse, [program.number for program in programs])
    gaps = find_gaps(warehouse, programs, block)
    if not gaps:
        return StageResult("vote", not stale, {"programs": len(programs), "votes": 0, "stale_blocks": stale})
    begin()
    total = sum(len(gap.programs) for gap in gaps)
    done = n_votes = n_texts = 0
    counts: dict[int, Counter[str]] = {program.number: Counter() for program in programs}
    retired_blocks: Counter[int] = Counter()
    layers: dict[str, None] = {}

    def asked() -> Iterator[tuple[Block, Asked]]:
        for one in _blocks(warehouse, gaps, retired_blocks):
            yield replace(one, texts=()), (one.programs, one.texts)

    def here(one: Asked) -> ProgramRun:
        return run_accepted(shared_pool(strict, sandbox), *one, labels)

    with closing(spread(Work(Voter, (labels, strict, sandbox), here), asked(), len(gaps))) as runs:
        for voted, run in runs:
            # a block that was read ahead may have been run with programs that have retired since
            running = [(at, p) for at, p in enumerate(voted.programs) if retired_blocks[p.number] < MAX_RETIRED_BLOCKS]
            for at, program in running:
                retired_blocks[program.number] += any("retired" in note for note in run.notes[at])
            n_votes += _write(warehouse, voted, running, run, counts)
            n_texts += len(voted.numbers)
            done += len(voted.gap.programs)
            if run.layers is not None:
                layers[run.layers.says()] = None
            progress(done, total, "blocks of votes")
    says = [f"{n_votes} votes of {len(programs)} programs, {n_texts} texts read", *layers, *_failing(programs, counts)]
    did = {
        "programs": len(programs),
        "votes": n_votes,
        "texts": n_texts,
        "stale_blocks": stale,
        "counts": dict(sorted(sum(counts.values(), Counter[str]()).items())),
    }
    return StageResult("vote", False, did, tuple(says))


def _failing(programs: list[AcceptedProgram], counts: dict[int, Counter[str]]) -> list[str]:
    """A line on each of the programs that failed most often, and one on the others."""
    failed = {
        number: Counter({k: n for k, n in tally.items() if k not in ("ok", "abstain")})
        for number, tally in counts.items()
    }
    worst = sorted((p for p in programs if failed[p.number]), key=lambda p: -failed[p.number].total())
    lines = []
    for program in worst[:FAILING_SHOWN]:
        said = ", ".join(f"{n:,} {name}" for name, n in sorted(failed[program.number].items()))
        asked = counts[program.number].total()
        lines.append(f"program {program.number} ({program.name}) lost votes on {asked:,} texts: {said}")
    if len(worst) > FAILING_SHOWN:
        lines.append(f"{len(worst) - FAILING_SHOWN} other programs failed too; `factory programs list` shows how often")
    return lines


def _blocks(warehouse: Warehouse, gaps: list[Gap], retired_blocks: Counter[int]) -> Iterator[Block]:
    """Read the gaps one by one, each with the programs that have not retired too often when it is read."""
    for gap in gaps:
        numbers, texts = _read(warehouse, gap)
        yield Block(
            gap, tuple(p for p in gap.programs if retired_blocks[p.number] < MAX_RETIRED_BLOCKS), numbers, texts
        )


def find_gaps(warehouse: Warehouse, programs: list[AcceptedProgram], block: int) -> list[Gap]:
    """Ranges of at most `block` text numbers, aligned to multiples of it, with the programs that lack each, in order."""
    last = warehouse.scalar("SELECT max(text_no) FROM texts WHERE origin <> 'passage'")
    if last is None or not programs:
        return []
    first = int(warehouse.scalar("SELECT min(text_no) FROM texts"))
    done = done_blocks(warehouse, [program.number for program in programs])
    wanting: dict[tuple[int, int], list[AcceptedProgram]] = {}
    for program in programs:
        for start, end in _missing(done[program.number], first, int(last)):
            while start <= end:
                stop = min(end, (start // block + 1) * block - 1)
                wanting.setdefault((start, stop), []).append(program)
                start = stop + 1
    return [Gap(start, end, tuple(found)) for (start, end), found in sorted(wanting.items())]


def _missing(done: list[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """What of `first..last` no range covers; the ranges are sorted."""
    gaps, at = [], first
    for start, end in done:
        if start > at:
            gaps.append((at, min(start - 1, last)))
        at = max(at, end + 1)
    if at <= last:
        gaps.append((at, last))
    return gaps


def _read(warehouse: Warehouse, gap: Gap) -> tuple[np.ndarray, list[str]]:
    """Numbers `[n]` and texts of a range."""
    table = warehouse.arrow(
        "SELECT text_no, text FROM texts WHERE text_no BETWEEN ? AND ? AND origin <> 'passage' ORDER BY text_no",
        [gap.first, gap.last],
    )
    return table.column("text_no").to_numpy(), table.column("text").to_pylist()


def _write(
    warehouse: Warehouse,
    block: Block,
    running: list[tuple[int, AcceptedProgram]],
    run: ProgramRun,
    counts: dict[int, Counter[str]],
) -> int:
    """Votes, blocks and failures of one range, in one transaction; returns the number of votes.

    Args:
        warehouse: Where to.
        block: The range.
        running: The columns of the run that count, with their programs; the others retired.
        run: What was said of the texts.
        counts: Statuses by program, added to.
    """
    gap, numbers, ran = block.gap, block.numbers, {program.number for _, program in running}
    said = []
    for at, program in running:
        column = run.votes[:, at]
        given = np.flatnonzero(column >= 0)
        ended = np.bincount(run.codes[:, at], minlength=len(STATUS))
        tally = {STATUS[code]: int(n) for code, n in enumerate(ended) if n}
        text_nos, votes = numbers[given].astype(np.int32), column[given].astype(np.int32)
        said.append(Said(program.number, text_nos, votes, tally, _failed(at, numbers, run)))
    none = np.zeros(0, np.int32)
    said += [Said(p.number, none, none, {"retired": len(numbers)}) for p in gap.programs if p.number not in ran]
    for one in said:
        counts[one.program_no].update(one.counts)
    with warehouse.lease() as db:
        put_block(db, gap.first, gap.last, len(numbers), said)
    return sum(len(one.votes) for one in said)


def _failed(at: int, numbers: np.ndarray, run: ProgramRun) -> list[tuple[int, str, str | None]]:
    """The first rows on which a program failed, with words where there are some."""
    wanted = [STATUS.index(name) for name in _ROW_FAILURES]
    words = {note["row"]: note.get("words") or None for note in run.notes[at] if "status" in note}
    rows = np.flatnonzero(np.isin(run.codes[:, at], wanted))[:FAILURES_KEPT]
    return [(int(numbers[row]), STATUS[run.codes[row, at]], words.get(int(row))) for row in rows]
