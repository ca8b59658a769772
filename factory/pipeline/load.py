"""A YAML file -> stages, in order: reading, filling in variables, and checking every step before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError, nearest
from factory.names import plain_name
from factory.pipeline.steps import Step, make_step
from factory.pipeline.verbs import STEPS
from factory.task import TaskCard, load_card, read_yaml
from factory.validation import validated

if TYPE_CHECKING:
    from factory.llm.settings import EngineSettings

TOP_KEYS = {
    "name": "a short name; the run's folder is called so",
    "task": "a task card: a path relative to this file, or the card itself",
    "engine": "whom to ask: {kind: server, url: ..., model: ...}",
    "data": "where the texts are: {train: FILE, dev: FILE, test: FILE}, or a folder of such files",
    "steps": "the list of steps; or, with `data`, `auto` (the default), `standard`, or what is different from that line",
    "variables": "defaults of ${...}; --set NAME=VALUE overrides them",
    "budget": "most to spend, in money ('2.50'), tokens ('200k tokens') or requests ('500 requests')",
    "cluster": "where work that divides is done: {ray: HOST:6379}, or {ray: local}",
    "description": "words for a person",
}


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
        cluster: The address of the Ray cluster on which work that divides is done (`local`: this machine), or None.
    """

    name: str
    card: TaskCard
    engine: Mapping[str, Any] | None
    steps: tuple[Step, ...]
    base: Path
    budget: str | None = None
    path: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None


At = Callable[..., str]
"""Key path to `FILE:LINE`."""
Lines = Mapping[tuple[Any, ...], int]
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
    at = _places(path, lines)
    for key in data:
        if key not in TOP_KEYS:
            raise InputError(f"unknown key `{key}`{nearest(str(key), TOP_KEYS)}", where=at(key))
    variables = _variables(data, at)
    _reject_unknown_variables(settings or {}, {*variables, *_VARIABLE.findall(str(data))}, path)
    variables |= dict(settings or {})
    data = _fill(data, (), variables, at)
    if not data.get("task"):
        raise InputError("`task` is missing", where=path, fix=f"Add {TOP_KEYS['task']}")
    card = _card(data["task"], path.parent, at("task"))
    steps = _steps(data, path, lines)
    for step in steps:
        _stays_in_folder(step, path)
    engine = data.get("engine")
    asking = next((step for step in steps if step.asks), None)
    if engine is None and asking is not None:
        raise InputError(
            f"`{asking.verb}` asks a model, and the pipeline has no `engine`",
            where=f"{path}:{asking.line}",
            fix="Add `engine: {kind: server, url: http://127.0.0.1:8000/v1, model: NAME}`",
        )
    if engine is not None:
        check_engine(engine, at("engine"))
    budget = None if data.get("budget") is None else str(data["budget"])
    where_done = None if data.get("cluster") is None else _cluster(data["cluster"], at("cluster"))
    return Pipeline(_name(data, path, at), card, engine, steps, path.parent, budget, path, variables, where_done)


def load_engine(path: str | Path) -> tuple[EngineSettings, Path, str | None]:
    """The engine of a pipeline, or of a YAML file that holds nothing else, with the folder that its paths are relative to.

    Returns:
        Its settings, that folder, and the pipeline's budget if it has one.

    Raises:
        InputError: No such file, no engine in it, or a wrong value.
    """
    from factory.llm.settings import EngineSettings

    path = find_pipeline(path)
    data, lines = read_yaml(path)
    at = _places(path, lines)
    alone = isinstance(data, Mapping) and "kind" in data and "engine" not in data
    held = {"engine": data} if alone else data
    if not isinstance(held, Mapping) or not isinstance(held.get("engine"), Mapping):
        fix = "Name a pipeline with `engine:`, or a file with `kind: server`, `url:` and `model:`"
        raise InputError("there is no engine in this file", where=path, fix=fix)
    given = _fill({name: held.get(name) for name in ("engine", "budget")}, (), _variables(held, at), at)
    settings = validated(EngineSettings, given["engine"], what="engine", where=at(*(() if alone else ("engine",))))
    return settings, path.parent, None if given["budget"] is None else str(given["budget"])


def run_name(path: Path) -> str:
    """The name of a pipeline's run, which is its folder's too, without a look at the rest of the file.

    Raises:
        InputError: The file cannot be read, or its name cannot be one.
    """
    data, lines = read_yaml(path)
    at = _places(path, lines)
    if not isinstance(data, Mapping):
        return _name({}, path, at)
    try:
        return _name({"name": _fill(data.get("name"), ("name",), _variables(data, at), at)}, path, at)
    except InputError as error:
        if "has no value" not in error.what:
            raise
        raise InputError(error.what, where=error.where, fix="Name the run's folder instead of the pipeline") from error


def still_to_do(pipeline: Pipeline) -> tuple[str, ...]:
    """What is still as `factory init` wrote it, in words: the model is MODEL, or descriptions begin with TODO."""
    found = ["the engine's `model` is still MODEL"] if (pipeline.engine or {}).get("model") == "MODEL" else []
    open_labels = [f"`{label.name}`" for label in pipeline.card.labels if label.description.startswith("TODO")]
    if open_labels:
        found.append(f"the description of {', '.join(open_labels)} is still a TODO")
    return tuple(found)


def refuse_to_do(pipeline: Pipeline) -> None:
    """Ask nothing while a person has something to fill in.

    Raises:
        InputError: See `still_to_do`.
    """
    found = still_to_do(pipeline)
    if found:
        fix = "Name the model that the server serves, and say in one or two sentences what each label means"
        raise InputError("; ".join(found), where=pipeline.path, fix=fix)


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
    fix = f"Check the path, or name a ready one: {', '.join(names)}"
    raise InputError(f"no such pipeline file{nearest(str(given), near)}", where=given, fix=fix)


def check_engine(engine: Any, where: str) -> None:
    """Check an engine's settings.

    Raises:
        InputError: An unknown key or a wrong value.
    """
    from factory.llm.settings import EngineSettings

    if not isinstance(engine, Mapping):
        raise InputError("`engine` is a mapping with `kind`", where=where)
    validated(EngineSettings, engine, what="engine", where=where)


# ----------------------------------------------------------------------------------------------------------------------
def _places(path: Path, lines: Lines) -> At:
    return lambda *key: f"{path}:{lines.get(key, 1)}"


def _stays_in_folder(step: Step, path: Path) -> None:
    """Refuse a file that would let a step write outside of the run's folder; the command line may name any place."""
    given = Path(str(getattr(step.params, "path", None) or "."))
    if given.is_absolute() or ".." in given.parts:
        words = f"`{step.verb}.path` leads out of the run's folder"
        fix = "Name a folder in it; `factory export` writes anywhere"
        raise InputError(words, where=f"{path}:{step.line}", fix=fix)


def _name(data: Mapping[str, Any], path: Path, at: At) -> str:
    """The name in the file, or the file's own: it becomes a folder, so it may not lead out of where runs are."""
    given = data.get("name")
    if given is None:
        return plain_name(path.stem, f"the name of the file {path.name}, which has no `name:`,", where=f"{path}:1")
    return plain_name(given, "`name`", where=at("name"))


def _variables(data: Mapping[str, Any], at: At) -> dict[str, str]:
    """The defaults that the file gives its variables."""
    given = data.get("variables") or {}
    if not isinstance(given, Mapping):
        raise InputError("`variables` is a mapping of names to values", where=at("variables"))
    return {str(name): str(value) for name, value in given.items()}


def _cluster(given: Any, where: str) -> str:
    """The address of the Ray cluster that a file names."""
    if not isinstance(given, Mapping) or list(given) != ["ray"] or not isinstance(given["ray"], str):
        raise InputError("`cluster` is {ray: ADDRESS}: HOST:6379, or `local`", where=where)
    return given["ray"]


def _card(task: Any, base: Path, where: str) -> TaskCard:
    if isinstance(task, Mapping):
        return load_card(task, where=where, base=base)
    path = base / str(task)
    if not path.is_file():
        raise InputError(f"no task card at {path}", where=where, fix="Give a path relative to the pipeline file")
    return load_card(path)


def _steps(data: Mapping[str, Any], path: Path, lines: Lines) -> tuple[Step, ...]:
    """The steps that a file lists, or the standard line over its `data` with the changes that it names."""
    from factory.pipeline.standard import LINES, auto_line, changed_line, data_sources, standard_line

    given, where = data.get("steps"), f"{path}:{lines.get(('steps',), 1)}"
    if data.get("data") is None:
        if not given:
            raise InputError("`steps` is missing", where=path, fix=f"Add {TOP_KEYS['steps']}; or `data` alone")
        if not isinstance(given, list):
            fix = "A mapping goes with `data`, and changes the standard line"
            raise InputError("`steps` is a list of steps", where=where, fix=fix)
    at = lines.get(("data",), 1)
    sources = {} if data.get("data") is None else data_sources(data["data"], path.parent, f"{path}:{at}")
    if isinstance(given, list):
        listed = [_step(item, lines.get(("steps", number), 1), path) for number, item in enumerate(given)]
        if sources and any(step.verb == "ingest" for step in listed):
            raise InputError("the texts are given twice, by `data` and by `ingest`", where=where, fix="Leave one out")
        first = [make_step("ingest", sources, where=f"{path}:{at}", line=at)] if sources else []
        return (*first, *listed)
    auto = given in (None, "auto") or (isinstance(given, Mapping) and given.get("buy", False) is not False)
    if not (given is None or given in LINES or isinstance(given, Mapping)):
        raise InputError(
            "`steps` is a list of steps, `auto`, `standard`, or a mapping of changes to a line", where=where
        )
    changes = given if isinstance(given, Mapping) else {}
    for verb in changes:
        if verb not in STEPS:
            make_step(str(verb), {}, where=f"{path}:{lines.get(('steps', verb), 1)}")
    try:
        line = auto_line(sources, changes) if auto else changed_line(standard_line(sources), changes)
    except InputError as error:
        raise InputError(error.what, where=where) from error
    places = {verb: lines.get(("steps", verb), at) for verb, _ in line}
    return tuple(make_step(verb, params, where=f"{path}:{places[verb]}", line=places[verb]) for verb, params in line)


def _step(item: Any, line: int, path: Path) -> Step:
    where = f"{path}:{line}"
    item = {item: {}} if isinstance(item, str) else item
    if not isinstance(item, Mapping) or len(item) != 1:
        raise InputError("a step is `- VERB: {parameters}`, one verb each", where=where)
    verb, params = next(iter(item.items()))
    params = {} if params is None else params
    if not isinstance(params, Mapping):
        raise InputError(f"the parameters of `{verb}` are a mapping", where=where)
    return make_step(str(verb), params, where=where, line=line)


def _fill(value: Any, place: tuple[Any, ...], variables: Mapping[str, str], at: At) -> Any:
    """Replace `${name}` in every string."""
    if isinstance(value, Mapping):
        return {key: _fill(item, (*place, key), variables, at) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, (*place, index), variables, at) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if name not in variables:
            raise InputError(f"`${{{name}}}` has no value", where=at(*place), fix=f"Run with --set {name}=VALUE")
        return variables[name]

    return _VARIABLE.sub(one, value)


def _reject_unknown_variables(settings: Mapping[str, str], has: set[str], path: Path) -> None:
    """Refuse a value for a variable that the file does not have."""
    for name in settings:
        if name not in has:
            known = f"It has {', '.join(f'`${{{one}}}`' for one in sorted(has))}; anything" if has else "Anything"
            words = f"--set {name}: the pipeline has no `${{{name}}}`{nearest(name, has)}"
            raise InputError(words, where=path, fix=f"{known} else is changed in a pipeline file of your own")
