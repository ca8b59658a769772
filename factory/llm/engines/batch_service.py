"""The calls of an OpenAI-compatible batch service, repeated as long as its owner's patience allows.

POST /files (purpose: batch)  ->  POST /batches  ->  GET /batches/ID until it is at an end  ->  GET /files/ID/content
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

import orjson

from factory.errors import Unanswered
from factory.llm.batch_files import ENDPOINT
from factory.llm.calls import Fault, FaultKind
from factory.llm.engines.wire import Trouble, Wire, shown_url
from factory.llm.faults import fault_of, read_error
from factory.llm.patience import FIRST_PATIENCE_S
from factory.llm.settings import EngineSettings
from factory.result import Progress, no_progress
from factory.warehouse.tables.batches import Batch

T = TypeVar("T")

METADATA = "label_factory_batch"
"""The name under which the service keeps our key of a batch."""

_TRANSIENT: tuple[FaultKind, ...] = ("overload", "transport", "timeout", "server")


class BatchService:
    """One service, with the key and the timeouts of an engine's settings. `progress` is told of waits.

    Every method raises `Unanswered` where the service refuses, or is away for longer than `patience_s`.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings, self._url, self._wire = settings, settings.urls[0], Wire(settings)
        self.name = shown_url(self._url)
        self.progress: Progress = no_progress
        self._met = False

    def upload(self, lines: IO[bytes], name: str) -> str:
        """Upload a file of requests, a form of multipart/form-data as `form` begins and ends it. Returns its id."""
        headers = {"Content-Type": f"multipart/form-data; boundary={name}", "Content-Length": str(lines.tell())}

        def send() -> str:
            lines.seek(0)
            return _id_in(self._wire.send(f"{self._url}/files", lines, headers, timeout_s=self._settings.timeout_s))

        return self._patiently(send)

    def create(self, batch: Batch) -> str | None:
        """Make a batch of an uploaded file, at most one. Returns its id, or None where nobody knows whether it was made.

        Raises:
            Unanswered: It was not made.
        """
        body = {"input_file_id": batch.input_file_id, "endpoint": ENDPOINT, "metadata": {METADATA: batch.key}}
        data = orjson.dumps(body | {"completion_window": self._settings.completion_window})
        url, headers = f"{self._url}/batches", {"Idempotency-Key": batch.key}
        try:
            send = self._wire.send
            return self._tried(
                lambda: _id_in(send(url, data, headers, timeout_s=self._settings.timeout_s)), ("overload",)
            )
        except Trouble as trouble:
            status = trouble.fault.status or 0
            if 300 <= status < 500 and status not in {408, 409}:
                raise self._unanswered(trouble.fault) from trouble
            return None

    def find(self, batch: Batch) -> str | None:
        """The id of a batch in the service's list, by our key or by its file; None if it is not there."""
        after = ""
        while True:
            told = self._get(f"/batches?limit=100{after}")
            rows = [row for row in told.get("data") or () if isinstance(row, dict) and row.get("id")]
            for row in rows:
                key = (row.get("metadata") or {}).get(METADATA)
                if key == batch.key or row.get("input_file_id") == batch.input_file_id:
                    return str(row["id"])
            page = f"&after={rows[-1]['id']}" if rows else ""
            if not told.get("has_more") or page in ("", after):
                return None
            after = page

    def look(self, batch: Batch) -> dict[str, Any]:
        """What the service says of a batch: `status`, `request_counts`, ids of its files, `errors`."""
        return self._get(f"/batches/{batch.batch_id}", batch)

    def fetch(self, file_id: str, out: IO[bytes], *, most: int) -> None:
        """Write a file of results, which is of at most so many bytes, to `out`, which is then at its beginning."""

        def fetch() -> None:
            out.seek(0)
            out.truncate()
            self._wire.fetch(f"{self._url}/files/{file_id}/content", out, most=most)

        self._patiently(fetch)
        out.seek(0)

    def failure(self, batch: Batch, told: Mapping[str, Any]) -> Unanswered:
        """What to say of a batch that failed as a whole, or was cancelled."""
        errors = told.get("errors")
        first = next(iter((errors.get("data") if isinstance(errors, Mapping) else errors) or ()), None)
        said = read_error({"error": first} if first else {}, key=self._wire.key())
        fix = fault_of(said, 400).fix
        ended = "failed" if told.get("status") == "failed" else "was cancelled"
        kept = "Every answer so far is stored: run again to submit the rest"
        what = f"{batch.batch_id} {ended}{f': {said.words}' if first else ''}"
        return Unanswered(what, where=self.name, fix=f"{fix}. {kept}" if fix else kept)

    def _get(self, path: str, batch: Batch | None = None) -> dict[str, Any]:
        timeout_s = self._settings.connect_timeout_s
        return self._patiently(lambda: self._wire.send(f"{self._url}{path}", timeout_s=timeout_s), batch)

    def _patiently(self, ask: Callable[[], T], batch: Batch | None = None) -> T:
        try:
            return self._tried(ask, _TRANSIENT)
        except Trouble as trouble:
            raise self._unanswered(trouble.fault, batch) from trouble

    def _tried(self, ask: Callable[[], T], again: tuple[FaultKind, ...]) -> T:
        """Ask, and again after faults of these kinds."""
        since, pause = time.monotonic(), min(1.0, self._settings.poll_s)
        while True:
            try:
                found = ask()
            except Trouble as trouble:
                fault, patience = trouble.fault, self._settings.patience_s
                wait = pause if fault.retry_after_s is None else fault.retry_after_s
                if not self._met and fault.status is None:
                    patience = min(patience, FIRST_PATIENCE_S)
                if fault.kind not in again or time.monotonic() - since + wait > patience:
                    raise
                self.progress(0, 0, f"answers ({self.name}: {fault.detail}; waiting for it)")
                time.sleep(wait)
                pause = min(2 * pause, 60.0)
            else:
                self._met = True
                return found

    def _unanswered(self, fault: Fault, batch: Batch | None = None) -> Unanswered:
        fix = fault.fix or "Every answer so far is stored, and what is submitted is on record: run again to go on"
        if batch is not None and fault.status == 404:
            delete = f"DELETE FROM batches WHERE batch_key = '{batch.key}'"
            fix = f"Check the key and `url`. If the service has lost {batch.batch_id}, `{delete}` in the warehouse gives it up"
        there = "cannot be reached" if fault.status is None else "gives no answer"
        return Unanswered(f"the batch service {there} ({fault.detail})", where=self.name, fix=fix)


def form(name: str) -> tuple[bytes, bytes]:
    """What stands before and after the lines of an upload: a form with their purpose, and `name` between its parts."""
    part = f'--{name}\r\nContent-Disposition: form-data; name="'
    file = f'file"; filename="{name}.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
    return f'{part}purpose"\r\n\r\nbatch\r\n{part}{file}'.encode(), f"\r\n--{name}--\r\n".encode()


def _id_in(told: Mapping[str, Any]) -> str:
    if not told.get("id"):
        raise Trouble(Fault("malformed", "no_id", "answered 200 without an `id`", 200))
    return str(told["id"])
