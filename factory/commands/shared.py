"""What the commands share: printing, options, and finding the warehouse or the pipeline that an argument means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from factory.errors import InputError

if TYPE_CHECKING:
    from factory.pipeline.load import Pipeline
    from factory.warehouse.file import Warehouse

Format = Annotated[str | None, Option("--format", help="csv, jsonl, json, parquet, or lines: a text per line.")]
Encoding = Annotated[str | None, Option(help="Of a file that is not UTF-8; guessed otherwise.")]
Delimiter = Annotated[str | None, Option(help="Of a CSV file; guessed otherwise.")]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]
Settings = Annotated[
    list[str] | None, Option("--set", metavar="NAME=VALUE", help="A value for ${NAME} in the pipeline. Repeatable.")
]
Where = Annotated[Path, Argument(help="A pipeline, a run's folder, or a .duckdb file.")]
PipelineFile = Annotated[Path, Argument(help="A pipeline file, or the name of a ready one.")]
Folder = Annotated[
    Path | None, Option("--folder", help="The run's folder. Default: factory-runs/NAME in the working folder.")
]


def group(words: str) -> typer.Typer:
    """A group of commands, with a line of help."""
    return typer.Typer(help=words, no_args_is_help=True, rich_markup_mode=None)


def give(value: Mapping[str, Any], as_json: bool, person: Callable[[], None]) -> None:
    """Print the result: the JSON object on stdout, or what a person sees."""
    if as_json:
        from factory.files.write import json_line

        print(json_line(value))
    else:
        person()


def pairs(values: Sequence[str] | None, what: str = "--set") -> dict[str, str]:
    """`["a=1"]` -> `{"a": "1"}`.

    Raises:
        InputError: A value without `=`.
    """
    found = {}
    for value in values or []:
        name, sign, rest = value.partition("=")
        if not sign or not name:
            raise InputError(f"{what} takes NAME=VALUE, not {value!r}")
        found[name] = rest
    return found


def yaml_pairs(values: Sequence[str] | None) -> dict[str, Any]:
    """`["variants=4"]` -> `{"variants": 4}`: values are YAML.

    Raises:
        InputError: A value is not YAML.
    """
    from factory.yaml_reader import parse_yaml

    found = {}
    for name, text in pairs(values, "--param").items():
        try:
            found[name], _ = parse_yaml(text, f"--param {name}")
        except InputError as error:
            raise InputError(f"--param {name}: {text[:80]!r} is not YAML ({error.what})") from error
    return found


def open_warehouse(source: Path, folder: Path | None = None) -> Warehouse:
    """The warehouse that an argument means: see `factory.pipeline.place.place_of`.

    Raises:
        InputError: There is none.
    """
    from factory.pipeline.place import place_of
    from factory.warehouse.file import Warehouse

    path = place_of(source, folder).warehouse
    if not path.is_file():
        raise InputError("no such warehouse", where=path, fix="Run the pipeline first: factory run PIPELINE")
    return Warehouse.open(path)


@contextmanager
def held_warehouse(source: Path, folder: Path | None = None) -> Iterator[Warehouse]:
    """The same for a command that writes: nobody else is at work on the run meanwhile.

    Raises:
        InputError: There is none, or somebody is.
    """
    from factory.pipeline.lock import alone_in

    warehouse = open_warehouse(source, folder)
    with alone_in(warehouse.folder):
        yield warehouse


def load(source: Path, settings: Sequence[str] | None) -> Pipeline:
    """A pipeline file with its variables filled in."""
    from factory.pipeline.load import load_pipeline

    return load_pipeline(source, pairs(settings))
