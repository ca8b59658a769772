"""Opening a file of any format: which one it is, which reader reads it, and which files of a folder a source means."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from factory.errors import InputError
from factory.files.base import OpenSource, ReadOptions
from factory.files.dataset import open_dataset
from factory.files.delimited import open_delimited
from factory.files.document import holds_lines, open_document
from factory.files.inline import open_inline
from factory.files.jsonl import open_jsonl
from factory.files.lines import need_file, opened
from factory.files.parquet import open_parquet
from factory.files.plain import open_plain

READERS: dict[str, Callable[[ReadOptions], OpenSource]] = {
    "csv": open_delimited, "jsonl": open_jsonl, "json": open_document, "wrench": open_document, "parquet": open_parquet,
    "lines": open_plain, "dataset": open_dataset, "inline": open_inline,
}  # fmt: skip

BY_SUFFIX = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".txt": "lines",
}  # fmt: skip

_PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NOT_DATA = frozenset(
    {"label.json", "state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "manifest.json"}
)


def format_by_name(path: Path) -> str | None:
    """The format that a file's name says, packed or not; None if it says nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    return BY_SUFFIX.get(suffixes[-1]) if suffixes else None


def format_of(options: ReadOptions) -> str:
    """The format that was told, or the one that the name says.

    Raises:
        InputError: The name says nothing, or there is no such file.
    """
    path = options.path
    if options.rows is not None:
        return "inline"
    if options.format != "auto":
        if options.format not in READERS:
            known = ", ".join(name for name in READERS if name != "inline")
            raise InputError(f"there is no format `{options.format}`", where=options.called, fix=f"There are {known}")
        return options.format
    if str(path) == "-":
        return "lines"
    if options.called.startswith("hf://") or path.is_dir():
        return "dataset"
    kind = format_by_name(path)
    if kind is not None:
        return kind
    if not path.exists():
        raise InputError("no such file", where=path, fix="Check the path; a name on the hub needs `format: dataset`")
    raise InputError(
        f"the name does not say which format this is (known endings: {', '.join(BY_SUFFIX)})",
        where=path,
        fix=f"Say `format: {sniffed_format(path) if path.is_file() else 'csv'}` or another",
    )


def sniffed_format(path: Path) -> str:
    """The format that a file's first characters look like.

    Raises:
        InputError: It cannot be read.
    """
    with path.open("rb") as raw:
        if raw.read(4) == b"PAR1":
            return "parquet"
    with opened(path) as (stream, _):
        head = stream.read(4096).lstrip("\ufeff \t\r\n")
    if head.startswith("{"):
        return "jsonl" if holds_lines(ReadOptions(path)) else "json"
    return "json" if head.startswith("[") else "csv"


def open_source(options: ReadOptions) -> OpenSource:
    """Find out what a source's columns are. Nothing but its head is read.

    Raises:
        InputError: It cannot be read.
    """
    kind = format_of(options)
    if kind not in ("dataset", "inline") and str(options.path) != "-":
        if options.path.is_dir():
            raise InputError("this is a folder", where=options.path, fix="Name a file, or say `format: dataset`")
        need_file(options.path)
    if kind == "json" and options.format == "auto" and holds_lines(options):
        kind = "jsonl"
    return replace(READERS[kind](options), kind=kind)


# A folder of data files ----------------------------------------------------------------------------------------------------
def describes_itself(folder: Path) -> bool:
    """Whether `datasets` must read a folder: it was saved by it, or its README.md says which files are which."""
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return True
    readme = folder / "README.md"
    if not readme.is_file():
        return False
    with readme.open(encoding="utf-8", errors="replace") as file:
        head = file.read(1 << 16)
    return re.match(r"---\n.*?^configs:.*?^---", head, re.DOTALL | re.MULTILINE) is not None


def files_of(folder: Path, kind: str, part: str | None) -> tuple[list[Path], list[str]]:
    """The files of one part of a folder, by name.

    Args:
        folder: Looked through with the folders beneath it.
        kind: The format, or `auto`: that of all its data files.
        part: The part wanted, or None: `train` where there is one.

    Returns:
        The files, and what was guessed. None at all where there is no data file.

    Raises:
        InputError: No such part, or files of several formats.
    """
    found = [path for path in sorted(folder.rglob("*")) if _is_data(path, folder)]
    if kind == "auto":
        found = [path for path in found if format_by_name(path) != "lines"]
        kinds = sorted({str(format_by_name(path)) for path in found})
        if len(kinds) > 1:
            raise InputError(
                f"the folder holds files of several formats ({', '.join(kinds)})",
                where=folder,
                fix=f"Name the files, or say `format: {kinds[0]}`",
            )
    else:
        found = [path for path in found if format_by_name(path) == kind]
    if not found:
        return [], []
    by_part: dict[str, list[Path]] = {}
    for path in found:
        by_part.setdefault(_part_of(path.relative_to(folder)), []).append(path)
    loose = by_part.pop("", [])
    if not by_part:
        by_part = {"train": loose}
    wanted = next((name for name, words in _PARTS.items() if part in words and name in by_part), part)
    if wanted is None:
        wanted = "train" if "train" in by_part else next(iter(by_part))
    if wanted not in by_part:
        raise InputError(f"the folder has no part `{part}` (there are {', '.join(by_part)})", where=folder)
    says = []
    if part is None and len(by_part) > 1:
        says.append(f"{folder}: part `{wanted}` is read (guessed; name another with `part:`)")
    if loose and by_part != {"train": loose}:
        says.append(f"{folder}: {_names(loose)} is not read: its name says no part")
    return by_part[wanted], says


def _is_data(path: Path, folder: Path) -> bool:
    hidden = any(part[0] in "._" for part in path.relative_to(folder).parts)
    return not hidden and path.name not in _NOT_DATA and format_by_name(path) is not None and path.is_file()


def _part_of(inside: Path) -> str:
    """The part that a file's name says, else the folders that it lies in; empty if nothing does."""
    for name in reversed(inside.parts):
        words = set(re.split(r"[^a-z]+", name.lower()))
        found = next((part for part, known in _PARTS.items() if words & set(known)), None)
        if found is not None:
            return found
    return ""


def _names(paths: Sequence[Path]) -> str:
    return paths[0].name + (f" (and {len(paths) - 1} more)" if len(paths) > 1 else "")
