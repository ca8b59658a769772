"""What a user says of one source of texts, as it stands in a pipeline."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from factory.errors import InputError
from factory.files.base import ReadOptions
from factory.files.dialect import as_delimiter
from factory.files.open import describes_itself, files_of
from factory.files.values import as_text, is_missing
from factory.names import loose_label

SPLITS = ("train", "seed", "dev", "test", "reference")
"""In the order in which they are read: text numbers depend on it and not on the order in a YAML file."""

Format = Literal["auto", "csv", "jsonl", "json", "parquet", "lines", "dataset", "wrench", "inline"]


class SourceSpec(BaseModel):
    """One source of one split.

    Attributes:
        path: A file, a folder of data files, one saved by `datasets`, or (with `format: dataset`) a name on the Hugging Face
            hub.
        format: `auto` goes by the name: `.csv` `.tsv` `.tab` `.jsonl` `.ndjson` `.json` `.parquet` `.pq` `.txt`, also `.gz` and
            `.zst` of the text formats; `.json` is a list of objects, WRENCH's form, or JSON lines; `lines` is a text per line.
        text: Column of the text; for a card with `fields`, a list of columns in that order, or field name to column. Names of
            columns are found whatever their case, the exact one first; `data.text` is a value inside an object.
        id: Column of your own id, which stays with the row; by default one called `id`, `ID` or `_id`; `false` for none.
        keep: More columns that stay with the row (not of `test`, whose columns may hold its gold).
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
        delimiter: Of a CSV file; guessed from its first lines unless told.
        columns: Names of the columns of a CSV file that has no header line.
        subset: Configuration of a Hugging Face dataset.
        part: Split of a Hugging Face dataset, or of a folder of files (`train` if it has one).
        bad_limit: How many rows may be unusable before the source is refused. Each is kept in `bad_rows` with its line; where
            rows cannot be told apart (a quote that is never closed), every line that is lost counts.
        max_chars: A longer text cannot be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str = ""
    texts: tuple[str | dict[str, Any] | None, ...] | None = Field(default=None, repr=False)
    format: Format = "auto"
    text: str | tuple[str, ...] | dict[str, str] | None = None
    id: str | bool | None = None
    keep: tuple[str, ...] = ()
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
    delimiter: str | None = None
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    subset: str | None = None
    part: str | None = None
    bad_limit: int = Field(default=0, ge=0)
    max_chars: int = Field(default=1_000_000, ge=1)
    _said: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("texts", mode="before")
    @classmethod
    def _plain_texts(cls, rows: Any) -> Any:
        if not isinstance(rows, (list, tuple)):
            return rows
        return [
            {str(key): _plain(value) for key, value in row.items()} if isinstance(row, Mapping) else _plain(row)
            for row in rows
        ]

    @field_validator("labels", mode="before")
    @classmethod
    def _plain_labels(cls, labels: Any) -> Any:
        if isinstance(labels, Mapping):
            return {as_text(name): as_text(value) for name, value in labels.items()}
        return [_plain(label) for label in labels] if isinstance(labels, (list, tuple)) else labels

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, mark: str | None) -> str | None:
        try:
            return None if mark is None else as_delimiter(mark)
        except InputError as error:
            raise ValueError(str(error)) from error

    @field_validator("columns")
    @classmethod
    def _once_each(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        doubled = next((name for name in names or () if (names or ()).count(name) > 1), None)
        if doubled is not None:
            raise ValueError(f"`{doubled}` stands twice")
        return names

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
    def said(self) -> tuple[str, ...]:
        """What was guessed when the source was looked for."""
        return self._said

    def renamed(self, name: str) -> str:
        """What the card calls what the file calls so."""
        if not isinstance(self.labels, dict) or not self.labels:
            return name
        if name in self.labels:
            return self.labels[name]
        return {loose_label(one): to for one, to in self.labels.items()}.get(loose_label(name), name)

    def reading(self, base: Path | None = None, *, blank_rows: bool = False) -> ReadOptions:
        """How the source is read.

        Args:
            base: What a relative path is relative to.
            blank_rows: Whether blank lines are rows.
        """
        return ReadOptions(
            path=self.located(base), name=self.name, format=self.format, encoding=self.encoding, delimiter=self.delimiter,
            header=self.columns, subset=self.subset, part=self.part, blank_rows=blank_rows, rows=self.texts,
            labels=None if isinstance(self.labels, dict) else self.labels,
        )  # fmt: skip

    def located(self, base: Path | None) -> Path:
        """Where the path lies: a relative one counted from `base` if it is there, else from the working folder."""
        path = Path(self.path).expanduser()
        if base is None or path.is_absolute() or (path.exists() and not (base / path).exists()):
            return path
        return base / path


def _plain(value: Any) -> Any:
    """A value of a notebook as JSON has it: missing ones are None, lists stay, everything else is text."""
    if isinstance(value, (list, tuple)):
        return [as_text(item) for item in value if not is_missing(item)]
    return None if is_missing(value) else as_text(value)


def load_specs(
    sources: Mapping[str, Any], *, base: Path | None = None, where: str = "ingest"
) -> dict[str, tuple[SourceSpec, ...]]:
    """Sources as they stand in a pipeline, checked: split to its sources. A folder of data files is a source for each file.

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
        at = f"{where}.{split}"
        specs[split] = tuple(spec for item in items for spec in _files(_spec(item, at), base, at))
        if split == "test" and any(spec.keep for spec in specs[split]):
            raise InputError(
                "columns of `test` are not kept, since they may hold its gold",
                where=at,
                fix="Leave `keep` out; `id` may stay",
            )
        names = [spec.name for spec in specs[split]]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"`{name}` stands twice in one split", where=at, fix="Name it once")
    return specs


def _files(spec: SourceSpec, base: Path | None, where: str) -> list[SourceSpec]:
    """A source for each file of a folder, so that every row has its file and line; the source itself if it is no such folder."""
    folder = spec.located(base)
    if (
        spec.texts is not None
        or spec.format == "dataset"
        or spec.subset
        or not folder.is_dir()
        or describes_itself(folder)
    ):
        return [spec]
    files, says = files_of(folder, spec.format, spec.part)
    if len(files) > 1 and (spec.limit is not None or spec.per_label is not None):
        raise InputError(
            f"`limit` and `per_label` count the rows of one file, and the folder has {len(files)}",
            where=where,
            fix="Name the files",
        )
    found = []
    for number, path in enumerate(files):
        name = str(Path(spec.path) / path.relative_to(folder))
        one = spec.model_copy(update={"path": name, "part": None})
        one._said = tuple(says) if number == 0 else ()
        found.append(one)
    return found or [spec]


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
