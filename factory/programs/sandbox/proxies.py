"""What a program is given in place of its text and of what it makes of it: proxies that turn each look into an observation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from .observations import Again, Board, Site
from .patterns import NEVER, Converted, Unknown, convert, literal, plain_pattern, plain_word, token_characters
from .views import View, checked


def _unknown(words: str) -> Any:
    def look(*_: object, **__: object) -> Any:
        raise Unknown(words)

    return look


class Test:
    """Is any of these in the text? Asked only when it is needed.

    Attributes:
        text: Which view of the text.
        patterns: For the engine alone.
        found: Observations `(converted, pattern, flags, method, width)` that Python's own pattern settles.
        tokens: `(pattern, flags, characters, word)`.
        plain: Whether characters beyond ASCII may be asked about by their stand-ins.
    """

    def __init__(
        self,
        text: Text,
        patterns: Iterable[str] = (),
        found: Iterable[tuple[str, ...]] = (),
        tokens: Iterable[tuple[str, ...]] = (),
        plain: bool = True,
    ) -> None:
        self.text = text
        self.plain = plain
        self.patterns = tuple(dict.fromkeys(patterns))
        self.found = tuple(dict.fromkeys(found))
        self.tokens = tuple(dict.fromkeys(tokens))
        self._single = bool(self.patterns) + len(self.found) == 1 and not self.tokens
        self._column = (-1, 0)

    def __bool__(self) -> bool:
        board = self.text.board
        if self._column[0] == board.generation:
            return bool(board.value(self._column[1]))
        if self._single:
            op, patterns = ("any", self.patterns) if self.patterns else ("found_any", self.found[0])
            at = board.column(op, patterns, self.text.view, self.plain)
            self._column = (board.generation, at)
            return bool(board.value(at))
        ask, view, plain = self.text.board.ask, self.text.view, self.plain
        if self.patterns and ask("any", self.patterns, view, plain):
            return True
        for head in dict.fromkeys(token[:3] for token in self.tokens):
            words = sorted(token[3] for token in self.tokens if token[:3] == head)
            if ask("token_any", (*head, *words), view, plain):
                return True
        return any(ask("found_any", one, view, plain) for one in self.found)

    __eq__ = __ne__ = __hash__ = __str__ = __repr__ = __format__ = _unknown("a test is compared or shown")


class Length:
    """How long the text is, or how many words it has: it can be compared with numbers and nothing else."""

    def __init__(self, text: Text, unit: str) -> None:
        self.text, self.unit = text, unit

    def at_least(self, number: Any) -> bool:
        if type(number) is not int:
            raise Unknown("a length is computed with")
        return number <= 0 or bool(self.text.board.ask(self.unit, (str(number),), self.text.view))

    def __ge__(self, other: Any) -> bool:
        return self.at_least(other)

    def __gt__(self, other: Any) -> bool:
        return self.at_least(other + 1)

    def __lt__(self, other: Any) -> bool:
        return not self.at_least(other)

    def __le__(self, other: Any) -> bool:
        return not self.at_least(other + 1)

    def __eq__(self, other: object) -> bool:
        return self >= other and self <= other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return self.at_least(1)

    __hash__ = None  # type: ignore[assignment]


class Text:
    """The text that nobody has seen, after what the program did to it."""

    def __init__(self, board: Board, view: View = ()) -> None:
        self.board = board
        self.view = view
        self._after: dict[str, Text] = {}

    def then(self, *operation: Any) -> Text:
        """The text after one more operation."""
        plain = operation[0] if len(operation) == 1 else ""
        known = self._after.get(plain)
        if known is not None:
            return known
        view = checked([*self.view, operation])
        if view is None:
            raise Unknown("the text is changed too much")
        after = Text(self.board, view)
        if plain:
            self._after[plain] = after
        return after

    def lower(self) -> Text:
        return self.then("lower")

    def upper(self) -> Text:
        return self.then("upper")

    def casefold(self) -> Text:
        return self.then("casefold")

    def strip(self, *characters: Any) -> Text:
        return self.then("strip", *characters)

    def lstrip(self, *characters: Any) -> Text:
        return self.then("lstrip", *characters)

    def rstrip(self, *characters: Any) -> Text:
        return self.then("rstrip", *characters)

    def replace(self, old: Any, new: Any) -> Text:
        return self.then("replace", old, new)

    def __getitem__(self, part: Any) -> Text:
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise Unknown("single characters are looked at")
        return self.then("slice", part.start, part.stop)

    def __add__(self, after: Any) -> Text:
        return self.then("pad", "", after)

    def __radd__(self, before: Any) -> Text:
        return self.then("pad", before, "")

    def split(self, *separators: object) -> Tokens:
        if separators and separators != (None,):
            raise Unknown("splitting at a separator")
        return Tokens(self, Pattern(r"\S+"), blanks=True)

    def startswith(self, prefix: Any, *more: object) -> Test:
        return self._at_end(prefix, more, "\\A", "")

    def endswith(self, suffix: Any, *more: object) -> Test:
        return self._at_end(suffix, more, "", "\\z")

    def _at_end(self, words: Any, more: tuple[object, ...], head: str, tail: str) -> Test:
        if more:
            raise Unknown("looking at a part")
        listed = (words,) if isinstance(words, str) else words
        return Test(self, [head + literal(word) + tail for word in listed], plain=all(map(plain_word, listed)))

    def count(self, word: str, *more: object) -> int:
        if more or type(word) is not str:
            raise Unknown("counting in a part")
        if any(word[:k] == word[-k:] for k in range(1, len(word))):
            return len(Found(self, Pattern(re.escape(word))))
        return self.board.ask("count", (literal(word),), self.view, plain_word(word))

    def equals(self, words: Iterable[Any]) -> Test:
        """Is the whole text one of these words?"""
        listed = sorted(word for word in words if type(word) is str)
        if "" in listed:
            raise Unknown("the empty text is asked for")
        patterns = [f"\\A{literal(word)}\\z" for word in listed] or [NEVER]
        return Test(self, patterns, plain=all(map(plain_word, listed)))

    def __eq__(self, other: object) -> Any:
        if type(other) is not str or not other:
            raise Unknown("the text is compared")
        return self.equals([other])

    def __contains__(self, word: object) -> bool:
        return bool(self.holds(word))

    def holds(self, word: object) -> Test:
        if type(word) is not str:
            raise Unknown("no string")
        return Test(self, [literal(word)], plain=plain_word(word))

    def __bool__(self) -> bool:
        return bool(self.board.ask("any", ("[\\x00-\\x7f]",), self.view))

    __str__ = __repr__ = __format__ = __len__ = __iter__ = __mod__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown(
        "the text itself is looked at"
    )
    __hash__ = _unknown("the text itself is looked at")


class Pattern:
    """A compiled pattern: real on strings of the program's own, symbolic on the text."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.real = re.compile(pattern, flags)
        self.pattern = pattern
        self.flags = int(flags)
        self.known: dict[str, Converted] = {}
        self._tests: dict[tuple[str, View], Test] = {}
        self.plain = plain_pattern(pattern, self.flags)
        self._tokens: tuple[str, str, str] | bool | None = False

    def converted(self, how: str = "search") -> Converted:
        """For the one-pass engine, remembered."""
        if how not in self.known:
            self.known[how] = convert(self.pattern, self.flags, how=how)
        return self.known[how]

    def found(self, how: str = "search") -> tuple[str, ...]:
        """For an observation that Python's own pattern settles."""
        converted = self.converted(how)
        return converted.pattern, self.pattern, str(self.flags), how, str(converted.width)

    def tokens(self) -> tuple[str, str, str]:
        """Pattern, flags and characters, if it finds tokens.

        Raises:
            Unknown: It does not.
        """
        if self._tokens is False:
            characters = token_characters(self.pattern, self.flags)
            mask = None if characters is None else f"{sum(1 << code for code in characters):x}"
            self._tokens = None if mask is None else (self.pattern, str(self.flags), mask)
        if not isinstance(self._tokens, tuple):
            raise Unknown("no tokens")
        return self._tokens

    def _test(self, text: Any, how: str, more: tuple[object, ...]) -> Any:
        if not isinstance(text, Text):
            if not isinstance(text, str):
                raise Unknown("a token itself is looked at")
            return getattr(self.real, how)(text, *more)
        if more:
            raise Unknown("searching a part")
        test = self._tests.get((how, text.view))
        if test is None or test.text.board is not text.board:
            converted = self.converted(how)
            if converted.loose:
                test = Test(text, found=[self.found(how)], plain=converted.plain)
            else:
                test = Test(text, [converted.pattern], plain=converted.plain)
            self._tests[how, text.view] = test
        return test

    def search(self, text: Any, *more: object) -> Any:
        return self._test(text, "search", more)

    def match(self, text: Any, *more: object) -> Any:
        return self._test(text, "match", more)

    def fullmatch(self, text: Any, *more: object) -> Any:
        return self._test(text, "fullmatch", more)

    def findall(self, text: Any, *more: Any) -> Any:
        if not isinstance(text, Text):
            return self.real.findall(text, *more)
        if more:
            raise Unknown("searching a part")
        return Found(text, self)

    def finditer(self, text: Any, *more: Any) -> Any:
        if not isinstance(text, Text):
            return self.real.finditer(text, *more)
        raise Unknown("the matches themselves are looked at")

    def sub(self, replacement: Any, text: Any, *more: Any) -> Any:
        if not isinstance(text, str):
            raise Unknown("a changed text")
        return self.real.sub(replacement, text, *more)

    def split(self, text: Any, *more: Any) -> Any:
        if not isinstance(text, str):
            raise Unknown("a split text")
        return self.real.split(text, *more)


class Found:
    """What `findall` gave; `once` after `set()`, `most` after a slice."""

    def __init__(self, text: Text, pattern: Pattern, *, once: bool = False, most: int | None = None) -> None:
        self.text, self.pattern, self.once, self.most = text, pattern, once, most

    def __len__(self) -> int:
        board, view = self.text.board, self.text.view
        key = (id(self.pattern), self.once, view)
        known = board.columns.get(key)
        if known is None:
            op, patterns = self._question()
            known = (self.pattern, board.column(op, patterns, view, self.pattern.converted().plain))
            board.columns[key] = known
        count = board.value(known[1])
        return count if self.most is None else min(count, self.most)

    def _question(self) -> tuple[str, tuple[str, ...]]:
        if self.once:
            if self.pattern.real.groups:
                raise Unknown("distinct groups")
            return "found_distinct", self.pattern.found()
        converted = self.pattern.converted()
        return ("count", (converted.pattern,)) if converted.words else ("found_count", self.pattern.found())

    def __bool__(self) -> bool:
        converted = self.pattern.converted()
        if self.most == 0:
            return False
        if converted.loose:
            return bool(self.text.board.ask("found_any", self.pattern.found(), self.text.view, converted.plain))
        return bool(self.text.board.ask("any", (converted.pattern,), self.text.view, converted.plain))

    def __getitem__(self, part: Any) -> Found:
        plain = isinstance(part, slice) and not part.start and part.step in (None, 1)
        if not plain or type(part.stop) is not int or part.stop < 0 or self.once or self.most is not None:
            raise Unknown("single matches are looked at")
        return Found(self.text, self.pattern, most=part.stop)

    def distinct(self) -> Any:
        """As a set."""
        try:
            self.pattern.tokens()
        except Unknown:
            return Found(self.text, self.pattern, once=True)
        return self.tokens(once=True)

    def tokens(self, *, once: bool = False) -> Tokens:
        if self.most is not None:
            raise Unknown("the first tokens")
        self.pattern.tokens()
        return Tokens(self.text, self.pattern, once=once)

    def holds(self, word: object) -> Test:
        return self.tokens().holds(word)

    def __contains__(self, word: object) -> bool:
        return bool(self.holds(word))

    __iter__ = __eq__ = __hash__ = _unknown("the matches themselves are looked at")


class Tokens:
    """The text's tokens: what a pattern finds, as a list or (`once`) as a set."""

    def __init__(self, text: Text, pattern: Pattern, *, once: bool = False, blanks: bool = False) -> None:
        self.text, self.pattern, self.once, self.blanks = text, pattern, once, blanks

    def holds(self, word: object) -> Test:
        if type(word) is not str:
            raise Unknown("no string")
        plain = self.pattern.plain and plain_word(word)
        return Test(self.text, tokens=[(*self.pattern.tokens(), word)], plain=plain)

    def __contains__(self, word: object) -> bool:
        return bool(self.holds(word))

    def __and__(self, words: Any) -> Shared:
        if not self.once or not isinstance(words, (set, frozenset, dict)):
            raise Unknown("a list has no intersection")
        return Shared(self, words)

    __rand__ = intersection = __and__

    def isdisjoint(self, words: Any) -> bool:
        return not Shared(self, words)

    def __getitem__(self, part: Any) -> Any:
        if not self.blanks or self.once:
            raise Unknown("one token is looked at")
        if isinstance(part, slice) and part.step in (None, 1):
            return Tokens(self.text.then("words", part.start, part.stop), self.pattern, blanks=True)
        if type(part) is not int:
            raise Unknown("one token is looked at")
        enough = Length(self.text, "words").at_least(part + 1 if part >= 0 else -part)
        if not enough:
            raise IndexError("list index out of range")
        return self.text.then("words", part, part + 1 if part != -1 else None)

    def __bool__(self) -> bool:
        return bool(Found(self.text, self.pattern))

    def each(self, number: int) -> Iterator[Token]:
        """The tokens that the loop's tables know, each group of words that no table tells apart by one of them.

        A token that no table knows comes once: the loop's body was seen to do nothing with it. The order must not
        matter.

        Args:
            number: Of the loop in the program.
        """
        board, head = self.text.board, self.pattern.tokens()
        site = board.site((number, head, self.once, self.text.view))
        if site.asked is None or site.asked[0] != board.generation:
            op = "token_distinct" if self.once else "token_count"
            groups = site.classes()
            columns = [
                board.column(op, (*head, *words), self.text.view, plain)
                for words, plain in zip(groups, site.plain(self.pattern.plain), strict=True)
            ]
            tokens = [Token(site, words[0]) for words in groups]
            site.asked = board.generation, list(zip(columns, tokens, strict=True)), Token(site, None)
        _, asked, other = site.asked
        value = board.value
        met = [(other, 1), *((token, n) for column, token in asked if (n := value(column)) > 0)]
        board.orders = max(board.orders, len(met))
        turn = board.turn % len(met)
        return iter([token for token, n in met[turn:] + met[:turn] for _ in range(n)])

    def __len__(self) -> int:
        raise Unknown("the number of tokens")

    __iter__ = __eq__ = __hash__ = _unknown("the tokens themselves are looked at")


class Token:
    """One token in a loop: it can be looked up in tables of the program and nothing else. `word` is None for one of no table."""

    def __init__(self, site: Site, word: str | None) -> None:
        self.site, self.word = site, word

    def known(self, table: Any) -> bool:
        """Whether the table holds it.

        Raises:
            Again: The table is new.
            Unknown: It is no table.
        """
        if id(table) not in self.site.ids:
            if not isinstance(table, (set, frozenset, dict, list, tuple, Mapping)) or hasattr(table, "default_factory"):
                raise Unknown("no table of words")
            if not self.site.holds(table):
                self.site.add(table)
                raise Again
        return self.word is not None and self.word in table

    def get(self, table: Any, default: Any = None) -> Any:
        """What the table holds for it."""
        if type(table) is not dict and not isinstance(table, Mapping):
            raise Unknown("no table of words")
        return table[self.word] if self.known(table) else default

    def item(self, table: Any) -> Any:
        """What the table holds for it, which must be something."""
        if not isinstance(table, Mapping):
            raise Unknown("no table of words")
        if not self.known(table):
            raise KeyError(self.word)
        return table[self.word]

    __str__ = __repr__ = __format__ = __len__ = __iter__ = __getitem__ = __eq__ = __hash__ = __bool__ = _unknown(
        "a token itself is looked at"
    )


class Shared:
    """The tokens that are in a set of words."""

    def __init__(self, tokens: Tokens, words: Collection[object]) -> None:
        self.text, self.once, self.head = tokens.text, tokens.once, tokens.pattern.tokens()
        self.table, self.pattern = words, tokens.pattern

    def words(self) -> tuple[str, ...]:
        """The words of the set."""
        return tuple(sorted({word for word in self.table if type(word) is str}))

    def _ask(self, op: str) -> int:
        board, view, head = self.text.board, self.text.view, self.head
        if (id(self.table), len(self.table), op, head, view) in board.columns:
            return board.ask_once(self.table, head, op, tuple, view, True)
        words = self.words()
        plain = self.pattern.plain and all(map(plain_word, words))
        return board.ask_once(self.table, head, op, lambda: (*head, *words), view, plain) if words else 0

    def __len__(self) -> int:
        return self._ask("token_distinct" if self.once else "token_count")

    def __bool__(self) -> bool:
        return bool(self._ask("token_any"))

    __iter__ = __hash__ = __eq__ = _unknown("the tokens themselves are looked at")


class Pair:
    """A condition and what it adds to a sum."""

    def __init__(self, condition: Any, value: Any) -> None:
        self.condition, self.value = condition, value
