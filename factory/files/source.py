"""What a user says of one source file, and which of its columns mean what."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from factory.errors import InputError

SPLITS = ("train", "seed", "dev", "test", "reference")
"""In the order in which they are read: text numbers depend on it and not on the order in a YAML file."""

Format = Literal["auto", "csv", "jsonl", "json", "parquet", "dataset", "wrench", "inline"]

_TEXT_NAMES = (
    "text", "sentence", "content", "question", "comment", "message", "review", "utterance", "query", "tweet", "document",
    "body", "description", "title",
)  # fmt: skip
_LABEL_NAMES = (
    "label", "labels", "gold", "gold_label", "category", "class", "target", "intent", "label_name", "label_text", "topic",
)  # fmt: skip


class SourceSpec(BaseModel):
    """One source of one split.

    Attributes:
        path: A file, a folder that `datasets` can read, or (with `format: dataset`) a name on the Hugging Face hub.
        format: `auto` goes by the name: `.csv` `.tsv` `.jsonl` `.ndjson` `.json` `.parquet`, also `.gz` and `.zst` of the
            text formats; `.json` is WRENCH's form or a list of objects.
        text: Column of the text; for a card with `fields`, a list of columns in that order, or field name to column.
        label: Column of the gold label (or list of labels). Read for `seed`, `dev`, `test` and `reference` alone.
        votes: Column of published votes of human-written rules (`human_lfs`); read for `test` alone.
        exemplar: Column that marks hand-labelled rule examples among unlabelled text; such rows of `train` are left out.
        texts: The rows themselves instead of a path (for notebooks and tests): strings, or field name to value.
        labels: What the file calls a label, to what the card calls it (`{"0": "ham", "1": "spam"}`). With `texts`: one label
            for each of them.
        other_labels: What to do with a label that is not on the card: `error` (the row cannot be used) or `ignore` (a
            `multi` task of fewer labels than the file has).
        label_separator: Splits a string into several labels in a `multi` task.
        where: Column to the value, or list of values, that a row must have to be read.
        exclude: Column to the value, or list of values, that a row must not have.
        limit: Read so many rows at most.
        per_label: Of a source with gold: keep so many rows of each label, drawn by `sample_seed`; fewer are a part of more.
        sample_seed: Of that draw.
        encoding: Of a text file, `utf-8` unless told.
        delimiter: Of a CSV file; guessed from its first line unless told.
        subset: Configuration of a Hugging Face dataset.
        part: Split of a Hugging Face dataset (`train` if it has one).
        bad_limit: How many rows may be unusable before the source is refused. Each is kept in `bad_rows` with its line.
        max_chars: A longer text cannot be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str = ""
    texts: tuple[str | dict[str, str], ...] | None = Field(default=None, repr=False)
    format: Format = "auto"
    text: str | tuple[str, ...] | dict[str, str] | None = None
    label: str | None = None
    votes: str | None = None
    exemplar: str | None = None
    labels: dict[str, str] | tuple[str | tuple[str, ...] | None, ...] = Field(default_factory=dict)
    other_labels: Literal["error", "ignore"] = "error"
    label_separator: str | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    exclude: dict[str, Any] = Field(default_factory=dict)
    limit: int | None = Field(default=None, ge=1)
    per_label: int | None = Field(default=None, ge=1)
    sample_seed: int = 0
    encoding: str | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    subset: str | None = None
    part: str | None = None
    bad_limit: int = Field(default=0, ge=0)
    max_chars: int = Field(default=1_000_000, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> SourceSpec:
        if (self.texts is None) == (not self.path):
            raise ValueError("a source has either a `path` or `texts`")
        if not isinstance(self.labels, dict):
            if self.texts is None:
                raise ValueError(
                    "a list of `labels` goes with `texts`; for a file, `labels` maps its names to the card's"
                )
            if len(self.labels) != len(self.texts):
                raise ValueError(f"there are {len(self.texts)} texts and {len(self.labels)} labels")
        return self

    @property
    def name(self) -> str:
        """How the source is named in the warehouse and to people."""
        if self.texts is not None:
            return "inline"
        parts = [part for part in (self.subset, self.part) if part]
        return "#".join([self.path, *parts])

    @property
    def renamed(self) -> dict[str, str]:
        """What the file calls a label, to what the card calls it."""
        return self.labels if isinstance(self.labels, dict) else {}

    def located(self, base: Path | None) -> Path:
        """Where the path lies: a relative one counted from `base` if it is there, else from the working folder."""
        path = Path(self.path).expanduser()
        if base is None or path.is_absolute() or (path.exists() and not (base / path).exists()):
            return path
        return base / path


def load_specs(sources: Mapping[str, Any], *, where: str = "ingest") -> dict[str, tuple[SourceSpec, ...]]:
    """Sources as they stand in a pipeline, checked: split to its sources.

    Args:
        sources: Split name to a path, a mapping of `SourceSpec`'s keys, a `SourceSpec`, or a list of these.
        where: What an error names as the place.

    Returns:
        In the order of `SPLITS`.

    Raises:
        InputError: An unknown split or key, or a wrong value.
    """
    for split in sources:
        if split not in SPLITS:
            near = difflib.get_close_matches(str(split), SPLITS, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"There are {', '.join(SPLITS)}"
            raise InputError(f"unknown split `{split}`", where=where, fix=hint)
    specs: dict[str, tuple[SourceSpec, ...]] = {}
    for split in SPLITS:
        given = sources.get(split)
        if given is None:
            continue
        items = given if isinstance(given, (list, tuple)) else [given]
        specs[split] = tuple(_spec(item, f"{where}.{split}") for item in items)
        names = [spec.name for spec in specs[split]]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"`{name}` stands twice in one split", where=f"{where}.{split}", fix="Name it once")
    return specs


def _spec(item: Any, where: str) -> SourceSpec:
    if isinstance(item, SourceSpec):
        return item
    if isinstance(item, (str, Path)):
        item = {"path": str(item)}
    if not isinstance(item, Mapping):
        raise InputError("a source is a path, or a mapping with `path:`", where=where)
    try:
        return SourceSpec.model_validate(dict(item))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "source"
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, list(SourceSpec.model_fields), n=1)
            known = f"did you mean `{near[0]}`?" if near else f"Known are {', '.join(SourceSpec.model_fields)}"
            raise InputError(f"unknown key `{name}`", where=where, fix=known) from error
        if first["type"] == "missing":
            raise InputError(f"`{name}` is missing", where=where, fix="A source needs a `path`") from error
        message = str(first["msg"]).removeprefix("Value error, ")
        raise InputError(f"`{name}`: {message}" if first["loc"] else message, where=where) from error


@dataclass(frozen=True)
class Columns:
    """Which columns of a source mean what.

    Attributes:
        text: One column, or one for each field of the card.
        label: Gold, or None.
        votes: Published votes, or None.
        exemplar: Marks rule examples, or None.
        guessed: Lines for a person: what was not told but guessed.
    """

    text: tuple[str, ...]
    label: str | None
    votes: str | None
    exemplar: str | None
    guessed: tuple[str, ...]

    @property
    def wanted(self) -> list[str]:
        """All of them, once each."""
        others = [name for name in (self.label, self.votes, self.exemplar) if name is not None]
        return list(dict.fromkeys([*self.text, *others]))


def choose_columns(
    spec: SourceSpec, present: Sequence[str], fields: Sequence[str], *, gold: bool, votes: bool = False
) -> Columns:
    """Decide which columns hold text, gold, votes and the exemplar mark.

    Args:
        spec: What the user said.
        present: The columns that the source has.
        fields: The card's fields; empty for plain texts.
        gold: Whether a label is needed.
        votes: Whether published votes are wanted where there are any.

    Raises:
        InputError: A named column is not there, or none can be guessed.
    """
    guessed: list[str] = []
    text = _text_columns(spec, present, fields, guessed)
    label = None
    if gold:
        label = _label_column(spec, present, text, guessed)
    vote_column = None
    if votes:
        if spec.votes is not None:
            vote_column = _named(spec, present, spec.votes, "votes")
        elif "votes" in present:
            vote_column = "votes"
    exemplar = None
    if spec.exemplar is not None:
        exemplar = _named(spec, present, spec.exemplar, "exemplar")
    elif "exemplar" in present:
        exemplar = "exemplar"
    for name in (*spec.where, *spec.exclude):
        _named(spec, present, name, "where or exclude")
    return Columns(text, label, vote_column, exemplar, tuple(guessed))


def _text_columns(
    spec: SourceSpec, present: Sequence[str], fields: Sequence[str], guessed: list[str]
) -> tuple[str, ...]:
    if fields:
        if isinstance(spec.text, dict):
            missing = [name for name in fields if name not in spec.text]
            if missing:
                raise InputError(f"`text` names no column for the field `{missing[0]}`", where=spec.name)
            columns = tuple(spec.text[name] for name in fields)
        elif isinstance(spec.text, tuple):
            columns = spec.text
        elif spec.text is None:
            columns = tuple(fields)
        else:
            columns = (spec.text,)
        if len(columns) != len(fields):
            raise InputError(
                f"the card has {len(fields)} fields ({', '.join(fields)}) and `text` names {len(columns)} columns",
                where=spec.name,
                fix="Name one column for each field, in the card's order",
            )
        return tuple(_named(spec, present, name, "text") for name in columns)
    if isinstance(spec.text, (tuple, dict)):
        names = list(spec.text.values()) if isinstance(spec.text, dict) else list(spec.text)
        if len(names) != 1:
            raise InputError(
                "`text` names several columns and the card has no `fields`",
                where=spec.name,
                fix=f"Put `fields: [{', '.join(names)}]` on the task card, or name one column",
            )
        return (_named(spec, present, names[0], "text"),)
    if spec.text is not None:
        return (_named(spec, present, spec.text, "text"),)
    found = _guess(present, _TEXT_NAMES)
    if found is None and len(present) == 1:
        found = present[0]
    if found is None:
        raise InputError(
            f"no column looks like the text (there are {_list(present)})",
            where=spec.name,
            fix="Name it with `text:`",
        )
    guessed.append(f"{spec.name}: text is read from column `{found}` (guessed)")
    return (found,)


def _label_column(spec: SourceSpec, present: Sequence[str], text: Sequence[str], guessed: list[str]) -> str:
    if spec.label is not None:
        return _named(spec, present, spec.label, "label")
    found = _guess([name for name in present if name not in text], _LABEL_NAMES)
    if found is None:
        raise InputError(
            f"no column looks like the label (there are {_list(present)})", where=spec.name, fix="Name it with `label:`"
        )
    guessed.append(f"{spec.name}: gold is read from column `{found}` (guessed)")
    return found


def _guess(present: Sequence[str], names: Sequence[str]) -> str | None:
    lowered = {name.strip().lower(): name for name in reversed(list(present))}
    return next((lowered[name] for name in names if name in lowered), None)


def _named(spec: SourceSpec, present: Sequence[str], name: str, key: str) -> str:
    if name in present:
        return name
    near = difflib.get_close_matches(name, [str(column) for column in present], n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"Name another with `{key}:`"
    raise InputError(f"there is no column `{name}` (there are {_list(present)})", where=spec.name, fix=hint)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in list(names)[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"
