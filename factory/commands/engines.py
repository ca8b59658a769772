"""Whom to ask: `batch` (by file) and `engine`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from factory.commands.shared import (
    AsJson,
    Folder,
    PipelineFile,
    Settings,
    Where,
    give,
    group,
    held_warehouse,
    load,
    open_warehouse,
)
from factory.commands.terminal import say, table

batch = group("Ask by file: OpenAI batch JSONL out and in.")
engine = group("The engine that is asked.")


def add_to(app: typer.Typer) -> None:
    """Add these groups to the application."""
    app.add_typer(batch, name="batch")
    app.add_typer(engine, name="engine")


@batch.command(name="write")
def batch_write(
    pipeline: PipelineFile,
    out: Annotated[Path, Argument(help="The JSONL file to write.")],
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Go as far as the stored answers reach, then write the requests that are missing as OpenAI batch JSONL.

    Answer them with `vllm run-batch` or a hosted batch API, read the results with `factory batch read`, and go on.
    """
    from factory.pipeline.missing import write_missing

    done = write_missing(load(pipeline, set_), out, folder=folder)
    told = f"{done['requests']} requests written to {out}" if done["requests"] else "no request is missing"
    give(done, as_json, lambda: say(told))


@batch.command(name="read")
def batch_read(
    pipeline: PipelineFile,
    file: Annotated[Path, Argument(help="The results, in any order, partial or with errors.")],
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Store the results of a batch. Reading them twice does no harm."""
    from factory.llm.batch_files import read_results
    from factory.llm.settings import EngineSettings

    loaded = load(pipeline, set_)
    settings = EngineSettings.model_validate(dict(loaded.engine)) if loaded.engine else None
    with held_warehouse(loaded.path or pipeline, folder) as warehouse:
        done = read_results(warehouse, file, settings=settings)
    give(done, as_json, lambda: say(_of_results(done)))


def _of_results(done: Mapping[str, Any]) -> str:
    """What a results file brought, in words."""
    parts = [f"{done['stored']} answers stored"]
    if done["known"]:
        parts.append(f"{done['known']} known already")
    if done["partial"]:
        parts.append(f"{done['partial']} lines brought only some of their answers; the rest is asked again")
    if done["failed"]:
        reasons = "; ".join(words if n == 1 else f"{n} times: {words}" for words, n in done["reasons"].items())
        parts.append(f"{done['failed']} lines brought an error ({reasons})")
    if done["unknown"]:
        parts.append(f"{done['unknown']} answers are to requests that this run has not asked")
    return f"{done['lines']} lines: {', '.join(parts)}. `factory plan` says what is still missing"


@batch.command(name="record")
def batch_record(
    where: Where,
    out: Annotated[Path, Argument(help="The recorded answers (JSONL) to write.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write every stored answer in the form that the engine `recorded` replays."""
    from factory.llm.batch_files import write_recorded

    done = write_recorded(open_warehouse(where, folder), out)
    give(done, as_json, lambda: say(f"{done['answers']} answers written to {out}"))


@engine.command(name="check")
def engine_check(
    pipeline: PipelineFile,
    set_: Settings = None,
    aptitude: Annotated[
        bool,
        Option("--aptitude", help="Ask some fifty requests on your own texts, and say what the model is good for."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask one of each kind of request the pipeline will make, and say what this engine cannot do."""
    from factory.pipeline.aptitude import aptitude_of
    from factory.pipeline.missing import check_pipeline_engine

    found = (aptitude_of if aptitude else check_pipeline_engine)(load(pipeline, set_))
    names = ["kind", "ok", "detail"]

    def show() -> None:
        table(names, [[row[name] for name in names] for row in found["checks"]])
        if aptitude:
            say(found["sentence"])

    give(found, as_json, show)
    if not found["ok"]:
        raise typer.Exit(2)
