"""`factory programs`: list, show, add, edit, approve, reject, diff, test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from factory.commands.progress import say
from factory.commands.shared import AsJson, Folder, give, held_warehouse, open_warehouse, table
from factory.errors import InputError

app = typer.Typer(
    help="Label programs: look at them, change them, decide about them.", no_args_is_help=True, rich_markup_mode=None
)

Where = Annotated[Path, typer.Argument(help="A pipeline, a run's folder, or a .duckdb file.")]
Number = Annotated[int, typer.Argument(help="The program's number (from `factory programs list`).")]


@app.command(name="list")
def list_(
    where: Where,
    folder: Folder = None,
    every: Annotated[bool, typer.Option("--all", help="Rejected and superseded ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every program with its state, coverage, overlaps and conflicts."""
    from factory.programs import manage as lifecycle

    rows = lifecycle.list_programs(open_warehouse(where, folder), every=every)
    columns = ["program_no", "name", "state", "origin", "target", "coverage", "overlaps", "conflicts", "drop_reason"]

    def person() -> None:
        if not rows:
            say(
                "no programs yet: `author` accepts them when its answers are there"
                + ("" if every else " (--all: refused ones too)")
            )
            return
        table(columns, [[row.get(column) for column in columns] for row in rows])

    give({"programs": rows}, as_json, person)


@app.command()
def show(where: Where, program_no: Number, folder: Folder = None, as_json: AsJson = False) -> None:
    """A program's source, where it comes from, and what happened to it."""
    from factory.programs import manage as lifecycle

    shown = lifecycle.show_program(open_warehouse(where, folder), program_no)

    def person() -> None:
        for key, value in shown.items():
            if key not in {"source", "events"}:
                print(f"{key + ':':<16}{value}")
        for event in shown.get("events", []):
            print(f"{'':<16}{event}")
        print(f"\n{shown['source']}")

    give(shown, as_json, person)


@app.command()
def add(
    where: Where,
    file: Annotated[Path, typer.Argument(help="A .py file that defines label(text).")],
    target: Annotated[str | None, typer.Option(help="multi tasks: the label the program speaks of.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name; the file's by default.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Add a program written by hand. It is checked and probed like any other."""
    from factory.programs import manage as lifecycle

    with held_warehouse(where, folder) as warehouse:
        added = lifecycle.add_program(warehouse, _source(file), name=name or file.stem, target=target)
    give(
        added,
        as_json,
        lambda: say(f"program {added['program_no']} is {added['state']}; run the pipeline again to let it vote"),
    )


@app.command()
def edit(
    where: Where,
    program_no: Number,
    file: Annotated[Path | None, typer.Option("--file", help="The new source; without it, $EDITOR opens.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Give a program a new version. The old one is superseded; only the new one's votes are computed anew."""
    from factory.programs import manage as lifecycle

    if file is None:
        old = lifecycle.show_program(open_warehouse(where, folder), program_no)["source"]
        import click

        source = click.edit(old, extension=".py")
        if source is None or source == old:
            say("nothing was changed")
            return
    else:
        source = _source(file)
    with held_warehouse(where, folder) as warehouse:
        edited = lifecycle.edit_program(warehouse, program_no, source)
    give(
        edited, as_json, lambda: say(f"program {edited['program_no']} supersedes {program_no}; run the pipeline again")
    )


@app.command()
def approve(where: Where, program_no: Number, folder: Folder = None, as_json: AsJson = False) -> None:
    """Let a program vote."""
    _decide("approve_program", where, program_no, folder, as_json)


@app.command()
def reject(
    where: Where,
    program_no: Number,
    reason: Annotated[str, typer.Option(help="Why; kept with the program.")] = "rejected by hand",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Let a program vote no longer."""
    _decide("reject_program", where, program_no, folder, as_json, reason=reason)


@app.command()
def diff(where: Where, program_no: Number, folder: Folder = None, as_json: AsJson = False) -> None:
    """How a version differs from its parent: the source, and the texts whose vote changed."""
    from factory.programs import manage as lifecycle

    found = lifecycle.diff_program(open_warehouse(where, folder), program_no)

    def person() -> None:
        print(found["diff"] or "the sources are equal")
        changed = found["votes_changed"]
        print("votes: not both versions have voted yet" if changed is None else f"votes changed: {changed}")

    give(found, as_json, person)


@app.command()
def test(
    where: Where,
    program_no: Number,
    text: Annotated[
        list[str] | None, typer.Argument(help="Texts to run it on; a sample of the corpus without any.")
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Run a program in the sandbox on some texts and show what it says."""
    from factory.programs import manage as lifecycle

    rows: list[dict[str, Any]] = lifecycle.test_program(open_warehouse(where, folder), program_no, texts=text or None)
    give(
        {"results": rows},
        as_json,
        lambda: table(["vote", "status", "text"], [[r["vote"], r["status"], r["text"][:100]] for r in rows]),
    )


def _decide(function: str, where: Path, program_no: int, folder: Path | None, as_json: bool, **more: Any) -> None:
    from factory.programs import manage as lifecycle

    with held_warehouse(where, folder) as warehouse:
        decided = getattr(lifecycle, function)(warehouse, program_no, **more)
    give(decided, as_json, lambda: say(f"program {program_no} is {decided['state']}; run the pipeline again"))


def _source(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=file) from error
    except UnicodeDecodeError as error:
        raise InputError("this is not UTF-8 text", where=file) from error
