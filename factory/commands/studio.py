"""`factory studio`: a run in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from factory.commands.programs import Sandboxed, as_sandbox
from factory.commands.shared import Folder, Settings, pairs
from factory.commands.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(studio)


def studio(
    where: Annotated[
        Path,
        Argument(help="A pipeline, a run's folder, a .duckdb file, or an empty folder, in which a run is to begin."),
    ],
    port: Annotated[int, Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    person: Annotated[
        str | None, Option("--as", help="Your name, for labels and decisions; a voter of its own.")
    ] = None,
    sandbox: Sandboxed = "kernel",
    set_: Settings = None,
    folder: Folder = None,
) -> None:
    """See, mend and run a line in the browser: programs, texts, evidence, report, card. On this machine alone, behind a link of
    its own."""
    from factory.studio.desk import Desk
    from factory.studio.server import serve

    settings = pairs(set_)
    desk = Desk.at(where, folder=folder, person=person, sandbox=as_sandbox(sandbox), settings=settings)
    serve(desk, port=port, told=say)
