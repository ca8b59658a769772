"""The task card: the labels, what each means, and how a text is to be judged; its revisions and append-only label numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from factory.canonical import digest
from factory.card_labels import OTHER, add_other, is_label_file, read_labels
from factory.errors import InputError, nearest
from factory.names import nfc, plain_name, yaml_words
from factory.yaml_reader import Places, read_yaml

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

__all__ = ["Label", "TaskCard", "as_yaml", "current_card", "label_names", "load_card", "read_yaml", "register"]


class Label(BaseModel):
    """One label and what it means.

    Attributes:
        name: As it stands in the gold files and in the export.
        description: One or two sentences that a stranger could label by.
        was: What texts of this label were called by an earlier card: those labels are asked again, and no others.
        aliases: Other names that it goes by. Prompts show them, and it is found by them where a card has many labels.
        examples: A few short texts of this label, written by whoever wrote the card; likewise.
        confused_with: Labels of the card that it is easily taken for (`not` in YAML), which are shown beside it.
        parent: The label of the card that it is a part of: what has this label has that one too. A text that none of a label's
            children means has the label itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(min_length=1)
    was: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    confused_with: tuple[str, ...] = Field(default=(), validation_alias="not", serialization_alias="not")
    parent: str | None = None

    @field_validator("was", "aliases", "examples", "confused_with", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [nfc(name) for name in ([given] if isinstance(given, str) else given)]

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if name != name.strip() or re.search(r"[\x00-\x1f\x7f-\x9f]", name):
            raise ValueError("a label's name has no blanks at its ends and no control characters")
        return nfc(name)

    @field_validator("parent")
    @classmethod
    def _composed(cls, name: str | None) -> str | None:
        return None if name is None else nfc(name)

    @property
    def meaning(self) -> str:
        """What prompts say of the label: its description, its parent, then what else it is called, and examples."""
        parts = [self.description]
        parts += [f"A part of {self.parent}."] if self.parent else []
        parts += [f"Also called: {', '.join(self.aliases)}."] if self.aliases else []
        parts += ["For example: " + "; ".join(f'"{text}"' for text in self.examples)] if self.examples else []
        return " ".join(parts)


class TaskCard(BaseModel):
    """What is to be labelled, and how.

    Attributes:
        name: Short name of the task: letters, digits, `-`, `_` and `.`.
        kind: `single` (every text has exactly one label) or `multi` (any number of them).
        text: What a text is, as a phrase: `"a YouTube comment under a music video"`.
        labels: Two or more labels for `single`, one or more for `multi`, in the order of the export; or `{path: FILE.csv, name:
            COLUMN}`, with `description`, `parent`, `aliases` (columns) and `separator` (of aliases). `other: true` beside it adds
            a last label `other` for texts of none of them (`single` alone).
        guidelines: How to decide hard cases; empty if there is nothing to say.
        fields: Names of a text's fields, in order, if a text is more than one string (`["title", "body"]`).
        default_label: What a text gets when nothing speaks of it and the pipeline says `uncovered: default`.
        verbs: How synthesis speaks of the task, overridable: `rewrite` is the verb phrase for a text, `labels` one
            verbalisation for each label name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    kind: Literal["single", "multi"] = "single"
    text: str = Field(min_length=1)
    labels: tuple[Label, ...] = Field(min_length=1)
    guidelines: str = ""
    fields: tuple[str, ...] = ()
    default_label: str | None = None
    verbs: Mapping[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _can_be_a_path(cls, name: str) -> str:
        try:
            return plain_name(name, "the card's name")
        except InputError as error:
            raise ValueError(f"{error.what}. {error.fix}") from error

    @field_validator("default_label")
    @classmethod
    def _composed(cls, name: str | None) -> str | None:
        return None if name is None else nfc(name)

    @model_validator(mode="after")
    def _coherent(self) -> TaskCard:
        names = Counter(label.name for label in self.labels)
        double = next((name for name in sorted(names) if names[name] > 1), None)
        if double is not None:
            raise ValueError(f"label {double!r} stands twice")
        if self.kind == "single" and len(names) < 2:
            raise ValueError("a task of kind 'single' needs two labels or more")
        for at, label in enumerate(self.labels):
            beside = next((name for name in label.confused_with if name not in names or name == label.name), None)
            if beside is not None:
                words = f"label {label.name!r} names {beside!r} under `not`, which is no other label of the card"
                raise _wrong(words, "labels", at, "not")
            if label.parent is not None and (label.parent not in names or label.parent == label.name):
                words = f"label {label.name!r} has the parent {label.parent!r}, which is no other label of the card"
                raise _wrong(words, "labels", at, "parent")
        above = {label.name: label.parent for label in self.labels}
        for at, label in enumerate(self.labels):
            passed = {label.name}
            name = label.parent
            while name is not None and name not in passed:
                passed.add(name)
                name = above[name]
            if name is not None:
                raise _wrong(f"label {name!r} is its own parent by way of others", "labels", at, "parent")
        if self.default_label is not None and self.default_label not in names:
            raise ValueError(f"default_label {self.default_label!r} is not one of the labels")
        return self

    @property
    def label_names(self) -> list[str]:
        """The names in the order of the card."""
        return [label.name for label in self.labels]

    @property
    def revision(self) -> str:
        """SHA-256 of the card's canonical JSON: a change of any word is a new revision."""
        told = self.model_dump(mode="json")
        told["labels"] = [
            {key: value for key, value in label.items() if key in ("name", "description") or value}
            for label in told["labels"]
        ]
        return digest(told)

    def some(self, names: Iterable[str]) -> tuple[Label, ...]:
        """The labels of these names, in the order of the card."""
        wanted = set(names)
        return tuple(label for label in self.labels if label.name in wanted)

    def label(self, name: str) -> Label:
        """The label of that name.

        Raises:
            KeyError: There is none.
        """
        return {label.name: label for label in self.labels}[name]

    @property
    def above(self) -> dict[str, tuple[str, ...]]:
        """For each label that has a parent its parent, the parent's parent, and so on."""
        parents = {label.name: label.parent for label in self.labels}
        found: dict[str, tuple[str, ...]] = {}
        for name, parent in parents.items():
            line: list[str] = []
            while parent is not None:
                line.append(parent)
                parent = parents[parent]
            found |= {name: tuple(line)} if line else {}
        return found

    def render_fields(self, values: Mapping[str, str]) -> str:
        """The one string that programs, students and prompts see for a text of several fields.

        Example:
            >>> card = TaskCard(name="t", text="a post", fields=("title", "body"), labels=(
            ...     Label(name="a", description="x"), Label(name="b", description="y")))
            >>> card.render_fields({"title": "Hi", "body": "There"})
            'title: Hi\\nbody: There'
        """
        return "\n".join(f"{name}: {values[name]}" for name in self.fields)


def load_card(
    source: str | Path | Mapping[str, Any], *, where: str | None = None, base: Path | None = None
) -> TaskCard:
    """Read a task card from a YAML file, or from a mapping that was read already.

    Beside what `TaskCard` has, `labels` may name a CSV file (`factory.card_labels.read_labels`), and `other: true` adds a label
    for texts that none of the labels means.

    Args:
        source: The file or the mapping.
        where: The place of a mapping, for errors.
        base: What a file of labels is relative to; by default the folder of the card, or this one.

    Raises:
        InputError: No such file, no YAML, an unknown key, a missing or wrong value; with the line it stands in.
    """
    data: Any
    if isinstance(source, Mapping):
        data, lines, place = dict(source), Places(), where or "task"
    else:
        (data, lines), place = read_yaml(Path(source)), str(source)
    if not isinstance(data, dict):
        fix = "Start it with `name:`, `text:` and `labels:`"
        raise InputError("a task card is a YAML mapping", where=place, fix=fix)
    labels, rows, table = data.get("labels"), list[int](), Path()
    if is_label_file(labels):
        folder = base or (Path() if isinstance(source, Mapping) else Path(source).parent)
        table, data["labels"], rows = read_labels(labels, folder, _at(place, lines, ("labels",)))
    elif isinstance(labels, dict):
        data["labels"] = [
            {"name": name, **(text if isinstance(text, dict) else {"description": text})}
            for name, text in labels.items()
        ]
        keys = [key for key in lines if len(key) == 2 and key[0] == "labels"]
        numbers = {key[1]: number for number, key in enumerate(keys)}
        for key, line in list(lines.items()):
            if len(key) > 2 and key[0] == "labels" and key[1] in numbers:
                lines["labels", numbers[key[1]], *key[2:]] = line
        for number, key in enumerate(keys):
            lines["labels", number] = lines["labels", number, "name"] = lines[key]
            lines.written["labels", number, "name"] = str(key[1])
            if key in lines.written:
                lines.written["labels", number, "description"] = lines.written[key]
    add_other(data, _at(place, lines, ("other",)))
    try:
        return TaskCard.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(first.get("ctx", {}).get("at") or first["loc"])
        in_table = len(path) > 1 and path[0] == "labels" and path[1] < len(rows)
        spot = f"{table}:{rows[path[1]]}" if in_table else _at(place, lines, path)
        raise InputError(_reason(first, lines), where=spot) from error


def _at(place: str, lines: Places, path: tuple[Any, ...]) -> str:
    """The line of a key, or of the nearest one around it."""
    known = next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None)
    return place if known is None else f"{place}:{known}"


def _wrong(words: str, *at: str | int) -> PydanticCustomError:
    """An error of the whole card that stands at one of its keys."""
    return PydanticCustomError("card", "{words}", {"words": words, "at": at})


def as_yaml(card: TaskCard) -> str:
    """A card as a file that `task:` may name."""
    import yaml

    told = card.model_dump(mode="json", exclude_defaults=True)
    told["labels"] = {
        one["name"]: {key: value for key, value in one.items() if key != "name"} if len(one) > 2 else one["description"]
        for one in told["labels"]
    }
    return str(yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=120))


def register(warehouse: Warehouse, card: TaskCard) -> list[str]:
    """Store the card's revision and number its labels.

    Label numbers are append-only: a new label gets the next number, a label taken off the card keeps its number and becomes
    inactive.

    Returns:
        Label names by label number.
    """
    with warehouse.lease() as db:
        known = db.execute("SELECT label_no, name, description, active FROM labels ORDER BY label_no").fetchall()
        for number, name, _, _ in known:
            if name != nfc(name):  # stored before names were composed
                db.execute("UPDATE labels SET name = ? WHERE label_no = ?", [nfc(name), number])
        known = [(number, nfc(name), description, active) for number, name, description, active in known]
        numbers = {name: number for number, name, _, _ in known}
        wanted = {label.name: label.description for label in card.labels}
        for name, description in wanted.items():
            if name not in numbers:
                numbers[name] = len(numbers)
                db.execute("INSERT INTO labels VALUES (?, ?, ?, true)", [numbers[name], name, description])
        for number, name, description, active in known:
            now = (wanted.get(name, description), name in wanted)
            if now != (description, active):
                db.execute("UPDATE labels SET description = ?, active = ? WHERE label_no = ?", [*now, number])
        row = next(iter(db.execute("SELECT revision FROM tasks ORDER BY task_no DESC LIMIT 1").fetchall()), None)
        if row is None or row[0] != card.revision:
            db.execute(
                "INSERT INTO tasks (task_no, revision, name, kind, card)"
                " SELECT coalesce(max(task_no), 0) + 1, ?, ?, ?, ? FROM tasks",
                [card.revision, card.name, card.kind, card.model_dump_json()],
            )
    return sorted(numbers, key=lambda name: numbers[name])


def current_card(warehouse: Warehouse) -> TaskCard:
    """The newest revision of the card in the warehouse.

    Raises:
        InputError: The warehouse has no task yet.
    """
    text = warehouse.scalar("SELECT card FROM tasks ORDER BY task_no DESC LIMIT 1")
    if text is None:
        fix = "Run `factory ingest` with a task card first"
        raise InputError("the warehouse has no task yet", where=warehouse.path, fix=fix)
    return TaskCard.model_validate_json(text)


def label_names(warehouse: Warehouse) -> list[str]:
    """Label names by label number, inactive ones included."""
    return [name for (name,) in warehouse.query("SELECT name FROM labels ORDER BY label_no")]


_LABEL_KEYS = tuple(field.serialization_alias or name for name, field in Label.model_fields.items())


def _reason(first: Any, lines: Places) -> str:
    """One sentence for a person out of one pydantic error."""
    name = ".".join(str(part) for part in first["loc"]) or "the card"
    kind = first["type"]
    if kind == "missing":
        return f"`{name}` is missing"
    if kind == "extra_forbidden":
        return f"unknown key `{name}`{nearest(str(first['loc'][-1]), [*TaskCard.model_fields, *_LABEL_KEYS, OTHER])}"
    if kind == "string_type" and not isinstance(first["input"], (list, dict)):
        written = lines.written.get(tuple(first["loc"]), first["input"])
        return f'`{name}` is {yaml_words(first["input"])}: put it in quotes, as in "{written}"'
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"`{name}`: {message}" if first["loc"] else message
