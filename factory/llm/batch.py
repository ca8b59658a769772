"""`factory batch write`, `factory batch read`, and stored answers out as a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from factory.errors import InputError
from factory.files.lines import byte_lines
from factory.llm.batch_files import parse_results, write_whole
from factory.llm.engines.base import Call, Reply
from factory.llm.ledger import Ledger
from factory.llm.prices import price_of
from factory.llm.request import Ask, ModelRef, Request
from factory.llm.settings import EngineSettings
from factory.warehouse.file import Warehouse

_CHUNK = 2000


def batch_settings(settings: EngineSettings, requests: Path, results: Path | None = None) -> EngineSettings:
    """The same engine as one that writes batch files: requests keep their identity.

    Args:
        settings: Of a server, a vLLM or a recorded engine with a model name.
        requests: The batch file to write.
        results: The results file, if there is one.

    Raises:
        InputError: The settings do not say which model is asked.
    """
    if settings.model is None:
        raise InputError("a batch needs the model's name", fix="Give `engine: {model: ...}`")
    where = {"requests": str(requests.absolute()), "results": None if results is None else str(results.absolute())}
    return EngineSettings.model_validate({**settings.model_dump(), "kind": "batch", **where})


def read_results(warehouse: Warehouse, results: Path, *, settings: EngineSettings | None = None) -> dict[str, Any]:
    """Store the answers of a results file: in any order, partial, with errors in between, twice without harm.

    Args:
        warehouse: Where to; its table `requests` knows what was asked.
        results: What came back.
        settings: The engine's, for the price.

    Returns:
        `lines` read; answers `stored` now and `known` before; samples `failed` (their line is an error, stored as an attempt)
        and `unknown` (of requests that the warehouse has never seen); `reasons`, errors by their words.

    Raises:
        InputError: No such file, or a line that is none of ours.
    """
    if not results.is_file():
        raise InputError("no such file of results", where=results)
    ledger: Ledger | None = None
    lines = stored = known = failed = unknown = 0
    reasons: dict[str, int] = {}
    with byte_lines(results) as rows:
        found = parse_results(rows, str(results))
        while chunk := list(islice(found, _CHUNK)):
            lines += len(chunk)
            asked = stored_requests(warehouse, [result.request_key for result in chunk])
            if ledger is None:
                model = next(iter(asked.values())).model.name if asked else ""
                price = None if settings is None else price_of(settings, model)
                ledger = Ledger(warehouse, stage="batch", engine="batch", price=price)
            asks = [Ask(asked[r.request_key], range(r.first, r.last + 1)) for r in chunk if r.request_key in asked]
            missing = {
                (request.key, sample)
                for request, holes in ledger.missing(asks, want_answers=False).asks
                for first, last in holes
                for sample in range(first, last + 1)
            }
            for result in chunk:
                request = asked.get(result.request_key)
                if request is None:
                    unknown += result.last - result.first + 1
                    continue
                new = {sample: a for sample, a in result.answers.items() if (request.key, sample) in missing}
                missing.difference_update((request.key, sample) for sample in new)
                known += len(result.answers) - len(new)
                stored += len(new)
                if result.fault is not None:
                    failed += result.last - result.first + 1 - len(result.answers)
                    reasons[result.fault.detail] = reasons.get(result.fault.detail, 0) + 1
                if new or result.fault is not None:
                    call = Call(request, result.first, result.last)
                    outcome = "answered" if result.fault is None else "failed"
                    ledger.add(ledger.started(call), call, Reply(new, result.fault), outcome)
            ledger.flush()
    if ledger is not None:
        ledger.close()
    counts = {"lines": lines, "stored": stored, "known": known, "failed": failed, "unknown": unknown}
    return {**counts, "reasons": reasons}


def stored_requests(warehouse: Warehouse, keys: Sequence[str]) -> dict[str, Request]:
    """Requests of the warehouse by key; those it does not know are left out."""
    rows = warehouse.query(
        "SELECT request_key, model, revision, adapter, messages, sampling, schema, prompt, prompt_version FROM requests"
        " WHERE request_key IN (SELECT unnest(?::VARCHAR[]))",
        [list(keys)],
    )
    return {
        row[0]: Request(
            ModelRef(row[1], row[2], row[3]),
            tuple(orjson.loads(row[4])),
            orjson.loads(row[5]),
            None if row[6] is None else orjson.loads(row[6]),
            row[7],
            row[8],
        )
        for row in rows
    }


def write_recorded(warehouse: Warehouse, path: Path, *, prompts: Sequence[str] = ()) -> dict[str, int]:
    """Write stored answers as a recording, in an order that does not depend on when they came.

    Args:
        warehouse: Where the answers are.
        path: The JSONL file; replaced if it is there.
        prompts: Of these prompts alone; of all if empty.

    Returns:
        `{"answers": lines written}`.
    """
    chosen = "WHERE r.prompt IN (SELECT unnest(?::VARCHAR[]))" if prompts else ""
    rows = warehouse.query(
        "SELECT r.content_key, a.sample_no, any_value(a.answer ORDER BY a.answered_at, a.request_key),"
        " any_value(a.finish_reason ORDER BY a.answered_at, a.request_key),"
        " any_value(a.reasoning ORDER BY a.answered_at, a.request_key),"
        " min(a.answered_at), any_value(r.model ORDER BY a.answered_at, a.request_key),"
        " any_value(r.prompt ORDER BY a.answered_at, a.request_key),"
        " any_value(r.prompt_version ORDER BY a.answered_at, a.request_key)"
        f" FROM answers a JOIN requests r USING (request_key) {chosen}"
        " GROUP BY r.content_key, a.sample_no ORDER BY 8, 1, 2",
        [list(prompts)] if prompts else None,
    )

    def lines() -> Iterator[dict[str, Any]]:
        for key, sample, answer, finish, reasoning, when, model, prompt, version in rows:
            line = {"key": key, "sample_no": sample, "answer": answer, "date": when.date().isoformat(), "model": model}
            line |= {"prompt": prompt, "prompt_version": version}
            if finish != "stop":
                line["finish_reason"] = finish
            if reasoning is not None:
                line["reasoning"] = reasoning
            yield line

    return {"answers": write_whole(path, lines())}
