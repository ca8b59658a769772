"""A program's syntax tree, changed so that proxies see what Python decides by itself: `in`, `is None`, loops, look-ups."""

from __future__ import annotations

import ast
import operator
from collections.abc import Sequence
from typing import Any

_COMPARE: dict[type[ast.cmpop], Any] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip


class _Open(Exception):
    """The loop's body may do something with a token that no table knows."""


class _Stop(Exception):
    """`continue`: the rest of the body is not run."""


class Guard:
    """Follows a loop's body for a token that is in no table, and finds whether it does nothing.

    Such a token gives the default of `get`, and is not `in` anything. What is followed are assignments and conditions that
    hang on that alone; anything else that would run ends the proof.
    """

    def __init__(self, token: ast.expr) -> None:
        self.known: dict[str, Any] = {}
        self.token = token.id if isinstance(token, ast.Name) else None

    def idle(self, body: Sequence[ast.stmt]) -> bool:
        """Whether the body does nothing with such a token."""
        if self.token is None:
            return False
        try:
            self._run(body)
        except _Stop:
            return True
        except _Open:
            return False
        return True

    def idle_in(self, kind: str, node: ast.GeneratorExp | ast.ListComp) -> bool:
        """Whether a generator's one loop gives nothing for such a token, in a sum, an `any` or a list."""
        if self.token is None:
            return False
        for condition in node.generators[0].ifs:
            try:
                if not self.value(condition):
                    return True
            except _Open:
                if self._speaks_of(condition):
                    return False
        try:
            return kind in ("sum", "any") and not self.value(node.elt)
        except _Open:
            return False

    def _run(self, body: Sequence[ast.stmt]) -> None:
        for one in body:
            if isinstance(one, ast.Pass):
                continue
            if isinstance(one, ast.Continue):
                raise _Stop
            if isinstance(one, ast.Assign) and len(one.targets) == 1 and isinstance(one.targets[0], ast.Name):
                self.known[one.targets[0].id] = self.value(one.value)
            elif isinstance(one, ast.AugAssign) and isinstance(one.op, (ast.Add, ast.Sub)):
                value = self.value(one.value)
                if type(value) not in (int, bool) or value != 0:
                    raise _Open
            elif isinstance(one, ast.If):
                self._run(one.body if self.value(one.test) else one.orelse)
            elif isinstance(one, ast.For) and not one.orelse:
                value = self.value(one.iter)
                if not isinstance(value, (tuple, dict)) or value:
                    raise _Open
            else:
                raise _Open

    def value(self, node: ast.expr) -> Any:
        """What an expression comes to for such a token.

        Raises:
            _Open: It hangs on something else.
        """
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name) and node.id in self.known:
            return self.known[node.id]
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)) and not node.elts:
            return ()
        if isinstance(node, ast.Dict) and not node.keys:
            return {}
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self.value(node.operand)
        if isinstance(node, ast.BoolOp):
            return self._both(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
            return self._called(node, node.func)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            op, left, right = node.ops[0], node.left, node.comparators[0]
            if isinstance(op, (ast.In, ast.NotIn)):
                if self._is_token(left) and not self._speaks_of(right):
                    return isinstance(op, ast.NotIn)
                raise _Open
            try:
                return _COMPARE[type(op)](self.value(left), self.value(right))
            except TypeError:
                raise _Open from None
        raise _Open

    def _called(self, node: ast.Call, function: ast.Attribute) -> Any:
        if function.attr == "get" and 1 <= len(node.args) <= 2 and self._is_token(node.args[0]):
            if self._speaks_of(function.value):
                raise _Open
            return self.value(node.args[1]) if len(node.args) == 2 else None
        if function.attr in ("items", "keys", "values") and not node.args:
            value = self.value(function.value)
            if value == {} and isinstance(value, dict):
                return ()
        raise _Open

    def _both(self, node: ast.BoolOp) -> Any:
        ends = isinstance(node.op, ast.Or)
        undecided = False
        for part in node.values:
            try:
                value = self.value(part)
            except _Open:
                if self._speaks_of(part):
                    raise
                undecided = True
                continue
            if bool(value) == ends:
                return value
        if undecided:
            raise _Open
        return value

    def _is_token(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self.token

    def _speaks_of(self, node: ast.expr) -> bool:
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        return self.token in names or bool(names & set(self.known))


class Rewriter(ast.NodeTransformer):
    """Puts calls of the names in `symbolic.environment` where proxies must be asked."""

    def __init__(self) -> None:
        self.loops = 0

    def _iterated(self, over: ast.expr, idle: bool) -> ast.Call:
        self.loops += 1
        return call("__each__", over, ast.Constant(idle), ast.Constant(self.loops))

    def visit_For(self, node: ast.For) -> ast.AST:
        idle = not node.orelse and Guard(node.target).idle(node.body)
        self.generic_visit(node)
        node.iter = self._iterated(node.iter, idle)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load) and not isinstance(node.slice, (ast.Slice, ast.Tuple, ast.Constant)):
            return call("__item__", node.value, node.slice)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for argument in [*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs]:
            argument.annotation = None
        self.generic_visit(node)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) != 1:
            return node
        op, left, right = node.ops[0], node.left, node.comparators[0]
        if isinstance(op, (ast.In, ast.NotIn)):
            found = call("__in__", left, right)
            return found if isinstance(op, ast.In) else ast.UnaryOp(ast.Not(), found)
        if isinstance(op, (ast.Is, ast.IsNot)) and isinstance(right, ast.Constant):
            found = call("__is__", left, right)
            return found if isinstance(op, ast.Is) else ast.UnaryOp(ast.Not(), found)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        parts: list[ast.expr] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                if part.conversion != -1 or part.format_spec is not None:
                    self.generic_visit(node)
                    return node
                parts.append(self.visit(part.value))
            else:
                parts.append(part)
        return call("__formatted__", *parts)

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        one = node.generators[0]
        same = isinstance(node.elt, ast.Name) and isinstance(one.target, ast.Name) and node.elt.id == one.target.id
        if len(node.generators) == 1 and len(one.ifs) == 1 and same:
            return call("__keep__", self._paired("list", node, node.elt))
        return self._comprehended(node, "list")

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        return self._comprehended(node, "")

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._comprehended(node, "")

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._comprehended(node, "")

    def _comprehended(self, node: Any, kind: str) -> Any:
        idle = (
            kind != ""
            and len(node.generators) == 1
            and isinstance(node, (ast.GeneratorExp, ast.ListComp))
            and Guard(node.generators[0].target).idle_in(kind, node)
        )
        ast.NodeTransformer.generic_visit(self, node)
        for generator in node.generators:
            generator.iter = self._iterated(generator.iter, idle)
        return node

    def _paired(self, kind: str, node: ast.GeneratorExp | ast.ListComp, value: ast.expr) -> ast.GeneratorExp:
        """A generator with one condition as one of pairs."""
        one = node.generators[0]
        idle = Guard(one.target).idle_in(kind, node)
        pair = call("__pair__", self.visit(one.ifs[0]), self.visit(value))
        return ast.GeneratorExp(
            pair, [ast.comprehension(one.target, self._iterated(self.visit(one.iter), idle), [], 0)]
        )

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and not node.keywords:
            found = self._method(node, node.func)
            if found is not None:
                return found
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        first = node.args[0] if node.args else None
        if name in ("sum", "any", "len") and isinstance(first, (ast.GeneratorExp, ast.ListComp)) and not node.keywords:
            conditions = first.generators[0].ifs
            if (
                len(first.generators) == 1
                and name == "len"
                and isinstance(first, ast.ListComp)
                and len(conditions) == 1
            ):
                return call("sum", self._paired("list", first, ast.Constant(1)))
            if len(first.generators) == 1 and name != "len" and len(conditions) == 1:
                paired = self._paired(name, first, first.elt)
                return ast.Call(node.func, [paired, *[self.visit(one) for one in node.args[1:]]], [])
            if name != "len" and isinstance(first, ast.GeneratorExp):
                node.args[0] = self._comprehended(first, name)
                node.args[1:] = [self.visit(one) for one in node.args[1:]]
                return node
        self.generic_visit(node)
        return node

    def _method(self, node: ast.Call, function: ast.Attribute) -> ast.AST | None:
        holder = function.value
        if isinstance(holder, ast.Constant) and isinstance(holder.value, str):
            joins = function.attr == "join" and len(node.args) == 1
            return call("__join__", holder, self.visit(node.args[0])) if joins else None
        if function.attr == "get" and 1 <= len(node.args) <= 2:
            return call("__get__", self.visit(holder), *[self.visit(one) for one in node.args])
        if function.attr in ("intersection", "isdisjoint") and len(node.args) == 1:
            return call(f"__{function.attr}__", self.visit(holder), self.visit(node.args[0]))
        return None


def call(name: str, *arguments: ast.expr) -> ast.Call:
    """The call of one of the names that a program cannot write itself."""
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
