"""`factory card`: what people's answers say of the definitions, and a sharper wording of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from factory.commands.plan import show_plan
from factory.commands.shared import AsJson, Folder, PipelineFile, Settings, give, group, load
from factory.commands.terminal import tell
from factory.errors import InputError

card = group("The task card: the meanings of its labels.")


def add_to(app: typer.Typer) -> None:
    """Add this group to the application."""
    app.add_typer(card, name="card")


@card.command()
def sharpen(
    pipeline: PipelineFile,
    labels: Annotated[
        str | None, Option(help="Two labels, with a comma between. Default: the pair that is read apart most surely.")
    ] = None,
    out: Annotated[
        Path | None, Option("--out", help="The card to write. Default: NAME.suggested.yaml in the run's folder.")
    ] = None,
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Ask the model for a sharper wording of two labels that people read otherwise than it does, and price the change.

    It is shown the texts of the audit slice on which both differ. The card with the new wording is written as a suggestion, with
    what would be bought again; to take it, let `task:` of the pipeline name it (or copy the wording), and run.
    """
    from factory.pipeline import sharpen as asking

    names = [name.strip() for name in labels.split(",")] if labels else []
    if len(names) not in (0, 2):
        raise InputError(f"--labels takes two labels, not {labels!r}", fix="Write --labels A,B")
    found = asking.sharpen(load(pipeline, set_), names, folder=folder, out=out)

    def person() -> None:
        for name, meaning in found["meanings"].items():
            tell(f"{name}\n  now:       {meaning['now']}\n  suggested: {meaning['suggested']}")
        tell(
            f"by {found['texts']} texts that people read otherwise; nothing is changed: the suggestion is {found['path']}"
        )
        show_plan(found["plan"], prompt=False)

    give(found, as_json, person)
