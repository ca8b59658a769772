"""How far a step is: a bar on a terminal, plain lines elsewhere, with the rate and the time left; always on stderr."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from factory.commands.terminal import say, shown
from factory.result import Progress, StageResult

if TYPE_CHECKING:
    from factory.pipeline.steps import Step

Start = Callable[["Step", int, int], Progress]
Told = Callable[["Step", StageResult], None]

LINE_S = 5.0
"""Seconds between two plain lines."""
SILENCE_S = 15.0
"""Seconds after which a step that tells nothing is said to be still at work."""
WINDOW_S = 60.0
"""Seconds over which a rate is taken: a server warms up, texts get longer, another process comes."""


class Pace:
    """The rate of a count, and from that the time left."""

    def __init__(self) -> None:
        self._what = ""
        self._points: deque[tuple[float, int]] = deque()

    def words(self, done: int, total: int, what: str, now: float) -> str:
        """`64/s, 47 s left`; empty until something can be said.

        Args:
            done: How many are done.
            total: How many there are; 0 if nobody knows.
            what: What is counted. Another word begins another count; figures in it do not matter.
            now: A clock in seconds.
        """
        kind = re.sub(r"[\d.,]+", "#", what)
        if kind != self._what or (self._points and done < self._points[-1][1]):
            self._what = kind
            self._points.clear()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > WINDOW_S:
            self._points.popleft()
        seconds, more = now - self._points[0][0], done - self._points[0][1]
        if seconds < 1.0 or more <= 0:
            return ""
        rate = more / seconds
        told = [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:,.0f} s each"]
        if total > done:
            told.append(f"{duration((total - done) / rate)} left")
        return ", ".join(told)


def duration(seconds: float) -> str:
    """Seconds as people say them: `47 s`, `3 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest} min" if hours < 10 and rest else f"{round(seconds / 3600)} h"


@contextmanager
def shown_progress() -> Iterator[tuple[Start, Told]]:
    """Show how far each step is.

    Yields:
        The two callbacks of `factory.pipeline.run.run_pipeline`: one that makes a step's progress callback, one told its result.
    """
    with _bars() if sys.stderr.isatty() else _lines() as callbacks:
        yield callbacks


@contextmanager
def shown_alone(verb: str) -> Iterator[Progress]:
    """The progress callback of a command that is not a step of a pipeline, shown as a step's is."""
    from factory.params import Params
    from factory.pipeline.steps import Step

    with shown_progress() as (start, _):
        yield start(Step(verb, Params()), 0, 1)


@contextmanager
def _bars() -> Iterator[tuple[Start, Told]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    what = TextColumn("{task.fields[what]}", markup=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        what,
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[int, Any] = {}

        def start(step: Step, number: int, of: int) -> Progress:
            head = f"[{number + 1}/{of}] {step.verb}" if of > 1 else step.verb
            task = tasks[id(step)] = bars.add_task(head.replace("[", r"\["), total=None, what="")
            pace = Pace()

            def tell(done: int, total: int, what: str) -> None:
                told = ", ".join(filter(None, [what, pace.words(done, total, what, time.monotonic())]))
                bars.update(task, completed=done, total=total or None, what=shown(told))

            return tell

        def told(step: Step, result: StageResult) -> None:
            if id(step) in tasks:
                bars.remove_task(tasks.pop(id(step)))
            for line in step_lines(result):
                console.print(shown(line), highlight=False, markup=False)

        yield start, told


@contextmanager
def _lines() -> Iterator[tuple[Start, Told]]:
    """Plain lines: at most one in five seconds, and one in a while from a step that tells nothing."""
    lock, ended = threading.Lock(), threading.Event()
    verb = last_what = ""
    began = last = time.monotonic()

    def start(step: Step, number: int, of: int) -> Progress:
        nonlocal verb, last_what, began, last
        pace = Pace()
        with lock:
            verb, last_what = step.verb, ""
            began = last = time.monotonic()

        def tell(done: int, total: int, what: str) -> None:
            nonlocal verb, last_what, last
            now = time.monotonic()
            words = pace.words(done, total, what, now)
            with lock:
                verb, last_what = step.verb, what
                if now - last < LINE_S:
                    return
                last = now
            count = f"{done:,}{f'/{total:,}' if total else ''}" if done or total else ""
            say(f"  {step.verb}: {', '.join(filter(None, [f'{count} {what}'.strip(), words]))}")

        return tell

    def told(_: Step, result: StageResult) -> None:
        nonlocal verb
        with lock:
            verb = ""
        say(*step_lines(result))

    def watch() -> None:
        nonlocal last
        while not ended.wait(1.0):
            now = time.monotonic()
            with lock:
                if not verb or now - last < SILENCE_S:
                    continue
                last, words = now, f"  {verb}: {f'{last_what}, ' if last_what else ''}still at work"
            say(f"{words} after {duration(now - began)}")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield start, told
    finally:
        ended.set()


def step_lines(result: StageResult) -> list[str]:
    """What a person reads of one step."""
    head = f"{result.stage:<11}"
    if result.skipped:
        return [f"{head} {result.why}"]
    says = result.says or (
        ", ".join(f"{key} {value}" for key, value in result.did.items() if not isinstance(value, (dict, list))),
    )
    return [f"{head} {says[0]}", *(f"{'':<11} {line}" for line in says[1:])]
