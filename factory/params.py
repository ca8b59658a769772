"""How a stage is declared: its parameters as one model, and its function, from which everything else is made.

    class VoteParams(Params):
        block: int = Field(20_000, ge=1, description="Texts in one transaction: ...")

    @stage("vote", VoteParams)
    def vote(warehouse, params, call): ...

The model checks YAML, the command line and a notebook alike, and gives the JSON schema, `factory VERB --help`, the
signature and the docstring of `vote(warehouse, block=500)`, and the reference page. `factory.pipeline.steps` has the table.
"""

from __future__ import annotations

import inspect
import json
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from typing_extensions import is_typeddict

from factory.errors import InputError
from factory.result import Progress, StageResult, no_progress
from factory.validation import validated

if TYPE_CHECKING:
    from factory.llm.budget import Budget
    from factory.llm.engines.base import Engine
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse


class Params(BaseModel):
    """The parameters of a stage: frozen, every key known, each with its bounds and a description that defends its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """What was said; the others have their defaults."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def extras(self) -> dict[str, str]:
        """Packages of an extra that these parameters ask for (see `factory.extras`), and what needs each, in words."""
        return {}


@dataclass(frozen=True)
class Call:
    """What a stage gets beside its parameters.

    Attributes:
        asked: Whom to ask (`engine` gives it, or says that there is none).
        budget: The most to spend; shared by all steps of a run.
        progress: Called with (done, total, what).
        card: The task card, for `ingest`.
        base: The folder that relative paths of a pipeline are relative to; the working folder if None.
        folder: The run's folder; the working folder if None.
        settings: The engine's settings as the pipeline gives them.
        release: Frees what the engine holds (connections, a model in memory).
        begin: A stage that asks no model calls it once it knows that there is something to compute. `factory plan` ends it there.
    """

    asked: Engine | None = None
    budget: Budget | None = None
    progress: Progress = no_progress
    card: TaskCard | None = None
    base: Path | None = None
    folder: Path | None = None
    settings: Mapping[str, Any] | None = None
    release: Callable[[], None] = lambda: None
    begin: Callable[[], None] = lambda: None

    @property
    def engine(self) -> Engine:
        """Whom to ask.

        Raises:
            InputError: Nobody was named.
        """
        if self.asked is None:
            raise no_engine()
        return self.asked


def no_engine() -> InputError:
    """What is said where a step asks, and nobody is named."""
    return InputError("no engine is given", fix="Add `engine:` to the pipeline, or --engine on the command line")


P = TypeVar("P", bound=Params)
Function = Callable[["Warehouse", P, Call], StageResult]
_NAMES = {"engine": "asked"}
_HELP = {
    "warehouse": "`Warehouse.memory()` or `Warehouse.open(path)`.",
    "engine": "Whom to ask, from `make_engine`.",
    "card": "The task card, from `load_card`.",
    "base": "The folder that relative paths are relative to; the working folder by default.",
    "budget": "The most to spend, from `parse_budget`; no limit by default.",
    "progress": "Called with (done, total, what).",
}


class Stage(Generic[P]):
    """A verb of the line, called as a function: `author(warehouse, engine, programs=3)` checks its parameters and calls `run`.

    Attributes:
        name: The verb.
        params: The model of its parameters.
        asks: Whether it asks a language model.
        run: The function itself: `(warehouse, params, call)`.
    """

    def __init__(
        self, name: str, params: type[P], run: Function[P], *, second: str | None, takes: tuple[str, ...]
    ) -> None:
        self.name, self.params, self.run, self.second = name, params, run, second
        self.asks = second == "engine"
        self._takes = (*(("budget",) if self.asks else ()), *takes, "progress")
        self.__name__, self.__qualname__, self.__module__ = name, name, run.__module__
        self.__doc__ = _docstring(self, inspect.getdoc(run) or name)

    def __call__(self, warehouse: Warehouse, /, *args: Any, **given: Any) -> StageResult:
        """Check the parameters and run.

        Raises:
            InputError: An unknown parameter or a wrong value.
        """
        if len(args) > (self.second is not None):
            raise TypeError(f"{self.name}() takes {self.signature()}")
        if args and self.second is not None:
            given = {self.second: args[0], **given}
        known = self.params.model_fields
        if self.second is not None and self.second not in given and self.second not in known:
            raise TypeError(f"{self.name}() needs `{self.second}`: {self.name}{self.signature()}")
        beside = {name for name in given if name in (*self._takes, self.second) and name not in known}
        told = {_NAMES.get(name, name): given.pop(name) for name in beside}
        call = Call(**{name: value for name, value in told.items() if value is not None})
        return self.run(warehouse, validated(self.params, given, what=self.name), call)

    def signature(self) -> inspect.Signature:
        """As people call it: the warehouse, what it works on, its parameters by name, and what every call may have."""

        def named(name: str, info: FieldInfo, kind: Any = inspect.Parameter.KEYWORD_ONLY) -> inspect.Parameter:
            default = inspect.Parameter.empty if info.is_required() else info.get_default(call_default_factory=True)
            return inspect.Parameter(name, kind, default=default, annotation=info.annotation)

        known, positional = dict(self.params.model_fields), inspect.Parameter.POSITIONAL_OR_KEYWORD
        at = [inspect.Parameter("warehouse", inspect.Parameter.POSITIONAL_ONLY)]
        if self.second is not None and self.second in known:
            at.append(named(self.second, known.pop(self.second), positional))
        elif self.second is not None:
            at.append(inspect.Parameter(self.second, positional))
        at += [named(name, info) for name, info in known.items()]
        at += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in self._takes]
        return inspect.Signature(at, return_annotation=StageResult)

    @property
    def __signature__(self) -> inspect.Signature:
        return self.signature()

    def __repr__(self) -> str:
        return f"<stage {self.name}>"


def stage(
    name: str, params: type[P], *, asks: bool = False, second: str | None = None, takes: tuple[str, ...] = ()
) -> Callable[[Function[P]], Stage[P]]:
    """Make a stage of a function `(warehouse, params, call)`.

    Args:
        name: The verb.
        params: The model of its parameters.
        asks: Whether it asks a language model: the second argument is then the engine.
        second: What the second argument is otherwise: `card`, or one of the parameters.
        takes: What else of a `Call` people may name: `base`.
    """
    return lambda run: Stage(name, params, run, second="engine" if asks else second, takes=takes)


def type_words(annotation: Any) -> str:
    """A type in words: `whole number or null`, `list of text`; the values themselves where only some are allowed."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return "null"
    if annotation is Any:
        return "anything"
    if origin is typing.Annotated:
        return type_words(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_words(one) for one in inner))
    if origin in (list, tuple):
        return f"list of {type_words(inner[0])}"
    if origin is dict or is_typeddict(annotation):
        return "mapping"
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "dict": "mapping"}
    name = getattr(annotation, "__name__", str(annotation))
    return words.get(name, name)


def default_words(info: FieldInfo) -> str:
    """A parameter's default as YAML writes it; empty if it must be given."""
    if info.is_required():
        return ""
    value = to_jsonable_python(info.get_default(call_default_factory=True))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _docstring(made: Stage[Any], words: str) -> str:
    """The function's own words, with the arguments put before what it returns and raises."""
    ends = [at for at in (words.find("\nReturns:"), words.find("\nRaises:")) if at >= 0]
    at = min(ends, default=len(words))
    named = [(name, info.description or "") for name, info in made.params.model_fields.items()]
    second = [(made.second, _HELP[made.second])] if made.second in ("engine", "card") and made.second else []
    told = [("warehouse", _HELP["warehouse"]), *second, *named, *((name, _HELP[name]) for name in made._takes)]
    wrapped = textwrap.TextWrapper(110, initial_indent="    ", subsequent_indent="        ")
    lines = [wrapped.fill(f"{name}: {text}") for name, text in told]
    return "\n".join([words[:at].rstrip(), "", "Args:", *lines, words[at:].rstrip()]).rstrip() + "\n"
