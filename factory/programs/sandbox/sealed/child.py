"""One program over one chunk of texts, inside a process that is sealed already."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

ABSTAIN, EXCEPTION, BAD_VALUE, TIMEOUT, MEMORY, CRASH, RETIRED, REJECTED, UNREACHED = (
    -1,
    -2,
    -3,
    -4,
    -5,
    -6,
    -7,
    -8,
    -128,
)
"""Codes in the result buffer; zero and above are votes."""

TICK_S = 0.01
SOFT_TICKS = 10
MAX_TIMEOUTS = 5
MAX_MEMORY = 5
CHARS_PER_TICK = 20_000
LOAD_TICKS = 300
NOTES = 12


class RowTimeout(BaseException):
    """The row's CPU time is over."""


class Watch:
    """Raises `RowTimeout` in the program when one row takes too much CPU time: 100 ms, and more for a very long text.

    A tick reads how far the loop's iterator has come, so that a vote costs nothing for being watched.
    """

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.rows: Any = None
        self.left = -1
        self.ticks = 0

    def __call__(self, number: int, frame: Any) -> None:
        left = -2 if self.rows is None else self.rows.__length_hint__()
        if left != self.left:
            self.left, self.ticks = left, 0
            return
        self.ticks += 1
        limit = LOAD_TICKS if left == -2 else SOFT_TICKS + len(self.texts[len(self.texts) - left - 1]) // CHARS_PER_TICK
        if self.ticks >= limit:
            self.ticks = 0
            raise RowTimeout


def run(
    task: Mapping[str, Any],
    texts: list[str],
    start: int,
    out: memoryview,
    status_fd: int,
    builtins: Mapping[str, Any],
    compile_program: Callable[[str], Any],
) -> None:
    """Load the program and write a code for every text from `start` on. Never returns to the worker's code.

    Args:
        task: `source`, `labels` (names in order), `target` (a label's name or None) and `static` (whether to check).
        texts: The chunk.
        start: Index of the first text to do.
        out: One int32 per text, shared with the worker; preset to UNREACHED.
        status_fd: Where short JSON lines about loading and failures go.
        builtins: A program's builtins when it is checked.
        compile_program: The static check and compiler.
    """
    from .policy import Refused

    def say(**what: Any) -> None:
        os.write(status_fd, (json.dumps(what)[:600] + "\n").encode())

    watch = Watch(texts)
    signal.signal(signal.SIGPROF, watch)
    signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)
    try:
        namespace: dict[str, Any] = {"__name__": "program"}
        if task["static"]:
            namespace["__builtins__"] = dict(builtins)
            code = compile_program(task["source"])
        else:
            code = compile(task["source"], "<program>", "exec", dont_inherit=True)
        exec(code, namespace)
        label = namespace.get("label")
        if not callable(label):
            raise Refused("no_label", "there is no function `label(text)`")
    except Refused as refused:
        say(refused=refused.code, words=refused.words)
        return
    except RowTimeout:
        say(refused="slow", words="loading the program takes too long")
        return
    except MemoryError:
        say(refused="memory", words="loading the program takes too much memory")
        return
    except BaseException as error:
        code = "syntax" if isinstance(error, SyntaxError) else "raises"
        say(refused=code, words=f"loading the program raises {_name(error)}{_line(error)}")
        return
    say(loaded=True)
    _rows(label, task, texts, start, out, watch, say)


def _rows(
    label: Callable[[Any], Any],
    task: Mapping[str, Any],
    texts: list[str],
    start: int,
    out: memoryview,
    watch: Watch,
    say: Callable[..., None],
) -> None:
    names = {name: number for number, name in enumerate(task["labels"])}
    code_of = names.get
    slow = _yes_no(task["target"]) if task["target"] is not None else _index(len(names))
    is_plain = task["target"] is None
    timeouts = memories = noted = 0
    position = start
    rows: Any = iter(texts)
    rows.__setstate__(start)
    watch.rows = rows
    while True:
        try:
            for text in rows:
                vote = label(text)
                if vote is None:
                    out[position] = -1
                elif is_plain and type(vote) is str:
                    out[position] = code_of(vote, -3)
                else:
                    out[position] = slow(vote)
                if out[position] == -3 and noted < NOTES:
                    noted += 1
                    say(row=position, status="bad value", words=_describe(vote, task))
                position += 1
            break
        except BaseException as error:
            if isinstance(error, RowTimeout):
                if len(texts) - rows.__length_hint__() == position:
                    continue
                code, status = TIMEOUT, "timeout"
                timeouts += 1
            elif isinstance(error, MemoryError):
                code, status = MEMORY, "memory"
                memories += 1
            else:
                code, status = EXCEPTION, "exception"
            words = _name(error) + _line(error) if code == EXCEPTION else ""
        out[position] = code
        if noted < NOTES:
            noted += 1
            say(row=position, status=status, words=words)
        position += 1
        rows.__setstate__(position)
        if timeouts >= MAX_TIMEOUTS or memories >= MAX_MEMORY:
            say(retired="timeout" if timeouts >= MAX_TIMEOUTS else "memory")
            return
    say(done=True)


def _index(count: int) -> Callable[[Any], int]:
    """From what a program of a `single` task returned, if it is neither None nor a plain string, to a code."""

    def code(value: Any) -> int:
        if type(value) is int or (isinstance(value, int) and not isinstance(value, bool)):
            number = int.__index__(value)
            return number if -1 <= number < count else BAD_VALUE
        return BAD_VALUE

    return code


def _yes_no(target: str) -> Callable[[Any], int]:
    """The same for a program that speaks of one label: True, False, 1, 0 or the label's name; -1 abstains."""

    def code(value: Any) -> int:
        if value is True or value is False:
            return int(value)
        if type(value) is int:
            return value if value in (-1, 0, 1) else BAD_VALUE
        if type(value) is str:
            return 1 if value == target else BAD_VALUE
        return BAD_VALUE

    return code


def _describe(value: Any, task: Mapping[str, Any]) -> str:
    if type(value) is str:
        shown = "".join(c for c in value[:40] if c.isprintable())
        return (
            f"returned the text `{shown}`, which is no label"
            if task["target"] is None
            else f"returned the text `{shown}`"
        )
    if type(value) is int:
        return "returned a number that is no label's index"
    return f"returned a value of type {type(value).__name__}"


def _name(error: BaseException) -> str:
    name = type(error).__name__
    return name if type(name) is str and name.isidentifier() and len(name) < 60 else "an exception"


def _line(error: BaseException) -> str:
    """The last line of the program itself in the traceback, as words."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line}" if isinstance(line, int) else ""
