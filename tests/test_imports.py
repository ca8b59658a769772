"""The import law of the house, read from the syntax trees: imports run one way, and each heavy package has its place.

    cli > commands, studio > pipeline > stages > cores > what lies below all wings

Stages import no stage. Cores import no stage, and of other wings those alone that `ALLOWED` names. No circle of files or of
folders, late imports and those for type checkers included.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOOR = ("labels", "prompts", "encoders", "llm", "warehouse", "files", "")
"""What lies below all wings, from top to bottom; the last is the package's own modules."""
STARTS = ("factory.cli", "factory.__main__", "factory.reference")
TOP = {"commands": 5, "studio": 5, "pipeline": 4}
STAGES_BESIDE = frozenset({"factory.synthesis.quality"})
"""Stages that are not called `stage.py`."""
WINGS = frozenset(
    {
        "corpus", "programs", "annotation", "synthesis", "tuning", "discovery", "denoise", "distill", "students", "export",
        "predict", "review", "evaluation", "report", "cluster",
    }
)  # fmt: skip
_LEARNERS = {"students", "programs", "denoise"}
_READERS = {*_LEARNERS, "predict"}
ALLOWED: Mapping[str, set[str]] = {
    "evaluation": _READERS, "distill": _READERS, "export": _READERS, "predict": {*_LEARNERS, "cluster"}, "report": {"evaluation"},
    "programs": {"cluster"}, "synthesis": {"programs"},
}  # fmt: skip
"""Wing -> the wings whose cores its own core may import. Their stages may import any core.

`predict` reads what `distill` and `export` write (trust, scope, the folder): the format is told once, by its reader.
`cluster` is the one door to Ray. `synthesis` has accepted programs check the label that a text was written for.
"""
HEAVY: Mapping[str, tuple[str, ...]] = {
    "torch": ("students", "encoders", "tuning", "export", "llm/engines", "commands/doctor", "denoise/models/snorkel"),
    "transformers": ("students", "encoders", "tuning", "export", "llm/engines"),
    "sentence_transformers": ("students", "encoders", "export"),
    "setfit": ("students",),
    "peft": ("tuning", "llm/engines"),
    "snorkel": ("denoise", "programs"),
    "vllm": ("llm/engines",),
    "openai": ("llm",),
    "dspy": ("llm", "prompts", "tuning"),
    "ray": ("cluster",),
    "matplotlib": ("report",),
    "cleanlab": ("review",),
    "datasets": ("files", "corpus", "students"),
    "onnxruntime": ("predict", "export", "encoders"),
}
"""Package -> where in `factory` it may be imported. Always inside a function."""
POSIX = frozenset({"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"})
CHILD = ("factory.programs.sandbox.sealed.",)
"""What runs in the sealed process alone, where these modules are at hand."""


class Import(NamedTuple):
    """One import: who, of what, whether when the module is loaded, and whether for type checkers alone."""

    by: str
    of: str
    at_once: bool
    typing: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the package."""
    found = {}
    for path in sorted((ROOT / "factory").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package."""
    return tuple(found for name, path in modules().items() for found in _of(name, ast.parse(path.read_text("utf-8"))))


def _of(by: str, tree: ast.AST, at_once: bool = True, typing: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(by, alias.name, at_once, typing)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(by, whole if whole in modules() else node.module, at_once, typing)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for inner in node.body:
                yield from _of(by, ast.Module([inner], []), at_once, True)
            for inner in node.orelse:
                yield from _of(by, ast.Module([inner], []), at_once, typing)
        else:
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _of(by, node, at_once and not inside, typing)


def folder(module: str) -> str:
    """The folder in `factory`, empty for its own modules; those that start a program have a name of their own."""
    parts = module.split(".")
    if module in STARTS:
        return "start"
    return parts[1] if len(parts) > 1 and (ROOT / "factory" / parts[1]).is_dir() else ""


def is_stage(module: str) -> bool:
    return folder(module) in WINGS and (module.endswith(".stage") or module in STAGES_BESIDE)


def level(module: str) -> float:
    """How high a module stands: it may import what stands as high or lower."""
    where = folder(module)
    if where == "start":
        return 6
    if where in TOP:
        return TOP[where]
    if where in WINGS:
        return 3 if is_stage(module) else 2
    return 1 - FLOOR.index(where) / len(FLOOR)


def ours() -> Iterator[Import]:
    """Imports of one of our modules by another, but for those of `factory.__init__`, which are there for type checkers."""
    for found in imports():
        if found.of in modules() and found.of != found.by and found.by not in ("factory", found.of):
            yield found


def violations() -> Iterator[str]:
    for one in sorted({(found.by, found.of) for found in ours() if not found.typing}):
        by, of = one
        if of == "factory":
            continue
        if level(of) > level(by):
            yield f"{by} imports {of}, which stands above it"
        elif is_stage(by) and is_stage(of):
            yield f"stage {by} imports stage {of}"
        elif level(by) == level(of) == 2 and folder(by) != folder(of) and folder(of) not in ALLOWED.get(folder(by), ()):
            yield f"core {by} imports core {of} of another wing"
    for found in imports():
        package = found.of.split(".")[0]
        places = HEAVY.get(package)
        path = "/".join(found.by.split(".")[1:])
        if places is not None and not found.typing and not path.startswith(places):
            yield f"{found.by} imports {package}, which has its place in {', '.join(places)}"
        if places is not None and not found.typing and found.at_once:
            yield f"{found.by} imports {package} when it is loaded"
        if package in POSIX and found.at_once and not found.by.startswith(CHILD):
            yield f"{found.by} imports {package} of POSIX when it is loaded"
        if folder(found.by) == "studio" and folder(found.of) == "commands":
            yield f"{found.by} imports {found.of}: the studio calls what the commands call, and stands beside them"
    yield from (f"circle of files: {' > '.join(circle)}" for circle in circles(_graph(lambda name: name)))
    yield from (
        f"circle of folders: {' > '.join(circle)}" for circle in circles(_graph(lambda name: folder(name) or name))
    )


def _graph(node: object) -> dict[str, set[str]]:
    assert callable(node)
    graph: dict[str, set[str]] = {}
    for found in ours():
        by, of = node(found.by), node(found.of)
        if by != of and "factory" not in (by, of):
            graph.setdefault(by, set()).add(of)
            graph.setdefault(of, set())
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node, sorted (Tarjan)."""
    sys.setrecursionlimit(10_000)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = []
            while not part or part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_the_house_keeps_its_law() -> None:
    assert not sorted(set(violations()))


def test_the_law_sees_what_it_forbids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from __future__ import annotations
import fcntl
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
class A:
    def f(self):
        import ray
        from factory.denoise import stage
"""
    found = set(_of("factory.programs.stage", ast.parse(code)))
    assert Import("factory.programs.stage", "fcntl", True, False) in found
    assert Import("factory.programs.stage", "torch", True, True) in found
    assert Import("factory.programs.stage", "ray", False, False) in found
    assert Import("factory.programs.stage", "factory.denoise.stage", False, False) in found
    assert level("factory.commands.lines") > level("factory.pipeline.run") > level("factory.denoise.stage")
    assert level("factory.denoise.stage") > level("factory.denoise.solve") > level("factory.llm.gateway")
    assert (
        level("factory.prompts.labels")
        > level("factory.llm.gateway")
        > level("factory.warehouse.file")
        > level("factory.task")
    )
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
