"""Reading YAML from outside: safe values alone, with the line of everything, and no document that is larger than it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from factory.errors import InputError

_MERGE = "tag:yaml.org,2002:merge"
"""YAML's `<<`, which may stand more than once."""

MOST_BYTES = 1 << 24
MOST_DEPTH = 100
"""How many lists and mappings may stand inside each other."""
MOST_REPEATED = 10_000
"""How many values a document may hold more than it spells out, by aliases (`*name`) to lists and mappings."""


class Places(dict[tuple[Any, ...], int]):
    """Key path (`("labels", 2, "name")`) to its line, counted from 1.

    Attributes:
        written: Key path to what stands there, of values that YAML may read as something else than text (`yes`, `1.0`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[tuple[Any, ...], str] = {}


def read_yaml(path: Path) -> tuple[Any, Places]:
    """Safe-load one YAML file with the line of every key and item.

    Raises:
        InputError: The file is missing, not text, not YAML, or holds far more than it spells out.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError("this is not a regular file", where=path)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError("no such file", where=path, fix="Check the path") from error
    except IsADirectoryError as error:
        raise InputError("this is a folder, not a YAML file", where=path) from error
    except UnicodeDecodeError as error:
        raise InputError("this is not UTF-8 text", where=path, fix="Save it as UTF-8 YAML") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path) from error
    if len(content) > MOST_BYTES:
        raise InputError(f"this YAML file is larger than {MOST_BYTES >> 20} MiB", where=path)
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> tuple[Any, Places]:
    """Safe-load YAML, as `read_yaml` does.

    Args:
        text: One document.
        where: What an error names as the place, before the line.

    Raises:
        InputError: Not YAML, nested too deeply, a key that stands twice, or far more values than it spells out.
    """
    places = Places()
    try:
        node = yaml.compose(text, Loader=_Bounded)
        if node is not None:
            _Walk(places, where).walk(node, ())
        return yaml.safe_load(text), places
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{where}:{mark.line + 1}" if mark else where
        raise InputError(f"this is not YAML: {getattr(error, 'problem', None) or error}", where=at) from error
    except RecursionError as error:
        raise InputError("this YAML is nested too deeply", where=where) from error
    except ValueError as error:  # a date that is none, an integer of thousands of digits
        raise InputError(f"this is not YAML: {error}", where=where, fix="Put the value in quotes") from error


class _Bounded(yaml.SafeLoader):
    """Composes no deeper than `MOST_DEPTH`, whatever Python's limit of recursion is."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise RecursionError
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Walk:
    """Notes where everything stands; refuses a key that stands twice, which would silently lose its first value."""

    def __init__(self, places: Places, where: str) -> None:
        self._places, self._where = places, where
        self._above: set[int] = set()
        self._seen: set[int] = set()
        self._repeated = 0

    def walk(self, node: yaml.Node, path: tuple[Any, ...]) -> None:
        line = node.start_mark.line + 1
        self._places.setdefault(path, line)
        if isinstance(node, yaml.ScalarNode):
            if node.style is None and node.tag != "tag:yaml.org,2002:str":
                self._places.written[path] = node.value
            self._count(node, line)
            return
        if id(node) in self._above:
            raise InputError("an alias stands for the list or mapping that it is in", where=f"{self._where}:{line}")
        self._count(node, line)
        self._above.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        for index, item in enumerate(node.value if isinstance(node, yaml.SequenceNode) else ()):
            self.walk(item, (*path, index))
        self._above.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: tuple[Any, ...]) -> None:
        mine: dict[Any, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputError("a key is a list or mapping", where=f"{self._where}:{key.start_mark.line + 1}")
            here, line = (*path, key.value), key.start_mark.line + 1
            if key.value in mine and key.tag != _MERGE:
                words = f"`{key.value}` stands twice, the first time in line {mine[key.value]}"
                raise InputError(words, where=f"{self._where}:{line}")
            mine[key.value] = self._places[here] = line
            self.walk(value, here)

    def _count(self, node: yaml.Node, line: int) -> None:
        if id(node) in self._seen:
            self._repeated += 1
            if self._repeated > MOST_REPEATED:
                words = f"its aliases repeat more than {MOST_REPEATED:,} values"
                raise InputError(words, where=f"{self._where}:{line}", fix="Write them out")
        self._seen.add(id(node))
