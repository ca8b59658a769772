"""`factory card`: its words changed and changed back, and a sharper wording by what people's answers say."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from factory.commands.plan import show_plan
from factory.commands.shared import AsJson, Folder, PipelineFile, Settings, give, group, load, open_warehouse, pairs
from factory.commands.terminal import say, tell
from factory.errors import InputError

if TYPE_CHECKING:
    from factory.pipeline.load import Pipeline
    from factory.task import TaskCard

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


@card.command()
def edit(
    pipeline: PipelineFile,
    text: Annotated[str | None, Option(help="What a text is.")] = None,
    guidelines: Annotated[str | None, Option(help="How to decide hard cases.")] = None,
    meaning: Annotated[list[str] | None, Option(metavar="LABEL=WORDS", help="What a label means. Repeatable.")] = None,
    add: Annotated[list[str] | None, Option(metavar="LABEL=WORDS", help="A new label. Repeatable.")] = None,
    was: Annotated[
        list[str] | None,
        Option(
            metavar="NEW=OLD", help="What texts of a new label were called: those alone are asked again. Repeatable."
        ),
    ] = None,
    priced: Annotated[bool, Option("--price", help="Only say what it would cost. Nothing is changed.")] = False,
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Change the words of the card, or add labels: in its file, and as a revision in the warehouse. A run then asks again what
    the change touches."""
    from factory.pipeline import edit as editing

    loaded = load(pipeline, set_)
    before: dict[str, list[str]] = {}
    for one in was or []:
        for new, old in pairs([one], "--was").items():
            before.setdefault(new, []).append(old)
    wanted = editing.edited(
        loaded.card, text=text, guidelines=guidelines, meanings=pairs(meaning, "--meaning"), added=pairs(add, "--add"),
        was=before,
    )  # fmt: skip
    if priced:
        planned = editing.price(loaded, wanted, folder=_run_folder(pipeline, folder))
        give(planned, as_json, lambda: show_plan(planned, prompt=False))
        return
    _save(loaded, wanted, pipeline, folder, as_json)


@card.command()
def undo(
    pipeline: PipelineFile,
    to: Annotated[int | None, Option(help="The revision to go back to. Default: the one before this.")] = None,
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier revision of the card. Labels that came since keep their numbers."""
    from factory.pipeline import edit as editing

    loaded = load(pipeline, set_)
    wanted = editing.earlier_card(open_warehouse(pipeline, folder), loaded.card, to)
    _save(loaded, wanted, pipeline, folder, as_json)


def _run_folder(pipeline: Path, folder: Path | None) -> Path:
    from factory.pipeline.place import place_of

    return place_of(pipeline, folder).folder


def _save(loaded: Pipeline, wanted: TaskCard, pipeline: Path, folder: Path | None, as_json: bool) -> None:
    from factory.pipeline.edit import save_card
    from factory.pipeline.lock import alone_in
    from factory.pipeline.place import place_of
    from factory.warehouse.file import Warehouse

    place = place_of(pipeline, folder)
    with alone_in(place.folder) if place.folder.is_dir() else nullcontext():
        saved = save_card(loaded, wanted, Warehouse.open(place.warehouse) if place.warehouse.is_file() else None)
    words = f"{saved['path']} is written; run the pipeline again" if saved["changed"] else "the card was so already"
    give(saved, as_json, lambda: say(words))
