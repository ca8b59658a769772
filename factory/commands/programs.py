"""`factory programs`: list, show, add, edit, approve, reject, diff, test, write, repair."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

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
from factory.commands.terminal import say, table, tell
from factory.errors import InputError

app = group("Label programs: look at them, change them, decide about them.")

Sandboxed = Annotated[
    str, Option("--sandbox", help="`process` runs Python where the system has no kernel layers (not Linux).")
]
Number = Annotated[int, Argument(help="The program's number (from `factory programs list`).")]


@app.command(name="list")
def list_(
    where: Where,
    folder: Folder = None,
    every: Annotated[bool, Option("--all", help="Rejected and superseded ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every program with its state, coverage, overlaps and conflicts, and its accuracy on texts whose label is known."""
    from factory.programs import view

    rows = view.list_programs(open_warehouse(where, folder), every=every)
    columns = [
        "program_no", "name", "kind", "state", "origin", "target", "coverage", "overlaps", "conflicts", "accuracy",
        "judged", "failures", "drop_reason",
    ]  # fmt: skip

    def person() -> None:
        if not rows:
            more = "" if every else " (--all: refused ones too)"
            say(f"no programs yet: `author` accepts them when its answers are there{more}")
            return
        table(columns, [[row.get(column) for column in columns] for row in rows])

    give({"programs": rows}, as_json, person)


@app.command()
def show(where: Where, program_no: Number, folder: Folder = None, as_json: AsJson = False) -> None:
    """A program's source, where it comes from, and what happened to it."""
    from factory.programs import view

    shown = view.show_program(open_warehouse(where, folder), program_no)

    def person() -> None:
        for key, value in shown.items():
            if key not in {"source", "events"}:
                tell(f"{key + ':':<16}{value}")
        for event in shown.get("events", []):
            tell(f"{'':<16}{event}")
        tell(f"\n{shown['source']}")

    give(shown, as_json, person)


@app.command()
def add(
    where: Where,
    file: Annotated[Path, Argument(help="A .py file that defines label(text), or a .yaml or .json file of rules.")],
    target: Annotated[str | None, Option(help="multi tasks: the label the program speaks of.")] = None,
    name: Annotated[str | None, Option(help="Its name; the file's by default.")] = None,
    sandbox: Sandboxed = "kernel",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Add a program written by hand. It is checked and probed like any other."""
    from factory.programs import manage

    with held_warehouse(where, folder) as warehouse:
        kind, sealed = manage.kind_of_file(file), as_sandbox(sandbox)
        added = manage.add_program(
            warehouse, _source(file), name=name or file.stem, target=target, kind=kind, sandbox=sealed
        )

    def person() -> None:
        say(f"program {added['program_no']} is {added['state']}; run the pipeline again to let it vote")
        if "remark" in added:
            say(added["remark"])

    give(added, as_json, person)


@app.command()
def edit(
    where: Where,
    program_no: Number,
    file: Annotated[Path | None, Option("--file", help="The new source; without it, $EDITOR opens.")] = None,
    sandbox: Sandboxed = "kernel",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Give a program a new version. The old one is superseded; only the new one's votes are computed anew."""
    from factory.programs import manage, view

    if file is None:
        import click

        old = view.show_program(open_warehouse(where, folder), program_no)
        source = click.edit(old["source"], extension=".json" if old["kind"] == "rules" else ".py")
        if source is None or source == old["source"]:
            say("nothing was changed")
            return
    else:
        source = _source(file)
    with held_warehouse(where, folder) as warehouse:
        edited = manage.edit_program(warehouse, program_no, source, sandbox=as_sandbox(sandbox))
    told = f"program {edited['program_no']} supersedes {program_no}; run the pipeline again"
    give(edited, as_json, lambda: say(told))


@app.command()
def approve(where: Where, program_no: Number, folder: Folder = None, as_json: AsJson = False) -> None:
    """Let a program vote."""
    _decide("approve_program", where, program_no, folder, as_json)


@app.command()
def reject(
    where: Where,
    program_no: Number,
    reason: Annotated[str, Option(help="Why; kept with the program.")] = "rejected by hand",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Let a program vote no longer."""
    _decide("reject_program", where, program_no, folder, as_json, reason=reason)


@app.command()
def diff(where: Where, program_no: Number, folder: Folder = None, as_json: AsJson = False) -> None:
    """How a version differs from its parent: the source, and the texts whose vote changed."""
    from factory.programs import view

    found = view.diff_program(open_warehouse(where, folder), program_no)

    def person() -> None:
        tell(found["diff"] or "the sources are equal")
        changed = found["votes_changed"]
        tell("votes: not both versions have voted yet" if changed is None else f"votes changed: {changed}")

    give(found, as_json, person)


@app.command()
def test(
    where: Where,
    program_no: Number,
    text: Annotated[list[str] | None, Argument(help="Texts to run it on; a sample of the corpus without any.")] = None,
    file: Annotated[
        Path | None,
        Option("--file", help="Try this source in its place: what would change on a sample. Nothing is stored."),
    ] = None,
    sandbox: Sandboxed = "kernel",
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Run a program on some texts and show what it says."""
    from factory.pipeline.drafts import try_draft
    from factory.programs import view

    warehouse = open_warehouse(where, folder)
    if file is not None:
        if text:
            raise InputError("a draft is tried on a sample of the corpus", fix="Leave out the texts, or --file")
        tried = try_draft(warehouse, _source(file), kind="", program_no=program_no, sandbox=as_sandbox(sandbox))
        said = [[m["vote"], ", ".join(m["on"]), m["text"][:100]] for m in tried.matches]

        def person() -> None:
            table(["vote", "on", "text"], said)
            say(*tried.in_words)

        give(tried.as_json, as_json, person)
        return
    rows: list[dict[str, Any]] = view.test_program(
        warehouse, program_no, texts=text or None, sandbox=as_sandbox(sandbox)
    )
    cells = [
        [r["vote"], f"{r['status']}: {r['detail']}" if "detail" in r else r["status"], r["text"][:100]] for r in rows
    ]
    give({"results": rows}, as_json, lambda: table(["vote", "status", "text"], cells))


@app.command()
def write(
    pipeline: PipelineFile,
    label: Annotated[str | None, Option(help="Programs that speak of this label alone.")] = None,
    conflicts: Annotated[bool, Option("--conflicts", help="Show the model texts on which programs disagree.")] = False,
    count: Annotated[int, Option(min=1, help="How many more.")] = 1,
    budget: Annotated[str | None, Option(help="Most to spend: '2.50', '200k tokens' or '500 requests'.")] = None,
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Have the model write more programs: for a label, or by the texts on which programs disagree. Each is checked, tried and
    repaired as by `author`, whose step this is."""
    from factory.commands.lines import run_verb
    from factory.warehouse.tables.plans import programs_asked

    show, labels = "conflicts" if conflicts else "any", None if label is None else [label]
    before = programs_asked(open_warehouse(pipeline, folder), labels, show)
    params = {"programs": before + count, "show": show, **({} if labels is None else {"labels": labels})}
    run_verb("author", pipeline, set_, folder, params, None, budget, None, as_json)


@app.command()
def repair(
    pipeline: PipelineFile,
    program_no: Number,
    text: Annotated[
        list[str],
        Option(
            metavar="TEXT_NO[=LABEL]",
            help="A text that it gets wrong, with what it should say (`-`: nothing) where that is not known. Repeatable.",
        ),
    ],
    budget: Annotated[str | None, Option(help="Most to spend: '2.50', '200k tokens' or '500 requests'.")] = None,
    sandbox: Sandboxed = "kernel",
    set_: Settings = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Ask the model for a repair of a program by texts that it gets wrong. The new version votes once it is approved."""
    from factory.commands.progress import shown_alone
    from factory.pipeline.repair import repair as repaired

    wanted: dict[int, str | None] = {}
    for one in text:
        number, sign, said = one.partition("=")
        if not number.isdecimal():
            raise InputError(f"--text takes TEXT_NO or TEXT_NO=LABEL, not {one!r}")
        wanted[int(number)] = said if sign else None
    with shown_alone("repair") as progress:
        result = repaired(
            load(pipeline, set_), program_no, wanted, folder=folder, budget=budget, sandbox=as_sandbox(sandbox),
            progress=progress,
        )  # fmt: skip
    give(result.did, as_json, lambda: say(*result.says))


def _decide(function: str, where: Path, program_no: int, folder: Path | None, as_json: bool, **more: Any) -> None:
    from factory.programs import manage

    with held_warehouse(where, folder) as warehouse:
        decided = getattr(manage, function)(warehouse, program_no, **more)
    give(decided, as_json, lambda: say(f"program {program_no} is {decided['state']}; run the pipeline again"))


def as_sandbox(word: str) -> Literal["kernel", "process"]:
    """The option `--sandbox`.

    Raises:
        InputError: Another word.
    """
    if word in ("kernel", "process"):
        return word  # type: ignore[return-value]
    raise InputError(f"cannot read {word!r} as a sandbox", where="--sandbox", fix="It is `kernel` or `process`")


def _source(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=file) from error
    except UnicodeDecodeError as error:
        raise InputError("this is not UTF-8 text", where=file) from error
