"""What the user takes home: `export`, `predict`, `serve`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from factory.commands.progress import shown_alone
from factory.commands.shared import AsJson, Folder, Where, give, group, held_warehouse, open_warehouse
from factory.commands.terminal import say, tell
from factory.errors import InputError

export = group("Write a student, or the labelled data, into a folder.")
Exported = Annotated[Path, Argument(help="An exported model's folder.")]
Sandboxed = Annotated[
    Literal["kernel", "process"],
    Option(
        help="What Python programs of a glass box run in off Linux, where no kernel seals them: process, if you trust them."
    ),
]

DeferBelow = Annotated[
    float | None, Option("--defer-below", help="Defer texts whose probability lies below this, e.g. 0.8.")
]
Engine = Annotated[
    Path | None,
    Option(
        "--engine", help="Ask this engine about what is deferred: a pipeline, or a YAML file with kind, url and model."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(export, name="export")
    for command in (predict, serve, report, push):
        app.command()(command)


@export.command(name="model")
def export_model(
    where: Where,
    out: Annotated[Path, Argument(help="The folder to write.")],
    system: Annotated[
        str, Option(help="Which system: student, student_dev, combined, glass_box, ..., or auto.")
    ] = "student",
    sandbox: Sandboxed = "kernel",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Export a student (safetensors, ONNX fp32 and int8, tokenizer, labels, model card; no pickle), or the glass box."""
    from factory.export import stage

    with held_warehouse(where, folder) as warehouse, shown_alone("export") as progress:
        result = stage.export(warehouse, out.absolute(), system=system, sandbox=sandbox, progress=progress)
    give({"export": str(out), **result.did}, as_json, lambda: say(*(result.says or (f"{out} holds this already",))))


@export.command(name="data")
def export_data(
    where: Where,
    out: Annotated[Path, Argument(help="The folder to write.")],
    formats: Annotated[
        str, Option(help="Any of parquet, jsonl, datasets, wrench, with commas between.")
    ] = "parquet,jsonl",
    dropped: Annotated[bool, Option("--dropped", help="Dropped rows as well, with their reasons.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Export texts with labels, soft labels, weights, origin and parents, and a data card."""
    from factory.corpus import export as data

    with held_warehouse(where, folder) as warehouse, shown_alone("export data") as progress:
        result = data.export_data(
            warehouse, out.absolute(), formats=formats.split(","), dropped=dropped, progress=progress
        )
    give({"export": str(out), **result.did}, as_json, lambda: say(*(result.says or (f"{out} holds this already",))))


def predict(
    model: Exported,
    file: Annotated[
        Path,
        Argument(
            help="CSV, TSV, JSONL, JSON, TXT (.gz, .zst) or Parquet; - for lines on stdin; a folder of Parquet files, or a"
            " pattern in quotes: 'FOLDER/*.parquet'."
        ),
    ],
    out: Annotated[
        Path | None,
        Option(
            "--out",
            help="CSV, JSONL or Parquet; stdout as JSONL without it. Of many files: a folder, for a Parquet file each.",
        ),
    ] = None,
    text: Annotated[
        str | None, Option(help="The column of the texts. Default: the one that the training texts were in.")
    ] = None,
    format_: Annotated[
        str, Option("--format", help="csv, jsonl, json, parquet, or lines. Default: as the file's name says.")
    ] = "auto",
    encoding: Annotated[str | None, Option(help="Of a text file that is not UTF-8: cp1252, latin-1, ...")] = None,
    delimiter: Annotated[str | None, Option(help="Of a CSV file; guessed otherwise.")] = None,
    force: Annotated[bool, Option("--force", help="Replace --out even if it is no earlier output of predict.")] = False,
    precision: Annotated[str, Option(help="fp32 or int8.")] = "int8",
    abstain_below: Annotated[float | None, Option(help="No label below this probability.")] = None,
    target_precision: Annotated[
        float | None,
        Option(help="No label below the probability from which on this share of answers is right, e.g. 0.95."),
    ] = None,
    sets: Annotated[
        float | None,
        Option(help="A column `set`: conformal label sets that miss the true label at this rate, e.g. 0.1."),
    ] = None,
    scope: Annotated[
        float | None,
        Option(
            help="Columns `in_scope` and `scope`: whether a text is like those of training, wrongly denied at this rate,"
            " e.g. 0.05."
        ),
    ] = None,
    why: Annotated[
        bool,
        Option(
            "--why",
            help="Columns `why` and `reasons`: which programs fired, on which words, with what weight, and what the text itself"
            " says. For a glass box.",
        ),
    ] = False,
    sandbox: Sandboxed = "kernel",
    defer: Annotated[
        float | None,
        Option("--defer", help="Defer so much of the file, the least sure of it, e.g. 0.1."),
    ] = None,
    defer_below: DeferBelow = None,
    defer_to: Annotated[
        Path | None, Option("--defer-to", help="Write what is deferred as requests, OpenAI batch JSONL, here.")
    ] = None,
    engine: Engine = None,
    ray: Annotated[
        bool, Option("--ray", help="Label many files on Ray: the cluster in RAY_ADDRESS, or this machine's processors.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Label a file of any size, or many of them, with an exported model.

    The output has the columns of the input, then `label` and `probability` (`labels` where a text may have several), then one
    probability for each label; all of them are empty for a row without a text. --target-precision and --sets need an export
    that was calibrated on gold of dev (student_dev).
    A cell that begins with = (or +, -, @) is written as it is: a spreadsheet takes it for a formula, so import a CSV file from
    strangers with its columns as text.
    Of many files, those that are done already are left alone: run the same command again after a kill.
    With --defer or --defer-below there are two columns more, `deferred` and `answered_by` (model, engine, nobody): what is
    deferred has no label, for people to give, unless --engine is asked; its answers lie beside --out, so that none is paid for
    twice.
    """
    if defer is not None or defer_below is not None:
        from factory.commands import deferring
        from factory.files.base import ReadOptions
        from factory.predict.decide import Asked
        from factory.predict.defer import Deferring

        if ray:
            raise InputError("deferral takes one file at a time, on this machine", fix="Leave out --ray")
        asked = Asked(abstain_below, target_precision, sets, scope, why)
        options = ReadOptions(file, format=format_, encoding=encoding, delimiter=delimiter)
        with shown_alone("predict") as progress:
            done = deferring.defer(
                model, options, out, Deferring(defer, defer_below), asked, to=defer_to, engine=engine, text=text,
                precision=precision, sandbox=sandbox, force=force, progress=progress,
            )  # fmt: skip
    else:
        from factory.predict import shards

        if engine is not None or defer_to is not None:
            raise InputError("nothing is deferred", fix="Say what: --defer 0.1, or --defer-below 0.8")
        with shown_alone("predict") as progress:
            done = shards.predict(
                model, file, out, text=text, format=format_, encoding=encoding, delimiter=delimiter, force=force,
                precision=precision, abstain_below=abstain_below, target_precision=target_precision, sets=sets, scope=scope,
                why=why, sandbox=sandbox, ray=ray, progress=progress,
            )  # fmt: skip
    say(*done["read"])
    if done["never_seen"]:
        from factory.predict.exported import unseen_words

        say(f"warning: {unseen_words(done['never_seen'])}")
    if done["no_text"]:
        say(f"{done['no_text']} of {done['rows']} rows have no text and got no label")
    if not done["rows"] and done.get("shards", 1):
        say(f"{file}: there is no row in it")

    def person() -> None:
        more = [f"{done[name]} {name.replace('_', ' ')}" for name in ("abstained", "out_of_scope") if name in done]
        if "deferred" in done:
            of = f" ({done['answered']} answered by the engine)" if engine is not None else ""
            more.append(f"{done['deferred']} of them deferred{of}")
        if done.get("requests"):
            more.append(f"{done['requests']} requests written to {defer_to}")
        if "shards" in done:
            more.append(f"{done['shards']} files ({done['done_already']} more were done already)")
        say(", ".join([f"{done['rows'] - done['no_text']} rows labelled", *more]) + f", {done['seconds']:.1f} s: {out}")

    if out is not None:
        give(done, as_json, person)


def serve(
    model: Exported,
    host: Annotated[str, Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to bind to.")] = 8080,
    precision: Annotated[str, Option(help="fp32 or int8.")] = "int8",
    sandbox: Sandboxed = "kernel",
    defer_below: DeferBelow = None,
    engine: Engine = None,
) -> None:
    """Serve an exported model over HTTP, with batching, /health and /docs."""
    from factory.predict import serve as serving

    answer = None
    if engine is not None:
        from factory.commands.deferring import annotator
        from factory.predict.load import load_export

        answer = annotator(load_export(model, precision=precision, sandbox=sandbox), engine, beside=model.absolute())
    serving.serve(
        model,
        host=host,
        port=port,
        precision=precision,
        sandbox=sandbox,
        defer_below=defer_below,
        answer=answer,
        told=say,
    )


def report(
    where: Where,
    folder: Folder = None,
    out: Annotated[Path | None, Option(help="Path without a suffix.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run again (HTML and Markdown)."""
    from factory.report import page

    warehouse = open_warehouse(where, folder)
    assert warehouse.folder is not None
    result = page.write(warehouse, out or warehouse.folder / "report")
    give(dict(result.did), as_json, lambda: tell(result.did.get("path")))


def push(
    model: Exported,
    repository: Annotated[str, Argument(help="owner/name on the Hugging Face hub.")],
    private: Annotated[bool, Option(help="Make it private.")] = True,
    as_json: AsJson = False,
) -> None:
    """Push an exported model to the Hugging Face hub."""
    from factory.export import hub

    pushed = hub.push(model, repository, private=private)
    give(pushed, as_json, lambda: tell(pushed["url"]))
