"""What a person sees: lines and tables, in which nothing of the data can command the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but line ends and tabs, and those that turn the direction of writing."""


def shown(text: object) -> str:
    """A text as a terminal may show it: what would move the cursor, colour or reorder it is escaped, lines and tabs stay.

    Example:
        >>> shown("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    return _COMMANDS.sub(lambda match: repr(match[0])[1:-1], str(text))


def say(*lines: object) -> None:
    """Lines for a person, on stderr."""
    for line in lines:
        print(shown(line), file=sys.stderr, flush=True)


def tell(text: object = "") -> None:
    """What a person asked to see, on stdout."""
    print(shown(text))


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print a table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=None if title is None else Text(shown(title)), title_justify="left")
    for header in headers:
        drawn.add_column(Text(shown(header)), overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else _cell(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140).print(drawn)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else shown(value)
