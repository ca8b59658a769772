"""The command line: parse, call, print. The commands themselves are in `factory/commands/`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer import Option

from factory.commands import card, discover, engines, inspection, lines, models, plan, programs, studio, texts
from factory.commands.terminal import say
from factory.errors import FactoryError

app = typer.Typer(
    name="factory",
    help="From a task card and unlabelled text to a small, exported classifier, with a language model as the only annotator.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from factory import __version__

        print(f"label-factory {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """What holds for every command."""


lines.add_to(app)
plan.add_to(app)
models.add_to(app)
inspection.add_to(app)
texts.add_to(app)
discover.add_to(app)
studio.add_to(app)
app.add_typer(programs.app, name="programs")
card.add_to(app)
engines.add_to(app)


def main() -> None:
    """Run the command line; a person's mistake is one line and exit code 2, Ctrl-C is 130."""
    # Left outside of any `except`: an exception that is still held at the end keeps DuckDB objects, which then complain.
    code = _run()
    sys.exit(code)


def _run() -> int:
    """Run it and give the exit code."""
    try:
        left = app(standalone_mode=False)  # click gives the code of `typer.Exit` back instead of raising it
    except FactoryError as error:
        if "--json" in sys.argv:
            from factory.files.write import json_line

            print(json_line({"error": {"what": error.what, "where": error.where, "fix": error.fix}}))
        say(f"factory: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("factory: stopped; run the same command again to go on")
        return 130
    except typer.Exit as leave:
        return leave.exit_code
    except typer.Abort:
        say("factory: stopped")
        return 130
    except Exception as error:  # click's usage errors have a message and an exit code of their own
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            say(_usage(error))
            return int(error.exit_code)
        if isinstance(error, BrokenPipeError):
            return 141
        import traceback

        say(traceback.format_exc().rstrip())
        return 1
    return left if isinstance(left, int) else 0


def _usage(error: Any) -> str:
    """A usage error in one line, with an example where an argument is missing; a command without anything gets its help."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(message)
    context = getattr(error, "ctx", None)
    line = f"factory: {' '.join(message.split())}"
    if context is None:
        return line
    if type(error).__name__ == "MissingParameter":
        line = f"{line.removesuffix('.')}. {_example(context)}"
    return f"{line.rstrip()} (see `{context.command_path} --help`)"


def _example(context: Any) -> str:
    """The command with its arguments, over a run that is there; or how to make one."""
    wanted = [param.name for param in context.command.params if param.param_type_name == "argument" and param.required]
    known = {"pipeline": "quickstart", "program_no": "1", "kind": "text", "number": "1"}
    if "where" in wanted:
        from factory.pipeline.place import runs_here

        runs = runs_here()
        if not runs:
            return "It reads a run (a pipeline, a run's folder, or a .duckdb file); `factory run quickstart` makes one"
        known["where"] = str(runs[0])
    if not {"where", "pipeline"} & set(wanted):
        return ""
    return f"For example: {' '.join([context.command_path, *(known.get(name, name.upper()) for name in wanted)])}"


if __name__ == "__main__":
    main()
