"""What the commands share: printing, options, and finding the warehouse or the pipeline that an argument means."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.errors import InputError

if TYPE_CHECKING:
    from factory.pipeline.load import Pipeline, Step
    from factory.result import Progress, StageResult
    from factory.warehouse.file import Warehouse

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but line ends and tabs, and those that turn the direction of writing."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A value for ${NAME} in the pipeline. Repeatable."),
]
Folder = Annotated[
    Path | None, typer.Option("--folder", help="The run's folder. Default: factory-runs/NAME in the working folder.")
]


def shown(text: object) -> str:
    """A text as a terminal may show it: what would move the cursor, colour or reorder it is escaped, lines and tabs stay.

    Example:
        >>> shown("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    return _COMMANDS.sub(lambda match: repr(match[0])[1:-1], str(text))


def say(line: str) -> None:
    """One line for a person, on stderr."""
    print(shown(line), file=sys.stderr, flush=True)


def tell(text: object = "") -> None:
    """What a person asked to see, on stdout."""
    print(shown(text))


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


def runs_here() -> list[Path]:
    """The runs under `factory-runs/` of the working folder, the one that was written last first."""
    found: dict[Path, float] = {}
    for file in Path("factory-runs").glob("*/*.duckdb"):
        if not file.name.endswith(".gold.duckdb"):
            found[file.parent] = max(file.stat().st_mtime, found.get(file.parent, 0.0))
    return sorted(found, key=lambda run: (-found[run], run))


def open_warehouse(source: Path, folder: Path | None = None) -> Warehouse:
    """The warehouse that an argument means: a `.duckdb` file, a run's folder, or a pipeline (its run's folder).

    Raises:
        InputError: There is none.
    """
    from factory.warehouse.file import Warehouse

    if source.suffix == ".duckdb":
        path = source
    elif source.is_dir():
        found = [file for file in sorted(source.glob("*.duckdb")) if not file.name.endswith(".gold.duckdb")]
        if len(found) != 1:
            runs = [str(run) for run in runs_here()]
            fix = (
                f"Name a run's folder: {', '.join(runs[:5])}"
                if runs
                else "Run a pipeline first: factory run quickstart"
            )
            raise InputError(
                f"the folder holds {len(found)} warehouses",
                where=source,
                fix="Name the .duckdb file itself" if found else fix,
            )
        path = found[0]
    else:
        from factory.pipeline.load import find_pipeline, pipeline_name
        from factory.task import read_yaml

        file = find_pipeline(source)
        data, _ = read_yaml(file)
        name = pipeline_name(data if isinstance(data, dict) else {}, file)
        path = (folder or Path("factory-runs") / name) / f"{name}.duckdb"
    if not path.is_file():
        raise InputError("no such warehouse", where=path, fix="Run the pipeline first: factory run PIPELINE")
    return Warehouse.open(path)


def load(source: Path, settings: Sequence[str] | None) -> Pipeline:
    """A pipeline file with its variables filled in."""
    from factory.pipeline.load import load_pipeline

    return load_pipeline(source, pairs(settings))


@contextmanager
def shown_progress(
    quiet: bool,
) -> Iterator[tuple[Callable[[Step, int, int], Progress], Callable[[Step, StageResult], None]]]:
    """A progress bar for each step on a terminal, plain lines elsewhere; always on stderr.

    Yields:
        The two callbacks of `factory.pipeline.run.run_pipeline`: one that makes a step's progress callback, one told its result.
    """
    if sys.stderr.isatty() and not quiet:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        with Bars(*columns, console=console, transient=True) as bars:
            tasks: dict[int, Any] = {}

            def start(step: Step, number: int, of: int) -> Progress:
                task = bars.add_task(f"[{number + 1}/{of}] {step.verb}", total=None, what="")
                tasks[id(step)] = task

                def tell(done: int, total: int, what: str) -> None:
                    bars.update(task, completed=done, total=total or None, what=what)

                return tell

            def told(step: Step, result: StageResult) -> None:
                if id(step) in tasks:
                    bars.remove_task(tasks.pop(id(step)))
                for line in step_lines(result):
                    console.print(shown(line), highlight=False, markup=False)

            yield start, told
        return

    def start_plain(step: Step, number: int, of: int) -> Progress:
        import time

        last = [time.monotonic()]

        def tell(done: int, total: int, what: str) -> None:
            if not quiet and time.monotonic() - last[0] > 5:
                last[0] = time.monotonic()
                say(f"  {step.verb}: {done}{f'/{total}' if total else ''} {what}".rstrip())

        return tell

    def told_plain(_: Step, result: StageResult) -> None:
        for line in step_lines(result):
            say(line)

    yield start_plain, told_plain


@contextmanager
def shown_alone(verb: str) -> Iterator[Progress]:
    """The progress of a command that is no step of a pipeline, shown as a step's is.

    Yields:
        The callback.
    """
    from factory.pipeline.load import Step

    with shown_progress(quiet=False) as (start, _):
        yield start(Step(verb, {}), 0, 1)


def step_lines(result: StageResult) -> list[str]:
    """What a person reads of one step."""
    head = f"{result.stage:<11}"
    if result.skipped:
        return [f"{head} done already"]
    says = result.says or (
        ", ".join(f"{key} {value}" for key, value in result.did.items() if not isinstance(value, (dict, list))),
    )
    return [f"{head} {says[0]}", *(f"{'':<11} {line}" for line in says[1:])]


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=None if title is None else shown(title), title_justify="left")
    for header in headers:
        drawn.add_column(shown(header), overflow="fold")
    for row in rows:
        drawn.add_row(*("" if cell is None else _cell(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140).print(drawn, markup=False)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else shown(value)
