"""Texts of many requests through one model, in turns: small requests do not wait for large ones.

The model runs in a thread, a bounded piece of work at a time. Between two pieces the texts of all requests that wait are shared
anew, a text from each in turn, and requests whose client has left are dropped. A text's answer does not depend on the texts
beside it, so how they are put together changes nothing but the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Answers = tuple[NDArray[Any], ...]

MOST_TEXTS, MOST_CHARACTERS = 256, 20_000
"""Texts and characters in one piece of work; a text that is longer is a piece of its own."""
MOST_WAITING = 64
"""Requests that may wait at once."""
GATHER_S = 0.003
"""How long a first request waits for others to come, in seconds."""


class TooManyWaitError(Exception):
    """`MOST_WAITING` requests wait already."""


@dataclass(eq=False)
class _Job:
    """One request: its texts, how many of them were handed out, and the answers that came."""

    texts: Sequence[str]
    answer: asyncio.Future[Answers]
    given: int = 0
    parts: list[Answers] = field(default_factory=list)


class Turns:
    """Answers requests through one model; `run` is the task that does so."""

    def __init__(self, answer: Callable[[Sequence[str]], Answers]) -> None:
        """Over a function from n texts to arrays of n rows each: probabilities, and what else is known of the texts."""
        self._answer = answer
        self._jobs: list[_Job] = []
        self._wake = asyncio.Event()

    async def ask(self, texts: Sequence[str]) -> Answers:
        """The answers to these texts; if the caller is cancelled, those that are left are not computed.

        Raises:
            TooManyWaitError: Too many requests wait already.
        """
        if len(self._jobs) >= MOST_WAITING:
            raise TooManyWaitError
        job = _Job(texts, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._wake.set()
        try:
            return await job.answer
        finally:
            if job in self._jobs:
                self._jobs.remove(job)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_S)
            while turn := self._next():
                await self._work(turn)

    def _next(self) -> list[_Job]:
        """Whose text comes when in the next piece of work: a text of each job in turn, until it is full."""
        turn: list[_Job] = []
        characters, taken = 0, dict.fromkeys(self._jobs, 0)
        while True:
            before = len(turn)
            for job in self._jobs:
                at = job.given + taken[job]
                if job.answer.done() or at == len(job.texts):
                    continue
                if turn and (len(turn) == MOST_TEXTS or characters + len(job.texts[at]) > MOST_CHARACTERS):
                    self._jobs.append(self._jobs.pop(0))  # the next piece begins with another job
                    return turn
                characters += len(job.texts[at])
                taken[job] += 1
                turn.append(job)
            if len(turn) == before:
                return turn

    async def _work(self, turn: Sequence[_Job]) -> None:
        shares = {job: turn.count(job) for job in dict.fromkeys(turn)}
        texts = [text for job, share in shares.items() for text in job.texts[job.given : job.given + share]]
        try:
            found = await asyncio.to_thread(self._answer, texts)
        except Exception as error:  # each of those who asked gets it
            for job in shares:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        start = 0
        for job, share in shares.items():
            job.parts.append(tuple(rows[start : start + share] for rows in found))
            job.given, start = job.given + share, start + share
            if job.given == len(job.texts) and not job.answer.done():
                whole: Any = tuple(np.concatenate(some) for some in zip(*job.parts, strict=True))
                job.answer.set_result(whole)
