"""What can be asked about a text that a program has not seen, and the answers of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .patterns import Unknown, plain_word
from .views import ASCII, View

MAX_OBSERVATIONS = 400
MAX_CLASSES = 60
MAX_CONTAINERS = 12

Spec = tuple[str, tuple[str, ...], View]
"""An observation: what is asked, of which patterns, on which view of the text. Asked are

- `any` 0 or 1, `distinct` how many of the patterns are there, `count` how many matches of one: by the one-pass engine alone;
- `found_any`, `found_count`, `found_distinct` of `(converted, pattern, flags, method, width)`: what Python's own pattern finds,
  where the engine finds the converted one;
- `token_any`, `token_distinct`, `token_count` of `(pattern, flags, characters, word, ...)`: tokens that are one of the words;
- `chars`, `words` of `(number,)`: whether the text is at least so long.
"""


class Again(BaseException):
    """Something new was learned about the program's tables: the run begins again."""


class Site:
    """One loop over tokens: the tables its body looks tokens up in, and the words that all of them treat alike.

    Attributes:
        containers: The tables.
        ids: The identities of those tables, which are kept and so keep them.
        asked: The board's generation, the column and the token of each group of words, and the token of no table; None until
            they are asked for.
    """

    def __init__(self) -> None:
        self.containers: list[Any] = []
        self.ids: set[int] = set()
        self.asked: tuple[int, list[tuple[int, Any]], Any] | None = None
        self._classes: list[tuple[str, ...]] | None = None
        self._plain: list[bool] | None = None

    def holds(self, container: Any) -> bool:
        """Whether the table is known."""
        return any(one is container for one in self.containers) or any(
            type(one) is type(container) and one == container for one in self.containers
        )

    def add(self, container: Any) -> None:
        """Take one more table.

        Raises:
            Unknown: There are too many.
        """
        if len(self.containers) >= MAX_CONTAINERS:
            raise Unknown("too many tables")
        self.containers.append(container)
        self.ids.add(id(container))
        self._classes = self._plain = self.asked = None

    def classes(self) -> list[tuple[str, ...]]:
        """Words of the tables in groups that no table tells apart.

        Raises:
            Unknown: There are too many groups.
        """
        if self._classes is None:
            words = sorted({word for table in self.containers for word in table if type(word) is str})
            groups: list[tuple[list[Any], list[str]]] = []
            for word in words:
                mark = [_says(table, word) for table in self.containers]
                group = next((found for known, found in groups if known == mark), None)
                if group is None:
                    if len(groups) >= MAX_CLASSES:
                        raise Unknown("too many groups of words")
                    groups.append((mark, [word]))
                else:
                    group.append(word)
            self._classes = [tuple(group) for _, group in groups]
        return self._classes

    def plain(self, pattern: bool) -> list[bool]:
        """For each group, whether its words may be asked about by stand-ins, if the pattern may."""
        if self._plain is None:
            self._plain = [pattern and all(map(plain_word, words)) for words in self.classes()]
        return self._plain


def _says(table: Any, word: str) -> Any:
    if word not in table:
        return (False, None, None)
    value = table[word] if hasattr(table, "keys") else None
    return (True, type(value), value)


class Board:
    """The observations a program asks for, and the answers it gets in one run."""

    def __init__(self) -> None:
        self.sites: dict[Any, Site] = {}
        self.open = True
        self.orders = 1
        self.turn = 0
        self.generation = 0
        self.forget()

    def forget(self) -> None:
        """Drop the observations; the tables stay known."""
        self.specs: list[Spec] = []
        self.index: dict[Spec, int] = {}
        self.values: Sequence[int] = ()
        self.columns: dict[Any, tuple[Any, int]] = {}
        self.generation += 1

    def site(self, key: Any) -> Site:
        """The loop of that key."""
        if key not in self.sites:
            self.sites[key] = Site()
        return self.sites[key]

    def ask(self, op: str, patterns: Iterable[str], view: View, plain: bool = True) -> int:
        """The value of an observation.

        Args:
            op: What is asked.
            patterns: Of which patterns.
            view: On which view of the text.
            plain: Whether characters beyond ASCII may be asked about by their stand-ins.

        Raises:
            Unknown: It was never seen while the program was learned.
        """
        return self.value(self.column(op, patterns, view, plain))

    def value(self, at: int) -> int:
        """The value of the observation at that place; 0 where none is given."""
        return self.values[at] if at < len(self.values) else 0

    def column(self, op: str, patterns: Iterable[str], view: View, plain: bool = True) -> int:
        """The place of an observation; see `ask`."""
        key = (op, tuple(patterns), view if plain or ASCII in view else (*view, ASCII))
        at = self.index.get(key)
        if at is None:
            if not self.open or len(self.specs) >= MAX_OBSERVATIONS:
                raise Unknown("a test that was not seen before")
            at = self.index[key] = len(self.specs)
            self.specs.append(key)
        return at

    def ask_once(
        self, table: Any, key: Any, op: str, patterns: Callable[[], Iterable[str]], view: View, plain: bool
    ) -> int:
        """As `ask`, for the many words of a table that stays: what the key stands for is looked up once.

        Args:
            table: What the words are of; kept, so that its identity stays its own.
            key: Of the question, beside the table's identity and size.
            op: What is asked.
            patterns: Gives the patterns.
            view: On which view of the text.
            plain: As in `ask`.
        """
        known = self.columns.get((id(table), len(table), op, key, view))
        if known is None:
            known = (table, self.column(op, patterns(), view, plain))
            self.columns[id(table), len(table), op, key, view] = known
        return self.value(known[1])
