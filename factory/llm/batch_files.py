"""OpenAI batch JSONL, out and in: what `vllm run-batch` and the hosted batch APIs take and give.

A line out names its call by `custom_id` (`request_key:first-last`). Results are read in any order, partial, with errors in
between, and twice without harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from factory.errors import InputError
from factory.files.replace import refuse_to_replace, replaced
from factory.llm.engines.base import Call, Fault
from factory.llm.openai_format import body_of, reply_of
from factory.llm.request import Answer, ModelRef, Request
from factory.llm.settings import EngineSettings

_ID = re.compile(r"^([0-9a-f]{64}):(\d+)-(\d+)$")


@dataclass(frozen=True)
class Result:
    """One line of a results file.

    Attributes:
        request_key: Which request.
        first: First sample asked for.
        last: Last sample asked for.
        answers: By sample number.
        fault: What was wrong, if not all are there.
    """

    request_key: str
    first: int
    last: int
    answers: Mapping[int, Answer] = field(default_factory=dict)
    fault: Fault | None = None


def write_calls(path: Path, calls: Iterable[Call], settings: EngineSettings) -> int:
    """Write a batch file, whole or not at all; calls of one name once.

    Args:
        path: The file; replaced if it is there.
        calls: What to ask.
        settings: As for a server (style of structured output, extra body).

    Returns:
        Lines written.
    """
    seen: set[str] = set()

    def lines() -> Iterator[dict[str, Any]]:
        for call in calls:
            if call.custom_id not in seen:
                seen.add(call.custom_id)
                body = body_of(call, settings)
                yield {"custom_id": call.custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}

    return write_whole(path, lines())


def write_whole(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL, so that the file is there whole or not at all.

    Returns:
        Lines written.
    """
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


def parse_results(lines: Iterable[tuple[int, bytes]], where: str) -> Iterator[Result]:
    """Read the lines of a results file.

    Args:
        lines: JSONL, with the number of each line (`factory.files.lines.byte_lines`).
        where: The file's name, for errors.

    Raises:
        InputError: A line that is no JSON (but for a last one without its end, which is still being written), or that
            names no request of ours.
    """
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if not line.endswith(b"\n"):
                return
            raise InputError(f"this line is no JSON: {error}", where=f"{where}:{number}") from error
        match = _ID.match(str(row.get("custom_id"))) if isinstance(row, dict) else None
        if match is None or int(match[2]) > int(match[3]):
            raise InputError(
                "this line's custom_id is none of ours",
                where=f"{where}:{number}",
                fix="Nothing of the file was stored. A custom_id is `request_key:first-last`, as `factory batch write` gave it",
            )
        yield _result(match[1], int(match[2]), int(match[3]), row)


def _result(key: str, first: int, last: int, row: Mapping[str, Any]) -> Result:
    response = row.get("response")
    status = response.get("status_code", 200) if isinstance(response, Mapping) else None
    body = response.get("body") if isinstance(response, Mapping) else None
    error = row.get("error") or (body.get("error") if isinstance(body, Mapping) else None)
    if response is None or (isinstance(status, int) and status >= 400) or (error and not _has_choices(body)):
        detail = error.get("message") if isinstance(error, Mapping) else error
        return Result(key, first, last, {}, Fault("refused", "batch_error", str(detail or "no response")[:500], status))
    call = Call(Request(ModelRef(""), ()), first, last)
    reply = reply_of(call, body, origin="batch", status=status or 200)
    return Result(key, first, last, reply.answers, reply.fault)


def _has_choices(body: Any) -> bool:
    return isinstance(body, Mapping) and bool(body.get("choices"))
