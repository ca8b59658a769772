"""Labels that a task card does not write out: those of a CSV file, and the label of what is left."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from factory.errors import InputError, nearest

OTHER = "other"
"""The label of texts that none of the labels means."""
NONE_FITS = "Texts that none of the labels above means."
KEYS = ("path", "name", "description", "parent", "aliases", "separator")
SEPARATOR = "|"
"""Between the aliases of a cell."""
_OPTIONAL = ("description", "parent", "aliases")


def is_label_file(labels: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether the `labels` of a card name a file: `{path: labels.csv, name: COLUMN, description: COLUMN}`."""
    path = labels.get("path") if isinstance(labels, Mapping) else None
    return isinstance(path, str) and path.lower().endswith((".csv", ".tsv"))


def read_labels(told: Mapping[str, Any], base: Path, where: str) -> tuple[Path, list[dict[str, Any]], list[int]]:
    """The labels in a CSV or TSV file with a heading, in UTF-8.

    Args:
        told: `path`; `name` (the column of the names, `name` by default); `description`, `parent` and `aliases` (columns, taken
            if they are there under these names, and needed if they are named); `separator` (between the aliases of a cell).
            Without a description the name is all that is known of a label, and stands for it.
        base: What `path` is relative to.
        where: The place of `labels` in the card, for errors.

    Returns:
        The file, its labels as a card has them, and the line in which each begins.

    Raises:
        InputError: An unknown key, no such file or column, or a row without a name, with a name that stood before, with a parent
            that is no label, or of too many or too few cells; with file and line.
    """
    for key, value in told.items():
        if key not in KEYS:
            raise InputError(f"unknown key `labels.{key}`{nearest(str(key), KEYS)}", where=where)
        if not isinstance(value, str):
            raise InputError(f"`labels.{key}` is not text", where=where, fix="Put it in quotes")
    path = base / told["path"]
    columns = {"name": told.get("name", "name"), **{key: told.get(key, key) for key in _OPTIONAL}}
    found: list[dict[str, Any]] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            heading = next(rows, [])
            at = {key: heading.index(column) for key, column in columns.items() if column in heading}
            missing = [column for key, column in columns.items() if key not in at and (key == "name" or key in told)]
            if missing:
                raise InputError(
                    f"there is no column `{missing[0]}`{nearest(missing[0], heading)}", where=f"{path}:1",
                    fix=f"Its columns are {', '.join(heading)}; name them in the card",
                )  # fmt: skip
            line = rows.line_num + 1
            for cells in rows:
                if any(cell.strip() for cell in cells):
                    if len(cells) != len(heading):
                        words = f"this row has {len(cells)} cells, and the heading {len(heading)}"
                        raise InputError(words, where=f"{path}:{line}", fix="Put a cell with a comma in quotes")
                    told_of = {key: " ".join(cells[place].split()) for key, place in at.items()}
                    found.append(_label(told_of, told.get("separator", SEPARATOR), f"{path}:{line}"))
                    lines.append(line)
                line = rows.line_num + 1
    except FileNotFoundError as error:
        raise InputError(f"no file of labels at {path}", where=where, fix="Give a path relative to the card") from error
    except UnicodeDecodeError as error:
        raise InputError("this is not UTF-8 text", where=path, fix="Save it as UTF-8 CSV") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path) from error
    except csv.Error as error:
        raise InputError(f"this is not CSV: {error}", where=f"{path}:{rows.line_num}") from error
    first: dict[str, int] = {}
    for label, line in zip(found, lines, strict=True):
        if label["name"] in first:
            words = f"label {label['name']!r} stands twice, the first time in line {first[label['name']]}"
            raise InputError(words, where=f"{path}:{line}")
        first[label["name"]] = line
    for label, line in zip(found, lines, strict=True):
        if "parent" in label and label["parent"] not in first:
            words = f"the parent {label['parent']!r} of label {label['name']!r} is no label of this file"
            words += nearest(label["parent"], first)
            raise InputError(words, where=f"{path}:{line}", fix="Add a row for it, or mend the name")
    return path, found, lines


def add_other(data: dict[str, Any], where: str) -> None:
    """Carry out `other: true` of a card: its last label is then that of texts which none of the others means.

    Args:
        data: The card with its labels as a list; `other` is taken out of it.
        where: The place of `other`, for errors.

    Raises:
        InputError: It is neither true nor false, the task is of kind multi, or there is such a label already.
    """
    other, labels = data.pop("other", False), data.get("labels")
    if not isinstance(other, bool):
        raise InputError("`other` is true or false", where=where)
    if not other or not isinstance(labels, list):
        return
    if data.get("kind") == "multi":
        fix = "Leave it out: in a task of kind multi a text of none of the labels has none"
        raise InputError("`other` is for tasks of kind single", where=where, fix=fix)
    if any(isinstance(label, dict) and label.get("name") == OTHER for label in labels):
        raise InputError(f"`other: true` adds a label {OTHER!r}, and there is one already", where=where)
    data["labels"] = [*labels, {"name": OTHER, "description": NONE_FITS}]


def _label(told: Mapping[str, str], separator: str, where: str) -> dict[str, Any]:
    if not told["name"]:
        raise InputError("this row has no name", where=where)
    label: dict[str, Any] = {"name": told["name"], "description": told.get("description") or told["name"]}
    label |= {"parent": told["parent"]} if told.get("parent") else {}
    aliases = [one.strip() for one in told.get("aliases", "").split(separator)]
    return label | ({"aliases": [one for one in aliases if one]} if any(aliases) else {})
