"""Texts one by one: `texts` lists them, `text` says all that is known of one, `label` takes or undoes a person's label."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument, Option

from factory.commands.shared import AsJson, Folder, Where, give, held_warehouse, open_warehouse
from factory.commands.terminal import say, table, tell
from factory.errors import InputError

TextNo = Annotated[int, Argument(help="The text's number (from `factory texts`).")]
Person = Annotated[str | None, Option("--as", help="Who answers; a voter of its own.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for command in (texts, text, label):
        app.command()(command)


def texts(
    where: Where,
    show: Annotated[
        str,
        Option(
            help="all, uncovered, conflict, tied, doubtful, open, answered, differs; of a sample, by the exported student:"
            " student (it says otherwise than the label model) or outside (out of its scope)."
        ),
    ] = "all",
    label: Annotated[str | None, Option(help="Only those that the label model gives this label.")] = None,
    program: Annotated[int | None, Option(help="Only those that this program votes on.")] = None,
    find: Annotated[str, Option(help="Only those that hold these words.")] = "",
    like: Annotated[str, Option(help="Only texts near to these words in meaning, the nearest first.")] = "",
    near: Annotated[int | None, Option(help="Only the texts nearest to the text of this number.")] = None,
    split: Annotated[str, Option(help="train, dev, seed, test, or synthetic.")] = "train",
    limit: Annotated[int, Option(help="At most so many.")] = 20,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Texts by what was said of them: without a vote, in conflict, doubtful, of a label, of a program, with some words."""
    from factory.pipeline.look import LOOKS, student_looks
    from factory.review.texts import Wanted, find_near, find_texts, meant

    warehouse = open_warehouse(where, folder)
    if near is not None:
        texts = find_near(warehouse, near, count=limit)
        found: dict[str, Any] = {"total": len(texts), "texts": texts}
    else:
        among = student_looks(warehouse, show) if show in LOOKS else meant(warehouse, like) if like else None  # type: ignore[arg-type]
        wanted = Wanted(split, "all" if show in LOOKS else show, label, program, find, among=among)
        found = find_texts(warehouse, wanted, count=limit)

    def person() -> None:
        cells = [
            [r["text_no"], r["label"], r["probability"], r["votes"], " ".join(str(r["text"]).split())[:100]]
            for r in found["texts"]
        ]
        table(["text", "label", "probability", "votes", ""], cells)
        say(f"{found['total']} texts")

    give(found, as_json, person)


def text(where: Where, text_no: TextNo, folder: Folder = None, as_json: AsJson = False) -> None:
    """Why a text got its label: votes with what each counts, label models, people, the model's own, and where it came from."""
    from factory.review import stage

    found = stage.evidence(open_warehouse(where, folder), text_no)

    def person() -> None:
        tell(found["text"])
        for vote in found["votes"]:
            odds = "" if vote["odds"] is None else f" (odds x {vote['odds']:.3g})"
            tell(f"  {vote['name']}: {vote['says']}{odds}")
        for model in found["label_models"]:
            shares = ", ".join(f"{name} {value:.2f}" for name, value in model["shares"])
            tell(f"  label model {model['name']}{' (chosen)' if model['chosen'] else ''}: {shares}")
        for one in found["answers"]:
            tell(f"  {one['by'] or 'a person'}: {', '.join(one['labels']) or 'none'}")
        for one in found["model"]:
            tell(f"  the language model, {one['how']}: {', '.join(one['labels'])}")
        for edge in found["lineage"]:
            tell(f"  {edge['child_kind']} {edge['child']} <- {edge['parent_kind']} {edge['parent']} ({edge['how']})")

    give(found, as_json, person)


def label(
    where: Where,
    text_no: Annotated[int | None, Argument(help="The text's number (from `factory texts`).")] = None,
    labels: Annotated[
        list[str] | None, Argument(help="Its label; in a multi task any number of them, none for none.")
    ] = None,
    person: Person = None,
    undo: Annotated[bool, Option("--undo", help="Take back what was said last instead.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Label a training text by hand: one more voter, as answers that `ask --read` takes from a file."""
    from factory.review import stage

    if undo == (text_no is not None):
        raise InputError("say which text, or --undo, and not both", fix="factory label RUN 12 LABEL")
    with held_warehouse(where, folder) as warehouse:
        if text_no is None:
            done = stage.undo_labels(warehouse, annotator=person)
            words = f"{len(done['texts'])} answers taken back"
        else:
            done = stage.label_texts(warehouse, {text_no: labels or []}, annotator=person)
            words = "labelled; run `denoise` to use it"
    give(done, as_json, lambda: say(words))
