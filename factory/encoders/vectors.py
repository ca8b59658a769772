"""The vectors of the texts of a warehouse: each computed once per encoder, stored block by block."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse

BLOCK = 256
"""Texts encoded and committed at a time. Blocks are cut from the front of what is missing, so that a killed run and an
undisturbed one encode the same batches (a text's last bits depend on its batch)."""


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
    for start in range(0, len(missing), BLOCK):
        tell(start, len(missing), "texts encoded")
        part = missing[start : start + BLOCK]
        vectors = encoder.encode([text for _, text in part], partial(_within, tell, start, len(missing)))
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
    if missing:
        tell(len(missing), len(missing), "texts encoded")
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


def _within(tell: Progress, start: int, total: int, done: int, _: int, what: str) -> None:
    """Tell of a block as a part of the whole."""
    tell(start + done, total, what)


def _as_lists(matrix: NDArray[np.float32]) -> Any:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
    offsets = pa.array(np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, flat)
