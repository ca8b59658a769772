"""Requests and answers as files: OpenAI batch JSONL out and in (`vllm run-batch`, the hosted batch APIs), and recordings out.

A line out names its call by `custom_id` (`request_key:first-last`). Results are read in any order, partial, with errors in
between, and twice without harm: a line has a number of its own, by which it is on the books once. A line with an error decides
nothing, unless it says that the model cannot take such a request: its request is asked again.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from factory.errors import InputError
from factory.files.lines import byte_lines
from factory.files.replace import refuse_to_replace, replaced
from factory.llm.calls import Call, Fault, Reply
from factory.llm.faults import fault_of, json_of, read_error
from factory.llm.ledger import Ledger
from factory.llm.openai_format import body_of, reply_of
from factory.llm.prices import price_of
from factory.llm.request import Answer, Ask, ModelRef, Request
from factory.llm.settings import EngineSettings
from factory.warehouse.file import Warehouse

_ID = re.compile(r"^([0-9a-f]{64}):(\d{1,10})-(\d{1,10})$")
_CHUNK = 2000
_NOT_RUN = {"batch_expired", "batch_cancelled"}
"""Codes of lines that the service never came to: nothing was asked of the model."""

ENDPOINT = "/v1/chat/completions"


@dataclass(frozen=True)
class Result:
    """One line of a results file: a call by the key of its request and its samples, and what came of it.

    Attributes:
        number: Its own, made from the line.
        answers: By sample number.
        fault: What was wrong, if not all are there.
    """

    request_key: str
    first: int
    last: int
    number: int
    answers: Mapping[int, Answer] = field(default_factory=dict)
    fault: Fault | None = None


# Out --------------------------------------------------------------------------------------------------------------------
def write_calls(path: Path, calls: Iterable[Call], settings: EngineSettings) -> int:
    """Write a batch file, whole or not at all; calls of one name once, `settings` as for a server. Returns lines written."""
    named = {call.custom_id: call for call in calls}
    return write_whole(path, (line_of(call, settings) for call in named.values()))


def line_of(call: Call, settings: EngineSettings) -> dict[str, Any]:
    """The line of a batch file that asks for a call.

    Raises:
        Unsupported: As `body_of`.
    """
    return {"custom_id": call.custom_id, "method": "POST", "url": ENDPOINT, "body": body_of(call, settings)}


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
    columns = ("r.prompt", "a.answer", "a.finish_reason", "a.reasoning", "r.model", "r.prompt_version")
    first = ", ".join(f"any_value({column} ORDER BY a.answered_at, a.request_key)" for column in columns)
    rows = warehouse.query(
        f"SELECT r.content_key, a.sample_no, {first}, min(a.answered_at)"
        f" FROM answers a JOIN requests r USING (request_key) {chosen}"
        " GROUP BY r.content_key, a.sample_no ORDER BY 3, 1, 2",
        [list(prompts)] if prompts else None,
    )

    def lines() -> Iterator[dict[str, Any]]:
        for key, sample, prompt, answer, finish, reasoning, model, version, when in rows:
            line = {"key": key, "sample_no": sample, "answer": answer, "date": when.date().isoformat(), "model": model}
            line |= {"prompt": prompt, "prompt_version": version}
            if finish != "stop":
                line["finish_reason"] = finish
            if reasoning is not None:
                line["reasoning"] = reasoning
            yield line

    return {"answers": write_whole(path, lines())}


def write_whole(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL, so that the file is there whole or not at all. Returns lines written."""
    refuse_to_replace(path, _is_ours, "batch file or recording")
    count = 0
    with replaced(path, private=True) as draft, draft.open("wb") as out:
        for row in rows:
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def _is_ours(names: Sequence[str]) -> bool:
    """Whether a file begins with a line of a batch, or of a recording."""
    return "custom_id" in names or {"key", "sample_no"} <= set(names)


# In ---------------------------------------------------------------------------------------------------------------------
def parse_results(lines: Iterable[tuple[int, bytes]], where: str) -> Iterator[Result]:
    """Read the lines of a results file, numbered as `factory.files.lines.byte_lines` gives them; `where` is its name.

    Raises:
        InputError: A line that is not JSON (but for a last one without its end, which is still being written), or that
            names no request of ours.
    """
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json_of(line)
        except orjson.JSONDecodeError as error:
            if not line.endswith(b"\n"):
                return
            raise InputError(f"this line is not JSON: {error}", where=f"{where}:{number}") from error
        match = _ID.match(str(row.get("custom_id"))) if isinstance(row, dict) else None
        if match is None or int(match[2]) > int(match[3]):
            fix = "Nothing of the file was stored. A custom_id is `request_key:first-last`, as `factory batch write` gave it"
            raise InputError("this line's custom_id is not one of ours", where=f"{where}:{number}", fix=fix)
        own = int.from_bytes(hashlib.sha256(line.strip()).digest()[:8], "big") >> 1
        yield _result(match[1], int(match[2]), int(match[3]), own, row)


def _result(key: str, first: int, last: int, number: int, row: Mapping[str, Any]) -> Result:
    response = row.get("response")
    came = isinstance(response, Mapping)
    told, body = (response.get("status_code"), response.get("body")) if isinstance(response, Mapping) else (0, None)
    status = told if isinstance(told, int) and 100 <= told < 600 else 200 if came else 0
    choices = isinstance(body, Mapping) and bool(body.get("choices"))
    if not choices and (row.get("error") or not came or status >= 400):
        said = read_error({"error": row.get("error") or body or "no response came"})
        fault = fault_of(said, said.status or (status if status >= 400 else 400))
        if said.codes & _NOT_RUN:
            fault = replace(fault, kind="missing", reason="batch_ended")
        return Result(key, first, last, number, {}, replace(fault, detail=said.words or fault.detail))
    call = Call(Request(ModelRef(""), ()), first, last)
    reply = reply_of(call, body, origin="batch", status=status or 200)
    return Result(key, first, last, number, reply.answers, reply.fault)


def take_in(ledger: Ledger, found: Iterable[tuple[Request, Result]]) -> dict[str, int]:
    """Put results on the books, each line once, with the requests that they answer; `ledger.flush` stores them.

    Returns:
        Samples `stored` now and `known` before; lines that brought a part (`partial`) or nothing (`failed`).
    """
    every = list(found)
    asks = [Ask(request, range(result.first, result.last + 1)) for request, result in every]
    missing = {
        (request.key, sample)
        for request, holes in ledger.missing(asks, want_answers=False).asks
        for first, last in holes
        for sample in range(first, last + 1)
    }
    counts: Counter[str] = Counter(stored=0, known=0, partial=0, failed=0)
    for request, result in every:
        new = {sample: a for sample, a in result.answers.items() if (request.key, sample) in missing}
        missing.difference_update((request.key, sample) for sample in new)
        outcome = "answered" if result.fault is None else "partial" if result.answers else "failed"
        counts.update(known=len(result.answers) - len(new), stored=len(new))
        if result.fault is not None:
            counts[outcome] += 1
        if new or result.fault is not None:
            call = Call(request, result.first, result.last)
            ledger.add(result.number, call, Reply(new, result.fault), outcome, from_file=True)
    return dict(counts)


def matched(
    warehouse: Warehouse, lines: Iterable[tuple[int, bytes]], where: str
) -> Iterator[tuple[list[Result], list[tuple[Request, Result]]]]:
    """Lines of results as `parse_results` has them, a chunk at a time: all of them, and those to requests of the warehouse.

    Raises:
        InputError: As `parse_results`.
    """
    found = parse_results(lines, where)
    while chunk := list(islice(found, _CHUNK)):
        asked = stored_requests(warehouse, [result.request_key for result in chunk])
        yield chunk, [(asked[r.request_key], r) for r in chunk if r.request_key in asked]


def read_results(warehouse: Warehouse, results: Path, *, settings: EngineSettings | None = None) -> dict[str, Any]:
    """Store the answers of a results file: in any order, partial, with errors in between, twice without harm.

    The engine's `settings` are there for the price.

    Returns:
        `lines` read; answers `stored` now and `known` before; lines that brought only some of their answers (`partial`) or an
        error (`failed`), both of which are asked again; answers to requests that the warehouse has never seen (`unknown`);
        `reasons`, errors by their words.

    Raises:
        InputError: No such file, or a line that is not one of ours.
    """
    if not results.is_file():
        raise InputError("no such file of results", where=results)
    ledger: Ledger | None = None
    counts: Counter[str] = Counter(lines=0, stored=0, known=0, partial=0, failed=0, unknown=0)
    reasons: Counter[str] = Counter()
    with byte_lines(results) as rows:
        for chunk, known in matched(warehouse, rows, str(results)):
            if ledger is None:
                model = known[0][0].model.name if known else ""
                price = None if settings is None else price_of(settings, model)
                ledger = Ledger(warehouse, stage="batch", engine="batch", price=price)
            counts.update(take_in(ledger, known))
            counts["lines"] += len(chunk)
            counts["unknown"] += sum(r.last - r.first + 1 for r in chunk) - sum(r.last - r.first + 1 for _, r in known)
            reasons.update(r.fault.detail for _, r in known if r.fault is not None and not r.answers)
            ledger.flush()
    if ledger is not None:
        ledger.close()
    return {**counts, "reasons": dict(reasons)}


def stored_requests(warehouse: Warehouse, keys: Sequence[str]) -> dict[str, Request]:
    """Requests of the warehouse by key; those it does not know are left out."""
    rows = warehouse.query(
        "SELECT request_key, model, revision, adapter, messages, sampling, schema, prompt, prompt_version FROM requests"
        " WHERE request_key IN (SELECT unnest(?::VARCHAR[]))",
        [list(keys)],
    )
    found = {}
    for key, *model, messages, sampling, schema, prompt, version in rows:
        form = None if schema is None else orjson.loads(schema)
        chat = tuple(orjson.loads(messages))
        found[key] = Request(ModelRef(*model), chat, orjson.loads(sampling), form, prompt, version)
    return found
