"""What `predict` and `serve` do with texts of which an export is not sure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.result import Progress

if TYPE_CHECKING:
    from factory.files.base import ReadOptions
    from factory.predict.annotator import Annotator
    from factory.predict.decide import Asked
    from factory.predict.defer import Deferring
    from factory.predict.exported import Exported
    from factory.programs.sandbox.host.pool import Sandbox


def annotator(exported: Exported, engine: Path, *, beside: Path) -> Annotator:
    """Whom to ask: the engine of a file, with its answers in a warehouse beside what is written.

    Raises:
        InputError: There is no engine in the file, or the export carries no task card.
    """
    from factory.llm import make_engine
    from factory.pipeline.load import load_engine
    from factory.predict.annotator import Annotator

    settings, base, budget = load_engine(engine)
    ledger = beside.with_name(f"{beside.name}.answers.duckdb")
    return Annotator(exported, make_engine(settings, base=base), ledger, budget)


def defer(
    model: Path, options: ReadOptions, out: Path | None, how: Deferring, asked: Asked, *, to: Path | None,
    engine: Path | None, text: str | None, precision: str, sandbox: Sandbox, force: bool, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Label a file and defer what the export is not sure of; as `factory.predict.defer.defer_file`.

    Args:
        to: Write requests here instead of asking; for the model of `engine`, or the one that the export's run asked.
        engine: A file with the engine to ask.

    Raises:
        InputError: Many files, an engine without a file to write, or what `defer_file` refuses.
    """
    from factory.predict.annotator import write_requests
    from factory.predict.defer import defer_file
    from factory.predict.load import Labeller
    from factory.predict.shards import are_many

    if are_many(options.path):
        raise InputError("deferral takes one file at a time", where=options.path, fix="Name one file")
    if engine is not None and to is None and out is None:
        raise InputError("answers of an engine are kept beside the output", fix="Name a file with --out")
    labeller = Labeller(model, asked, text=text, precision=precision, sandbox=sandbox)
    ask, write = None, None
    if engine is not None:
        ask = annotator(labeller.exported, engine, beside=(out or options.path).absolute())
    if to is not None:
        whose = None if ask is None else ask.engine
        write, ask = partial(write_requests, labeller.exported, path=to, engine=whose), None
    done = defer_file(labeller, options, out, how, answer=ask, write=write, force=force, progress=progress)
    return {**done, "read": [*done["read"], *(ask.notes if ask is not None else ())]}
