"""Running a program on what is known of a text instead of on the text: the recogniser's inner half, inside the sealed child.

A program whose vote depends on its text only through keyword and regex tests is run with proxies: the text, the compiled patterns,
and what searching gives. Each test is an *observation* (is any of these patterns there; how many of them; how many matches), which
the host computes for all programs in one pass over the texts. The program's own code then turns observations into a vote, once for
every distinct combination. Whatever is not modelled raises `Unknown`, and the row runs as plain Python.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

from . import facades, policy
from .patterns import ALL, SPACE, Converted, Form, Unknown, convert, literal, token, token_set

MAX_OBSERVATIONS = 400
MAX_RUNS = 3000
MAX_PATTERNS = 4000


class Board:
    """The observations a program asks for, and the answers it gets in one run."""

    def __init__(self) -> None:
        self.specs: list[tuple[str, tuple[str, ...], bool]] = []
        self.index: dict[tuple[str, tuple[str, ...], bool], int] = {}
        self.values: Sequence[int] = ()
        self.open = True

    def ask(self, op: str, patterns: Iterable[str], exact: bool = True) -> int:
        """The value of an observation: `any` 0 or 1, `distinct` how many of the patterns, `count` how many matches.

        Raises:
            Unknown: It was never seen while the program was learned, or its value cannot be known.
        """
        key = (op, tuple(patterns), exact)
        at = self.index.get(key)
        if at is None:
            if not self.open or len(self.specs) >= MAX_OBSERVATIONS:
                raise Unknown("a test that was not seen before")
            at = self.index[key] = len(self.specs)
            self.specs.append(key)
        value = self.values[at] if at < len(self.values) else 0
        if value and not exact:
            raise Unknown("matches of this kind cannot be counted")
        return value


class Test:
    """Is any of these patterns in the text? Asked only when it is needed."""

    def __init__(self, board: Board, patterns: Iterable[str]) -> None:
        self.board = board
        self.patterns = tuple(dict.fromkeys(patterns))

    def __bool__(self) -> bool:
        return bool(self.board.ask("any", self.patterns))


class Text:
    """The text that nobody has seen."""

    def __init__(self, board: Board, form: Form | None = None) -> None:
        self.board = board
        self.form = form or Form()

    def lower(self) -> Text:
        return Text(self.board, Form(True, self.form.stripped))

    casefold = lower

    def strip(self) -> Text:
        return Text(self.board, Form(self.form.lower, True))

    def split(self, *separators: object) -> Tokens:
        if separators:
            raise Unknown("splitting at a separator")
        return Tokens(self.board, frozenset(ALL - SPACE), self.form)

    def startswith(self, prefix: str | tuple[str, ...], *more: object) -> Test:
        return self._at_end(prefix, more, "\\A", "")

    def endswith(self, suffix: str | tuple[str, ...], *more: object) -> Test:
        return self._at_end(suffix, more, "", "\\z")

    def _at_end(self, words: str | tuple[str, ...], more: tuple[object, ...], head: str, tail: str) -> Test:
        if more or self.form.stripped:
            raise Unknown("an end of a changed text")
        listed = (words,) if isinstance(words, str) else words
        return Test(self.board, [head + literal(word, self.form) + tail for word in listed])

    def count(self, word: str, *more: object) -> int:
        if more or type(word) is not str:
            raise Unknown("counting in a part")
        borders = any(word[:k] == word[-k:] for k in range(1, len(word)))
        return self.board.ask("count", (literal(word, self.form),), not borders)

    def __contains__(self, word: object) -> bool:
        return bool(self.holds(word))

    def holds(self, word: object) -> Test:
        if type(word) is not str:
            raise Unknown("no string")
        return Test(self.board, [literal(word, self.form)])

    def __bool__(self) -> bool:
        characters = "[\\x00-\\x08\\x0e-\\x1b\\x21-\\x7f]" if self.form.stripped else "[\\x00-\\x7f]"
        return bool(self.board.ask("any", (characters,)))

    def _no(self, *_: object, **__: object) -> Any:
        raise Unknown("the text itself is looked at")

    __str__ = __repr__ = __format__ = __len__ = __iter__ = __getitem__ = __add__ = __radd__ = __mod__ = __eq__ = (
        __lt__
    ) = _no
    __hash__ = _no


class Tokens:
    """The text's tokens: runs of characters of a set."""

    def __init__(self, board: Board, inside: frozenset[int], form: Form, *, once: bool = False) -> None:
        self.board, self.inside, self.form, self.once = board, inside, form, once

    def holds(self, word: object) -> Test:
        if type(word) is not str:
            raise Unknown("no string")
        return Test(self.board, [token(word, self.inside, self.form)])

    def __contains__(self, word: object) -> bool:
        return bool(self.holds(word))

    def __and__(self, words: Any) -> Shared:
        if not self.once or not isinstance(words, (set, frozenset, dict)):
            raise Unknown("a list has no intersection")
        return Shared(self, words)

    __rand__ = intersection = __and__

    def isdisjoint(self, words: Any) -> bool:
        return not Shared(self, words)

    def __iter__(self) -> Iterator[Token]:
        yield Token(self)

    def __bool__(self) -> bool:
        from .patterns import set_of

        return bool(self.board.ask("any", (set_of(self.form.seen(self.inside)),)))

    def __len__(self) -> int:
        raise Unknown("the number of tokens")


class Token:
    """Any one token: it can be looked up in a set of words inside a sum or an `any`, and nothing else."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def within(self, words: Any) -> Shared:
        if not isinstance(words, (set, frozenset, dict, list, tuple)) and not isinstance(words, MappingProxyType):
            raise Unknown("no set of words")
        return Shared(self.tokens, words)

    def _no(self, *_: object, **__: object) -> Any:
        raise Unknown("a token itself is looked at")

    __str__ = __repr__ = __format__ = __len__ = __iter__ = __getitem__ = __eq__ = __hash__ = __bool__ = _no


class Shared:
    """The tokens that are in a set of words."""

    def __init__(self, tokens: Tokens, words: Iterable[object]) -> None:
        self.board = tokens.board
        self.once = tokens.once
        self.patterns = tuple(
            token(word, tokens.inside, tokens.form) for word in sorted(w for w in words if type(w) is str)
        )

    def __len__(self) -> int:
        return self.board.ask("distinct" if self.once else "count", self.patterns)

    def test(self) -> Test:
        return Test(self.board, self.patterns)

    def __bool__(self) -> bool:
        return bool(self.test())


class Found:
    """What `findall` or `finditer` gave."""

    def __init__(self, board: Board, pattern: Pattern, form: Form) -> None:
        self.board, self.pattern, self.form = board, pattern, form

    def converted(self) -> Converted:
        return convert(self.pattern.pattern, self.pattern.flags, self.form)

    def __len__(self) -> int:
        converted = self.converted()
        return self.board.ask("count", (converted.pattern,), converted.words)

    def __bool__(self) -> bool:
        return bool(self.board.ask("any", (self.converted().pattern,)))

    def tokens(self, *, once: bool = False) -> Tokens:
        inside = token_set(self.pattern.pattern, self.pattern.flags)
        if inside is None or (self.form.stripped and inside & SPACE):
            raise Unknown("no tokens")
        return Tokens(self.board, inside, self.form, once=once)

    def holds(self, word: object) -> Test:
        return self.tokens().holds(word)

    def __contains__(self, word: object) -> bool:
        return bool(self.holds(word))

    def __iter__(self) -> Iterator[Token]:
        return iter(self.tokens())


class Pattern:
    """A compiled pattern: real on strings of the program's own, symbolic on the text."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.real = re.compile(pattern, flags)
        self.pattern = pattern
        self.flags = int(flags)
        self.known: dict[tuple[str, bool, bool], tuple[str, ...]] = {}

    def _test(self, text: Any, how: str, more: tuple[object, ...]) -> Any:
        if not isinstance(text, Text):
            if isinstance(text, (Token, Tokens)):
                raise Unknown("a token itself is looked at")
            return getattr(self.real, how)(text, *more)
        if more:
            raise Unknown("searching a part")
        key = (how, text.form.lower, text.form.stripped)
        if key not in self.known:
            self.known[key] = (convert(self.pattern, self.flags, text.form, how=how).pattern,)
        return Test(text.board, self.known[key])

    def search(self, text: Any, *more: object) -> Any:
        return self._test(text, "search", more)

    def match(self, text: Any, *more: object) -> Any:
        return self._test(text, "match", more)

    def fullmatch(self, text: Any, *more: object) -> Any:
        return self._test(text, "fullmatch", more)

    def findall(self, text: Any, *more: object) -> Any:
        if not isinstance(text, Text):
            return self.real.findall(text, *more)
        return Found(text.board, self, text.form)

    finditer = findall

    def sub(self, replacement: Any, text: Any, *more: object) -> Any:
        if not isinstance(text, str):
            raise Unknown("a changed text")
        return self.real.sub(replacement, text, *more)

    def split(self, text: Any, *more: object) -> Any:
        if not isinstance(text, str):
            raise Unknown("a split text")
        return self.real.split(text, *more)


# What a program's code is given ------------------------------------------------------------------------------------------------
class Pair:
    """A condition and what it adds to a sum."""

    def __init__(self, condition: Any, value: Any) -> None:
        self.condition, self.value = condition, value


def _contains(item: Any, holder: Any) -> Any:
    if isinstance(item, Token):
        return item.within(holder)
    if isinstance(holder, (Text, Tokens, Found)):
        return holder.holds(item)
    return item in holder


def _is_none(value: Any) -> bool:
    return not value if isinstance(value, Test) else value is None


def _any(values: Iterable[Any]) -> Any:
    patterns: list[str] = []
    board = None
    for value in values:
        if isinstance(value, Shared):
            value = value.test()
        if isinstance(value, Pair):
            if isinstance(value.condition, (Test, Shared)) and value.value:
                value = value.condition if isinstance(value.condition, Test) else value.condition.test()
            else:
                value = value.value if value.condition else False
        if isinstance(value, Test):
            board = value.board
            patterns += value.patterns
        elif value:
            return True
    return False if board is None else Test(board, patterns)


def _sum(values: Iterable[Any], start: Any = 0) -> Any:
    total, groups = start, {}
    for value in values:
        condition, amount = (value.condition, value.value) if isinstance(value, Pair) else (value, None)
        if isinstance(condition, Shared) and (amount is None or type(amount) in (int, float)):
            total += len(condition) * (1 if amount is None else amount)
        elif isinstance(condition, Test) and (amount is None or type(amount) in (int, float)):
            groups.setdefault(1 if amount is None else amount, []).append(condition)
        elif isinstance(value, Pair):
            total += amount if condition else 0
        else:
            total += value
    for amount, tests in groups.items():
        if all(len(test.patterns) == 1 for test in tests):
            patterns = [test.patterns[0] for test in tests]
            if len(set(patterns)) == len(patterns):
                total += amount * tests[0].board.ask("distinct", patterns)
                continue
        total += amount * sum(bool(test) for test in tests)
    return total


def _set(values: Any = ()) -> Any:
    if isinstance(values, Found):
        return values.tokens(once=True)
    if isinstance(values, Tokens):
        return Tokens(values.board, values.inside, values.form, once=True)
    return set(values)


def _list(values: Any = ()) -> Any:
    if isinstance(values, (Found, Tokens)):
        return values
    return list(values)


def _len(value: Any) -> int:
    return len(value)


def _isinstance(value: Any, kind: Any) -> bool:
    return (
        kind is str or (isinstance(kind, tuple) and str in kind) if isinstance(value, Text) else isinstance(value, kind)
    )


def _bool(value: Any = False) -> bool:
    return bool(value)


def _search(how: str) -> Callable[..., Any]:
    def call(pattern: Any, text: Any, flags: int = 0) -> Any:
        compiled = pattern if isinstance(pattern, Pattern) else Pattern(pattern, flags)
        return getattr(compiled, how)(text)

    return call


def _sub(pattern: Any, replacement: Any, text: Any, *more: Any, **options: Any) -> Any:
    if not isinstance(text, str):
        raise Unknown("a changed text")
    return re.sub(pattern.real if isinstance(pattern, Pattern) else pattern, replacement, text, *more, **options)


def environment() -> dict[str, Any]:
    """Builtins for a program that runs on proxies."""
    names, facades_ = facades.build()
    members = dict(facades_["re"].__dict__)
    members |= {name: _search(name) for name in ("search", "match", "fullmatch", "findall", "finditer")}
    members |= {"compile": lambda p, flags=0: p if isinstance(p, Pattern) else Pattern(p, flags), "sub": _sub}
    members.pop("_facade", None)
    facades_["re"] = facades.Facade("re", members)
    names |= {
        "any": _any,
        "sum": _sum,
        "set": _set,
        "list": _list,
        "len": _len,
        "isinstance": _isinstance,
        "bool": _bool,
        "__in__": _contains,
        "__is_none__": _is_none,
        "__pair__": Pair,
        "__import__": facades.importer(facades_),
    }
    return names


class _Rewriter(ast.NodeTransformer):
    """Makes visible what Python decides at once: `in`, `is None`, and the conditions inside sums."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) != 1:
            return node
        op, left, right = node.ops[0], node.left, node.comparators[0]
        if isinstance(op, (ast.In, ast.NotIn)):
            call = _call("__in__", left, right)
            return call if isinstance(op, ast.In) else ast.UnaryOp(ast.Not(), call)
        if isinstance(op, (ast.Is, ast.IsNot)) and isinstance(right, ast.Constant) and right.value is None:
            call = _call("__is_none__", left)
            return call if isinstance(op, ast.Is) else ast.UnaryOp(ast.Not(), call)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        first = node.args[0] if node.args else None
        if name in ("sum", "any", "len") and isinstance(first, (ast.GeneratorExp, ast.ListComp)) and not node.keywords:
            generator = first.generators[-1]
            if (
                len(first.generators) == 1
                and len(generator.ifs) == 1
                and (name != "len" or isinstance(first, ast.ListComp))
            ):
                value = ast.Constant(1) if name == "len" else first.elt
                pair = _call("__pair__", generator.ifs[0], value)
                plain = ast.comprehension(generator.target, generator.iter, [], 0)
                node.args[0] = ast.GeneratorExp(pair, [plain])
                if name == "len":
                    node.func = ast.Name("sum", ast.Load())
        self.generic_visit(node)
        return node


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def load(source: str) -> Callable[[Text], Any]:
    """Check a program, rewrite it and load it with proxies; gives its `label`.

    Raises:
        policy.Refused: It leaves the allow-list.
    """
    tree = policy.check(source)
    tree = ast.fix_missing_locations(_Rewriter().visit(tree))
    namespace: dict[str, Any] = {"__name__": "program", "__builtins__": environment()}
    exec(compile(tree, "<program>", "exec", dont_inherit=True), namespace)
    label: Callable[[Text], Any] = namespace["label"]
    return label


def learn(source: str) -> list[tuple[str, tuple[str, ...], bool]]:
    """Which observations a program asks for.

    Raises:
        Unknown: It looks at its text in another way even where no test says yes, or asks for too much.
    """
    label = load(source)
    board = Board()
    text = Text(board)
    _vote(label(text))
    tried = 0
    runs = 0
    while tried < len(board.specs) and runs < MAX_RUNS:
        at = tried
        tried += 1
        for amount in (1, 2) if board.specs[at][0] != "any" else (1,):
            runs += 1
            board.values = [amount if i == at else 0 for i in range(len(board.specs))]
            try:
                _vote(label(text))
            except Exception:
                continue
    board.values = [1] * MAX_OBSERVATIONS
    try:
        _vote(label(text))
    except Exception:
        runs += 1
    if sum(len(patterns) for _, patterns, _ in board.specs) > MAX_PATTERNS:
        raise Unknown("too many patterns")
    return board.specs


def runner(source: str, specs: Sequence[Sequence[Any]]) -> Callable[[Sequence[int]], Any]:
    """A function from one combination of observed values to the program's vote; it raises where it cannot know."""
    label = load(source)
    board = Board()
    for op, patterns, exact in specs:
        board.ask(op, tuple(patterns), exact)
    board.open = False
    text = Text(board)

    def vote(values: Sequence[int]) -> Any:
        board.values = values
        return _vote(label(text))

    return vote


def _vote(value: Any) -> Any:
    if isinstance(value, Test):
        return bool(value)
    if isinstance(value, (Text, Tokens, Shared, Found, Token, Pair)):
        raise Unknown("the text itself is returned")
    return value
