"""A call to an engine and what came of it: what dispatch, ledger and engines speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from factory.llm.request import Answer, Request, Usage

FaultKind = Literal[
    "overload", "transport", "timeout", "server", "malformed", "refused", "declined", "missing", "fatal"
]
"""overload: 429, 503 that says when to come back. transport: no connection, reset, cut off. timeout: no answer in time.
server: a 5xx. malformed: a reply without an answer. refused: sending it again would not help now. declined: the model's own doing
(too long for it, filtered), which decides what was asked. missing: nothing was sent; not there yet. fatal: no request can succeed
now (an empty balance, a wrong key, no such model)."""


NOTHING_BILLED = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Call:
    """One call to an engine: consecutive samples of one request, numbered `first` to `last`, both included."""

    request: Request
    first: int
    last: int

    @property
    def n(self) -> int:
        """How many samples."""
        return self.last - self.first + 1

    @property
    def custom_id(self) -> str:
        """Its name in a batch file: `request_key:first-last`."""
        return f"{self.request.key}:{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a call gave nothing, or less than was asked for.

    Attributes:
        kind: What sort of trouble it is; decides what is done about it.
        reason: A short code for the ledger.
        detail: Words for a person, never with a key in them.
        status: The HTTP status, if there was one.
        retry_after_s: How long the server asked us to wait, in seconds.
        usage: Tokens billed all the same; None where nobody knows, no tokens where nothing was billed.
        fix: What to do about it, for a person.
    """

    kind: FaultKind
    reason: str
    detail: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    usage: Usage | None = NOTHING_BILLED
    fix: str = ""

    @property
    def is_an_answer(self) -> bool:
        """Whether it shows that the endpoint is at work: it refused this very request, or a model wrote what came."""
        return self.kind in {"refused", "declined"} or (self.kind == "malformed" and self.usage != NOTHING_BILLED)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call.

    Attributes:
        answers: By sample number; perhaps not all of them.
        fault: What was wrong, if anything.
        latency_ms: From sending to the last byte.
        status: The HTTP status, if there was one.
        on_record: Whether it is in the ledger already.
    """

    answers: Mapping[int, Answer] = field(default_factory=dict)
    fault: Fault | None = None
    latency_ms: float | None = None
    status: int | None = None
    on_record: bool = False

    @property
    def lost(self) -> bool:
        """Whether the connection was lost with the call in the server's hands."""
        return self.fault is not None and self.fault.reason in {"connection_lost", "cut_off"}


def calls_of(request: Request, samples: Iterable[int], *, max_n: int = 32) -> list[Call]:
    """The calls that ask for these samples of a request.

    Greedy requests (temperature 0) are asked one sample at a time, since vLLM refuses `n` for them.
    """
    most = 1 if request.sampling.get("temperature", 1.0) == 0 else max_n
    return [Call(request, *piece) for run in runs(samples) for piece in split(*run, most)]


def runs(samples: Iterable[int]) -> list[tuple[int, int]]:
    """Sample numbers as runs of consecutive ones, `(first, last)`.

    Example:
        >>> runs([3, 0, 1, 7])
        [(0, 1), (3, 3), (7, 7)]
    """
    found: list[tuple[int, int]] = []
    for sample in sorted(set(samples)):
        if found and found[-1][1] == sample - 1:
            found[-1] = (found[-1][0], sample)
        else:
            found.append((sample, sample))
    return found


def split(first: int, last: int, most: int) -> list[tuple[int, int]]:
    """A run in pieces of at most `most` samples."""
    return [(start, min(start + most - 1, last)) for start in range(first, last + 1, most)]
