"""Batches handed to an OpenAI-compatible batch service, and taken up again after a kill.

A batch is on record before anything is sent (`factory.warehouse.tables.batches`), with a key that the service keeps as metadata.
If a kill comes before the service's id is on record, the next run looks for that key in the service's list before it submits
anything. What a batch brings is stored as a file of results is, each line once, before its end is on record.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from time import sleep
from typing import IO, Any

import orjson

from factory.errors import Unanswered
from factory.files.lines import numbered_lines
from factory.llm.batch_files import line_of, matched, take_in
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import BulkEngine, Pending, by_prompt
from factory.llm.engines.batch_service import BatchService, form
from factory.llm.engines.server import answers_bound
from factory.llm.engines.wire import SMALL_REPLY
from factory.llm.ledger import Ledger
from factory.llm.openai_format import Unsupported
from factory.llm.settings import EngineSettings
from factory.result import Progress
from factory.warehouse.tables import batches
from factory.warehouse.tables.batches import Batch

Calls = dict[str, Call]
"""By their `custom_id`."""

MOST_LINES = 50_000
MOST_BYTES = 200_000_000
"""What OpenAI takes in one file."""

_AT_ITS_END = {"completed", "failed", "expired", "cancelled"}
_LINE_FRAME = 8 << 10
"""Bytes of a line of results beside its answers."""


class HostedEngine(BulkEngine):
    """Hands what is missing to a batch service, and waits for it (or comes back for it: `wait: false`)."""

    name = "hosted"
    keeps_calls = True

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings)
        self._service = BatchService(settings)
        self._ledger: Ledger | None = None
        self._faults: dict[str, Fault] = {}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The service's URL, as it may be shown."""
        return (self._service.name,)

    def resume(self, ledger: Ledger, progress: Progress) -> None:
        """Find the batches that earlier runs submitted, and store what they bring."""
        self._ledger, self._service.progress = ledger, progress
        left: dict[Batch, Calls] = {}
        for batch in batches.open_of(ledger.warehouse, self._service.name):
            if batch.batch_id is None:
                # No batch was made of a file whose upload is not on record.
                batch = replace(batch, batch_id=self._service.find(batch) if batch.input_file_id else None)
                (batches.put if batch.batch_id else batches.drop)(ledger.warehouse, batch)
            if batch.batch_id:
                left[batch] = {}
        for _ in self._brought(ledger, left, {}):
            pass

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Submit calls, as many batches as they need, and give what comes of them.

        What came back with an error is not submitted twice in a run. What a batch did not come to before it expired is submitted
        anew, unless it came to nothing.
        """
        ledger, wanted = self._ledger, {call.custom_id: call for call in calls}
        assert ledger is not None, "`resume` comes first"
        for custom_id in [name for name in wanted if name in self._faults]:
            yield wanted.pop(custom_id), Reply({}, self._faults[custom_id], on_record=True)
        while wanted:
            sent: dict[Batch, Calls] = {}
            yield from self._submitted(ledger, wanted, sent)
            if sent and not self.settings.wait:
                names = ", ".join(str(batch.batch_id) for batch in sent)
                n = sum(batch.calls for batch in sent)
                raise self._pending(f"{n:,} requests ({by_prompt(wanted.values())}) are submitted as {names}")
            expired: Calls = {}
            yield from self._brought(ledger, sent, expired)
            if len(expired) == len(wanted):
                for call in expired.values():
                    yield call, Reply({}, Fault("missing", "batch_ended", "the batch expired"))
                return
            wanted = expired

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """What to say of batches that expired without an answer."""
        return self._pending(f"{len(calls):,} requests of `{stage}` have no answer")

    def close(self) -> None:
        """Forget what came back with an error, so that it is asked again."""
        self._faults = {}

    def _submitted(
        self, ledger: Ledger, wanted: Mapping[str, Call], sent: dict[Batch, Calls]
    ) -> Iterator[tuple[Call, Reply]]:
        """Submit calls in files of the size that the service takes, into `sent`; those that it cannot be told come back."""
        rest = list(wanted.values())[::-1]
        while rest:
            calls: Calls = {}
            name = uuid.uuid4().hex
            head, tail = form(name)
            with TemporaryFile() as file:
                file.write(head)
                while rest and len(calls) < MOST_LINES:
                    try:
                        line = orjson.dumps(line_of(rest[-1], self.settings), option=orjson.OPT_APPEND_NEWLINE)
                    except Unsupported as error:
                        yield rest.pop(), Reply({}, Fault("refused", "unsupported", str(error)), on_record=True)
                        continue
                    if calls and file.tell() - len(head) + len(line) > MOST_BYTES:
                        break
                    file.write(line)
                    call = rest.pop()
                    calls[call.custom_id] = call
                file.write(tail)
                if calls:
                    sent[self._created(ledger, list(calls.values()), file, name)] = calls

    def _created(self, ledger: Ledger, calls: Sequence[Call], file: IO[bytes], key: str) -> Batch:
        """Upload a file and make a batch of it, each step on record before the next."""
        warehouse, service = ledger.warehouse, self._service
        most = SMALL_REPLY + sum(answers_bound(call) + _LINE_FRAME for call in calls)
        ledger.store_wanted(calls)
        batch = Batch(key, service.name, len(calls), most)
        batches.put(warehouse, batch)
        service.progress(0, len(calls), "requests to be uploaded")
        batch = replace(batch, input_file_id=service.upload(file, key))
        batches.put(warehouse, batch)
        try:
            batch_id = service.create(batch)
        except Unanswered:
            batches.drop(warehouse, batch)
            raise
        batch = replace(batch, batch_id=batch_id or service.find(batch))
        if batch.batch_id is None:
            fix = "Run again: the batch is looked for in the service's list before anything is submitted"
            raise Unanswered("nobody knows whether the service made a batch", where=service.name, fix=fix)
        batches.put(warehouse, batch)
        return batch

    def _brought(self, ledger: Ledger, sent: Mapping[Batch, Calls], expired: Calls) -> Iterator[tuple[Call, Reply]]:
        """What batches bring, each when it is at its end; calls that those that expired did not come to are put into `expired`.

        Raises:
            Pending: Some are not at their end, and nobody waits.
            Unanswered: One failed as a whole, or was cancelled; what came is stored.
        """
        left, done, failures = list(sent), dict.fromkeys(sent, 0), []
        while left:
            for batch in list(left):
                told, calls = self._service.look(batch), sent[batch]
                status, counts = str(told.get("status")), told.get("request_counts") or {}
                done[batch] = sum(int(counts.get(name) or 0) for name in ("completed", "failed"))
                if status not in _AT_ITS_END:
                    continue
                yield from self._taken(ledger, batch, told, calls)
                if status == "completed":
                    fault = Fault("malformed", "no_line", "the batch has no line for it")
                    yield from ((call, Reply({}, fault, on_record=True)) for call in calls.values())
                elif status == "expired":
                    expired.update(calls)
                else:
                    failures.append(self._service.failure(batch, told))
                batches.end(ledger.warehouse, batch, status)
                left.remove(batch)
            if left:
                names = ", ".join(str(batch.batch_id) for batch in left)
                self._service.progress(sum(done.values()), sum(batch.calls for batch in sent), f"answers of {names}")
                if not self.settings.wait:
                    told_of = f"{sum(done[batch] for batch in left):,} of {sum(batch.calls for batch in left):,}"
                    raise self._pending(f"{names}: {told_of} requests are answered")
                sleep(self.settings.poll_s)
        if failures:
            raise failures[0]

    def _taken(
        self, ledger: Ledger, batch: Batch, told: Mapping[str, Any], calls: Calls
    ) -> Iterator[tuple[Call, Reply]]:
        """Store what a batch brought, and give what came of `calls`; those that it did not come to are left in there."""
        answered = 0
        for file_id in filter(None, (told.get("output_file_id"), told.get("error_file_id"))):
            with TemporaryFile() as file:
                self._service.fetch(file_id, file, most=batch.most_bytes)
                for _, known in matched(ledger.warehouse, numbered_lines(file, file_id), file_id):
                    take_in(ledger, known)
                    ledger.flush()
                    for request, result in known:
                        answered += bool(result.answers)
                        fault, custom_id = result.fault, Call(request, result.first, result.last).custom_id
                        if fault is not None and fault.kind == "missing":
                            continue
                        if fault is not None and not result.answers:
                            self._faults[custom_id] = fault
                        if (call := calls.pop(custom_id, None)) is not None:
                            yield call, Reply(result.answers, fault, on_record=True)
        if told.get("status") == "expired":
            self.says.append(f"{batch.batch_id} expired with {answered:,} of {batch.calls:,} requests answered")
            self._service.progress(0, 0, f"answers ({self.says[-1]}; the rest is submitted anew)")

    def _pending(self, what: str) -> Pending:
        words = "; ".join([*self.says, what])
        self.says.clear()
        return Pending(words, where=self._service.name, fix="Run again later: it fetches the answers and goes on")
