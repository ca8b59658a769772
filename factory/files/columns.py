"""Which columns of a source mean what: named by the user, or guessed alike by everything that reads a file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.files.base import OpenSource
from factory.files.values import surrogate_fault
from factory.names import nfc

if TYPE_CHECKING:
    from factory.files.source import SourceSpec

TEXT_NAMES = (
    "text", "sentence", "content", "question", "comment", "message", "review", "utterance", "query", "tweet", "document",
    "body", "description", "title",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "gold", "gold_label", "category", "class", "target", "intent", "label_name", "label_text", "topic",
)  # fmt: skip
ID_NAMES = ("id", "_id")
_Told = str | tuple[str, ...] | Mapping[str, str] | None


@dataclass(frozen=True)
class Columns:
    """Which columns of a source mean what.

    Attributes:
        text: One column, or one for each field of the card.
        label: Gold, or None.
        votes: Published votes, or None.
        exemplar: Marks rule examples, or None.
        own: The user's own columns that stay with a row, its id first.
        where: Column to the value, or list of values, that a row must have.
        exclude: Column to the value, or list of values, that a row must not have.
        guessed: Lines for a person: what was not told but guessed.
    """

    text: tuple[str, ...]
    label: str | None = None
    votes: str | None = None
    exemplar: str | None = None
    own: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    exclude: Mapping[str, Any] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[str]:
        """All of them, once each."""
        others = [name for name in (self.label, self.votes, self.exemplar) if name is not None]
        return list(dict.fromkeys([*self.text, *others, *self.own, *self.where, *self.exclude]))


def choose_columns(
    spec: SourceSpec, source: OpenSource, fields: Sequence[str], *, gold: bool, votes: bool = False, option: str = "{}:"
) -> Columns:
    """Decide which columns hold text, gold, votes, the exemplar mark, and what stays with the rows.

    Args:
        spec: What the user said.
        source: What is there.
        fields: The card's fields; empty for plain texts.
        gold: Whether a label is needed.
        votes: Whether published votes are wanted where there are any.
        option: How a column is named, for messages: `{}:` in a pipeline, `--{}` on the command line.

    Raises:
        InputError: A named column is not there, or none can be guessed.
    """
    pick = Picker(spec.name, source, option)
    text = pick.text(spec.text, fields)
    label = pick.label(spec.label, text) if gold else None
    vote_column = None
    if votes:
        vote_column = pick.named(spec.votes, "votes") if spec.votes is not None else pick.find("votes")
    exemplar = pick.named(spec.exemplar, "exemplar") if spec.exemplar is not None else pick.find("exemplar")
    own = pick.own(spec.id, spec.keep, [*text, *([label] if label else [])])
    where = {pick.named(name, "where"): value for name, value in spec.where.items()}
    exclude = {pick.named(name, "exclude"): value for name, value in spec.exclude.items()}
    return Columns(text, label, vote_column, exemplar, own, where, exclude, tuple(pick.guessed))


class Picker:
    """Finds columns of one source by name (exactly, else whatever the case) or by what they are usually called.

    Attributes:
        guessed: Lines for a person: what was not told but guessed.
    """

    def __init__(self, name: str, source: OpenSource, option: str = "{}:") -> None:
        """Look at the columns of a source.

        Raises:
            InputError: Their names did not decode.
        """
        self.guessed: list[str] = []
        self._name, self._source, self._option = name, source, option
        self._present = list(source.columns)
        if any(surrogate_fault(str(column), None) is not None for column in self._present):
            raise InputError(
                "the names of its columns hold bytes that are not of its encoding",
                where=name,
                fix=f"Say {self._say('encoding', 'cp1252')}, or another",
            )

    def find(self, name: str) -> str | None:
        """The column of that name: exactly, else the only one that differs in case, blanks or the form of accents alone."""
        if name in self._present:
            return name
        alike = [column for column in self._present if _key(column) == _key(name)]
        return alike[0] if len(alike) == 1 else None

    def named(self, name: str, key: str) -> str:
        """The column that the user named.

        Raises:
            InputError: There is none.
        """
        found = self.find(name)
        if found is not None:
            return found
        near = difflib.get_close_matches(name, [str(column) for column in self._present], n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"Name another with {self._say(key)}"
        raise InputError(f"there is no column `{name}` (there are {self._list()})", where=self._name, fix=hint)

    def text(self, told: _Told, fields: Sequence[str]) -> tuple[str, ...]:
        """The column of the texts, or one for each field.

        Raises:
            InputError: A named column is not there, or none can be guessed.
        """
        if fields:
            return tuple(self.named(name, "text") for name in self._of_fields(told, fields))
        if isinstance(told, (tuple, dict)):
            names = list(told.values()) if isinstance(told, dict) else list(told)
            if len(names) != 1:
                raise InputError(
                    "`text` names several columns and the card has no `fields`",
                    where=self._name,
                    fix=f"Put `fields: [{', '.join(names)}]` on the task card, or name one column",
                )
            told = names[0]
        if isinstance(told, str):
            return (self.named(told, "text"),)
        return (self._guess_text(),)

    def label(self, told: str | None, text: Sequence[str]) -> str:
        """The column of the labels.

        Raises:
            InputError: It is not there, or none can be guessed.
        """
        if told is not None:
            return self.named(told, "label")
        found = self._guess([name for name in self._present if name not in text], LABEL_NAMES)
        if found is None:
            raise InputError(
                f"no column looks like the label (there are {self._list()})",
                where=self._name,
                fix=f"Name it with {self._say('label')}; columns of yes and no, one for each label, must be made one first",
            )
        self.guessed.append(f"{self._name}: gold is read from column `{found}` (guessed)")
        return found

    def own(self, told: str | bool | None, keep: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
        """The user's own columns: the id, then those to keep.

        Raises:
            InputError: One is not there.
        """
        number = None
        if isinstance(told, str):
            number = self.named(told, "id")
        elif told is not False:
            number = self._guess([name for name in self._present if name not in taken], ID_NAMES)
        kept = [self.named(name, "keep") for name in keep]
        return tuple(dict.fromkeys([number, *kept] if number is not None else kept))

    def _of_fields(self, told: _Told, fields: Sequence[str]) -> tuple[str, ...]:
        if isinstance(told, Mapping):
            missing = next((name for name in fields if name not in told), None)
            if missing is not None:
                raise InputError(f"`text` names no column for the field `{missing}`", where=self._name)
            return tuple(told[name] for name in fields)
        columns = tuple(fields) if told is None else (told,) if isinstance(told, str) else told
        if len(columns) != len(fields):
            words = f"the card has {len(fields)} fields ({', '.join(fields)}) and `text` names {len(columns)} columns"
            raise InputError(words, where=self._name, fix="Name one column for each field, in the card's order")
        return columns

    def _guess_text(self) -> str:
        found = self._guess(self._present, TEXT_NAMES)
        if found is None and len(self._present) == 1:
            found = self._present[0]
            if self._source.names_guessed:
                raise InputError(
                    f"the only column is called `{found[:80]}`, which may be a text and not a name",
                    where=self._name,
                    fix=f"Say {self._say('text', found[:80])} if it is a name, {self._say('format', 'lines')} if every line"
                    " is a text",
                )
        if found is None:
            names = "[text, ...]" if self._option == "{}:" else "text,..."
            header = f"; if the first line is not a header, say {self._say('columns', names)}"
            raise InputError(
                f"no column looks like the text (there are {self._list()})",
                where=self._name,
                fix=f"Name it with {self._say('text')}{header if self._source.names_guessed else ''}",
            )
        self.guessed.append(f"{self._name}: text is read from column `{found}` (guessed)")
        return found

    def _guess(self, present: Sequence[str], names: Sequence[str]) -> str | None:
        lowered = {_key(name): name for name in reversed(list(present))}
        return next((lowered[name] for name in names if name in lowered), None)

    def _say(self, key: str, value: str = "") -> str:
        quoted = f'"{value}"' if self._option.startswith("--") and " " in value else value
        return f"`{self._option.format(key)} {quoted}".rstrip() + "`"

    def _list(self) -> str:
        shown = ", ".join(f"`{str(name)[:80]}`" for name in self._present[:12])
        return shown + (f" and {len(self._present) - 12} more" if len(self._present) > 12 else "") if shown else "none"


def _key(name: str) -> str:
    return nfc(str(name)).strip().casefold()
