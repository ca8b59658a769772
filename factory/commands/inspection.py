"""Looking into a run: `audit`, `ask`, `lineage`, `doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from factory.commands.progress import shown_alone
from factory.commands.shared import AsJson, Folder, Where, give, held_warehouse, open_warehouse
from factory.commands.terminal import say, table, tell

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

MOST_SHOWN = 20


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for command in (audit, ask, lineage, doctor):
        app.command()(command)


def audit(
    where: Where,
    of: Annotated[Literal["denoised", "dev", "seed"], Option(help="Whose labels.")] = "denoised",
    limit: Annotated[int, Option(help="At most so many.")] = 50,
    out: Annotated[Path | None, Option(help="Write them all as CSV or JSONL.")] = None,
    force: Annotated[bool, Option("--force", help="Replace --out even if it is no earlier list of issues.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Likely label errors, with the evidence: votes, the model's probability, nearest neighbours."""
    from factory.review import stage

    with shown_alone("audit") as progress:
        result = stage.audit(open_warehouse(where, folder), of=of, limit=limit, out=out, force=force, progress=progress)
    rows: list[dict[str, Any]] = list(result.did.get("issues", []))

    def person() -> None:
        say(*result.says)
        for r in rows:
            evidence = r["evidence"]
            label = f" (label {r['label']})" if r["label"] else ""
            origin = [r["source"], *(f"{name} {value}" for name, value in r["own"].items())]
            tell(f"\ntext {r['text_no']} ({', '.join(filter(None, origin))}): {str(r['text'])[:160]}")
            tell(f"  given {r['given']}, likely {r['likely']}{label}; score {r['score']} (the lower, the more suspect)")
            tell(f"  the texts tell: {evidence['believed']}")
            if "label_model" in evidence:
                tell(f"  the label model: {evidence['label_model']}")
            said = ", ".join(f"{name}: {vote}" for name, vote in evidence["votes"].items())
            tell(f"  votes: {said or 'none'}")
            for near in evidence["nearest"]:
                tell(f"  near: {near}")

    give(dict(result.did), as_json, person)


def ask(
    where: Where,
    budget: Annotated[int, Option(help="How many texts to ask about.")] = 50,
    out: Annotated[
        Path | None,
        Option(help="CSV, JSONL, or Label Studio tasks (.json): write the questions here; else they are only shown."),
    ] = None,
    answers: Annotated[Path | None, Option("--read", help="Read answered questions from here.")] = None,
    annotator: Annotated[str | None, Option(help="With --read: who answered; a voter of its own.")] = None,
    strategy: Annotated[
        str,
        Option(help="auto, uncertainty, random; active: ask again where doubtful; audit: how often are systems right?"),
    ] = "auto",
    force: Annotated[
        bool, Option("--force", help="Replace --out even if it is another file, or answered already.")
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Which texts a person (or a model) should label next; or read their labels back as one more voter."""
    from factory.review import stage

    if answers is not None:
        with held_warehouse(where, folder) as warehouse:
            result = stage.read_answers(warehouse, answers, annotator=annotator)
    else:
        with shown_alone("ask") as progress:
            result = stage.ask(
                open_warehouse(where, folder), budget=budget, strategy=strategy, out=out, force=force, progress=progress
            )

    def person() -> None:
        say(*result.says)
        if out is None and result.did.get("asked"):
            show_questions(result.did["asked"], int(result.did["questions"]))
            say(
                "the same command with --out questions.csv writes them, to be answered in the column `label`;",
                f"factory ask {where} --read questions.csv reads the answers back",
            )

    give(dict(result.did), as_json, person)


def show_questions(asked: Sequence[Mapping[str, Any]], total: int) -> None:
    """The first questions, as a table."""
    shown = [[q["source"], " ".join(q["text"].split())[:100], q["suggested"], q["why"]] for q in asked[:MOST_SHOWN]]
    rows = [[number, *cells] for number, cells in enumerate(shown, start=1)]
    table(["", "source", "text", "likely", "why it is asked"], rows)
    if total > len(shown):
        say(f"and {total - len(shown)} more")


def lineage(
    where: Where,
    kind: Annotated[
        str, Argument(help="text, synthetic, program, request, soft_label, label_model, model, export, ...")
    ],
    number: Annotated[
        str,
        Argument(
            help="Its number or key; of a text also the `id` that exported data has, of an export `last`, of a soft label the"
            " number of its text."
        ),
    ],
    down: Annotated[bool, Option("--down", help="What came of it, instead of what it came from.")] = False,
    limit: Annotated[int, Option(help="At most so many lines.")] = 1000,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Walk the lineage of anything, either way."""
    from factory.warehouse.tables import lineage as tables

    warehouse = open_warehouse(where, folder)
    number = _number_of(warehouse, kind, number)
    edges = tables.walk(warehouse, kind, number, down=down, limit=limit + 1)
    if not edges:
        tables.check_is_there(warehouse, kind, number)
        say(f"nothing came of {kind} {number}" if down else f"{kind} {number} came from nothing that is on record")
    if len(edges) > limit:
        say(f"there are more than {limit} lines, and these are the nearest; --limit shows more")
        del edges[limit:]
    believed = tables.soft_label_words(warehouse, number) if kind == "soft_label" else ""

    def person() -> None:
        if believed:
            tell(believed)
        if edges:
            table(list(edges[0]), [list(edge.values()) for edge in edges])

    found = {"lineage": edges}
    give({**found, "believed": believed} if believed else found, as_json, person)


def _number_of(warehouse: Warehouse, kind: str, given: str) -> str:
    """The number of what a person has in hand; a text alone means its soft label of the label model that the student uses."""
    from factory.warehouse.tables.lineage import number_of

    if kind == "soft_label" and given.isdecimal():
        from factory.warehouse.tables.labels import label_models

        return next((f"{model.number}/{given}" for model in label_models(warehouse)), given)
    return number_of(warehouse, kind, given)


def doctor(as_json: AsJson = False) -> None:
    """What is installed, which engines can run, which encoder is at hand, and what to do about the rest."""
    from factory.commands.doctor import examine

    found = examine()

    def person() -> None:
        marks = {True: "ok", None: "-", False: "MISSING"}
        rows = [[marks[c["ok"]], c["what"], c["found"], c["fix"]] for c in found["checks"]]
        table(["", "what", "found", "what to do"], rows)

    give(found, as_json, person)
    if not found["ok"]:
        raise typer.Exit(1)
