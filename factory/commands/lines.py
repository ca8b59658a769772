"""The line: `init`, `run`, one verb per stage, `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from factory.commands.progress import shown_progress
from factory.commands.shared import AsJson, Delimiter, Encoding, Folder, Format, Settings, give, load, pairs, yaml_pairs
from factory.commands.terminal import say, table, tell
from factory.errors import InputError
from factory.pipeline.verbs import STEPS
from factory.private import private_files

OF_EXPORT = ("export", "export_data", "report")
"""Steps that have commands of their own: `factory export model`, `factory export data`, `factory report`."""
WITH_ENGINE = ("buy", "synthesize", "tune", "author", "annotate")
"""Steps that ask a model, or train one, and so take `--engine` and `--budget`."""


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(init)
    app.command()(run)
    for verb, (_, summary) in STEPS.items():
        if verb not in OF_EXPORT:
            own: dict[str, Callable[..., None]] = {"synthesize": _synthesize, "evaluate": _evaluate}
            app.command(name=verb, cls=VerbCommand, help=summary)(own.get(verb) or _verb(verb))


def run(
    pipeline: Annotated[
        Path, Argument(help="A pipeline file, or the name of a ready one: quickstart, youtube, trec, ...")
    ],
    set_: Settings = None,
    folder: Folder = None,
    only: Annotated[list[str] | None, Option("--only", metavar="VERB", help="Only this step. Repeatable.")] = None,
    budget: Annotated[
        str | None,
        Option(help="Most to spend: '2.50' (money), '200k tokens' or '500 requests'. Exit code 3 when it ends a run."),
    ] = None,
    ray: Annotated[
        bool,
        Option("--ray", help="Do work that divides on Ray: the cluster in RAY_ADDRESS, or this machine's processors."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline: every step that is not done yet, in order. Run it again after a kill; nothing is paid for twice.

    Example: factory run quickstart
    """
    from factory.pipeline.run import run_pipeline

    loaded = load(pipeline, set_)
    if ray and loaded.cluster is None:
        from factory.cluster.ray import usual_address

        loaded = replace(loaded, cluster=usual_address())
    with private_files(), shown_progress() as (progress, told):
        result = run_pipeline(loaded, folder=folder, only=only or (), budget=budget, progress=progress, told=told)

    def person() -> None:
        if result.nothing_to_do:
            say("nothing to do: every step is done already")
        if result.evaluation:
            show_evaluation(result.evaluation)
        for name, path in (("report", result.report), ("export", result.export), ("warehouse", result.warehouse)):
            if path:
                tell(f"{name + ':':<11}{path}")

    give(result.as_json(), as_json, person)


def show_evaluation(evaluation: Mapping[str, Any]) -> None:
    """The table of systems: the headline figure with its own interval, and the others beside it."""
    key = evaluation["metric"]
    several, name = key != "accuracy", key.replace("_f1", " F1")
    rows = []
    for system, found in evaluation["systems"].items():
        low, high = found.get("ci95") or (None, None)
        interval = "" if low is None else f"{low:.3f}-{high:.3f}"
        exact = [found.get("accuracy")] if several else []
        figures = [found["metrics"].get(key), interval, found.get("macro_f1"), *exact]
        rows.append([system, *figures, found.get("coverage"), found.get("n_scored")])
    exact_name = ["all labels right"] if several else []
    names = ["system", name, f"95% interval of {name}", "macro F1", *exact_name, "coverage", "scored"]
    table(names, rows, title=f"{evaluation['split']}: {evaluation['n']} texts")


def init(
    csv: Annotated[Path, Argument(help="A CSV, JSONL or Parquet file of texts; a column of labels helps.")],
    out: Annotated[Path, Option("--out", help="Folder for task.yaml and pipeline.yaml.")] = Path("."),
    text: Annotated[str | None, Option(help="The column of the texts; guessed otherwise.")] = None,
    label: Annotated[str | None, Option(help="The column of the labels, if there is one; guessed otherwise.")] = None,
    labels: Annotated[str | None, Option(help="The labels, with commas between, where the file has none.")] = None,
    format_: Format = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    columns: Annotated[
        str | None, Option(help="Names, with commas between, for a CSV file without a header line.")
    ] = None,
    label_separator: Annotated[
        str | None, Option(help="What stands between several labels in a cell; guessed otherwise.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a task card and a pipeline to start from, out of a file of texts."""
    from factory.corpus.init import write_start

    names = [name.strip() for name in (labels or "").split(",") if name.strip()]
    header = [name.strip() for name in columns.split(",")] if columns else None
    told = {"format": format_, "encoding": encoding, "delimiter": delimiter, "label_separator": label_separator}
    given = {name: value for name, value in {**told, "columns": header}.items() if value is not None}
    written = write_start(csv, out, text=text, label=label, labels=names or None, told=given)

    def person() -> None:
        say(*written["says"])
        tell(f"task:     {written['task']}\npipeline: {written['pipeline']}")

    give(written, as_json, person)


Source = Annotated[Path, Argument(help="A pipeline file (its step of this name is run), or a task card.")]
Param = Annotated[
    list[str] | None,
    Option("--param", "-p", metavar="NAME=YAML", help="A parameter of the step, listed below. Repeatable."),
]
EngineOption = Annotated[str | None, Option(help="The engine: a YAML file, or kind=server,url=...,model=...")]
BudgetOption = Annotated[str | None, Option(help="Most to spend: '2.50', '200k tokens' or '500 requests'.")]


class VerbCommand(typer.core.TyperCommand):
    """The command of a step: its help lists the step's parameters, which are loaded when it is asked for."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The parameters, each with its default and what it does."""
        from factory.params import default_words, type_words
        from factory.pipeline.steps import stage_of

        fields = stage_of(str(self.name)).params.model_fields
        rows = [
            (f"{name}={default_words(info)}", f"{info.description} ({type_words(info.annotation)})")
            for name, info in fields.items()
        ]
        with formatter.section("Parameters (in the pipeline, or with -p NAME=YAML)"):
            formatter.write_dl(rows, col_max=34)


def _verb(verb: str) -> Callable[..., None]:
    def command(
        source: Source, set_: Settings = None, folder: Folder = None, param: Param = None, as_json: AsJson = False
    ) -> None:
        run_verb(verb, source, set_, folder, yaml_pairs(param), None, None, None, as_json)

    def asking(
        source: Source,
        set_: Settings = None,
        folder: Folder = None,
        param: Param = None,
        engine: EngineOption = None,
        budget: BudgetOption = None,
        as_json: AsJson = False,
    ) -> None:
        run_verb(verb, source, set_, folder, yaml_pairs(param), engine, budget, None, as_json)

    return asking if verb in WITH_ENGINE else command


def _synthesize(
    source: Source,
    set_: Settings = None,
    folder: Folder = None,
    param: Param = None,
    engine: EngineOption = None,
    budget: BudgetOption = None,
    per_label: Annotated[int | None, Option(help="Accepted texts per label.")] = None,
    out: Annotated[Path | None, Option(help="Export the data into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    params = yaml_pairs(param)
    if per_label is not None:
        params["per_label"] = per_label
    run_verb("synthesize", source, set_, folder, params, engine, budget, out, as_json)


def _evaluate(
    source: Source,
    set_: Settings = None,
    folder: Folder = None,
    param: Param = None,
    rival: Annotated[
        list[Path] | None,
        Option(
            help="Another system's answers: a file with `text` (or `id`) and `label`. A row of the table. Repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    params = yaml_pairs(param)
    if rival:
        params["rival"] = [str(path.absolute()) for path in rival]
    run_verb("evaluate", source, set_, folder, params, None, None, None, as_json)


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
    from factory.pipeline.load import Pipeline
    from factory.pipeline.run import run_pipeline
    from factory.pipeline.steps import make_step
    from factory.task import load_card, read_yaml

    data: Any = None
    if source.is_file() and source.suffix in {".yaml", ".yml"}:
        data, _ = read_yaml(source)
    if isinstance(data, Mapping) and "labels" in data and "steps" not in data:
        card, step = load_card(source), make_step(verb, params, where=verb)
        loaded = Pipeline(card.name, card, _engine(engine), (step,), source.absolute().parent, budget)
    else:
        loaded = load(source, settings)
        of_verb = [step for step in loaded.steps if step.verb == verb] or [make_step(verb, {}, where=verb)]
        steps = tuple(
            make_step(verb, {**step.params.given(), **params}, where=verb, line=step.line) for step in of_verb
        )
        loaded = replace(loaded, steps=steps, engine=_engine(engine) or loaded.engine)
    if out is not None:
        loaded = replace(loaded, steps=(*loaded.steps, make_step("export_data", {"path": str(out.absolute())})))
    with private_files() if out is None else nullcontext(), shown_progress() as (progress, told):
        result = run_pipeline(loaded, folder=folder, budget=budget, progress=progress, told=told)
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
