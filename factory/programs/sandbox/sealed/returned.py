"""Texts that a program returns by name, so that one that is not a label is told before a rare text shows it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator


def returned_texts(tree: ast.Module) -> list[tuple[str, int]]:
    """The texts in the `return` statements of the function `label`, with their lines."""
    found = []
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name == "label":
            for node in _own_nodes(function):
                for value in _branches(node.value) if isinstance(node, ast.Return) else []:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found.append((value.value, value.lineno))
    return found


def no_label(text: str, labels: Collection[str]) -> str:
    """Words on a text that is not a label: the label that was meant, if it can be told (but for case, blanks, `-` and `_`)."""

    def bare(word: str) -> str:
        return "".join(c for c in word.casefold() if c not in " -_\n\t")

    near = next((label for label in labels if bare(label) == bare(text)), None)
    shown = "".join(c for c in text[:40] if c.isprintable())
    return f"returned the text `{shown}`, which is not a label" + (f"; the label is `{near}`" if near else "")


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            yield node
            yield from _own_nodes(node)


def _branches(value: ast.expr | None) -> list[ast.expr]:
    if isinstance(value, ast.IfExp):
        return _branches(value.body) + _branches(value.orelse)
    return [] if value is None else [value]
