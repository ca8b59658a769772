"""Answers from a file: what a model once said to exactly these messages.

A line is `{"key": content_key, "sample_no": 0, "answer": "...", "date": "...", "model": "...", "prompt": "...",
"prompt_version": "..."}`, perhaps with `finish_reason` and `reasoning`; it matches by the hash of messages and schema, so a new
model name or revision does not orphan it. A line of a batch result (`custom_id`) matches by the request's own key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from factory.errors import EngineError
from factory.files.lines import byte_lines
from factory.llm.batch_files import parse_results, write_whole
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import BulkEngine, Pending, by_prompt
from factory.llm.faults import json_of
from factory.llm.request import Answer, ModelRef, Request, Usage, estimate_prompt_tokens, estimate_tokens
from factory.llm.settings import EngineSettings, as_list


class RecordedEngine(BulkEngine):
    """Gives recorded answers; what was not recorded is `Pending`."""

    name = "recorded"
    billed = False

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings)
        self.paths = [base / path for path in as_list(settings.answers)]
        self.requests_path = None if settings.requests is None else base / settings.requests
        self._by_content: dict[tuple[str, int], dict[str, Any]] | None = None
        self._by_request: dict[tuple[str, int], Answer] = {}

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Answer from the file; a sample that is not there is `missing`."""
        for call in calls:
            every = ((sample, self._find(call.request, sample)) for sample in range(call.first, call.last + 1))
            found = {sample: answer for sample, answer in every if answer is not None}
            missing = Fault("missing", "no_recorded_answer", "no answer to these messages was recorded")
            yield call, Reply(found, missing if len(found) < call.n else None)

    def use_adapter(self, name: str, folder: Path) -> ModelRef:
        """Refused: answers match by the messages alone, so an adapter would be given the model's own.

        Raises:
            EngineError: Always.
        """
        fix = "Use the engine `server`, `vllm` or `transformers`"
        raise EngineError(f"recorded answers cannot speak for the adapter {name!r}", fix=fix)

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """How many answers of which prompts are missing, and how to get them."""
        n = sum(call.n for call in calls)
        what = f"{n} answer{'s' if n != 1 else ''} of stage `{stage}` not recorded ({by_prompt(calls)})"
        fix = (
            "Write the missing requests with `factory batch write PIPELINE`, have them answered, then"
            " `factory batch read`; or use another engine"
        )
        if self.requests_path is not None:
            write_wanted(self.requests_path, calls)
            fix = (
                f"They are written to {self.requests_path}: add an `answer` to each line, and the lines to the answers"
            )
        return Pending(what, where=", ".join(map(str, self.paths)), fix=fix)

    def _find(self, request: Request, sample: int) -> Answer | None:
        if self._by_content is None:
            self._by_content = self._load()
        row = self._by_content.get((request.content_key, sample))
        if row is None:
            return self._by_request.get((request.key, sample))
        text, finish = str(row["answer"]), row.get("finish_reason", "stop")
        usage = Usage(estimate_prompt_tokens(request.messages), estimate_tokens(text), 0, False)
        return Answer(text, finish, row.get("reasoning"), usage, origin="recorded")

    def _load(self) -> dict[tuple[str, int], dict[str, Any]]:
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for path in self.paths:
            if not path.is_file():
                raise EngineError("no such file of recorded answers", where=path, fix="Check `answers` of the engine")
            with byte_lines(path) as lines:
                for number, line in lines:
                    if not line.strip():
                        continue
                    try:
                        row = json_of(line)
                        if "custom_id" in row:
                            for result in parse_results([(number, line)], str(path)):
                                for sample, answer in result.answers.items():
                                    self._by_request.setdefault((result.request_key, sample), answer)
                            continue
                        key = (str(row["key"]), int(row.get("sample_no", 0)))
                        str(row["answer"])
                    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                        raise EngineError(
                            "this line is not a recorded answer",
                            where=f"{path}:{number}",
                            fix='A line is {"key": ..., "sample_no": 0, "answer": "...", "date": ..., "model": ...}',
                        ) from error
                    found.setdefault(key, row)
        return found


def write_wanted(path: Path, calls: Iterable[Call]) -> int:
    """Write what is to be recorded, a line for each sample: the recorded form without its answer, and the messages.

    Returns:
        Lines written.
    """
    lines = (
        {
            "key": call.request.content_key,
            "sample_no": sample,
            "prompt": call.request.prompt,
            "prompt_version": call.request.prompt_version,
            "messages": list(call.request.messages),
            "schema": call.request.schema,
            "sampling": call.request.sampling,
        }
        for call in calls
        for sample in range(call.first, call.last + 1)
    )
    return write_whole(path, lines)
