"""A folder of data files: which of them a source means, part by part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from factory.errors import InputError
from factory.files.open import format_by_name

_PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NOT_DATA = frozenset(
    {"label.json", "state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "manifest.json"}
)


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
