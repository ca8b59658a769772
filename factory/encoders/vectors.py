"""The vectors of the texts of a warehouse: each computed once per encoder, stored block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.result import Progress, no_progress
from factory.spread import Work, is_elsewhere, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse

BLOCK = 256
"""Texts encoded and committed at a time. Blocks are cut from the front of what is missing, so that a killed run and an
undisturbed one encode the same batches (a text's last bits depend on its batch)."""


class Encoding:
    """What encodes texts on one processor, with an encoder of its own; `key` is that of the encoder it must be."""

    def __init__(self, settings: Mapping[str, Any], key: str) -> None:
        from factory.encoders.encoder import load_encoder

        self._encoder = load_encoder(settings)
        self._encoder.threads = 1
        if self._encoder.key != key:
            fix = "Give every node the same files, and name the encoder's folder if it is one"
            raise InputError(f"the encoder {self._encoder.name!r} is another one there than here", fix=fix)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [n, d]."""
        return self._encoder.encode(texts)


def vectors_of(
    warehouse: Warehouse, encoder: Encoder, text_nos: Sequence[int] | NDArray[Any], progress: Progress | None = None
) -> NDArray[np.float32]:
    """The vectors of texts of the warehouse: what the table `vectors` lacks is encoded and stored, block by block.

    Args:
        warehouse: Where the texts are.
        encoder: From `load_encoder`.
        text_nos: Which texts, in any order, doubles allowed.
        progress: Called with (done, total, what).

    Returns:
        float32 [n, d], row i for `text_nos[i]`.

    Raises:
        InputError: A number that no text has.
    """
    import pyarrow as pa

    from factory.warehouse.file import insert

    tell = progress or no_progress
    wanted = np.asarray(text_nos, np.int64)
    distinct = np.unique(wanted)
    if len(distinct) == 0:
        return np.zeros((0, encoder.dimension), np.float32)
    with warehouse.read() as db:
        db.register("wanted_texts", pa.table({"text_no": distinct.astype(np.int32)}))
        missing = db.execute(
            "SELECT text_no, text FROM texts JOIN wanted_texts USING (text_no)"
            " WHERE text_no NOT IN (SELECT text_no FROM vectors WHERE encoder_key = ?) ORDER BY text_no",
            [encoder.key],
        ).fetchall()
        db.unregister("wanted_texts")
    parts = [missing[start : start + BLOCK] for start in range(0, len(missing), BLOCK)]
    begun = 0

    def texts() -> Iterator[tuple[list[tuple[int, str]], list[str]]]:
        nonlocal begun
        for number, part in enumerate(parts):
            begun = number * BLOCK
            yield part, [text for _, text in part]

    def here(part: Sequence[str]) -> NDArray[np.float32]:
        return encoder.encode(part, lambda done, _, what: tell(begun + done, len(missing), what))

    work = Work(Encoding, (_to_be_found(encoder), encoder.key) if is_elsewhere() else (), here)
    if parts:
        tell(0, len(missing), "texts encoded")
    with closing(spread(work, texts(), len(parts))) as encoded:
        for number, (part, vectors) in enumerate(encoded, start=1):
            with warehouse.lease() as db:
                numbers = [text_no for text_no, _ in part]
                there = {
                    row[0]
                    for row in db.execute(
                        "SELECT text_no FROM vectors WHERE encoder_key = ? AND text_no IN (SELECT unnest(?))",
                        [encoder.key, numbers],
                    ).fetchall()
                }
                keep = [index for index, text_no in enumerate(numbers) if text_no not in there]
                insert(
                    db,
                    "vectors",
                    {
                        "encoder_key": [encoder.key] * len(keep),
                        "text_no": pa.array([numbers[index] for index in keep], pa.int32()),
                        "vector": _as_lists(vectors[keep]),
                    },
                )
            tell(min(number * BLOCK, len(missing)), len(missing), "texts encoded")
    with warehouse.read() as db:
        db.register("wanted_texts", pa.table({"text_no": distinct.astype(np.int32)}))
        table: pa.Table = db.sql(
            "SELECT text_no, vector FROM vectors JOIN wanted_texts USING (text_no)"
            " WHERE encoder_key = ? ORDER BY text_no",
            params=[encoder.key],
        ).to_arrow_table()
        db.unregister("wanted_texts")
    if table.num_rows != len(distinct):
        raise InputError(
            f"{len(distinct) - table.num_rows} of the {len(distinct)} text numbers are not in the warehouse"
        )
    lists = table.column("vector").combine_chunks()
    matrix = np.asarray(lists.flatten(), np.float32).reshape(len(distinct), encoder.dimension)
    return np.ascontiguousarray(matrix[np.searchsorted(distinct, wanted)])


def _to_be_found(encoder: Encoder) -> dict[str, Any]:
    """An encoder's settings, with the whole path where its name is a folder: they are read elsewhere."""
    named = Path(encoder.name).expanduser()
    own = encoder.folder is not None and named.is_dir() and named.samefile(encoder.folder)
    return {**encoder.settings, **({"name": str(named.absolute())} if own else {})}


def _as_lists(matrix: NDArray[np.float32]) -> Any:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
    offsets = pa.array(np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, flat)
