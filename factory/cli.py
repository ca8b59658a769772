"""The command line: parse, call, print. The commands themselves are in `factory/commands/`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from factory.commands import inspection, lines, models, programs
from factory.commands.shared import say
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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """What holds for every command."""


lines.add_to(app)
models.add_to(app)
inspection.add_to(app)
app.add_typer(programs.app, name="programs")
app.add_typer(inspection.batch, name="batch")
app.add_typer(inspection.engine, name="engine")


def main() -> None:
    """Run the command line; a person's mistake is one line and exit code 2, Ctrl-C is 130."""
    # Left outside of any `except`: an exception that is still held at the end keeps DuckDB objects, which then complain.
    code = _run()
    if "factory.warehouse" in sys.modules:
        sys.modules["factory.warehouse"].close_all()
    sys.exit(code)


def _run() -> int:
    """Run it and give the exit code."""
    try:
        left = app(standalone_mode=False)  # click gives the code of `typer.Exit` back instead of raising it
    except FactoryError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": {"what": error.what, "where": error.where, "fix": error.fix}}))
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
            usage = getattr(error, "ctx", None)
            say(
                f"factory: {' '.join(error.format_message().split())}"
                + (f" (see `{usage.command_path} --help`)" if usage else "")
            )
            return int(error.exit_code)
        if isinstance(error, BrokenPipeError):
            return 141
        raise
    return left if isinstance(left, int) else 0


if __name__ == "__main__":
    main()
