"""Blocks of texts voted on by Ray, and taken back in order.

Plain Ray actors, not Ray Data: which programs vote on a block depends on the blocks before it (one that retires too often is left
out), votes are committed in order by the one process that may write, and no more than a few blocks may be read ahead of the last
commit. With actors that is one loop; Ray Data's executor decides by itself how far it reads ahead. And an actor is what a
sandbox needs: sealed processes that are started once, and end with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from factory.cluster.ray import plain_errors, processors, session
from factory.programs.blocks import AcceptedProgram, Block, Voted, run_accepted
from factory.programs.sandbox.host.pool import Pool, Sandbox
from factory.programs.sandbox.host.result import ProgramRun

BLOCKS_READ_AHEAD = 2
"""Blocks for each actor that may have been read and not yet been committed."""

RESTARTS = 2
"""How often a lost actor is started again; its block is run again with it."""


class VoteActor:
    """The actor: one processor, with a sandbox of its own."""

    def __init__(self, labels: Sequence[str], strict: bool, sandbox: Sandbox, refuse: Sequence[str]) -> None:
        self._pool, self._labels = Pool(workers=1, strict=strict, sandbox=sandbox, refuse=refuse), labels

    def ready(self) -> None:
        """Nothing: that it answers says that it has started. Its sandbox starts with the first Python program."""

    def run(self, programs: Sequence[AcceptedProgram], texts: Sequence[str]) -> ProgramRun:
        """See `run_accepted`."""
        return run_accepted(self._pool, programs, texts, self._labels)


def votes_on_ray(
    blocks: Iterator[Block],
    count: int,
    labels: Sequence[str],
    *,
    strict: bool = False,
    sandbox: Sandbox = "kernel",
    refuse: Sequence[str] = (),
) -> Iterator[Voted]:
    """Run blocks on Ray's actors, one for each processor, and give them back in the order in which they were read.

    An actor gets its first block when it has started: one that finds no processor free holds nothing up.

    Args:
        blocks: Read by this process, at most `BLOCKS_READ_AHEAD` for each actor beyond the last one that was given back. So a
            block may have programs that a block before it retired: the caller leaves out their columns.
        count: How many blocks there are.
        labels: Label names; votes are their indices.
        strict, sandbox, refuse: As `Pool` takes them.

    Yields:
        Each block, without its texts, with its run.

    Raises:
        SandboxError: As an actor raised it.
        ClusterError: Ray is not there, or lost an actor for good.
    """
    with session() as ray:
        kind = ray.remote(num_cpus=1, max_restarts=RESTARTS, max_task_retries=RESTARTS)(VoteActor)
        given = list(labels), strict, sandbox, tuple(refuse)
        actors = [kind.remote(*given) for _ in range(min(count, processors(ray)))]
        try:
            yield from in_order(ray, actors, blocks)
        finally:
            for actor in actors:
                ray.kill(actor)


def in_order(ray: Any, actors: Sequence[Any], blocks: Iterator[Block]) -> Iterator[Voted]:
    """Hand a block to whichever actor is free, and give the blocks back in their order, as `votes_on_ray`.

    Raises:
        FactoryError: As `plain_errors`.
    """
    busy: dict[Any, tuple[int | None, Any]] = {actor.ready.remote(): (None, actor) for actor in actors}
    free: list[Any] = []
    kept: dict[int, Block] = {}
    runs: dict[int, ProgramRun] = {}
    sent = given = 0
    more = True
    while more or given < sent:
        while more and free and sent - given < BLOCKS_READ_AHEAD * len(actors):
            block = next(blocks, None)
            if block is None:
                more = False
                break
            actor = free.pop()
            busy[actor.run.remote(block.programs, block.texts)] = (sent, actor)
            kept[sent] = replace(block, texts=())
            sent += 1
        if given in runs:
            yield kept.pop(given), runs.pop(given)
            given += 1
        elif more or given < sent:
            done = ray.wait(list(busy), num_returns=1)[0][0]
            number, actor = busy.pop(done)
            with plain_errors(ray):
                value = ray.get(done)
            if number is not None:
                runs[number] = value
            free.append(actor)
