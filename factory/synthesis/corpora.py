"""What is retrieved from: the texts of the split train, or outside files, as passages that are texts of the warehouse.

A text that fits the budget whole is its own passage; a longer one is cut, and its pieces become texts of origin `passage` that
occur in no split. So passages have text numbers, cached vectors and a place in the lineage like everything else.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.canonical import digest
from factory.errors import InputError
from factory.files.source import SourceSpec
from factory.result import Progress, no_progress
from factory.synthesis.passages import CLEANERS, Passage, cut
from factory.warehouse.file import Warehouse, insert
from factory.warehouse.tables.texts import add_texts

BATCH = 4096


@dataclass(frozen=True)
class Cutting:
    """How texts become passages: a budget and a minimum in tokens, and whether only the first piece is kept."""

    budget: int = 400
    minimum: int = 20
    first_only: bool = False

    def cut(self, text: str) -> list[Passage]:
        """See `factory.synthesis.passages.cut`."""
        return cut(text, budget=self.budget, minimum=self.minimum, first_only=self.first_only)


@dataclass(frozen=True)
class Piece:
    """A passage on its way into the warehouse."""

    text: str
    parent: int | None
    source: str
    row_no: int | None
    first: int
    last: int


def passage_corpus(
    warehouse: Warehouse,
    sources: Sequence[Mapping[str, Any]] | None,
    cutting: Cutting,
    *,
    base: Path | None = None,
    progress: Progress = no_progress,
) -> list[int]:
    """Make sure that the passages are in the warehouse.

    Args:
        warehouse: Where to read the split train and to store pieces.
        sources: Outside sources (keys of an ingest source, and `clean: none | squeeze | usenet`), or None for the split train.
        cutting: How to cut.
        base: The folder that relative paths are counted from.
        progress: Called with (done, total, what).

    Returns:
        Text numbers of the passages, each once, in order of their content hash: the same passages give the same order, whatever
        their numbers.
    """
    content = _train_digests(warehouse) if sources is None else [_file_digest(item, base) for item in sources]
    key = digest({"cutting": [cutting.budget, cutting.minimum, cutting.first_only], "sources": content})
    if not warehouse.scalar("SELECT count(*) FROM passages WHERE corpus_key = ?", [key]):
        stream = _train_pieces(warehouse, cutting) if sources is None else _outside_pieces(sources, cutting, base)
        _store(warehouse, key, stream, progress)
    query = "SELECT text_no FROM texts WHERE text_no IN (SELECT text_no FROM passages WHERE corpus_key = ?) ORDER BY content_hash"
    return [text_no for (text_no,) in warehouse.query(query, [key])]


# ----------------------------------------------------------------------------------------------------------------------
def _train_digests(warehouse: Warehouse) -> list[str]:
    rows = warehouse.query("SELECT content_digest FROM sources WHERE split = 'train' ORDER BY source_no")
    if not rows:
        raise InputError("there is no split `train` to retrieve from", fix="Ingest one, or name `passages` files")
    gone = warehouse.scalar("SELECT count(*) FROM occurrences WHERE split = 'train' AND NOT kept")
    return [row[0] for row in rows] + [f"left out: {gone}"]


def _spec(item: Mapping[str, Any]) -> SourceSpec:
    return SourceSpec.model_validate({key: value for key, value in item.items() if key != "clean"})


def _file_digest(item: Mapping[str, Any], base: Path | None) -> str:
    spec = _spec(item)
    path = spec.located(base)
    if not path.is_file():
        raise InputError("no such file", where=path, fix="Check the path under `passages`")
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    bare = {**spec.model_dump(mode="json"), "path": ""}
    return digest({"content": content, "spec": bare, "clean": item.get("clean")})


def _train_pieces(warehouse: Warehouse, cutting: Cutting) -> Iterator[Piece]:
    # Ordered and paged by content hash: no cursor is held, and the order does not depend on text numbers.
    after = b""
    while True:
        rows = warehouse.query(
            "SELECT content_hash, text_no, text FROM texts"
            " WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'train') AND content_hash > ?"
            " ORDER BY content_hash LIMIT ?",
            [after, BATCH],
        )
        if not rows:
            return
        after = rows[-1][0]
        for _, text_no, text in rows:
            for piece in cutting.cut(text):
                yield Piece(piece.text, text_no, "train", None, piece.first, piece.last)


def _outside_pieces(sources: Sequence[Mapping[str, Any]], cutting: Cutting, base: Path | None) -> Iterator[Piece]:
    from factory.files.columns import choose_columns
    from factory.files.open import open_source
    from factory.files.rows import Cleaner, text_rows

    for item in sources:
        cleaner = item.get("clean", "none")
        if cleaner not in CLEANERS:
            raise InputError(f"unknown cleaner {cleaner!r}", where="passages", fix=f"There are {', '.join(CLEANERS)}")
        spec = _spec(item)
        source = open_source(spec.reading(base))
        reader = Cleaner(spec, source, choose_columns(spec, source, (), gold=False), (), {}, "single")
        for row in text_rows(source, reader):
            for piece in cutting.cut(CLEANERS[cleaner](row.text)):
                yield Piece(piece.text, None, spec.name, row.row_no, piece.first, piece.last)


def _store(warehouse: Warehouse, key: str, stream: Iterator[Piece], progress: Progress) -> None:
    """All pieces in one transaction, batch by batch, so that a corpus is there whole or not at all."""
    # The stream reads the warehouse, so it is read out before the lease where it comes from there; a lease inside joins.
    done = 0
    with warehouse.lease() as db:
        while batch := list(itertools.islice(stream, BATCH)):
            numbers = add_texts(db, [piece.text for piece in batch], "passage")
            columns = {
                "corpus_key": [key] * len(batch), "text_no": _int32(numbers), "source": [piece.source for piece in batch],
                "parent_text_no": _int32([piece.parent for piece in batch]),
                "row_no": _int32([piece.row_no for piece in batch]),
                "first_char": _int32([piece.first for piece in batch]),
                "last_char": _int32([piece.last for piece in batch]),
            }  # fmt: skip
            insert(db, "passages", columns)
            done += len(batch)
            progress(done, 0, "passages")
    if done == 0:
        raise InputError("no text is long enough to be a passage", fix="Lower `passage_tokens: [minimum, budget]`")


def _int32(values: Sequence[int | None]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.int32())
