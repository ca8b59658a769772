"""Reading the gold of one source of `test` or `reference` into the gold file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.names import LabelNames
from factory.result import Progress
from factory.task import current_card

if TYPE_CHECKING:
    import duckdb

    from factory.files.source import SourceSpec
    from factory.warehouse.file import Warehouse


def store_source(
    warehouse: Warehouse, db: duckdb.DuckDBPyConnection, split: str, spec: SourceSpec, base: Path | None, sources: str,
    progress: Progress,
) -> tuple[dict[str, int] | None, list[str]]:  # fmt: skip
    """Read one source's gold, unless it is held already.

    Args:
        warehouse: Whose texts the gold belongs to.
        db: The gold file, in a transaction.
        split: `test` or `reference`.
        spec: The source.
        base: What a relative path is relative to.
        sources: From `sources_digest`.
        progress: Called after each batch of rows.

    Returns:
        What was written (None: nothing new), and lines to say.
    """
    from factory.files.columns import choose_columns
    from factory.files.open import open_source
    from factory.files.rows import Cleaner, drawn_per_label, usable_rows
    from factory.files.stamp import file_state
    from factory.warehouse.file import first_row
    from factory.warehouse.tables.gold import gold_file_digest, write_source
    from factory.warehouse.tables.texts import split_hashes

    card = current_card(warehouse)
    numbers = dict(warehouse.query("SELECT name, label_no FROM labels WHERE active ORDER BY label_no"))
    state = file_state(spec.located(base), spec, [split, card.kind, list(card.fields), numbers, sources])
    known = first_row(db.execute("SELECT state FROM sources WHERE split = ? AND path = ?", [split, spec.name]))
    if known is not None and state is not None and known[0] == state:
        return None, []
    source = open_source(spec.reading(base))
    columns = choose_columns(spec, source, card.fields, gold=True, votes=split == "test")
    find = LabelNames(numbers)
    vote_numbers = [numbers.get(find(spec.renamed(name)) or "", -1) for name in source.vote_labels]
    if columns.votes is not None and not vote_numbers:
        columns = replace(columns, votes=None)
    cleaner = Cleaner(
        spec, source, columns, card.fields, numbers, card.kind, split == "reference", gold_optional=split == "reference"
    )
    bad: list[Any] = []
    batches = usable_rows(source, cleaner, bad=bad, left=[], progress=progress, what=f"{split}: gold read")
    if spec.per_label is not None:
        batches = drawn_per_label(batches, spec.per_label, spec.sample_seed)
    rows = [replace(row, text="", fields=None) for batch in batches for row in batch]
    held = "test" if split == "test" else "train"
    text_nos = {content: number for number, content in split_hashes(warehouse, held).items()}
    before = gold_file_digest(db)
    counts = write_source(db, split, spec.name, state or "", rows, text_nos, vote_numbers)
    says = [line for line in columns.guessed if "gold is read" in line]
    if bad:
        says.append(
            f"{spec.name}: the gold of {len(bad)} rows cannot be used (first: {cleaner.place(bad[0].row_no)}, {bad[0].reason})"
        )
    if gold_file_digest(db) == before:
        return None, says  # the file was touched and says the same
    return counts, says


def sources_digest(warehouse: Warehouse) -> str:
    """A digest of what was ingested: it changes whenever text numbers or kept train texts may have."""
    rows = warehouse.query(
        "SELECT source_no, split, path, content_digest, ingested_at::VARCHAR FROM sources ORDER BY source_no"
    )
    return digest([[str(value) for value in row] for row in rows])
