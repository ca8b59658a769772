"""The reference page, written from the code: `python -m factory.reference > factory/REFERENCE.md`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from factory.errors import FactoryError

HEAD = """# Reference

Written from the code by `python -m factory.reference > factory/REFERENCE.md`; a test compares both. The README says how
to begin. A default that is not written as a value is said in words.
"""
BATCH = """
A line of the requests file is what the OpenAI batch API takes, and one of the results file what it gives; `custom_id` joins
them (`request_key:first-last`, the samples that are asked for). A results file may have its lines in any order, may be partial,
and may be read twice. A line (it is one line in the file):

```json
{"custom_id": "0f3a...:0-0", "response": {"status_code": 200, "body": {"choices": [{"index": 0, "message":
 {"content": "billing"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 412, "completion_tokens": 2}}}}
```

`run` with `engine: {kind: batch, model: NAME, requests: FILE, results: FILE}` writes everything that can be asked now, of all
stages, into one file and ends with exit code 4. The model's name is part of each request, so it is needed whoever answers.

With `engine: {kind: batch, url: URL, model: NAME}`, without `requests`, `run` hands the file itself to an OpenAI-compatible batch
service (`/files`, `/batches`) and waits until it is done; `wait: false` ends with exit code 4 instead, and running it again goes
on. Each step submits its own requests, in as many batches as the service's limits ask for (50,000 requests, 200 MB). A batch is
in the table `batches` before anything is sent: after a kill, or Ctrl-C, the next run takes it up, and nothing is submitted twice.
A line with an error stays open for the next run, as with any engine; what an expired batch did not come to is submitted anew.
`--budget` holds before submission. Hosted batches mostly cost half: give the halved figures as `price`, as no table is asked. All
of this is tested against a local service of the documented form.
"""
SHARED = ("--set", "--folder", "--json")
"""Options that are described once."""
EXIT_CODES = {
    0: "Done.", 1: "`factory doctor` found that something is missing.",
    130: "Stopped (Ctrl-C); run the same command again to go on.",
}  # fmt: skip
"""Those that no error has."""
VARIABLES = {
    "LABEL_FACTORY_ENCODER": "the sentence encoder that `encoder: auto` means: a folder or a hub name",
    "LABEL_FACTORY_MODELS": "a folder of prepared models that `encoder: auto` may choose from (`tests/prepare_models.py`)",
    "LABEL_FACTORY_CACHE": "where graphs of encoders for ONNX Runtime are kept; `~/.cache/label-factory` by default",
    "LABEL_FACTORY_PROMPTS": "a folder of prompt files that are taken before the shipped ones of the same name",
    "RAY_ADDRESS": "the Ray cluster that `run --ray`, `predict --ray` and `vote: {ray: true}` use; this machine without it",
}


def reference() -> str:
    """The whole page."""
    parts = [
        HEAD,
        *_commands(),
        *_pipeline(),
        *_steps(),
        *_engines(),
        *_encoders(),
        *_members(),
        *_warehouse(),
        *_outside(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _commands() -> Iterator[str]:
    import typer

    from factory.cli import app
    from factory.commands.lines import VerbCommand

    found = dict(commands_of(typer.main.get_command(app)))
    verbs = {path: command for path, command in found.items() if isinstance(command, VerbCommand)}
    yield "## Commands\n\nEvery command has `--help`. Options that several commands have:\n"
    yield from _table(("option", "what it does"), [(_called(option), _words(option.help)) for option in _shared(found)])
    yield f"### One step: {', '.join(f'`{path}`' for path in verbs)}\n"
    yield "`factory VERB PIPELINE` runs one step of a pipeline (or of a task card alone); its parameters stand below.\n"
    yield from _options([option for command in verbs.values() for option in command.params], _shared(found), verbs)
    for path, command in found.items():
        if path not in verbs:
            given = [(p.name.upper(), p.required) for p in command.params if p.param_type_name == "argument"]
            yield f"### `{' '.join([path, *(name if needed else f'[{name}]' for name, needed in given)])}`\n"
            yield f"{_words(inspect.cleandoc(command.help or ''))}\n"
            yield from _options(command.params, _shared(found), {})


def _shared(commands: Mapping[str, Any]) -> list[Any]:
    """Options that mean the same in many commands."""
    first = {option.opts[0]: option for command in commands.values() for option in command.params}
    return [first[name] for name in SHARED]


def _options(params: Sequence[Any], shared: Sequence[Any], verbs: Mapping[str, Any]) -> Iterator[str]:
    """A table of arguments and options; of several verbs, with the verbs that have an option where not all do."""
    rows: dict[str, tuple[str, str, str]] = {}
    left_out = {"--help", *(option.opts[0] for option in shared)}
    for option in params:
        if option.opts[0] in left_out:
            continue
        default = getattr(option.default, "value", option.default)
        shown = "" if default in (None, False, []) or callable(default) else f"`{default}`"
        have = [path.split()[-1] for path, verb in verbs.items() if any(o.opts == option.opts for o in verb.params)]
        some = f" ({', '.join(have)})" if len(have) < len(verbs) else ""
        rows[option.opts[0]] = (_called(option), shown, f"{_words(option.help or '')}{some}")
    yield from _table(("argument or option", "default", "what it does"), list(rows.values()))


def _called(option: Any) -> str:
    names = [option.name.upper()] if option.param_type_name == "argument" else [*option.opts, *option.secondary_opts]
    return f"`{', '.join(names)}`"


def commands_of(group: Any, path: str = "factory") -> Iterator[tuple[str, Any]]:
    """Every command with its path, groups gone into."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _pipeline() -> Iterator[str]:
    from factory.files.source import SourceSpec
    from factory.pipeline.load import TOP_KEYS
    from factory.task import Label, TaskCard

    yield "## A pipeline file\n"
    yield from _table(("key", "what it is"), [(f"`{key}`", words) for key, words in TOP_KEYS.items()])
    yield "### A task card\n"
    yield from _fields(TaskCard)
    yield "Each of `labels` (a mapping of names to descriptions does as well):\n"
    yield from _fields(Label)
    yield "### A source of texts\n"
    yield "What stands for `train`, `seed`, `dev`, `test` and `reference`: a path, a mapping of these keys, or a list of such.\n"
    yield from _fields(SourceSpec)


def _encoders() -> Iterator[str]:
    from factory.encoders.auto import BUDGET_S, KNOWN, PUBLISHED
    from factory.encoders.settings import HOW, EncoderSettings

    yield "## Encoders\n"
    yield f"`encoder:` is {HOW}. Its keys: {', '.join(f'`{key}`' for key in EncoderSettings.__annotations__)}."
    yield (
        "Prompt (for classification), window and dimension are the model's own unless they are named; they are part of a vector's"
        " key in the warehouse, and an export carries them. On a CPU a graph for ONNX Runtime is made of a model once, in int8"
        " where its vectors stay near those of fp32; `precision: fp32` asks for the exact ones.\n"
    )
    yield f"`auto` takes the strongest of these on the disk whose texts are encoded within {BUDGET_S / 60:.0f} minutes:\n"
    rows = [
        (f"`{name}`", f"{one.points:+.1f}", f"{one.tokens_per_s:,.0f}", one.languages, one.source)
        for name, one in KNOWN.items()
    ]
    yield from _table(("encoder", "points", "tokens/s of a core", "languages", "where the figures are from"), rows)
    yield (
        "With a model hub any encoder can be named. Three with a permissive licence, and the accuracy on the 12 English"
        " classification sets of MTEB that their authors publish (not measured here):\n"
    )
    told = [(f"`{name}`", size, licence, f"{points}") for name, (licence, size, points) in PUBLISHED.items()]
    yield from _table(("hub name", "parameters", "licence", "published"), told)


def _steps() -> Iterator[str]:
    from factory.params import default_words, type_words
    from factory.pipeline.steps import stage_of
    from factory.pipeline.verbs import STEPS

    yield "## Steps\n"
    yield "In a pipeline `- author: {programs: 24}`, on the command line `factory author PIPELINE -p programs=24`, in a notebook"
    yield "`factory.author(warehouse, engine, programs=24)`.\n"
    for verb, (_, summary) in STEPS.items():
        yield f"### `{verb}`\n\n{summary}\n"
        rows = []
        for name, info in stage_of(verb).params.model_fields.items():
            kind = f"{type_words(info.annotation)}{_bounds(info.metadata)}"
            rows.append((f"`{name}`", kind, f"`{default_words(info)}`", _words(info.description or "")))
        yield from _table(("parameter", "kind", "default", "what it does, and why its default is good"), rows)


def _bounds(metadata: Sequence[Any]) -> str:
    words = {"ge": "{} or more", "gt": "above {}", "le": "{} or less", "lt": "below {}"}
    found = [form.format(getattr(one, name)) for one in metadata for name, form in words.items() if hasattr(one, name)]
    return f", {' and '.join(found)}" if found else ""


def _engines() -> Iterator[str]:
    from factory.llm.settings import EngineSettings, Price

    yield "## Engines\n"
    yield "Keys of `engine:`, and of `--engine kind=server,url=...,model=...`.\n"
    yield from _fields(EngineSettings)
    yield "Keys of `price:`\n"
    yield from _fields(Price)
    yield f"### Batch files\n{BATCH}"


def _members() -> Iterator[str]:
    from factory.denoise.models.table import MODELS, option_names
    from factory.students.base import STUDENTS, student_class

    yield "## Label models\n"
    yield "`denoise: {model: NAME, options: {...}}`\n"
    rows = []
    for name, fit in MODELS.items():
        function = getattr(fit, "func", fit)
        parameters = inspect.signature(function).parameters
        options = [f"`{option}={parameters[option].default}`" for option in option_names(name)]
        module = inspect.getdoc(importlib.import_module(function.__module__)) or ""
        rows.append((f"`{name}`", _words(module.split("\n\n")[0]), ", ".join(options)))
    yield from _table(("name", "what it is", "options"), rows)
    yield "## Students\n"
    yield "`distill: {student: NAME, options: {...}}`\n"
    for kind in STUDENTS:
        found = student_class(kind)
        yield f"### `{kind}`\n\n{_words((inspect.getdoc(found) or '').split(chr(10) * 2)[0])}\n"
        yield from _fields(found.Config)


def _warehouse() -> Iterator[str]:
    from factory.resources import shipped
    from factory.warehouse.file import Warehouse

    yield "## The warehouse\n"
    yield "One DuckDB file per run, `factory-runs/NAME/NAME.duckdb`; gold of `test` and `reference` lies in `NAME.gold.duckdb`."
    yield "While a run is at work, open it with `duckdb -readonly`. Views and macros:\n"
    text = (shipped("warehouse") / "views.sql").read_text(encoding="utf-8")
    warehouse = Warehouse.memory()
    rows = []
    for comment, kind, name, arguments in re.findall(
        r"((?:^--.*\n)*)^CREATE OR REPLACE (VIEW|MACRO) (\w+)(\([^)]*\))?", text, re.MULTILINE
    ):
        called = f"{name}('text', '1')" if kind == "MACRO" else name
        columns = [column for (column, *_) in warehouse.query(f"DESCRIBE FROM {called}")]
        words = " ".join(line.removeprefix("--").strip() for line in comment.splitlines())
        rows.append((f"`{name}{arguments}`", _words(words), ", ".join(f"`{column}`" for column in columns)))
    yield from _table(("view", "what it tells", "columns"), rows)


def _errors(base: type[FactoryError]) -> Iterator[type[FactoryError]]:
    """The errors that a person can see."""
    for error in base.__subclasses__():
        if error.__module__.startswith("factory."):
            yield error
            yield from _errors(error)


def _outside() -> Iterator[str]:
    importlib.import_module("factory.llm.engines.base")  # has errors of its own

    yield "## Exit codes\n"
    told = dict(EXIT_CODES)
    for error in _errors(FactoryError):
        told[error.exit_code] = " ".join(filter(None, [told.get(error.exit_code), _words(inspect.getdoc(error) or "")]))
    yield "A mistake is one line on stderr, without a traceback.\n"
    yield from _table(("code", "meaning"), [(f"`{code}`", words) for code, words in sorted(told.items())])
    yield "## Environment variables\n"
    yield from _table(("name", "meaning"), [(f"`{name}`", words) for name, words in VARIABLES.items()])


# ----------------------------------------------------------------------------------------------------------------------
def _fields(model: type[Any]) -> Iterator[str]:
    """The fields of a model or of a dataclass, described by its docstring."""
    said = attributes_of(model)
    rows = [(f"`{name}`", default, _words(said.get(name, ""))) for name, default in _defaults(model)]
    yield from _table(("key", "default", "what it is"), rows)


def _defaults(model: type[Any]) -> Iterator[tuple[str, str]]:
    from factory.params import default_words

    if issubclass(model, BaseModel):
        for name, info in model.model_fields.items():
            yield name, "" if info.is_required() else f"`{default_words(info)}`"
        return
    for field in dataclasses.fields(model):
        yield field.name, "" if field.default is dataclasses.MISSING else f"`{field.default}`"


def attributes_of(model: type[Any]) -> Mapping[str, str]:
    """What a class's docstring says of each of its attributes; those of its bases as well."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        doc = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)*)", doc, re.MULTILINE)
        for name, words in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE):
            found[name] = _words(words)
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _words(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(reference(), end="")
