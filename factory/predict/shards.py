"""Files in and out of an export: one, or many of them shard by shard, here or on Ray.

Each shard is written under another name and renamed when it is whole, with what it was made from in its metadata. So a run that
was killed goes on with the shards that are left, and a shard that changed, or another export, is labelled again.

What is spread are the shards' names, not their rows: a process that holds the export streams its shard from file to file in
bounded memory. So a shard in is a shard out, and on a cluster no text travels.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.cluster.ray import need_ray
from factory.cluster.spreading import on_ray_if
from factory.errors import InputError
from factory.files.base import ReadOptions
from factory.files.manifest import NAME
from factory.files.write import MARK
from factory.predict.decide import Asked
from factory.predict.load import Labeller, predict_file
from factory.result import Progress, no_progress
from factory.spread import Work, spread

if TYPE_CHECKING:
    from factory.programs.sandbox.host.pool import Sandbox

_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class How:
    """Everything that an answer depends on beside the file.

    Attributes:
        model: The export's folder.
        asked: What is wanted beside the most probable label.
        text: Column of the texts, or None.
        precision: `fp32` or `int8`.
        format: Of the files; `auto` goes by their names.
        encoding: Of text files, or None.
        delimiter: Of CSV files, or None.
        force: Whether files that are no earlier outputs may be replaced.
        sandbox: As `load_export` takes it.
    """

    model: Path
    asked: Asked
    text: str | None
    precision: str
    format: str = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    force: bool = False
    sandbox: Sandbox = "kernel"

    def labeller(self, threads: int = 0) -> Labeller:
        """Open the export; errors as of `Labeller`."""
        return Labeller(
            self.model, self.asked, text=self.text, precision=self.precision, threads=threads, sandbox=self.sandbox
        )

    def key(self) -> str:
        """A hash of the export's content and the options."""
        manifest = hashlib.sha256((self.model / NAME).read_bytes()).hexdigest()
        made = {"model": manifest, "asked": asdict(self.asked), "text": self.text, "precision": self.precision}
        made |= {"format": self.format, "encoding": self.encoding, "delimiter": self.delimiter}
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Shard:
    """A file to label, and the Parquet file to write."""

    source: Path
    out: Path

    def mark(self, key: str) -> str:
        """What the output is made from: the export and options by their hash, the source by size and time of change."""
        seen = self.source.stat()
        return json.dumps({"how": key, "bytes": seen.st_size, "mtime_ns": seen.st_mtime_ns})

    def is_done(self, mark: str) -> bool:
        """Whether the output is there, whole, and made from the same."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return (pq.read_metadata(self.out).metadata or {}).get(MARK) == mark.encode()
        except (OSError, pa.ArrowException):
            return False


def predict(
    model: str | Path, source: str | Path, out: str | Path | None = None, *, text: str | None = None,
    format: str = "auto", encoding: str | None = None, delimiter: str | None = None, force: bool = False,
    precision: str = "int8", abstain_below: float | None = None, target_precision: float | None = None,
    sets: float | None = None, scope: float | None = None, why: bool = False, sandbox: Sandbox = "kernel",
    ray: bool = False, progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Label a file, or every file of a folder or a pattern. Arguments that are not named here are those of `predict_file`.

    Args:
        source: A file as `predict_file` takes it; a folder, which means its Parquet files; or a pattern (`"texts/*.jsonl"`).
        out: A file as `predict_file` takes it; of many files the folder for one Parquet file each.
        ray: Label many files on Ray: on the cluster that `RAY_ADDRESS` names (export, files and `out` in folders that all of
            its nodes share), or on this machine's processors.
        progress: Told how many files are done; of one file, how many of its lines or rows.

    Returns:
        `{"rows", "no_text", "seconds", "out", "read", "never_seen", "abstained", "out_of_scope"}`, the last two where they were
        asked for; of many files also `{"shards", "done_already"}`, and everything else of the shards that were labelled now.

    Raises:
        InputError: A file, a column or an option cannot be used; the first such file ends the run, and what is done stands.
        ExportError: The export cannot be used.
        ClusterError: Ray is asked for and not installed, cannot be reached, or lost a worker for good.
    """
    started = time.perf_counter()
    if not are_many(source):
        if ray:
            fix = "Give a folder or a pattern, or leave out --ray"
            raise InputError("Ray labels many files", where=source, fix=fix)
        return predict_file(
            model, source, out, text=text, format=format, encoding=encoding, delimiter=delimiter, force=force,
            precision=precision, abstain_below=abstain_below, target_precision=target_precision, sets=sets, scope=scope,
            why=why, sandbox=sandbox, progress=progress,
        )  # fmt: skip
    if ray:
        need_ray()
    shards = find_shards(source, out)
    asked = Asked(abstain_below, target_precision, sets, scope, why)
    how = How(Path(model).absolute(), asked, text, precision, format, encoding, delimiter, force, sandbox)
    labeller = how.labeller()  # what is wrong with the export or the options is said before any work
    key = how.key()
    left = [(shard, mark) for shard in shards if not shard.is_done(mark := shard.mark(key))]
    totals = Counter(rows=0, no_text=0)
    read: list[str] = []
    done = len(shards) - len(left)
    progress(done, len(shards), "files")
    work = Work(ShardLabeller, (how,), ShardLabeller(how, labeller))
    with (
        on_ray_if(ray),
        closing(spread(work, zip(left, left, strict=True), len(left), ahead=len(left))) as labelled,
    ):
        for _, counts in labelled:
            done += 1
            read = counts.pop("read")
            totals.update(counts)
            progress(done, len(shards), "files")
    return {
        "rows": totals.pop("rows"), "no_text": totals.pop("no_text"), "seconds": round(time.perf_counter() - started, 3),
        "out": str(out), "read": read, "never_seen": labeller.never_seen, "shards": len(left),
        "done_already": len(shards) - len(left), **totals,
    }  # fmt: skip


def are_many(source: str | Path) -> bool:
    """Whether a folder or a pattern is meant, and not a file."""
    path = Path(source)
    return path.is_dir() or (not path.exists() and not _MAGIC.isdisjoint(str(source)))


def find_shards(source: str | Path, out: str | Path | None) -> list[Shard]:
    """The files that a folder or a pattern means, by name, and where each of them is labelled to.

    Files whose names begin with `.` or `_` are left out, and so is what lies in `out`. Folders beneath the pattern's fixed part
    are kept. `x.parquet` stays `x.parquet`, and `x.csv` becomes `x.csv.parquet`.

    Raises:
        InputError: There are none, or `out` is missing, a file, the folder that is read, or would hold two of a name.
    """
    source = Path(source)
    if out is None:
        raise InputError("many files need a folder to write to", where=source, fix="Name one with --out")
    out = Path(out).absolute()
    if out.exists() and not out.is_dir():
        raise InputError("many files need a folder to write to, and this is a file", where=out)
    root, pattern = (source, "*.parquet") if source.is_dir() else _cut(source)
    root = root.absolute()
    if out.resolve() == root.resolve():
        raise InputError("this is the folder that is read", where=out, fix="Write to another one with --out")
    found: dict[Path, Path] = {}
    for path in sorted(root.glob(pattern)):
        inside = path.relative_to(root)
        if path.is_relative_to(out) or path.name[0] in "._" or not path.is_file():
            continue
        name = path.name if path.name.lower().endswith(".parquet") else f"{path.name}.parquet"
        target = out / inside.with_name(name)
        if target in found:
            raise InputError(f"{found[target].name} and {path.name} would be written to one file", where=target)
        found[target] = path
    if not found:
        fix = "A folder means its .parquet files; else give 'FOLDER/*.jsonl'"
        raise InputError("there is no such file", where=source, fix=fix)
    return [Shard(path, target) for target, path in found.items()]


def _label(labeller: Labeller, how: How, shard: Shard, mark: str) -> dict[str, Any]:
    """Label one shard: its counts, and as `read` what is to be said of how it was read."""
    try:
        shard.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", where=shard.out.parent) from error
    options = ReadOptions(shard.source, format=how.format, encoding=how.encoding, delimiter=how.delimiter)
    counts = labeller.label(options, shard.out, mark=mark, force=how.force)
    return {**counts, "read": list(labeller.said)}


class ShardLabeller:
    """What labels shards, with the export in it: on a cluster on one processor, and opened there."""

    def __init__(self, how: How, labeller: Labeller | None = None) -> None:
        if labeller is None:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._how, self._labeller = how, labeller or how.labeller(threads=1)

    def __call__(self, one: tuple[Shard, str]) -> dict[str, Any]:
        """Label a shard, with its mark: see `_label`."""
        return _label(self._labeller, self._how, *one)


def _cut(pattern: Path) -> tuple[Path, str]:
    """The folder that a pattern begins with, and the rest of it."""
    at = next(number for number, part in enumerate(pattern.parts) if not _MAGIC.isdisjoint(part))
    return Path(*pattern.parts[:at]), str(Path(*pattern.parts[at:]))
