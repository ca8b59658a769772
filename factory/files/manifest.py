"""The manifest of an export: what every file must be, and that none of them is a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.errors import ExportError

FORMAT = 2
NAME = "manifest.json"
PICKLES = (".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib", ".npy", ".npz", ".ckpt")
_LARGEST_MANIFEST = 1 << 24


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        ExportError: There is none, it cannot be read, or it is of another format.
    """
    if not (folder / NAME).exists():
        raise ExportError("this folder is not an export: it has no manifest.json", where=folder)
    try:
        manifest = json.loads(_content(folder, NAME, _LARGEST_MANIFEST))
        newest = int(manifest["format"])
        for name, facts in manifest["files"].items():
            inside = not Path(name).is_absolute() and ".." not in Path(name).parts
            if not inside or len(facts["sha256"]) != 64 or int(facts["bytes"]) < 0:
                raise ValueError(name)
        manifest["files"]["inference.json"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError("the manifest cannot be read", where=folder / NAME, fix="Export again") from error
    if newest != FORMAT:
        age, fix = ("newer", "Update label-factory") if newest > FORMAT else ("older", "Export again")
        raise ExportError(f"the export is of format {newest}, {age} than {FORMAT}", where=folder, fix=fix)
    return dict(manifest)


def checked(folder: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """The bytes of one file of an export, which are read only as far as the manifest says.

    Raises:
        ExportError: It is missing, truncated, altered, not a regular file inside the folder, or not in the manifest.
    """
    path = folder / name
    try:
        facts = manifest["files"][name]
        wanted, size = facts["sha256"], int(facts["bytes"])
        content = _content(folder, name, size)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ExportError(f"the export lacks {name}", where=folder, fix="Export again") from error
    if len(content) != size or hashlib.sha256(content).hexdigest() != wanted:
        raise ExportError(
            "the file is not the one that was exported (altered or truncated)", where=path, fix="Export again"
        )
    return content


def _content(folder: Path, name: str, most: int) -> bytes:
    """What a regular file inside a folder holds, and one byte more than `most` where it holds more.

    Raises:
        ExportError: A pipe, a device, a folder, or a link that leads out of the folder.
        OSError: It cannot be read.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ExportError("this file of the export is a link that leads out of it", where=path, fix="Export again")
    # A pipe without a writer would wait for one: opened so, it does not.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ExportError("this file of the export is a pipe or a device", where=path, fix="Export again")
        return file.read(most + 1)


def verify(folder: Path) -> int:
    """Check every file of an export against its manifest.

    Returns:
        The number of files.

    Raises:
        ExportError: A file is missing, truncated, altered, or not in the manifest.
    """
    manifest = read_manifest(folder)
    for name in manifest["files"]:
        checked(folder, manifest, name)
    there = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    extra = sorted(there - set(manifest["files"]) - {NAME})
    if extra:
        raise ExportError(f"the export holds a file that its manifest does not name: {extra[0]}", where=folder)
    return len(manifest["files"])


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of what lies in a folder.

    Raises:
        ExportError: A file there is, or could be, a pickle.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != NAME:
            path.chmod(0o644)
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256}
    bad = scan_for_pickle(folder)
    if bad:
        raise ExportError(f"the export would hold a pickle: {bad[0]}", where=folder)
    manifest: dict[str, Any] = {"format": FORMAT, **facts, "files": files}
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")
    return manifest


def manifest_digest(folder: Path) -> str | None:
    """SHA-256 of an export's manifest, or None if there is none or a file it names has another size."""
    try:
        content = _content(folder, NAME, _LARGEST_MANIFEST)
        files = json.loads(content)["files"]
        if any((folder / name).stat().st_size != facts["bytes"] for name, facts in files.items()):
            return None
    except (OSError, ValueError, KeyError, ExportError):
        return None
    return hashlib.sha256(content).hexdigest()


def scan_for_pickle(folder: Path) -> list[str]:
    """Files of an export that are, or could be, pickles: by ending and by their first bytes.

    Pickles of protocol 2 and later begin with 0x80 and the protocol's number, those of torch and numpy's archives are zip files.
    Protocols 0 and 1 have no mark: such a file is one that ends in a full stop and that `pickletools` can take apart without
    running anything.
    """
    bad = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                first = stream.read(2)
            marked = first in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")
            if path.suffix in PICKLES or marked or _unmarked_pickle(path):
                bad.append(path.relative_to(folder).as_posix())
    return bad


def _unmarked_pickle(path: Path) -> bool:
    import pickletools

    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(size - 1, 0))
        if stream.read(1) != b".":
            return False
        stream.seek(0)
        try:
            for number, (operation, _, _) in enumerate(pickletools.genops(stream)):
                if operation.name == "STOP":
                    return number > 0 and stream.tell() == size
        except (ValueError, IndexError, KeyError):
            return False
    return False
