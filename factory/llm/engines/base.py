"""What the engines share: a call, its reply, and the two shapes an engine comes in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from factory.errors import EngineError
from factory.llm.request import Answer, ModelRef, Request, Usage
from factory.llm.settings import EngineSettings

if TYPE_CHECKING:
    from factory.llm.ledger import Ledger

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
    """One call to an engine: consecutive samples of one request.

    Attributes:
        request: What is asked.
        first: First sample number.
        last: Last sample number, included.
    """

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


class Pending(EngineError):
    """Answers are missing that this engine cannot get by itself: a batch must be run, or a recording completed."""

    exit_code = 4


class Engine(ABC):  # noqa: B024 - its two shapes below have the abstract methods
    """Whom the factory asks.

    Attributes:
        settings: As the pipeline gave them.
        model: The model's identity, part of every request's key.
        name: The kind; stored as the origin of answers.
        structured: Whether stages should ask for structured output.
        sampling: To be laid over each prompt's own sampling.
    """

    name: str = ""

    has_answered = False
    """Whether it has answered since it was made; only then does `patience_s` apply in full."""

    counting_only = False
    """Whether its requests are only counted: what they show need not be chosen with care, as long as it is of the usual size."""

    billed = True
    """Whether asking it is paid for; a recording is not, and counts towards no budget."""

    told_price = False
    """Whether it was told that its price is from our table."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.structured = settings.structured
        self.sampling: dict[str, Any] = dict(settings.sampling)
        self._model: ModelRef | None = None
        self._adapters: dict[str, Path] = {}

    @property
    def model(self) -> ModelRef:
        """The model's identity. A server that was not told which is asked."""
        if self._model is None:
            self._model = ModelRef(
                self.settings.model or self._find_model(), self.settings.revision, self.settings.adapter
            )
        return self._model

    def _find_model(self) -> str:
        return self.name

    def check_model(self, request: Request) -> None:
        """Refuse a request that was rendered for another model.

        Raises:
            EngineError: It was.
        """
        adapter = request.model.adapter
        if replace(request.model, adapter=None) != replace(self.model, adapter=None) or (
            adapter != self.model.adapter and adapter not in self._adapters
        ):
            raise EngineError(
                f"a request for model {request.model.name} came to an engine that asks {self.model.name}",
                fix="Render requests with `engine.model`",
            )

    def use_adapter(self, name: str, folder: Path) -> ModelRef:
        """Let requests ask a LoRA adapter beside the model itself.

        Args:
            name: As the engine will be asked for it.
            folder: Where its weights are, for engines that load them.

        Returns:
            The identity to render such requests with.

        Raises:
            EngineError: The engine cannot ask it.
        """
        self._adapters[name] = folder
        return replace(self.model, adapter=name)

    def context_length(self) -> int | None:
        """Tokens of prompt and answer together that the model takes, or None if that cannot be known."""
        return None

    def count_tokens(self, messages: Iterable[Mapping[str, Any]]) -> int | None:
        """Tokens of a prompt by the model's own tokenizer, or None where that is not available."""
        return None

    def arrived(self, requests: Sequence[Request], ledger: Ledger) -> None:  # noqa: B027 - most engines are asked
        """Store what came for these requests by other ways than `call` and `answer`, before they are looked up."""

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """End what the engine holds. It may be used again afterwards."""


class CallEngine(Engine):
    """An engine that is called over a wire, one call at a time, many at once; `dispatch` bounds and repeats them."""

    @property
    @abstractmethod
    def endpoints(self) -> tuple[str, ...]:
        """Names of the places to send to."""

    @abstractmethod
    async def open(self) -> None:
        """Make ready for `call` in the running event loop."""

    @abstractmethod
    async def call(self, endpoint: int, call: Call) -> Reply:
        """Send one call to one endpoint and wait for its reply. Never raises for what the other end does."""

    async def is_up(self, endpoint: int) -> bool:
        """Whether the endpoint can be reached now."""
        return True

    @abstractmethod
    async def shut(self) -> None:
        """Undo `open`."""


class BulkEngine(Engine):
    """An engine that takes many calls at once and gives replies as they are ready, in any order."""

    @abstractmethod
    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Answer calls, pulling them as there is room for them.

        It may be called again while calls are left. A reply with a fault of kind `missing` counts towards `Pending`.
        """

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """What to raise when calls were `missing`."""
        return Pending(f"{len(calls)} requests of `{stage}` have no answer")


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


def calls_of(request: Request, samples: Iterable[int], *, max_n: int = 32) -> list[Call]:
    """The calls that ask for these samples of a request.

    Greedy requests (temperature 0) are asked one sample at a time, since vLLM refuses `n` for them.
    """
    most = 1 if request.sampling.get("temperature", 1.0) == 0 else max_n
    return [Call(request, *piece) for run in runs(samples) for piece in split(*run, most)]
