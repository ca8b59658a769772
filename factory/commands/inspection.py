"""Looking into a run and asking for more: `audit`, `ask`, `lineage`, `batch`, `engine`, `doctor`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from factory.commands.shared import AsJson, Folder, Settings, give, load, open_warehouse, say, table
from factory.errors import InputError

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

batch = typer.Typer(help="Ask by file: OpenAI batch JSONL out and in.", no_args_is_help=True, rich_markup_mode=None)
engine = typer.Typer(help="The engine that is asked.", no_args_is_help=True, rich_markup_mode=None)
MOST_SHOWN = 20
Where = Annotated[Path, typer.Argument(help="A pipeline, a run's folder, or a .duckdb file.")]
PipelineFile = Annotated[Path, typer.Argument(help="A pipeline file, or the name of a ready one.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(audit)
    app.command()(ask)
    app.command()(lineage)
    app.command()(doctor)


def audit(
    where: Where,
    of: Annotated[Literal["denoised", "dev", "seed"], typer.Option(help="Whose labels.")] = "denoised",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    out: Annotated[Path | None, typer.Option(help="Write them all as CSV or JSONL.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Likely label errors, with the evidence: votes, the model's probability, nearest neighbours."""
    from factory.review import stage

    result = stage.audit(open_warehouse(where, folder), of=of, limit=limit, out=out)
    rows: list[dict[str, Any]] = list(result.did.get("issues", []))

    def person() -> None:
        for line in result.says:
            say(line)
        for r in rows:
            evidence = r["evidence"]
            label = f" (label {r['label']})" if r["label"] else ""
            print(f"\n{r['text_no']}: {str(r['text'])[:160]}")
            print(
                f"  given {r['given']}, likely {r['likely']}{label}; score {r['score']} (the lower, the more suspect)"
            )
            print(f"  the texts tell: {evidence['believed']}")
            if "label_model" in evidence:
                print(f"  the label model: {evidence['label_model']}")
            said = ", ".join(f"{name}: {vote}" for name, vote in evidence["votes"].items())
            print(f"  votes: {said or 'none'}")
            for near in evidence["nearest"]:
                print(f"  near: {near}")

    give(dict(result.did), as_json, person)


def ask(
    where: Where,
    budget: Annotated[int, typer.Option(help="How many texts to ask about.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV, JSONL, or Label Studio tasks (.json): write the questions here; else they are only shown."
        ),
    ] = None,
    answers: Annotated[Path | None, typer.Option("--read", help="Read answered questions from here.")] = None,
    annotator: Annotated[str | None, typer.Option(help="With --read: who answered; a voter of its own.")] = None,
    strategy: Annotated[
        str,
        typer.Option(help="auto, uncertainty, random, or active: ask again where doubtful."),
    ] = "auto",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Which texts a person (or a model) should label next; or read their labels back as one more voter."""
    from factory.review import stage

    warehouse = open_warehouse(where, folder)
    if answers is not None:
        result = stage.read_answers(warehouse, answers, annotator=annotator)
    else:
        result = stage.ask(warehouse, budget=budget, strategy=strategy, out=out)

    def person() -> None:
        for line in result.says:
            say(line)
        if out is None and result.did.get("asked"):
            show_questions(result.did["asked"], int(result.did["questions"]))
            say("the same command with --out questions.csv writes them, to be answered in the column `label`;")
            say(f"factory ask {where} --read questions.csv reads the answers back")

    give(dict(result.did), as_json, person)


def show_questions(asked: Sequence[Mapping[str, Any]], total: int) -> None:
    """The first questions, as a table."""
    shown = asked[:MOST_SHOWN]
    rows = [
        [number, " ".join(q["text"].split())[:100], q["suggested"], q["why"]] for number, q in enumerate(shown, start=1)
    ]
    table(["", "text", "likely", "why it is asked"], rows)
    if total > len(shown):
        say(f"and {total - len(shown)} more")


def lineage(
    where: Where,
    kind: Annotated[
        str, typer.Argument(help="text, synthetic, program, request, soft_label, label_model, model, export, ...")
    ],
    number: Annotated[
        str,
        typer.Argument(
            help="Its number or key; of a text also the `id` that exported data has, of an export `last`, of a soft label the"
            " number of its text."
        ),
    ],
    down: Annotated[bool, typer.Option("--down", help="What came of it, instead of what it came from.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many lines.")] = 1000,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Walk the lineage of anything, either way."""
    warehouse = open_warehouse(where, folder)
    number = _number_of(warehouse, kind, number)
    walk = "descendants" if down else "ancestors"
    names = ["child_kind", "child", "parent_kind", "parent", "how", "depth"]
    order = "depth, child_kind, try_cast(child AS BIGINT), child, parent_kind, try_cast(parent AS BIGINT), parent"
    rows = warehouse.query(
        f"SELECT {', '.join(names)} FROM {walk}(?, ?) ORDER BY {order} LIMIT {limit + 1}", [kind, number]
    )
    if not rows:
        _nothing_to_walk(warehouse, kind, number)
        say(f"nothing came of {kind} {number}" if down else f"{kind} {number} came from nothing that is on record")
    if len(rows) > limit:
        say(f"there are more than {limit} lines, and these are the nearest; --limit shows more")
        del rows[limit:]
    at = 0 if down else 2
    words = _words(warehouse, {(row[at], row[at + 1]) for row in rows})
    names.append("what")
    rows = [(*row, words.get((row[at], row[at + 1]), "")) for row in rows]
    believed = _believed(warehouse, number) if kind == "soft_label" else ""

    def person() -> None:
        if believed:
            print(believed)
        if rows:
            table(names, rows)

    found = {"lineage": [dict(zip(names, row, strict=True)) for row in rows]}
    give({**found, "believed": believed} if believed else found, as_json, person)


_CALLED = {
    "source": ("sources", "source_no", "path"),
    "text": ("texts", "text_no", "text"),
    "synthetic": ("synthetic", "synthetic_no", "text"),
    "program": ("programs", "program_no", "name"),
    "label_model": ("label_models", "label_model_no", "name"),
    "model": ("models", "model_no", "system"),
    "export": ("exports", "export_no", "path"),
}
"""Kind -> the table, the number and the column that tells a person which one it is."""


def _words(warehouse: Warehouse, ends: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What each of these things is called: a path, a name, or the beginning of a text."""
    found: dict[tuple[str, str], str] = {}
    for kind, (held, number, column) in _CALLED.items():
        wanted = [no for of, no in ends if of == kind]
        if wanted:
            rows = warehouse.query(
                f"SELECT {number}::VARCHAR, {column} FROM {held} WHERE {number}::VARCHAR IN (SELECT unnest(?))",
                [wanted],
            )
            found |= {(kind, no): " ".join(str(words or "").split())[:60] for no, words in rows}
    return found


def _number_of(warehouse: Warehouse, kind: str, given: str) -> str:
    """The number of what a person has in hand: a text's content hash, the number of a soft label's text, the last export."""
    if kind == "text" and re.fullmatch("[0-9a-fA-F]{32}", given):
        found = warehouse.scalar("SELECT text_no FROM texts WHERE content_hash = from_hex(?)", [given])
    elif kind == "soft_label" and given.isdecimal():  # of the label model that the student learned from
        from factory.distill.read import label_models

        found = next((f"{model.number}/{given}" for model in label_models(warehouse)), None)
    elif kind == "export" and given == "last":
        found = warehouse.scalar("SELECT max(export_no) FROM exports")
    else:
        return given
    return given if found is None else str(found)


def _believed(warehouse: Warehouse, number: str) -> str:
    """What a soft label says: its label model, and the labels by their probability."""
    rows = warehouse.query(
        "SELECT m.name, l.name, s.probs[l.label_no + 1] FROM soft_labels s JOIN label_models m USING (label_model_no), labels l"
        " WHERE s.label_model_no || '/' || s.text_no = ? AND l.active ORDER BY 3 DESC NULLS LAST, l.label_no LIMIT 5",
        [number],
    )
    if not rows:
        return ""
    said = ", ".join(f"{label} {'unknown' if p is None else f'{p:.2f}'}" for _, label, p in rows)
    return f"text {number.split('/')[-1]}, by label model {rows[0][0]}: {said}"


def _nothing_to_walk(warehouse: Warehouse, kind: str, number: str) -> None:
    """Say why there is no lineage of something, unless it is there and has none.

    Raises:
        InputError: There is no such kind, or nothing of that number.
    """
    ends = "SELECT child_kind AS kind, child AS no FROM lineage UNION SELECT parent_kind, parent FROM lineage"
    kinds = [name for (name,) in warehouse.query(f"SELECT DISTINCT kind FROM ({ends}) ORDER BY kind")]
    if kind not in kinds:
        raise InputError(
            f"the warehouse has no lineage of any `{kind}`", fix=f"It has: {', '.join(kinds) or 'nothing yet'}"
        )
    if not warehouse.scalar(f"SELECT count(*) FROM ({ends}) WHERE kind = ? AND no = ?", [kind, number]):
        raise InputError(f"there is no {kind} {number} in the warehouse")


def doctor(as_json: AsJson = False) -> None:
    """What is installed, which engines can run, which encoder is at hand, and what to do about the rest."""
    from factory.commands.doctor import examine

    found = examine()

    def person() -> None:
        marks = {True: "ok", None: "-", False: "MISSING"}
        table(
            ["", "what", "found", "what to do"],
            [[marks[c["ok"]], c["what"], c["found"], c["fix"]] for c in found["checks"]],
        )

    give(found, as_json, person)
    if not found["ok"]:
        raise typer.Exit(1)


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
    from factory.pipeline.preview import write_missing

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

    done = read_results(open_warehouse(load(pipeline, set_).path or pipeline, folder), file)
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
    from factory.pipeline.preview import check_pipeline_engine

    found = check_pipeline_engine(load(pipeline, set_))
    give(
        found,
        as_json,
        lambda: table(["kind", "ok", "detail"], [[c["kind"], c["ok"], c["detail"]] for c in found["checks"]]),
    )
    if not found["ok"]:
        raise typer.Exit(2)
