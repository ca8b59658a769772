"""The two shapes an engine comes in, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import EngineError
from factory.llm.calls import Call, Reply
from factory.llm.request import ModelRef, Request
from factory.llm.settings import EngineSettings
from factory.result import Progress

if TYPE_CHECKING:
    from factory.llm.ledger import Ledger


TAKES_HOURS = frozenset({"batch", "hosted"})
"""Engines whose answers come hours after their requests."""
BY_FILE = TAKES_HOURS | {"recorded"}
"""Engines that want all questions at once: their answers come by file."""


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
        profile: Which models' prompts and forms stages should take; those of large ones by default.
        sampling: To be laid over each prompt's own sampling.
        says: What a person should be told of it, once.
    """

    name: str = ""

    has_answered = False
    """Whether it has answered since it was made; only then does `patience_s` apply in full."""

    counting_only = False
    """Whether its requests are only counted: what they show need not be chosen with care, as long as it is of the usual size."""

    billed = True
    """Whether asking it is paid for; a recording is not, and counts towards no budget."""

    keeps_calls = False
    """Whether what it was handed goes on when this process ends, as a hosted batch does."""

    told_price = False
    """Whether it was told that its price is from our table."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.structured = settings.structured
        self.profile = settings.profile
        self.sampling: dict[str, Any] = dict(settings.sampling)
        self._model: ModelRef | None = None
        self._adapters: dict[str, Path] = {}
        self.says: list[str] = []

    @property
    def model(self) -> ModelRef:
        """The model's identity. A server that was not told which is asked."""
        if self._model is None:
            name = self.settings.model or self._find_model()
            self._model = ModelRef(name, self.settings.revision, self.settings.adapter)
        return self._model

    def _find_model(self) -> str:
        return self.name

    def check_model(self, request: Request) -> None:
        """Refuse a request that was rendered for another model (`EngineError`)."""
        adapter = request.model.adapter
        if replace(request.model, adapter=None) != replace(self.model, adapter=None) or (
            adapter != self.model.adapter and adapter not in self._adapters
        ):
            raise EngineError(
                f"a request for model {request.model.name} came to an engine that asks {self.model.name}",
                fix="Render requests with `engine.model`",
            )

    def use_adapter(self, name: str, folder: Path) -> ModelRef:
        """Let requests ask a LoRA adapter of that name beside the model itself; `folder` holds its weights.

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

    def resume(self, ledger: Ledger, progress: Progress) -> None:  # noqa: B027 - most engines are left with nothing
        """Take up what earlier runs handed to the engine, before anything is looked up; both serve until the asking ends.

        Raises:
            Pending, Unanswered: It is not done yet, or went wrong as a whole.
        """

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


def by_prompt(calls: Iterable[Call]) -> str:
    """How many calls of which prompt, in words."""
    prompts = Counter(call.request.prompt or "?" for call in calls)
    return ", ".join(f"{count} of `{name}`" for name, count in sorted(prompts.items()))


class LocalEngine(BulkEngine):
    """A model that is loaded in this process."""

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings)
        self._base = base
        self._adapters = {name: base / path for name, path in settings.adapters.items()}

    def count_tokens(self, messages: Iterable[Mapping[str, Any]]) -> int | None:
        """By the model's tokenizer and chat template, without loading the weights."""
        tokenizer = _tokenizer(self._model_path(), self.settings.revision)
        if tokenizer is None or not getattr(tokenizer, "chat_template", None):
            return None
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _model_path(self) -> str:
        assert self.settings.model is not None
        local = self._base / self.settings.model
        return str(local) if local.is_dir() else self.settings.model


@lru_cache(maxsize=4)
def _tokenizer(model: str, revision: str | None) -> Any:
    """A model's own tokenizer, where it is available (a folder, or the local hub cache)."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model, revision=revision, local_files_only=True)
    except (OSError, ValueError, KeyError):
        return None
