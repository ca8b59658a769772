"""Before a run: `plan`, and the schema of a pipeline file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from typer import Option

from factory.commands.progress import duration
from factory.commands.shared import AsJson, Folder, PipelineFile, Settings, give, load
from factory.commands.terminal import table, tell


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(plan)
    app.command()(schema)


def plan(
    pipeline: PipelineFile,
    set_: Settings = None,
    folder: Folder = None,
    budget: Annotated[str | None, Option(help="As for `run`: what would be bought within it.")] = None,
    prompt: Annotated[bool, Option(help="Show one rendered prompt.")] = True,
    texts: Annotated[
        str | None,
        Option(help="How many texts there will be, as `100M`: what the steps take then, by what they took here."),
    ] = None,
    nodes: Annotated[int, Option(min=1, help="With --texts: on how many machines like this one.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What the pipeline would still ask and compute, before spending: requests, tokens, cost, time, and one rendered prompt."""
    from factory.pipeline.preview import plan_pipeline
    from factory.pipeline.scale import parse_count

    loaded = load(pipeline, set_)
    count = None if texts is None else parse_count(texts)
    asked = replace(loaded, budget=budget or loaded.budget)
    planned = plan_pipeline(asked, folder=folder, texts=count, nodes=nodes)
    give(planned, as_json, lambda: show_plan(planned, prompt=prompt))


def show_plan(planned: Mapping[str, Any], *, prompt: bool = True) -> None:
    """Print a plan for a person."""
    for words in planned["to_do"]:
        tell(f"before a run: {words}")
    if (change := planned.get("change")) is not None:
        (labels, labels_again), (programs, programs_again) = change["labels"], change["programs"]
        tell(f"The card is another than that of the last run; {change['words']}")
        tell(
            f"labels of the model: {labels:,} stay, {labels_again:,} are asked again; programs: {programs:,} stay,"
            f" {programs_again:,} are written anew"
        )
    if not planned["stages"]:
        tell("nothing left to ask" if planned["compute"]["steps"] else "nothing left to ask or to compute")
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
        tell(
            "What is still to be asked. Lower ends: what can be rendered now, with short answers. Upper ends: every repair"
            "\nand topping up that the steps' `candidates` and `repairs` allow, with answers as long as they may be, from a slow"
            " server."
        )
        if any(one["cost"] is None for _, one in told):
            tell("For costs add `price: {input: 1.0, output: 3.0}` to `engine`: money per million tokens")
    if planned["buys"]:
        tell(planned["buys"]["words"])
    _show_direct(planned["direct"], planned["buys"] is not None)
    _show_compute(planned["compute"])
    if planned["stages"] and prompt:
        first = planned["stages"][0]
        tell(f"One rendered prompt ({first['stage']}):")
        for message in first["prompt"]:
            tell(f"--- {message['role']}\n{message['content']}")
    if "scale" in planned:
        _show_scale(planned["scale"])
    for step in planned["later"]:
        more = ": what it asks, at most, stands above" if "answers" in step else ""
        tell(f"`{step['step']}` depends on answers that are missing, or on what `tune` makes{more}")


def _show_direct(direct: Mapping[str, Any] | None, buys: bool) -> None:
    """Say so where the model may as well label every text itself."""
    if direct is None or direct["tokens"] > direct["instead"][1]:
        return
    less = "less than" if direct["tokens"] < direct["instead"][0] else "about as much as"
    what = "the programs of the first round" if buys else "programs and synthetic texts"
    place = "`steps` with" if buys else "instead of `author` and `synthesize`"
    tell(
        f"Labelling all {direct['texts']:,} training texts by the model takes about {direct['tokens']:,} tokens, {less}"
        f" {what}\n({_range(direct['instead'], ',d')}): {place} `- annotate: {{split: train, as_votes: true}}`"
        f"{' do' if buys else ' does'} so."
    )


def _show_compute(compute: Mapping[str, Any]) -> None:
    """What this machine will do, and for how long."""
    if not compute["steps"]:
        return
    rows = [[one["step"], one["what"], _times(one["seconds"])] for one in compute["steps"]]
    table(["step", "to compute", "time"], rows)
    if compute["measured"]:
        tell(f"Measured: {compute['measured']}. Steps without a time were not estimated.")
    if compute["encoders"]:
        takes = ", ".join(f"{one['name']} {duration(one['seconds'])}" for one in compute["encoders"])
        tell(f"Encoders on the disk, what each would take for all texts here, the first as `encoder: auto`: {takes}.")
    if compute["quicker"]:
        quick = compute["quicker"]
        tell(f"Quicker, for a first look: {quick['how']}: {_times(quick['seconds'])} in their place.")


def _show_scale(scale: Mapping[str, Any]) -> None:
    """What the steps take on many texts and several nodes."""
    nodes = scale["nodes"]
    rows = [
        [
            step["step"],
            f"{step['measured']['seconds']:,.1f} s",
            duration(step["one_node_s"]),
            duration(step["seconds"]),
            "" if step["linear_to"] is None else f"{step['linear_to']:,}",
            step["why"],
        ]
        for step in scale["steps"]
    ]
    rows.append(["all", "", duration(scale["one_node_s"]), duration(scale["seconds"]), "", ""])
    title = (
        f"{scale['texts']:,} texts on {nodes:,} nodes of {scale['cores']} processors, each like one of this machine's"
    )
    table(["step", "measured here", "one node", f"{nodes:,} nodes", "gains up to", "since"], rows, title=title)
    tell(f"{scale['first']} The warehouse: some {scale['disk_bytes'] / 1e9:,.1f} GB.")
    if any(step["step"] == "ingest" for step in scale["steps"]):
        tell("`ingest` is counted as one process: files of a folder are read on all nodes, and stored by one.")
    tell(
        "Requests and money do not grow with the texts, unless `annotate` has no `limit`; more `url` make them quicker."
    )


def _times(ends: Sequence[float] | None) -> str:
    if ends is None:
        return ""
    low, high = (duration(end) for end in ends)
    return f"about {low}" if low == high else f"{low} to {high}"


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


def schema(as_json: AsJson = False) -> None:
    """Print the JSON schema of a pipeline file (for editors); on one line with --json."""
    import json

    from factory.pipeline.schema import pipeline_schema

    print(json.dumps(pipeline_schema(), indent=None if as_json else 2, ensure_ascii=False))
