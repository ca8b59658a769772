"""The lines of a pipeline that says where its texts are and leaves the steps to us.

`steps: auto`, the default, decides round by round what to buy from the model; `steps: standard` buys what its steps say. A
mapping says what is to be different about the standard line, or with `buy` about the other one::

    data: {train: messages.csv, test: labelled.csv}
    steps:
      author: {programs: 24}     # this parameter, the others by default
      synthesize: false          # not this step
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.errors import InputError

SPLIT_NAMES = {
    "train": ("train", "unlabelled", "unlabeled"), "seed": ("seed",), "dev": ("dev", "valid", "validation"), "test": ("test",),
}  # fmt: skip
"""The file names by which a split is found in a folder. `reference` (gold of training texts) is read only where it is named."""

_ENDINGS = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".txt")
_PACKED = ("", ".gz", ".zst")
_PER_LABEL = 20
_TEACHER = 300
"""Test texts that the teacher labels where purchases have a budget: its score to within five points."""
LINES = ("auto", "standard")


def data_sources(data: Any, base: Path, where: str) -> dict[str, Any]:
    """What `data:` means: the parameters of `ingest`.

    Args:
        data: A mapping of splits; a file (training texts); or a folder of `train.*`, `seed.*`, `dev.*` and `test.*`.
        base: The folder that relative paths are relative to.
        where: What an error names as the place.

    Raises:
        InputError: No such file or folder, a folder without `train.*`, or two files for one split.
    """
    if isinstance(data, Mapping):
        return dict(data)
    if not isinstance(data, str):
        raise InputError("`data` is a folder, a file, or a mapping of splits to sources", where=where)
    from factory.files.source import SourceSpec

    path = SourceSpec(path=data).located(base)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}", where=where, fix="Check the path of `data`")
    if path.is_file():
        return {"train": data}
    found: dict[str, Any] = {}
    for split, names in SPLIT_NAMES.items():
        files = [path / f"{name}{end}{packed}" for name in names for end in _ENDINGS for packed in _PACKED]
        there = [file for file in files if file.is_file()]
        if len(there) > 1:
            words = f"{path} has {there[0].name} and {there[1].name}, and both may be {split}"
            raise InputError(words, where=where, fix=f"Name one: `data: {{{split}: FILE, ...}}`")
        if there:
            found[split] = str(there[0].absolute())
    if "train" not in found:
        words = f"the folder {path} has no train.csv (or .jsonl, .json, .parquet)"
        raise InputError(words, where=where, fix="Name the files: `data: {train: FILE, test: FILE}`")
    return found


def standard_line(sources: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The steps by default, as (verb, parameters); each parameter that is not named has its own default."""
    seeds: dict[str, Any] = {} if sources.get("seed") else {"seeds": "none"}
    line: list[tuple[str, dict[str, Any]]] = [
        ("ingest", dict(sources)), ("author", {}), ("vote", {}), ("synthesize", {"per_label": _PER_LABEL, **seeds}), ("vote", {}),
        ("denoise", {}), ("distill", {}), *([("annotate", {})] if sources.get("test") else []),
    ]  # fmt: skip
    return [*line, ("evaluate", {}), ("export", {}), ("report", {})]


def auto_line(sources: Mapping[str, Any], changes: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The steps of `steps: auto`, with what is different about them; see `changed_line`."""
    last = [("annotate", {"limit": _TEACHER})] if sources.get("test") and changes.get("annotate") is not False else []
    same = {verb: dict(changes[verb]) for verb in ("denoise", "distill") if isinstance(changes.get(verb), Mapping)}
    buy = {**same, **({"hold_back": last[0][1]["limit"]} if last else {})}
    line: list[tuple[str, dict[str, Any]]] = [
        ("ingest", dict(sources)), ("buy", buy), ("vote", {}), ("denoise", {}), ("distill", {}), *last, ("evaluate", {}),
        ("export", {"system": "auto"}), ("report", {}),
    ]  # fmt: skip
    return changed_line(line, changes)


def changed_line(
    line: list[tuple[str, dict[str, Any]]], changes: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """The line with a step's parameters added or replaced, a step left out (`false`), or another step put before `report`.

    Raises:
        InputError: A change that is no mapping and not `false`.
    """
    for verb, change in changes.items():
        if not (change is None or change is False or isinstance(change, Mapping)):
            raise InputError(f"what is different about `{verb}` is a mapping of parameters, or `false` to leave it out")
    kept = [(verb, {**params, **(changes.get(verb) or {})}) for verb, params in line if changes.get(verb) is not False]
    known = {verb for verb, _ in line}
    more = [(verb, dict(change or {})) for verb, change in changes.items() if verb not in known and change is not False]
    at = next((number for number, (verb, _) in enumerate(kept) if verb == "report"), len(kept))
    return [*kept[:at], *more, *kept[at:]]
