"""The static allow-list: which Python a program may be written in. Runs in the sealed child, never in our own process.

It is the first layer and gives an author's mistakes a name early; what holds when it is wrong are the kernel layers. Every
refusal carries a code and words of our own, since Python's differ by version and are shown to a model for repair.
"""

from __future__ import annotations

import ast
import string
from typing import Any

from . import words
from .facades import BUILTIN_NAMES, MODULES
from .refused import Refused, show
from .returned import returned_texts

MAX_BYTES = 40_000
MAX_NODES = 12_000
MAX_DEPTH = 80

_NODES = frozenset(
    words(
        """
    Module Expr Assign AugAssign AnnAssign NamedExpr FunctionDef ClassDef Lambda Return Delete If For While
    Break Continue Pass Raise Try ExceptHandler Assert Import ImportFrom alias Global Nonlocal arguments arg
    keyword Name Load Store Del Constant Attribute Subscript Slice Starred Call Tuple List Set Dict ListComp
    SetComp DictComp GeneratorExp comprehension IfExp BoolOp And Or UnaryOp Not USub UAdd Invert BinOp Add Sub
    Mult Div Mod Pow LShift RShift BitOr BitXor BitAnd FloorDiv Compare Eq NotEq Lt LtE Gt GtE Is IsNot In NotIn
    JoinedStr FormattedValue Yield YieldFrom Match match_case MatchValue MatchSingleton MatchSequence
    MatchMapping MatchClass MatchStar MatchAs MatchOr
    """
    )
)
_BLOCKED_ATTRIBUTES = frozenset(
    words(
        """
    format_map mro obj with_traceback gi_frame gi_code gi_yieldfrom gi_running gi_suspended cr_frame cr_code
    cr_await cr_origin ag_frame ag_code ag_await tb_frame tb_next tb_lasti tb_lineno f_back f_builtins f_code
    f_globals f_locals f_lasti f_lineno f_trace f_trace_lines f_trace_opcodes func_globals func_code
    scanner cache_info cache_clear
    """
    )
)
_BASES = frozenset({"str", "int", "object"})
_ENUMS = frozenset({("enum", "Enum"), ("enum", "IntEnum")})
_SELF_MATCHING = frozenset(words("bool bytearray bytes dict float frozenset int list set str tuple"))
"""Builtins whose class pattern `str(x)` gives the value itself; that of any other class reads attributes by computed names."""

_DECORATORS = frozenset({"lru_cache", "cache"})


def compile_program(source: str) -> tuple[Any, list[tuple[str, int]]]:
    """Check a program and compile it.

    Returns:
        The code object, annotations dropped and bare `except:` narrowed to `Exception`; and the texts that it returns by name,
        with their lines.

    Raises:
        Refused: The program leaves the allow-list.
    """
    tree = check(source)
    try:
        return compile(tree, "<program>", "exec", dont_inherit=True, optimize=0), returned_texts(tree)
    except (SyntaxError, ValueError) as error:
        raise Refused("syntax", "not valid Python", getattr(error, "lineno", None)) from None
    except (RecursionError, MemoryError):
        raise Refused("too_long", "nested too deeply") from None


def check(source: str) -> ast.Module:
    """Check a program against the allow-list and return the tree to compile.

    Raises:
        Refused: The first construct that is not allowed.
    """
    try:
        size = len(source.encode("utf-8"))
    except UnicodeEncodeError:
        raise Refused("syntax", "the source holds a lone surrogate") from None
    if size > MAX_BYTES:
        raise Refused("too_long", f"the source has more than {MAX_BYTES} bytes")
    if "\0" in source:
        raise Refused("syntax", "the source holds a NUL character")
    try:
        tree = ast.parse(source, "<program>", "exec")
    except (SyntaxError, ValueError) as error:
        raise Refused("syntax", "not valid Python", getattr(error, "lineno", None)) from None
    except (RecursionError, MemoryError):
        raise Refused("too_long", "nested too deeply") from None
    return _Checker().run(tree)


class _Checker:
    """One walk over one tree."""

    def __init__(self) -> None:
        self.bound: set[str] = set()
        self.imported: dict[str, tuple[str, str]] = {}
        self.changed: set[str] = set()
        self.functions: set[str] = set()
        self.nodes = 0

    def run(self, tree: ast.Module) -> ast.Module:
        tree.body = [node for node in tree.body if not _is_main_guard(node)]
        if not tree.body:
            raise Refused("no_label", "there is no function `label(text)`")
        self._bind(tree)
        targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
        named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "label" not in named | {target.id for target in targets if isinstance(target, ast.Name)}:
            raise Refused("no_label", "there is no function `label(text)` at the top level")
        self._visit(tree, 0)
        return ast.fix_missing_locations(tree)

    def _bind(self, tree: ast.Module) -> None:
        """Note every name that is bound anywhere, what is imported under it, and whether it is bound otherwise too."""
        for node in ast.walk(tree):
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise Refused("too_long", f"the program has more than {MAX_NODES} syntax nodes")
            for name in _names_bound(node):
                self._take(name, getattr(node, "lineno", None))
                self.changed.add(name)
            if isinstance(node, ast.FunctionDef):
                self.functions.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    whole = isinstance(node, ast.Import) and alias.asname is None
                    name = alias.name.partition(".")[0] if whole else alias.asname or alias.name
                    module = alias.name if isinstance(node, ast.Import) else node.module or ""
                    found = (name if whole else module, "" if isinstance(node, ast.Import) else alias.name)
                    self._take(name, node.lineno)
                    if self.imported.setdefault(name, found) != found:
                        self.changed.add(name)

    def _take(self, name: str, line: int | None) -> None:
        if name.startswith("__"):
            if name == "__future__":
                return
            raise Refused("name", f"the name {show(name)} begins with two underscores", line)
        self.bound.add(name)

    def _visit(self, node: ast.AST, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Refused("too_long", "nested too deeply", getattr(node, "lineno", None))
        kind = type(node).__name__
        line = getattr(node, "lineno", None)
        if kind not in _NODES:
            raise Refused("construct", f"{_plain(kind)} is not allowed", line)
        method = getattr(self, f"_on_{kind}", None)
        if method is not None:
            method(node, line)
        for child in ast.iter_child_nodes(node):
            self._visit(child, depth + 1)

    # one method per node that needs more than its kind checked ------------------------------------------------------------
    def _on_Module(self, node: ast.Module, line: int | None) -> None:
        node.body = [n for n in node.body if not (isinstance(n, ast.ImportFrom) and n.module == "__future__")]

    def _on_Import(self, node: ast.Import, line: int | None) -> None:
        for alias in node.names:
            if alias.name not in MODULES:
                raise Refused("import", f"the module {show(alias.name)} may not be imported", line)

    def _on_ImportFrom(self, node: ast.ImportFrom, line: int | None) -> None:
        if node.level or node.module is None or node.module not in MODULES:
            raise Refused("import", f"the module {show(node.module or '.')} may not be imported", line)
        for alias in node.names:
            if alias.name not in MODULES[node.module]:
                raise Refused("member", f"{show(node.module)} offers no {show(alias.name)} here", line)

    def _on_Name(self, node: ast.Name, line: int | None) -> None:
        if isinstance(node.ctx, ast.Load) and node.id not in self.bound and node.id not in BUILTIN_NAMES:
            raise Refused("name", f"the name {show(node.id)} is not known here", line)

    def _on_Attribute(self, node: ast.Attribute, line: int | None) -> None:
        if not isinstance(node.ctx, ast.Load):
            raise Refused("attribute", "setting an attribute is not allowed", line)
        if node.attr.startswith("_") or node.attr in _BLOCKED_ATTRIBUTES:
            raise Refused("attribute", f"the attribute {show(node.attr)} is not allowed", line)
        if node.attr == "format":
            value = node.value
            if not (isinstance(value, ast.Constant) and isinstance(value.value, str) and _plain_format(value.value)):
                said = "`.format` is allowed on a literal string with plain fields alone; use an f-string"
                raise Refused("attribute", said, line)

    def _on_FunctionDef(self, node: ast.FunctionDef, line: int | None) -> None:
        node.returns = None
        for decorator in node.decorator_list:
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name not in _DECORATORS:
                raise Refused("construct", "a decorator other than lru_cache or cache is not allowed", line)

    def _on_arg(self, node: ast.arg, line: int | None) -> None:
        node.annotation = None

    def _on_AnnAssign(self, node: ast.AnnAssign, line: int | None) -> None:
        node.annotation = ast.Constant(value=0)

    def _on_ClassDef(self, node: ast.ClassDef, line: int | None) -> None:
        if node.decorator_list or node.keywords:
            raise Refused("construct", "a class with decorators or keywords is not allowed", line)
        if not all(self._may_be_base(base) for base in node.bases):
            raise Refused("construct", "a class may only derive from Enum or IntEnum", line)
        for item in node.body:
            single = [item.target] if isinstance(item, ast.AnnAssign) else []
            targets = item.targets if isinstance(item, ast.Assign) else single
            held = isinstance(item, ast.Pass) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
            plain = all(isinstance(target, ast.Name) and not target.id.startswith("_") for target in targets)
            if not (held or targets) or not plain or any(map(self._is_function, ast.walk(item))):
                raise Refused("construct", "a class may hold constants alone; use functions", line)

    def _may_be_base(self, base: ast.expr) -> bool:
        if isinstance(base, ast.Attribute):
            module = base.value.id if isinstance(base.value, ast.Name) and base.value.id not in self.changed else ""
            return (self.imported.get(module, ("", "?")) == ("enum", "")) and ("enum", base.attr) in _ENUMS
        if not isinstance(base, ast.Name) or base.id in self.changed:
            return False
        return self.imported[base.id] in _ENUMS if base.id in self.imported else base.id in _BASES

    def _is_function(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Lambda) or (isinstance(node, ast.Name) and node.id in self.functions)

    def _on_Global(self, node: ast.Global, line: int | None) -> None:
        raise Refused("state", "`global` keeps state between texts, and a vote may depend on its text alone", line)

    def _on_Try(self, node: ast.Try, line: int | None) -> None:
        for handler in node.handlers:
            if handler.type is None:
                handler.type = ast.Name(id="Exception", ctx=ast.Load())
        for item in node.finalbody:
            for inner in ast.walk(item):
                if isinstance(inner, (ast.Return, ast.Break, ast.Continue)):
                    said = "leaving a `finally` block by return, break or continue is not allowed"
                    raise Refused("construct", said, line)

    def _on_MatchClass(self, node: ast.MatchClass, line: int | None) -> None:
        if node.kwd_attrs:
            raise Refused("construct", "a class pattern with keywords is not allowed", line)
        name = node.cls.id if isinstance(node.cls, ast.Name) and node.cls.id not in self.bound else ""
        if node.patterns and name not in _SELF_MATCHING:
            said = "a class pattern with a part is allowed for builtin types such as `str(x)` alone"
            raise Refused("construct", said, line)


def _names_bound(node: ast.AST) -> list[str]:
    """The names that a node binds, imports apart."""
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return list(node.names)
    named = (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping)
    keys = ("name", "rest") if isinstance(node, named) else ()
    return [name for key in keys if (name := getattr(node, key, None))]


def _plain_format(text: str) -> bool:
    """Whether a format string has fields that name no attribute and no item."""
    try:
        for _, field, spec, _ in string.Formatter().parse(text):
            if field and not (field.isdigit() or field.isidentifier()):
                return False
            if spec and not _plain_format(spec):
                return False
    except ValueError:
        return False
    return True


def _is_main_guard(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, which never runs in a module."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


_PLAIN = {
    "With": "`with`", "AsyncFunctionDef": "`async def`", "AsyncFor": "`async for`", "AsyncWith": "`async with`",
    "Await": "`await`", "TryStar": "`except*`", "MatMult": "the operator `@`",
}  # fmt: skip


def _plain(kind: str) -> str:
    return _PLAIN.get(kind, f"the construct {kind}")
