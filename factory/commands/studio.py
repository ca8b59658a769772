"""`factory studio`: a run in the browser."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from factory.commands.programs import Sandboxed, as_sandbox
from factory.commands.shared import Folder, Where, open_warehouse
from factory.commands.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(studio)


def studio(
    where: Where,
    port: Annotated[int, Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    person: Annotated[
        str | None, Option("--as", help="Your name, for labels and decisions; a voter of its own.")
    ] = None,
    sandbox: Sandboxed = "kernel",
    folder: Folder = None,
) -> None:
    """See and mend a run in the browser: programs, texts, evidence, report. On this machine alone, behind a link of its own."""
    from factory.studio.server import serve

    serve(open_warehouse(where, folder), run=where, person=person, port=port, sandbox=as_sandbox(sandbox), told=say)
