"""Running a program on what is known of a text instead of on the text: the recogniser's inner half, in the sealed child.

A program whose vote depends on its text only through keyword, token and regex tests is run with proxies: the text, the compiled
patterns, and what searching gives. Each test is an *observation* (is any of these patterns there; how many of them; how many
matches; is the text so long), which the host computes for all programs in one pass over the texts. The program's own code then
turns observations into a vote, once for every distinct combination. Whatever is not modelled raises `Unknown`, and the row
runs as plain Python.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import facades, policy
from .observations import Again, Board, Spec
from .patterns import Unknown
from .proxies import Found, Length, Pair, Pattern, Shared, Test, Text, Token, Tokens
from .rewriting import Rewriter

MAX_RUNS = 3000
MAX_PATTERNS = 8000
MAX_AGAIN = 60


# What a program's code is given ------------------------------------------------------------------------------------------------
def _contains(item: Any, holder: Any) -> Any:
    if isinstance(item, Token):
        return item.known(holder)
    if isinstance(item, Text) and isinstance(holder, (set, frozenset, dict, list, tuple)):
        return item.equals(holder)
    if isinstance(holder, (Text, Tokens, Found)):
        return holder.holds(item)
    return item in holder


def _get(holder: Any, *arguments: Any) -> Any:
    if isinstance(arguments[0], Token):
        return arguments[0].get(holder, *arguments[1:])
    return holder.get(*arguments)


def _item(holder: Any, key: Any) -> Any:
    return key.item(holder) if isinstance(key, Token) else holder[key]


def _each(values: Any, idle: bool, number: int) -> Any:
    if isinstance(values, Found):
        values = values.tokens()
    if not isinstance(values, Tokens):
        return values
    if not idle:
        raise Unknown("every token does something in a loop")
    return values.each(number)


def _intersection(words: Any, values: Any) -> Any:
    if isinstance(values, Found):
        values = values.distinct()
    if isinstance(values, Tokens):
        return Shared(Tokens(values.text, values.pattern, once=True), words)
    return words.intersection(values)


def _isdisjoint(words: Any, values: Any) -> Any:
    if isinstance(values, (Found, Tokens)):
        return not _intersection(words, values)
    return words.isdisjoint(values)


def _is(value: Any, wanted: Any) -> bool:
    if not isinstance(value, Test):
        return value is wanted
    if wanted is not None:
        raise Unknown("a test is compared")
    return not value


def _any(values: Iterable[Any]) -> Any:
    found: Test | None = None
    for value in values:
        if isinstance(value, Pair):
            if isinstance(value.condition, Test) and value.value:
                value = value.condition
            else:
                value = value.value if value.condition else False
        if isinstance(value, Test):
            if found is not None and found.text.view != value.text.view:
                if found:
                    return True
                found = None
            found = value if found is None else _joined(found, value)
        elif value:
            return True
    return False if found is None else found


def _joined(one: Test, other: Test) -> Test:
    return Test(
        one.text,
        one.patterns + other.patterns,
        one.found + other.found,
        one.tokens + other.tokens,
        one.plain and other.plain,
    )


def _sum(values: Iterable[Any], start: Any = 0) -> Any:
    total = start
    groups: dict[Any, list[Test]] = {}
    listed = list(values)
    # Numbers with a fraction round, so they are added one by one, in the program's order.
    floats = any(type(one.value if isinstance(one, Pair) else one) is float for one in listed)
    for value in listed:
        condition, amount = (value.condition, value.value) if isinstance(value, Pair) else (value, 1)
        if isinstance(condition, Test) and floats:
            total += amount if condition else 0
        elif isinstance(condition, Test) and type(amount) in (int, float):
            groups.setdefault(amount, []).append(condition)
        elif isinstance(value, Pair):
            total += amount if condition else 0
        else:
            total += value
    for amount, tests in groups.items():
        total += amount * _how_many(tests)
    return total


def _how_many(tests: Sequence[Test]) -> int:
    """How many of the tests say yes, asked together where they are of one kind."""
    view, board, plain = tests[0].text.view, tests[0].text.board, all(test.plain for test in tests)
    if all(test.text.view == view for test in tests):
        patterns = [
            test.patterns[0] for test in tests if len(test.patterns) == 1 and not test.found and not test.tokens
        ]
        if len(set(patterns)) == len(tests):
            return board.ask("distinct", patterns, view, plain)
        tokens = [test.tokens[0] for test in tests if len(test.tokens) == 1 and not test.found and not test.patterns]
        if len(set(tokens)) == len(tests) and len({token[:3] for token in tokens}) == 1:
            return board.ask("token_distinct", (*tokens[0][:3], *sorted(token[3] for token in tokens)), view, plain)
    return sum(bool(test) for test in tests)


def _keep(pairs: Iterable[Pair]) -> Any:
    return [pair.value for pair in pairs if pair.condition]


def _set(values: Any = ()) -> Any:
    if isinstance(values, Found):
        return values.distinct()
    if isinstance(values, Tokens):
        return Tokens(values.text, values.pattern, once=True, blanks=values.blanks)
    return set(values)


def _list(values: Any = ()) -> Any:
    if isinstance(values, (Found, Tokens)):
        return values
    return list(values)


def _join(separator: str, values: Any) -> Any:
    if isinstance(values, Tokens):
        if separator != " " or not values.blanks or values.once:
            raise Unknown("joined tokens")
        return values.text.then("squeeze")
    if isinstance(values, Found):
        raise Unknown("joined matches")
    return separator.join(values)


def _formatted(*parts: Any) -> Any:
    texts = [part for part in parts if isinstance(part, Text)]
    if not texts:
        return "".join(part if type(part) is str else format(part) for part in parts)
    at = next(index for index, part in enumerate(parts) if isinstance(part, Text))
    before, after = parts[:at], parts[at + 1 :]
    if len(texts) > 1 or not all(type(part) is str for part in (*before, *after)):
        raise Unknown("the text itself is formatted")
    return texts[0].then("pad", "".join(before), "".join(after))


def _len(value: Any) -> Any:
    if isinstance(value, Text):
        return Length(value, "chars")
    if isinstance(value, Tokens) and value.blanks and not value.once:
        return Length(value.text, "words")
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


def _sub(pattern: Any, replacement: Any, text: Any, count: int = 0, flags: int = 0) -> Any:
    if not isinstance(text, str):
        raise Unknown("a changed text")
    return re.sub(
        pattern.real if isinstance(pattern, Pattern) else pattern, replacement, text, count=count, flags=flags
    )


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
        "__is__": _is,
        "__pair__": Pair,
        "__keep__": _keep,
        "__get__": _get,
        "__item__": _item,
        "__each__": _each,
        "__intersection__": _intersection,
        "__isdisjoint__": _isdisjoint,
        "__join__": _join,
        "__formatted__": _formatted,
        "__import__": facades.importer(facades_),
    }
    return names


def load(source: str) -> Callable[[Text], Any]:
    """Check a program, rewrite it and load it with proxies; gives its `label`.

    Raises:
        policy.Refused: It leaves the allow-list.
        Unknown: It could take what is not modelled for an answer.
    """
    tree = policy.check(source)
    if any(isinstance(node, (ast.Try, ast.MatchSingleton)) for node in ast.walk(tree)):
        raise Unknown("errors are caught, or a constant is matched")
    tree = ast.fix_missing_locations(Rewriter().visit(tree))
    namespace: dict[str, Any] = {"__name__": "program", "__builtins__": environment()}
    exec(compile(tree, "<program>", "exec", dont_inherit=True), namespace)
    label: Callable[[Text], Any] = namespace["label"]
    return label


def learn(source: str) -> list[Spec]:
    """Which observations a program asks for.

    Raises:
        Unknown: It looks at its text in another way even where no test says yes, or asks for too much.
    """
    label, board = load(source), Board()
    _learn(label, board)
    if sum(len(patterns) for _, patterns, _ in board.specs) > MAX_PATTERNS:
        raise Unknown("too many patterns")
    return board.specs


def _learn(label: Callable[[Text], Any], board: Board) -> None:
    """Run the program on made-up observations until it asks for nothing new."""
    for _ in range(MAX_AGAIN):
        board.forget()
        try:
            _ask_all(label, board)
        except Again:
            continue
        return
    raise Unknown("its tables never end")


def _ask_all(label: Callable[[Text], Any], board: Board) -> None:
    text = Text(board)
    _vote(label(text))
    long_enough = True
    while long_enough:  # a text that is long enough for every length asked for
        known = len(board.specs)
        board.values = [int(spec[0] in ("chars", "words")) for spec in board.specs]
        _vote(label(text))
        long_enough = len(board.specs) > known
    tried = runs = 0
    failed: list[str] = []
    while tried < len(board.specs) and runs < MAX_RUNS:
        at = tried
        tried += 1
        for amount in (1, 2) if board.specs[at][0].endswith(("count", "distinct")) else (1,):
            for base in (0, 1):
                runs += 1
                values = [base if spec[0] in ("chars", "words") else 0 for spec in board.specs]
                values[at] = amount
                board.values = values
                failed += _tried(label, text)
    known = -1
    while known < len(board.specs) and runs < MAX_RUNS:
        runs += 1
        known = len(board.specs)
        board.values = [1] * known
        failed += _tried(label, text)
    if runs > 1 and len(failed) == runs:
        raise Unknown(f"no outcome can be followed: {failed[0]}")


def _tried(label: Callable[[Text], Any], text: Text) -> list[str]:
    """Run the program for what it asks.

    Returns:
        Why it failed, if it did: an outcome that is not modelled is found again where it occurs, and the text runs as Python.
    """
    try:
        _vote(label(text))
    except Exception as error:
        return [str(error) if isinstance(error, Unknown) else type(error).__name__]
    return []


def runner(source: str, specs: Sequence[Sequence[Any]]) -> Callable[[Sequence[int]], Any]:
    """A function from one combination of observed values to the program's vote; it raises where it cannot know."""
    label, board = load(source), Board()
    wanted: list[Spec] = [
        (op, tuple(patterns), tuple(tuple(operation) for operation in view)) for op, patterns, view in specs
    ]
    if any(op.startswith("token_") for op, _, _ in wanted):
        _learn(label, board)
    board.forget()
    for spec in wanted:
        board.ask(*spec)
    board.open = False
    text = Text(board)

    def vote(values: Sequence[int]) -> Any:
        board.values = values
        try:
            board.turn, board.orders = 0, 1
            said = _vote(label(text))
            while board.turn + 1 < board.orders:  # each kind of token comes first once, and last once
                board.turn += 1
                if _vote(label(text)) != said:
                    raise Unknown("the order of the tokens decides")
        except Again:
            raise Unknown("a table that was not seen before") from None
        return said

    return vote


def _vote(value: Any) -> Any:
    if isinstance(value, Test):
        return bool(value)
    if isinstance(value, (Text, Tokens, Shared, Found, Token, Pair, Length)):
        raise Unknown("the text itself is returned")
    return value
