"""A YAML file -> stages, in order: reading, filling in variables, and checking every step before anything runs."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from factory.errors import InputError
from factory.names import plain_name
from factory.task import TaskCard, load_card, read_yaml

STEPS: dict[str, str] = {
    "ingest": "factory.pipeline.steps:ingest",
    "synthesize": "factory.synthesis.stage:synthesize",
    "measure": "factory.synthesis.quality:measure",
    "tune": "factory.tuning.stage:tune",
    "author": "factory.programs.stage:author",
    "annotate": "factory.annotation.stage:annotate",
    "vote": "factory.programs.stage:vote",
    "denoise": "factory.denoise.stage:denoise",
    "distill": "factory.distill.stage:distill",
    "evaluate": "factory.evaluation.stage:evaluate",
    "export": "factory.pipeline.steps:export",
    "export_data": "factory.pipeline.steps:export_data",
    "report": "factory.pipeline.steps:report",
}
"""Every step a pipeline may name, and the function that does it."""

ASKING = frozenset({"synthesize", "author", "annotate"})
"""Steps that ask the model."""

_LEAST: Mapping[str, Mapping[str, int]] = {
    "author": {"programs": 1, "candidates": 1, "variants": 1, "probe": 1, "examples": 0, "seeds": 0, "repairs": 0},
    "synthesize": {
        "per_label": 1,
        "candidates": 1,
        "texts_per_answer": 1,
        "oversample": 1,
        "check_samples": 1,
        "pool": 1,
    },
    "annotate": {"limit": 1, "tries": 1, "demonstrations": 0},
}
"""The least value of parameters that count something, so that a mistake is told before anything is paid for."""

_RESERVED = {"warehouse", "engine", "progress", "budget", "context", "sources"}
_TOP_KEYS = {
    "name": "a short name; the run's folder is called so",
    "task": "a task card: a path relative to this file, or the card itself",
    "engine": "whom to ask: {kind: server, url: ..., model: ...}",
    "data": "where the texts are: {train: FILE, dev: FILE, test: FILE}, or a folder of such files",
    "steps": "the list of steps; or, with `data`, what is different from the standard line",
    "variables": "defaults of ${...}; --set NAME=VALUE overrides them",
    "budget": "most to spend, in money ('2.50') or tokens ('200k tokens')",
    "description": "words for a person",
}


@dataclass(frozen=True)
class Step:
    """One step of a pipeline, checked.

    Attributes:
        verb: Its name in `STEPS`.
        params: Keyword arguments for the stage function.
        line: Where it stands in the YAML file (0 if it does not come from a file).
    """

    verb: str
    params: Mapping[str, Any]
    line: int = 0


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline.

    Attributes:
        name: Its name; the run's folder is called so.
        card: The task card.
        engine: The engine's settings as given, or None if no step asks a model.
        steps: What to do, in order.
        base: The folder that relative paths are relative to.
        budget: As given, or None.
        path: The YAML file, or None.
        variables: The values that were filled in.
    """

    name: str
    card: TaskCard
    engine: Mapping[str, Any] | None
    steps: tuple[Step, ...]
    base: Path
    budget: str | None = None
    path: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")


def load_pipeline(path: str | Path, settings: Mapping[str, str] | None = None) -> Pipeline:
    """Read a pipeline file and check all of it before anything runs.

    Args:
        path: The YAML file, or the name of a ready pipeline (`"quickstart"`).
        settings: Values for `${NAME}` (from `--set NAME=VALUE`). `data` is taken relative to the working folder.

    Raises:
        InputError: No such file, no YAML, an unknown key (the nearest known one is named), a wrong value, a variable without a
            value; with file and line.
    """
    path = find_pipeline(path)
    data, lines = read_yaml(path)
    if not isinstance(data, dict):
        raise InputError("a pipeline is a YAML mapping with `task` and `steps`", where=path)
    for key in data:
        if key not in _TOP_KEYS:
            raise InputError(
                f"unknown key `{key}`{_nearest(str(key), _TOP_KEYS)}", where=f"{path}:{lines.get((key,), 1)}"
            )
    variables = {str(k): str(v) for k, v in (data.get("variables") or {}).items()}
    _no_stranger(settings or {}, {*variables, *_VARIABLE.findall(str(data))}, path)
    variables |= dict(settings or {})
    data = _fill(data, (), variables, lines, path)
    if not data.get("task"):
        raise InputError("`task` is missing", where=path, fix=f"Add {_TOP_KEYS['task']}")
    base = path.parent
    card = _card(data["task"], base, f"{path}:{lines.get(('task',), 1)}")
    steps = _steps(data, base, path, lines)
    for step in steps:
        _stays_in_folder(step, path)
    engine = data.get("engine")
    asking = next((step for step in steps if step.verb in ASKING), None)
    if engine is None and asking is not None:
        raise InputError(
            f"`{asking.verb}` asks a model, and the pipeline has no `engine`",
            where=f"{path}:{asking.line}",
            fix="Add `engine: {kind: server, url: http://127.0.0.1:8000/v1, model: NAME}`",
        )
    if engine is not None:
        check_engine(engine, f"{path}:{lines.get(('engine',), 1)}")
    budget = data.get("budget")
    return Pipeline(
        pipeline_name(data, path, lines.get(("name",), 1)),
        card,
        engine,
        steps,
        base,
        None if budget is None else str(budget),
        path,
        variables,
    )


def _stays_in_folder(step: Step, path: Path) -> None:
    """Refuse a file that would let a step write outside of the run's folder; the command line may name any place.

    Raises:
        InputError: `path` is absolute, or leads out.
    """
    given = step.params.get("path")
    if given is None:
        return
    parts = Path(str(given)).parts
    if Path(str(given)).is_absolute() or ".." in parts:
        raise InputError(
            f"`{step.verb}.path` leads out of the run's folder",
            where=f"{path}:{step.line}",
            fix="Name a folder in it; `factory export` writes anywhere",
        )


def pipeline_name(data: Mapping[str, Any], path: Path, line: int = 1) -> str:
    """A pipeline's name: the one it gives itself, or its file's.

    Raises:
        InputError: It cannot be a folder's name.
    """
    if data.get("name") is None:
        return plain_name(path.stem, f"the name of the file {path.name}, which has no `name:`,", where=f"{path}:1")
    return plain_name(data["name"], "`name`", where=f"{path}:{line}")


def find_pipeline(path: str | Path) -> Path:
    """The file itself, or the ready pipeline of that name.

    Raises:
        InputError: There is neither; the nearest that there is, and all ready ones, are named.
    """
    from factory.resources import shipped

    given = Path(path)
    if given.is_file():
        return given.absolute()
    ready = shipped("pipelines")
    named = ready / (given.name if given.suffix in {".yaml", ".yml"} else f"{given.name}.yaml")
    by_name = given.parent in {Path("."), Path("pipelines")}
    if by_name and named.is_file():
        return named
    names = sorted(found.stem for found in ready.glob("*.yaml"))
    near = {str(file): None for end in ("*.yaml", "*.yml") for file in sorted(given.parent.glob(end))}
    near |= dict.fromkeys(names if by_name else [])
    raise InputError(
        f"no such pipeline file{_nearest(str(given), near)}",
        where=given,
        fix=f"Check the path, or name a ready one: {', '.join(names)}",
    )


def check_engine(engine: Any, where: str) -> None:
    """Check an engine's settings.

    Raises:
        InputError: An unknown key or a wrong value.
    """
    from factory.llm.settings import EngineSettings

    if not isinstance(engine, Mapping):
        raise InputError("`engine` is a mapping with `kind`", where=where)
    _validate(EngineSettings, engine, where, "engine")


def step_function(verb: str) -> Callable[..., Any]:
    """The function of a step."""
    module, _, name = STEPS[verb].partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def step_model(verb: str) -> type[BaseModel]:
    """The pydantic model of a step's parameters, made from its function's keyword-only arguments."""
    function = step_function(verb)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or name in _RESERVED:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        annotation, least = _annotation(parameter.annotation, function), _LEAST.get(verb, {}).get(name)
        fields[name] = (annotation if least is None else Annotated[annotation, Field(ge=least)], default)
    return create_model(
        f"{verb}_parameters", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields
    )


def make_step(verb: str, params: Mapping[str, Any], *, where: str = "", line: int = 0) -> Step:
    """One checked step.

    Raises:
        InputError: No such step, an unknown parameter or a wrong value.
    """
    if verb not in STEPS:
        raise InputError(f"unknown step `{verb}`{_nearest(verb, STEPS)}", where=where, fix=f"Steps: {', '.join(STEPS)}")
    model = _validate(step_model(verb), params, where, verb)
    given = {name: getattr(model, name) for name in model.model_fields_set}
    if verb == "distill" and given.get("student") not in (None, "auto"):
        _known_student(str(given["student"]), where)
    return Step(verb, given, line)


def _known_student(name: str, where: str) -> None:
    """Refuse a student that is not there before the steps that cost something.

    Raises:
        InputError: There is none of that name.
    """
    from factory.students.base import STUDENTS

    if name not in STUDENTS:
        raise InputError(
            f"`distill.student`: there is no student {name!r}{_nearest(name, STUDENTS)}",
            where=where,
            fix=f"There are auto, {', '.join(STUDENTS)}",
        )


# ----------------------------------------------------------------------------------------------------------------------
def _card(task: Any, base: Path, where: str) -> TaskCard:
    if isinstance(task, Mapping):
        return load_card(task, where=where)
    path = base / str(task)
    if not path.is_file():
        raise InputError(f"no task card at {path}", where=where, fix="Give a path relative to the pipeline file")
    return load_card(path)


def _steps(data: Mapping[str, Any], base: Path, path: Path, lines: Mapping[tuple[Any, ...], int]) -> tuple[Step, ...]:
    """The steps that a file lists, or the standard line over its `data` with the changes that it names."""
    from factory.pipeline.standard import changed_line, data_sources, standard_line

    given, where = data.get("steps"), f"{path}:{lines.get(('steps',), 1)}"
    if data.get("data") is None:
        if not given:
            raise InputError("`steps` is missing", where=path, fix=f"Add {_TOP_KEYS['steps']}; or `data` alone")
        if not isinstance(given, list):
            raise InputError(
                "`steps` is a list of steps",
                where=where,
                fix="A mapping goes with `data`, and changes the standard line",
            )
    at = lines.get(("data",), 1)
    sources = {} if data.get("data") is None else data_sources(data["data"], base, f"{path}:{at}")
    if isinstance(given, list):
        listed = [_step(item, lines.get(("steps", number), 1), path) for number, item in enumerate(given)]
        if sources and any(step.verb == "ingest" for step in listed):
            raise InputError("the texts are given twice, by `data` and by `ingest`", where=where, fix="Leave one out")
        first = [make_step("ingest", sources, where=f"{path}:{at}", line=at)] if sources else []
        return (*first, *listed)
    if given is not None and not isinstance(given, Mapping):
        raise InputError("`steps` is a list of steps, or a mapping of changes to the standard line", where=where)
    changes = given or {}
    for verb in changes:
        if verb not in STEPS:
            make_step(str(verb), {}, where=f"{path}:{lines.get(('steps', verb), 1)}")
    try:
        line = changed_line(standard_line(sources), changes)
    except InputError as error:
        raise InputError(error.what, where=where) from error
    places = {verb: lines.get(("steps", verb), at) for verb, _ in line}
    return tuple(make_step(verb, params, where=f"{path}:{places[verb]}", line=places[verb]) for verb, params in line)


def _step(item: Any, line: int, path: Path) -> Step:
    where = f"{path}:{line}"
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, Mapping) or len(item) != 1:
        raise InputError("a step is `- VERB: {parameters}`, one verb each", where=where)
    verb, params = next(iter(item.items()))
    params = {} if params is None else params
    if not isinstance(params, Mapping):
        raise InputError(f"the parameters of `{verb}` are a mapping", where=where)
    return make_step(str(verb), params, where=where, line=line)


def _validate(model: type[BaseModel], values: Mapping[str, Any], where: str, what: str) -> BaseModel:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors()
        first = found[0]
        if first["type"] == "extra_forbidden":
            name = ".".join(map(str, first["loc"]))
            known = model.model_fields if len(first["loc"]) == 1 else {}
            raise InputError(f"unknown key `{name}` in `{what}`{_nearest(name, known)}", where=where) from error
        if first["type"] == "missing":
            raise InputError(f"`{what}` needs `{'.'.join(map(str, first['loc']))}`", where=where) from error
        if first["type"] == "value_error":
            name = ".".join([what, *map(str, first["loc"])])
            words = str(first["msg"]).removeprefix("Value error, ")
            raise InputError(f"`{name}`: {words}" if first["loc"] else words, where=where) from error
        at, given = _place(first["loc"], values)
        alike = [one for one in found if _place(one["loc"], values)[0] == at]
        words = " or ".join(dict.fromkeys(map(_expected, alike)))
        choices = [choice for one in alike for choice in _choices(one)]
        near = _nearest(given, dict.fromkeys(choices)) if isinstance(given, str) else ""
        name = ".".join([what, *map(str, at)])
        raise InputError(f"`{name}` is {words} (given: {given!r:.80}){near}", where=where) from error


_EXPECTED = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text", "list": "a list",
    "dict": "a mapping", "model": "a mapping", "mapping": "a mapping", "none": "left out",
}  # fmt: skip
"""What pydantic expected, by the beginning of its error's type."""


def _expected(error: Any) -> str:
    """What a value should have been, in words."""
    context = error.get("ctx", {})
    match error["type"]:
        case "literal_error":
            return f"one of {', '.join(f'`{choice}`' for choice in _choices(error))}"
        case "greater_than_equal":
            return f"{context['ge']:g} or more"
        case "greater_than":
            return f"above {context['gt']:g}"
        case "less_than_equal":
            return f"{context['le']:g} or less"
    return _EXPECTED.get(error["type"].split("_")[0], str(error["msg"]))


def _choices(error: Any) -> list[str]:
    """The values of a literal that was not met, as pydantic's `'a', 'b' or 'c'` names them."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"]) if error["type"] == "literal_error" else []


def _place(loc: Sequence[Any], values: Any) -> tuple[tuple[Any, ...], Any]:
    """Where in the values an error lies, without the names that pydantic gives the members of a union; and what is there."""
    at: list[Any] = []
    for part in loc:
        inside = isinstance(values, Mapping) and part in values
        if not inside and not (isinstance(values, list) and isinstance(part, int) and part < len(values)):
            break
        values = values[part]
        at.append(part)
    return tuple(at), values


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _fill(
    value: Any, at: tuple[Any, ...], variables: Mapping[str, str], lines: Mapping[tuple[Any, ...], int], path: Path
) -> Any:
    """Replace `${name}` in every string."""
    if isinstance(value, Mapping):
        return {key: _fill(item, (*at, key), variables, lines, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, (*at, index), variables, lines, path) for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if name not in variables:
            raise InputError(
                f"`${{{name}}}` has no value", where=f"{path}:{lines.get(at, 1)}", fix=f"Run with --set {name}=VALUE"
            )
        return variables[name]

    return _VARIABLE.sub(one, value)


def _no_stranger(settings: Mapping[str, str], has: set[str], path: Path) -> None:
    """Refuse a value for a variable that the file does not have.

    Raises:
        InputError: There is one; the nearest variable, and all of them, are named.
    """
    for name in settings:
        if name not in has:
            known = f"It has {', '.join(f'`${{{one}}}`' for one in sorted(has))}; anything" if has else "Anything"
            raise InputError(
                f"--set {name}: the pipeline has no `${{{name}}}`{_nearest(name, dict.fromkeys(has))}",
                where=path,
                fix=f"{known} else is changed in a pipeline file of your own",
            )


def _annotation(annotation: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return Any if annotation is inspect.Parameter.empty else annotation
    names = {**vars(typing), **function.__globals__, "Mapping": Mapping, "Path": Path}
    try:
        return eval(annotation, names)  # the annotation of our own function, written as text by `annotations`
    except NameError:
        return Any
