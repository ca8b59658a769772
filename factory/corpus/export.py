"""Data export: texts with labels, weights and lineage, as files that other tools read.

The folder holds `README.md` (the data card, whose front matter `datasets.load_dataset` goes by), `manifest.json`, and a
folder per format: `parquet/SPLIT.parquet`, `jsonl/SPLIT.jsonl`, `datasets/` (for `datasets.load_from_disk`), and
`wrench/SPLIT.json` with `label.json`. The splits are `train` (texts with a label of the label model, and synthetic ones),
`seed` and `dev` (with gold). Texts of `test` are not exported: their gold is not read here. Rows that were dropped are
written on request to `dropped/dropped.parquet`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from factory.canonical import digest
from factory.corpus.export_card import data_card
from factory.corpus.export_rows import COLUMNS, ROWS
from factory.errors import ExportError, InputError
from factory.files.replace import replaced_folder
from factory.params import Call, Params, stage
from factory.result import Progress, StageResult
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.tables.programs import accepted
from factory.warehouse.tables.votes import dense_votes

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

VERSION = 1
_ORDER = "ORDER BY first_order, second_order"
_BATCH = 8192


class ExportDataParams(Params):
    """The parameters of `export_data`."""

    path: Path = Field(
        Path("data"), description="The folder, relative to the run's; one that an earlier export wrote is replaced."
    )
    formats: tuple[Literal["parquet", "jsonl", "datasets", "wrench"], ...] = Field(
        ("parquet", "jsonl"),
        min_length=1,
        description="Any of `parquet`, `jsonl`, `datasets`, `wrench` (the last for tasks of kind `single`). The"
        " first two are read"
        " by everything.",
    )
    dropped: bool = Field(
        False,
        description="Whether dropped rows are written as well, with their reasons; off, so that nobody trains on them.",
    )


@stage("export_data", ExportDataParams, second="path")
def export_data(warehouse: Warehouse, params: ExportDataParams, call: Call) -> StageResult:
    """Write the data of a warehouse into a folder, anew if anything has changed since.

    Raises:
        InputError: An unknown format, or nothing to export.
        ExportError: The folder holds something else.
    """
    from factory.warehouse.held_out import decontaminate

    out, formats, dropped = (call.folder or Path()) / params.path, params.formats, params.dropped
    card = current_card(warehouse)
    if "wrench" in formats and card.kind == "multi":
        raise InputError("WRENCH JSON has one label for each text", where="export_data", fix="Leave out `wrench`")
    decontaminate(warehouse)
    with warehouse.lease() as db:
        db.execute(ROWS, {"multi": card.kind == "multi"})
        state = db.execute(
            "SELECT count(*)::VARCHAR || '/' || coalesce(bit_xor(hash(COLUMNS(*)::VARCHAR)), 0) FROM ("
            "SELECT to_json(export_rows) AS row FROM export_rows)"
        ).fetchall()[0][0]
        key = digest(
            {"rows": state, "formats": sorted(formats), "dropped": dropped, "card": card.revision, "version": VERSION}
        )
        previous = _manifest(out)
        if previous is not None and previous.get("key") == key:
            return StageResult("export_data", True, {**previous, "path": str(out)}, (f"data in {out} is up to date",))
        if previous is None and out.exists() and any(out.iterdir()):
            raise ExportError("this folder holds something else", where=out, fix="Name an empty or new folder")
        if not db.execute("SELECT count(*) FROM export_rows WHERE drop_reason IS NULL").fetchall()[0][0]:
            raise InputError(
                "there is nothing to export", fix="Run `synthesize`, or `author`, `vote` and `denoise`, first"
            )
        call.begin()
        with replaced_folder(out) as draft:
            manifest = _write(warehouse, draft, card, formats, dropped, key, call.progress)
        db.execute("DROP TABLE export_rows")
        db.execute("DELETE FROM exports WHERE kind = 'data' AND path = ?", [str(out)])
        db.execute(
            "INSERT INTO exports (export_no, key, kind, path, manifest)"
            " SELECT coalesce(max(export_no), 0) + 1, ?, 'data', ?, ? FROM exports",
            [key, str(out), json.dumps(manifest)],
        )
    says = [f"{count} rows of split {split}" for split, count in manifest["rows"].items()]
    return StageResult("export_data", False, {**manifest, "path": str(out)}, tuple(says))


def _write(
    warehouse: Warehouse, out: Path, card: TaskCard, formats: Sequence[str], dropped: bool, key: str,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    splits = dict(
        warehouse.query(
            "SELECT split, count(*) FROM export_rows WHERE drop_reason IS NULL GROUP BY split"
            " ORDER BY list_position(['train', 'seed', 'dev'], split)"
        )
    )
    columns = _columns(card, _own_columns(warehouse))
    files: dict[str, str] = {}
    for split in splits:
        query = f"SELECT {columns} FROM export_rows WHERE split = '{split}' AND drop_reason IS NULL {_ORDER}"
        for name in formats:
            progress(0, 0, f"{name} of {split}")
            if name in ("parquet", "jsonl"):
                path = out / name / f"{split}.{name}"
                path.parent.mkdir(exist_ok=True)
                how = "FORMAT parquet, COMPRESSION zstd" if name == "parquet" else "FORMAT json"
                warehouse.query(f"COPY ({query}) TO {_literal(path)} ({how})")
                files.setdefault(split, f"{name}/{split}.{name}")
            elif name == "wrench":
                _write_wrench(warehouse, out / "wrench", split)
    if "datasets" in formats:
        _write_datasets(warehouse, out / "datasets", list(splits), columns)
    if dropped:
        (out / "dropped").mkdir()
        query = f"SELECT split, {columns} FROM export_rows WHERE drop_reason IS NOT NULL {_ORDER}"
        path = out / "dropped" / "dropped.parquet"
        warehouse.query(f"COPY ({query}) TO {_literal(path)} (FORMAT parquet, COMPRESSION zstd)")
    counts = warehouse.query(
        "SELECT split, coalesce(method, origin), label, count(*) FROM (SELECT *, unnest(labels) AS label FROM export_rows"
        " WHERE drop_reason IS NULL) GROUP BY ALL ORDER BY ALL"
    )
    reasons = warehouse.query(
        "SELECT drop_reason, count(*) FROM export_rows WHERE drop_reason IS NOT NULL AND origin = 'synthetic'"
        " GROUP BY drop_reason ORDER BY count(*) DESC, drop_reason"
    )
    names = label_names(warehouse)
    held_out = warehouse.scalar("SELECT count(DISTINCT text_no) FROM occurrences WHERE split IN ('dev', 'test')")
    spend = warehouse.arrow("SELECT * FROM spend ORDER BY ALL").to_pylist()
    text = data_card(
        card, counts=counts, dropped=reasons, spend=spend, data_files=files, held_out=held_out, label_names=names
    )
    (out / "README.md").write_text(text, encoding="utf-8")
    manifest = {"key": key, "version": VERSION, "rows": splits, "labels": names, "formats": list(formats)}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _columns(card: TaskCard, own: Sequence[str]) -> str:
    """The exported columns as SQL: the text, its fields, its label or labels, the rest, and the user's own columns.

    An own column that has the name of one of ours is `input_NAME`.
    """
    fields = [f"{_inside('fields', name)} AS {_name(name)}" for name in card.fields]
    label = "labels" if card.kind == "multi" else "labels[1] AS label"
    taken = {name.lower() for name in ("text", "split", "label", "labels", *card.fields, *COLUMNS)}
    kept = []
    for name in own:
        new = name
        while new.lower() in taken:  # DuckDB's names know no case
            new = f"input_{new}"
        taken.add(new.lower())
        kept.append(f"{_inside('own', name)} AS {_name(new)}")
    return ", ".join(["text", *fields, label, *COLUMNS, *kept])


def _own_columns(warehouse: Warehouse) -> list[str]:
    """The user's own columns that stay with rows of `train`, `seed` and `dev`."""
    rows = warehouse.query(
        "SELECT columns->'$.own' FROM sources WHERE split IN ('train', 'seed', 'dev') ORDER BY source_no"
    )
    return list(dict.fromkeys(name for (names,) in rows for name in json.loads(names or "[]")))


def _inside(column: str, name: str) -> str:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return f"json_extract_string({column}, {_literal(pointer)})"


def _write_wrench(warehouse: Warehouse, folder: Path, split: str) -> None:
    """WRENCH's form: a number to label, votes (one per accepted program, -1 abstains) and data."""
    folder.mkdir(exist_ok=True)
    names = json.dumps(dict(enumerate(label_names(warehouse))), ensure_ascii=False)
    (folder / "label.json").write_text(names, encoding="utf-8")
    programs = [program.number for program in accepted(warehouse)]
    with (folder / f"{split}.json").open("w", encoding="utf-8") as file:
        file.write("{")
        written = 0
        for rows in _batches(warehouse, split):
            votes = dense_votes(warehouse, programs, [text_no for text_no, _, _ in rows]).tolist()
            for (_, text, label_no), said in zip(rows, votes, strict=True):
                row = {"label": label_no, "weak_labels": said, "data": {"text": text}}
                file.write(f'{"," if written else ""}\n"{written}": {json.dumps(row, ensure_ascii=False)}')
                written += 1
        file.write("\n}\n")


def _batches(warehouse: Warehouse, split: str) -> Iterator[list[tuple[int, str, int]]]:
    for first in itertools.count(0, _BATCH):
        rows = warehouse.query(
            "SELECT coalesce(text_no, -1), text, label_nos[1] FROM export_rows WHERE split = ? AND drop_reason IS NULL"
            f" {_ORDER} LIMIT {_BATCH} OFFSET {first}",
            [split],
        )
        if not rows:
            return
        yield rows


def _write_datasets(warehouse: Warehouse, folder: Path, splits: Sequence[str], columns: str) -> None:
    import datasets

    parts = {}
    for split in splits:
        query = f"SELECT {columns} FROM export_rows WHERE split = '{split}' AND drop_reason IS NULL {_ORDER}"
        parts[split] = datasets.Dataset(warehouse.arrow(query))
    datasets.DatasetDict(parts).save_to_disk(str(folder))


def _manifest(out: Path) -> dict[str, Any] | None:
    path = out / "manifest.json"
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return value if isinstance(value, dict) and "key" in value and "formats" in value else None


def _literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
