"""The table `batches`: what was handed to a hosted batch service, on record before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass

from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Batch:
    """A batch of a hosted service.

    Attributes:
        key: Ours; the service is told it as metadata, and it is found again by it.
        url: The service.
        calls: Lines of its file.
        most_bytes: The most that its results may come to.
        input_file_id: The service's name of the file; None as long as its upload is not on record: then no batch was made of it.
        batch_id: The service's name of the batch; None as long as that is not on record.
    """

    key: str
    url: str
    calls: int
    most_bytes: int
    input_file_id: str | None = None
    batch_id: str | None = None


def put(warehouse: Warehouse, batch: Batch) -> None:
    """Record a batch, or what the service has told of it since."""
    row = [batch.key, batch.url, batch.calls, batch.most_bytes, batch.input_file_id, batch.batch_id]
    with warehouse.lease() as db:
        db.execute("DELETE FROM batches WHERE batch_key = ?", [batch.key])
        columns = "batch_key, url, calls, most_bytes, input_file_id, batch_id"
        db.execute(f"INSERT INTO batches ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)


def open_of(warehouse: Warehouse, url: str) -> list[Batch]:
    """The batches of a service whose end is not on record, oldest first."""
    rows = warehouse.query(
        "SELECT batch_key, url, calls, most_bytes, input_file_id, batch_id FROM batches"
        " WHERE status = 'open' AND url = ? ORDER BY created_at",
        [url],
    )
    return [Batch(*row) for row in rows]


def end(warehouse: Warehouse, batch: Batch, status: str) -> None:
    """Record that a batch is at its end, and everything that it brought is stored."""
    with warehouse.lease() as db:
        db.execute("UPDATE batches SET status = ? WHERE batch_key = ?", [status, batch.key])


def drop(warehouse: Warehouse, batch: Batch) -> None:
    """Forget a batch that the service never made."""
    with warehouse.lease() as db:
        db.execute("DELETE FROM batches WHERE batch_key = ?", [batch.key])
