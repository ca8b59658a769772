"""The line: `init`, `run`, one verb per stage, `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.commands.shared import (
    AsJson,
    Folder,
    Settings,
    give,
    load,
    pairs,
    say,
    shown_progress,
    table,
    tell,
    yaml_pairs,
)
from factory.errors import InputError

VERBS = {
    "ingest": "Read texts and gold into the warehouse.",
    "synthesize": "Let the model write examples of each label.",
    "measure": "Measure the accepted synthetic texts: how varied, how like real ones.",
    "tune": "Let the model learn from its own accepted texts (a LoRA adapter).",
    "author": "Let the model write label programs.",
    "annotate": "Let the model label texts itself (the teacher).",
    "vote": "Run the label programs over the texts.",
    "denoise": "Turn votes into probabilistic labels.",
    "distill": "Train students on them.",
    "evaluate": "Score every system on the test split.",
}


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(init)
    app.command()(run)
    for verb, words in VERBS.items():
        app.command(name=verb, help=f"{words} The step's parameters come from the pipeline; --param overrides them.")(
            _verb(verb)
        )
    app.command()(plan)
    app.command()(schema)


def run(
    pipeline: Annotated[
        Path, typer.Argument(help="A pipeline file, or the name of a ready one: quickstart, youtube, trec, ...")
    ],
    set_: Settings = None,
    folder: Folder = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="VERB", help="Only this step. Repeatable.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Most to spend: '2.50' (money) or '200k tokens'. Exit code 3 when it ends a run.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline: every step that is not done yet, in order. Run it again after a kill; nothing is paid for twice.

    Example: factory run quickstart
    """
    from factory.pipeline.run import run_pipeline

    loaded = load(pipeline, set_)
    with shown_progress(quiet=False) as (progress, told):
        result = run_pipeline(loaded, folder=folder, only=only or (), budget=budget, progress=progress, told=told)

    def person() -> None:
        if result.nothing_to_do:
            say("nothing to do: every step is done already")
        if result.evaluation:
            show_evaluation(result.evaluation)
        for name, path in (("report", result.report), ("export", result.export), ("warehouse", result.warehouse)):
            if path:
                print(f"{name + ':':<11}{path}")

    give(result.as_json(), as_json, person)


def show_evaluation(evaluation: Mapping[str, Any]) -> None:
    """The table of systems."""
    rows = []
    for name, system in evaluation["systems"].items():
        low, high = system.get("ci95") or (None, None)
        interval = "" if low is None else f"{low:.3f}-{high:.3f}"
        rows.append(
            [
                name,
                system.get("accuracy"),
                interval,
                system.get("macro_f1"),
                system.get("coverage"),
                system.get("n_scored"),
            ]
        )
    table(
        ["system", "accuracy", "95% interval", "macro F1", "coverage", "scored"],
        rows,
        title=f"{evaluation['split']}: {evaluation['n']} texts",
    )


def init(
    csv: Annotated[Path, typer.Argument(help="A CSV, JSONL or Parquet file of texts; a column of labels helps.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for task.yaml and pipeline.yaml.")] = Path("."),
    text: Annotated[str | None, typer.Option(help="The column of the texts; guessed otherwise.")] = None,
    label: Annotated[
        str | None, typer.Option(help="The column of the labels, if there is one; guessed otherwise.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="The labels, with commas between, where the file has none.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, json, parquet, or lines: a text per line.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a file that is not UTF-8; guessed otherwise.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV file; guessed otherwise.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names, with commas between, for a CSV file without a header line.")
    ] = None,
    label_separator: Annotated[
        str | None, typer.Option(help="What stands between several labels in a cell; guessed otherwise.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a task card and a pipeline to start from, out of a file of texts."""
    from factory.corpus.init import write_start

    names = [name.strip() for name in (labels or "").split(",") if name.strip()]
    told = {"format": format_, "encoding": encoding, "delimiter": delimiter, "label_separator": label_separator}
    told |= {"columns": [name.strip() for name in columns.split(",")] if columns else None}
    given = {name: value for name, value in told.items() if value is not None}
    written = write_start(csv, out, text=text, label=label, labels=names or None, told=given)

    def person() -> None:
        for line in written["says"]:
            say(line)
        print(f"task:     {written['task']}\npipeline: {written['pipeline']}")

    give(written, as_json, person)


def _verb(verb: str) -> Callable[..., None]:
    def command(
        source: Annotated[Path, typer.Argument(help="A pipeline file (its step of this name is run), or a task card.")],
        set_: Settings = None,
        folder: Folder = None,
        param: Annotated[
            list[str] | None,
            typer.Option("--param", "-p", metavar="NAME=YAML", help="A parameter of the step. Repeatable."),
        ] = None,
        engine: Annotated[
            str | None, typer.Option(help="The engine: a YAML file, or kind=server,url=...,model=...")
        ] = None,
        budget: Annotated[str | None, typer.Option(help="Most to spend: '2.50' or '200k tokens'.")] = None,
        per_label: Annotated[int | None, typer.Option(help="synthesize: accepted texts per label.")] = None,
        out: Annotated[Path | None, typer.Option(help="synthesize: export the data into this folder.")] = None,
        as_json: AsJson = False,
    ) -> None:
        params = yaml_pairs(param)
        if per_label is not None:
            params["per_label"] = per_label
        run_verb(verb, source, set_, folder, params, engine, budget, out, as_json)

    command.__name__ = verb
    return command


def run_verb(
    verb: str,
    source: Path,
    settings: list[str] | None,
    folder: Path | None,
    params: dict[str, Any],
    engine: str | None,
    budget: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run one step of a pipeline, or one step on a task card alone."""
    from dataclasses import replace

    from factory.pipeline.load import Pipeline, make_step
    from factory.pipeline.run import run_pipeline
    from factory.task import load_card, read_yaml

    data: Any = None
    if source.is_file() and source.suffix in {".yaml", ".yml"}:
        data, _ = read_yaml(source)
    if isinstance(data, Mapping) and "labels" in data and "steps" not in data:
        card = load_card(source)
        loaded = Pipeline(
            card.name, card, _engine(engine), (make_step(verb, params, where=verb),), source.absolute().parent, budget
        )
    else:
        loaded = load(source, settings)
        steps = [step for step in loaded.steps if step.verb == verb]
        if not steps:
            steps = [make_step(verb, {}, where=verb)]
        changed = tuple(make_step(verb, {**step.params, **params}, where=verb, line=step.line) for step in steps)
        loaded = replace(loaded, steps=changed, engine=_engine(engine) or loaded.engine)
    if out is not None:
        loaded = replace(loaded, steps=(*loaded.steps, make_step("export_data", {"path": str(out.absolute())})))
    with shown_progress(quiet=False) as (progress, told):
        result = run_pipeline(loaded, folder=folder, budget=budget, alone=False, progress=progress, told=told)
    give(result.as_json(), as_json, lambda: None)


def _engine(text: str | None) -> Mapping[str, Any] | None:
    from factory.pipeline.load import check_engine
    from factory.task import read_yaml

    if text is None:
        return None
    if "=" in text:
        settings: Any = pairs(text.split(","), "--engine")
    else:
        settings, _ = read_yaml(Path(text))
    if not isinstance(settings, Mapping):
        raise InputError("--engine is a YAML mapping or kind=...,url=...,model=...")
    settings = settings.get("engine", settings)
    check_engine(settings, "--engine")
    return dict(settings)


def plan(
    pipeline: Annotated[Path, typer.Argument(help="A pipeline file, or the name of a ready one.")],
    set_: Settings = None,
    folder: Folder = None,
    prompt: Annotated[bool, typer.Option(help="Show one rendered prompt.")] = True,
    as_json: AsJson = False,
) -> None:
    """What the pipeline would still ask, before spending: requests, tokens, cost and time per stage, and one rendered prompt."""
    from factory.pipeline.preview import plan_pipeline

    planned = plan_pipeline(load(pipeline, set_), folder=folder)
    give(planned, as_json, lambda: show_plan(planned, prompt=prompt))


def show_plan(planned: Mapping[str, Any], *, prompt: bool = True) -> None:
    """Print a plan for a person."""
    for words in planned["to_do"]:
        print(f"before a run: {words}")
    if not planned["stages"]:
        print("nothing left to ask")
    told = [(stage["stage"], stage) for stage in planned["stages"]]
    told += [(f"{step['step']}, later", step) for step in planned["later"] if "answers" in step]
    if len(told) > 1:
        told.append(("all", _summed([one for _, one in told])))
    rows = [
        [
            name,
            one["requests"],
            _range(one["answers"], ",d"),
            _range(one["tokens_in"], ",d") + ("" if one["tokens_counted"] else " (estimated)"),
            _range(one["tokens_out"], ",d"),
            "no price" if one["cost"] is None else _range(one["cost"], ",.2f"),
            _range(one["seconds"], ",.0f"),
        ]
        for name, one in told
    ]
    if rows:
        table(["stage", "requests now", "answers wanted", "tokens in", "tokens out", "cost", "seconds"], rows)
        print(
            "What is still to be asked. Lower ends: what can be rendered now, with short answers. Upper ends: every repair"
            "\nand topping up that the steps' `candidates` and `repairs` allow, with answers as long as they may be, from a slow"
            " server."
        )
        if any(one["cost"] is None for _, one in told):
            print("For costs add `price: {input: 1.0, output: 3.0}` to `engine`: money per million tokens")
    if planned["stages"] and prompt:
        first = planned["stages"][0]
        print(f"One rendered prompt ({first['stage']}):")
        for message in first["prompt"]:
            tell(f"--- {message['role']}\n{message['content']}")
    for step in planned["later"]:
        more = ": what it asks, at most, stands above" if "answers" in step else ""
        print(f"`{step['step']}` hangs on answers that are missing, or on what `tune` makes{more}")


def _summed(stages: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The line under all stages: one goes after the other."""
    found: dict[str, Any] = {"requests": sum(one["requests"] for one in stages)}
    for name in ("answers", "tokens_in", "tokens_out", "cost", "seconds"):
        ends = [one[name] for one in stages]
        found[name] = None if None in ends else [sum(end[0] for end in ends), sum(end[1] for end in ends)]
    return {**found, "tokens_counted": all(one["tokens_counted"] for one in stages)}


def _range(ends: Any, form: str) -> str:
    low, high = ends
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def schema(as_json: AsJson = True) -> None:
    """Print the JSON schema of a pipeline file (for editors)."""
    import json

    from factory.pipeline.schema import pipeline_schema

    print(json.dumps(pipeline_schema(), indent=None if as_json else 2))
