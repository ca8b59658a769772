"""`factory discover`: a task card out of texts, where nobody knows the labels yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from factory.commands.progress import shown_alone
from factory.commands.shared import AsJson, Delimiter, Encoding, Format, give
from factory.commands.terminal import say, tell


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(discover)


def discover(
    file: Annotated[Path, Argument(help="A CSV, JSONL, Parquet, ... file of texts; labels in it are not read.")],
    engine: Annotated[
        Path, Option("--engine", help="Whom to ask: a pipeline, or a YAML file with kind, url and model.")
    ],
    out: Annotated[Path, Option("--out", help="Folder for the card, the pipeline, and the answers.")] = Path(
        "discovered"
    ),
    what: Annotated[str, Option("--what", help='What a text is: "a message to the support of a bank".')] = "a text",
    purpose: Annotated[
        str, Option("--tell", help="What the labels are to tell.")
    ] = "what a text is about, or what its writer wants",
    labels: Annotated[int | None, Option(help="About how many labels; found out otherwise.", min=2)] = None,
    by: Annotated[
        Literal["batches", "embeddings"],
        Option(
            help="batches: the model reads texts and proposes. embeddings: clusters are formed, and the model names each."
        ),
    ] = "batches",
    texts: Annotated[int, Option(help="How many texts are looked at.", min=20, max=20_000)] = 1000,
    batch: Annotated[int, Option(help="How many of them one request shows.", min=5, max=200)] = 40,
    check: Annotated[
        int,
        Option(
            help="How many of them are labelled twice by what was found, to see how well it fits; 0 for none.", min=0
        ),
    ] = 120,
    encoder: Annotated[str, Option(help="What puts texts that are near one another together.")] = "auto",
    seed: Annotated[int, Option(help="Of what is drawn.")] = 0,
    text: Annotated[str | None, Option(help="The column of the texts; guessed otherwise.")] = None,
    format_: Format = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Find the labels of texts that nobody has labelled, and write a task card and a pipeline for `factory run`.

    Some 30 requests for 1,000 texts: batches of texts that look alike are shown to the model, which proposes labels for each
    batch apart; one request joins the proposals; fresh texts are labelled twice by the result, and what they show is mended.
    discovery.md says what is unsure: read it, and the card, before anything is labelled. The answers are kept in the folder, so
    that the same command goes on after a kill.
    """
    from factory.discovery.stage import Wanted
    from factory.discovery.stage import discover as find
    from factory.llm import make_engine, parse_budget
    from factory.pipeline.load import load_engine
    from factory.pipeline.lock import alone_in

    settings, base, budget = load_engine(engine)
    wanted = Wanted(what, purpose, labels, by, texts, batch, check, encoder, seed)
    given = {"format": format_, "encoding": encoding, "delimiter": delimiter}
    told = {name: value for name, value in given.items() if value is not None}
    asked = make_engine(settings, base=base)
    try:
        with alone_in(out.absolute()), shown_alone("discover") as progress:
            found = find(
                file, out, asked, wanted, engine_told=settings.placed(base), text=text, told=told,
                budget=None if budget is None else parse_budget(budget), progress=progress,
            )  # fmt: skip
    finally:
        if hasattr(asked, "close"):
            asked.close()

    def person() -> None:
        say(*found["says"])
        tell(
            f"{len(found['labels'])} labels: {', '.join(f'{name} {count}' for name, count in found['labels'].items())}"
        )
        say(*(f"unsure: {line}" for line in found["unsure"]))
        tell("\n".join(f"{name + ':':10}{found[name]}" for name in ("task", "pipeline", "texts", "page")))
        line = found["pipeline"]
        say(f"next: read and mend {found['task']}, name your engine in {line}, then `factory plan {line}`")

    give(found, as_json, person)
