"""Whom to ask: `batch` (by file) and `engine`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.commands.progress import say
from factory.commands.shared import AsJson, Folder, Settings, give, held_warehouse, load, open_warehouse, table

batch = typer.Typer(help="Ask by file: OpenAI batch JSONL out and in.", no_args_is_help=True, rich_markup_mode=None)
engine = typer.Typer(help="The engine that is asked.", no_args_is_help=True, rich_markup_mode=None)
Where = Annotated[Path, typer.Argument(help="A pipeline, a run's folder, or a .duckdb file.")]
PipelineFile = Annotated[Path, typer.Argument(help="A pipeline file, or the name of a ready one.")]


def add_to(app: typer.Typer) -> None:
    """Add these groups to the application."""
    app.add_typer(batch, name="batch")
    app.add_typer(engine, name="engine")


@batch.command(name="write")
def batch_write(
    pipeline: PipelineFile,
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Go as far as the stored answers reach, then write the requests that are missing as OpenAI batch JSONL.

    Answer them with `vllm run-batch` or a hosted batch API, read the results with `factory batch read`, and go on.
    """
    from factory.pipeline.missing import write_missing

    done = write_missing(load(pipeline, set_), out, folder=folder)
    give(
        done,
        as_json,
        lambda: say(f"{done['requests']} requests written to {out}" if done["requests"] else "no request is missing"),
    )


@batch.command(name="read")
def batch_read(
    pipeline: PipelineFile,
    file: Annotated[Path, typer.Argument(help="The results, in any order, partial or with errors.")],
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Store the results of a batch. Reading them twice does no harm."""
    from factory.llm.batch import read_results

    with held_warehouse(load(pipeline, set_).path or pipeline, folder) as warehouse:
        done = read_results(warehouse, file)
    give(done, as_json, lambda: say(_of_results(done)))


def _of_results(done: Mapping[str, Any]) -> str:
    """What a results file brought, in words."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in done["reasons"].items())
    return (
        f"{done['lines']} lines: {done['stored']} answers stored, {done['known']} known already, {done['failed']} failed"
        f"{f' ({reasons})' if reasons else ''}, {done['unknown']} of requests that this run has not asked;"
        " `factory plan` tells what is still missing"
    )


@batch.command(name="record")
def batch_record(
    where: Where,
    out: Annotated[Path, typer.Argument(help="The recorded answers (JSONL) to write.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write every stored answer in the form that the engine `recorded` replays."""
    from factory.llm.batch import write_recorded

    done = write_recorded(open_warehouse(where, folder), out)
    give(done, as_json, lambda: say(f"{done['answers']} answers written to {out}"))


@engine.command(name="check")
def engine_check(pipeline: PipelineFile, set_: Settings = None, as_json: AsJson = False) -> None:
    """Ask one of each kind of request the pipeline will make, and say what this engine cannot do."""
    from factory.pipeline.missing import check_pipeline_engine

    found = check_pipeline_engine(load(pipeline, set_))
    give(
        found,
        as_json,
        lambda: table(["kind", "ok", "detail"], [[c["kind"], c["ok"], c["detail"]] for c in found["checks"]]),
    )
    if not found["ok"]:
        raise typer.Exit(2)
