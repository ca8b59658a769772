"""One program over one chunk of texts, inside a process that is sealed already."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from .refused import Refused
from .returned import no_label
from .state import HoldsIterator, changed, snapshot

ABSTAIN, EXCEPTION, BAD_VALUE, TIMEOUT, MEMORY, CRASH, RETIRED, REJECTED, UNREACHED = (
    -1, -2, -3, -4, -5, -6, -7, -8, -128,
)  # fmt: skip
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
    compile_program: Callable[[str], tuple[Any, list[tuple[str, int]]]],
) -> None:
    """Load the program and write a code for every text of the chunk from `start` on.

    Args:
        task: `source`, `labels` (names in order), `target` (a label's name or None) and `static` (whether to check).
        texts: The chunk.
        start: Index of the first text to do.
        out: One int32 per text, shared with the worker; preset to UNREACHED.
        status_fd: Where short JSON lines about loading and failures go.
        builtins: A program's builtins when it is checked.
        compile_program: The static check and compiler.
    """

    def say(**what: Any) -> None:
        os.write(status_fd, (json.dumps(what)[:600] + "\n").encode())

    watch = Watch(texts)
    signal.signal(signal.SIGPROF, watch)
    signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)
    namespace: dict[str, Any] = {"__name__": "program"}
    texts_returned: list[tuple[str, int]] = []
    try:
        if task["static"]:
            namespace["__builtins__"] = dict(builtins)
            code, texts_returned = compile_program(task["source"])
        else:
            code = compile(task["source"], "<program>", "exec", dont_inherit=True)
        exec(code, namespace)
        label = namespace.get("label")
        if not callable(label):
            raise Refused("no_label", "there is no function `label(text)`")
        held = snapshot(namespace) if task["static"] else None
    except Refused as refused:
        say(refused=refused.code, words=refused.words)
        return
    except HoldsIterator as error:
        say(refused="state", words=f"`{error.args[0][:40]}` holds an iterator, which keeps its place between texts")
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
    say(loaded=True, returns=_wrong_texts(texts_returned, task))
    _rows(label, task, texts, start, out, watch, say, lambda: _state(namespace, held, watch))


def _wrong_texts(found: list[tuple[str, int]], task: Mapping[str, Any]) -> str | None:
    """Words on the first text that the program returns by name and that is not a label, or None."""
    if task["target"] is not None:
        return None
    names = _numbers(task)
    return next((f"in line {line} it {no_label(text, names)}" for text, line in found if text not in names), None)


def _state(namespace: Mapping[str, Any], held: Mapping[str, Any] | None, watch: Watch) -> str | None:
    """The name of what the program has changed since it was loaded, or None."""
    if held is None:
        return None
    rows, watch.rows = watch.rows, None
    try:
        return changed(held, snapshot(namespace))
    except HoldsIterator as error:
        return str(error.args[0])
    except (Exception, RowTimeout):
        return "what it holds, too large to be looked at"
    finally:
        watch.rows = rows


def _rows(
    label: Callable[[Any], Any],
    task: Mapping[str, Any],
    texts: list[str],
    start: int,
    out: memoryview,
    watch: Watch,
    say: Callable[..., None],
    state: Callable[[], str | None],
) -> None:
    code_of = _numbers(task).get
    slow = _yes_no(task["target"]) if task["target"] is not None else _index(_numbers(task))
    is_plain = task["target"] is None
    timeouts = memories = noted = 0
    position = start
    looks = sorted({min(start + 1, len(texts)), min(start + 3, len(texts)), len(texts)})
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
                if position >= looks[0]:
                    break
            while looks and position >= looks[0]:
                looks.pop(0)
                name = state()
                if name is not None:
                    say(retired="state", words="".join(c for c in name[:60] if c.isprintable()))
                    return
            if not looks:
                break
            continue
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


def _numbers(task: Mapping[str, Any]) -> dict[str, int]:
    return {name: number for number, name in enumerate(task["labels"])}


def _index(numbers: Mapping[str, int]) -> Callable[[Any], int]:
    """From what a program of a `single` task returned, if it is neither None nor a plain string, to a code."""

    def code(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            number = int.__index__(value)
            return number if -1 <= number < len(numbers) else BAD_VALUE
        return numbers.get(str.__str__(value), BAD_VALUE) if isinstance(value, str) else BAD_VALUE

    return code


def _yes_no(target: str) -> Callable[[Any], int]:
    """The same for a program that speaks of one label: True, False, 1, 0 or the label's name; -1 abstains."""

    def code(value: Any) -> int:
        if type(value) in (bool, int):
            return int(value) if value in (-1, 0, 1) else BAD_VALUE
        return 1 if type(value) is str and value == target else BAD_VALUE

    return code


def _describe(value: Any, task: Mapping[str, Any]) -> str:
    if isinstance(value, str):
        text = str.__str__(value)
        if task["target"] is None:
            return no_label(text, task["labels"])
        return f"returned the text `{''.join(c for c in text[:40] if c.isprintable())}`, and not True, False or None"
    if isinstance(value, int) and not isinstance(value, bool):
        return "returned a number that is not a label's index"
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
