"""The stage `vote` against the warehouse: which program lacks which texts, and filling that, block by block."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.cluster.ray import need_ray
from factory.programs.blocks import AcceptedProgram, Block, Gap, Voted, accepted_programs, run_accepted
from factory.programs.sandbox.host.pool import Sandbox, shared_pool
from factory.programs.sandbox.host.result import STATUS
from factory.result import Progress, StageResult, no_progress
from factory.task import label_names
from factory.warehouse.file import insert

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
    if ray:
        need_ray()
    labels = label_names(warehouse)
    programs = accepted_programs(warehouse, labels)
    stale = _forget_stale(warehouse, [program.number for program in programs])
    gaps = find_gaps(warehouse, programs, block)
    if not gaps:
        return StageResult("vote", not stale, {"programs": len(programs), "votes": 0, "stale_blocks": stale})
    begin()
    total = sum(len(gap.programs) for gap in gaps)
    done = n_votes = n_texts = 0
    counts: dict[int, Counter[str]] = {program.number: Counter() for program in programs}
    retired_blocks: Counter[int] = Counter()
    layers: dict[str, None] = {}
    blocks = _blocks(warehouse, gaps, retired_blocks)
    with closing(_runs(blocks, len(gaps), labels, strict=strict, sandbox=sandbox, ray=ray)) as runs:
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


def _runs(
    blocks: Iterator[Block], count: int, labels: list[str], *, strict: bool, sandbox: Sandbox, ray: bool
) -> Generator[Voted]:
    """The blocks in order with what their programs said of them, run here or on Ray."""
    if ray:
        from factory.programs.on_ray import votes_on_ray

        yield from votes_on_ray(blocks, count, labels, strict=strict, sandbox=sandbox)
    else:
        pool = shared_pool(strict, sandbox)
        for block in blocks:
            yield block, run_accepted(pool, block.programs, block.texts, labels)


def _blocks(warehouse: Warehouse, gaps: list[Gap], retired_blocks: Counter[int]) -> Iterator[Block]:
    """Read the gaps one by one, each with the programs that have not retired too often when it is read."""
    for gap in gaps:
        numbers, texts = _read(warehouse, gap)
        yield Block(
            gap, tuple(p for p in gap.programs if retired_blocks[p.number] < MAX_RETIRED_BLOCKS), numbers, texts
        )


def _forget_stale(warehouse: Warehouse, programs: list[int]) -> int:
    """Take away blocks whose votes are not all there (a deleted vote, a doubled one, texts that joined later).

    Programs are compared by their totals first, so that a whole warehouse costs one pass over its votes.
    """
    suspects = [
        row[0]
        for row in warehouse.query(
            "WITH b AS (SELECT program_no, sum(n_votes) AS n, sum(n_texts) AS t, max(last_text_no) AS last FROM vote_blocks"
            " GROUP BY ALL), v AS (SELECT program_no, count(*) AS n FROM votes WHERE program_no IN (SELECT program_no FROM b)"
            " GROUP BY ALL)"
            " SELECT b.program_no FROM b LEFT JOIN v USING (program_no) WHERE b.program_no IN (SELECT unnest(?::INTEGER[]))"
            " AND (b.n <> coalesce(v.n, 0)"
            " OR b.t <> (SELECT count(*) FROM texts WHERE origin <> 'passage' AND text_no <= b.last))"
            " ORDER BY 1",
            [programs],
        )
    ]
    if not suspects:
        return 0
    with warehouse.lease() as db:
        bad = db.execute(
            "SELECT program_no, first_text_no, last_text_no FROM vote_blocks b WHERE program_no IN (SELECT unnest(?::INTEGER[]))"
            " AND (n_votes <> (SELECT count(*) FROM votes v WHERE v.program_no = b.program_no"
            " AND v.text_no BETWEEN b.first_text_no AND b.last_text_no)"
            " OR n_texts <> (SELECT count(*) FROM texts WHERE origin <> 'passage'"
            " AND text_no BETWEEN b.first_text_no AND b.last_text_no))"
            " ORDER BY ALL",
            [suspects],
        ).fetchall()
        for program, first, last in bad:
            for table in ("votes", "vote_failures"):
                db.execute(
                    f"DELETE FROM {table} WHERE program_no = ? AND text_no BETWEEN ? AND ?", [program, first, last]
                )
            db.execute(
                "DELETE FROM vote_blocks WHERE program_no = ? AND first_text_no = ? AND last_text_no = ?",
                [program, first, last],
            )
        # votes outside of any block belong to none of them
        db.execute(
            "DELETE FROM votes WHERE program_no IN (SELECT unnest(?::INTEGER[])) AND NOT EXISTS (SELECT 1 FROM vote_blocks b"
            " WHERE b.program_no = votes.program_no AND votes.text_no BETWEEN b.first_text_no AND b.last_text_no)",
            [suspects],
        )
    return len(bad)


def find_gaps(warehouse: Warehouse, programs: list[AcceptedProgram], block: int) -> list[Gap]:
    """Ranges of at most `block` text numbers, aligned to multiples of it, with the programs that lack each, in order."""
    last = warehouse.scalar("SELECT max(text_no) FROM texts WHERE origin <> 'passage'")
    if last is None or not programs:
        return []
    first = int(warehouse.scalar("SELECT min(text_no) FROM texts"))
    done: dict[int, list[tuple[int, int]]] = {program.number: [] for program in programs}
    for number, start, end in warehouse.query(
        "SELECT program_no, first_text_no, last_text_no FROM vote_blocks ORDER BY 1, 2"
    ):
        if number in done:
            done[number].append((start, end))
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
    program_nos, text_nos, votes, blocks = [], [], [], []
    failures: dict[str, list[Any]] = {"program_no": [], "text_no": [], "status": [], "detail": []}
    for at, program in running:
        column = run.votes[:, at]
        given = np.flatnonzero(column >= 0)
        program_nos.append(np.full(len(given), program.number, dtype=np.int32))
        text_nos.append(numbers[given].astype(np.int32))
        votes.append(column[given].astype(np.int32))
        tally = {
            STATUS[code]: int(n) for code, n in enumerate(np.bincount(run.codes[:, at], minlength=len(STATUS))) if n
        }
        counts[program.number].update(tally)
        blocks.append((program.number, len(given), json.dumps(tally)))
        _failed(program.number, at, numbers, run, failures)
    for program in gap.programs:
        if program.number not in ran:
            tally = {"retired": len(numbers)}
            counts[program.number].update(tally)
            blocks.append((program.number, 0, json.dumps(tally)))
    with warehouse.lease() as db:
        if program_nos:
            columns = {
                "program_no": np.concatenate(program_nos),
                "text_no": np.concatenate(text_nos),
                "vote": np.concatenate(votes),
            }
            insert(db, "votes", columns)
        insert(db, "vote_failures", failures)
        insert(
            db,
            "vote_blocks",
            {
                "program_no": [b[0] for b in blocks],
                "first_text_no": [gap.first] * len(blocks),
                "last_text_no": [gap.last] * len(blocks),
                "n_texts": [len(numbers)] * len(blocks),
                "n_votes": [b[1] for b in blocks],
                "counts": [b[2] for b in blocks],
            },
        )
    return sum(b[1] for b in blocks)


def _failed(number: int, at: int, numbers: np.ndarray, run: ProgramRun, failures: dict[str, list[Any]]) -> None:
    """Add a program's failed rows, with words where there are some."""
    wanted = [STATUS.index(name) for name in _ROW_FAILURES]
    words = {note["row"]: note.get("words") or None for note in run.notes[at] if "status" in note}
    for row in np.flatnonzero(np.isin(run.codes[:, at], wanted))[:FAILURES_KEPT]:
        failures["program_no"].append(number)
        failures["text_no"].append(int(numbers[row]))
        failures["status"].append(STATUS[run.codes[row, at]])
        failures["detail"].append(words.get(int(row)))
