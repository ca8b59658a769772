"""Answers by file: what is missing is written as OpenAI batch JSONL, and results are read when they are there.

`vllm run-batch -i REQUESTS -o RESULTS` and the hosted batch APIs take and give these files. Each run reads the results first, so
the round trip is: run (writes the requests, ends as pending), have the batch answered, run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from factory.files.lines import byte_lines
from factory.llm.batch_files import Result, parse_results, take_in, write_calls
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import BulkEngine, Pending, by_prompt
from factory.llm.ledger import Ledger
from factory.llm.request import Request
from factory.llm.settings import EngineSettings, as_list


class BatchEngine(BulkEngine):
    """Reads results that are there; what is missing is written to the requests file."""

    name = "batch"
    billed = False

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings)
        assert settings.requests is not None
        self.requests_path = base / settings.requests
        self.result_paths = [base / path for path in as_list(settings.results)]
        self._results: dict[str, list[Result]] | None = None

    def arrived(self, requests: Sequence[Request], ledger: Ledger) -> None:
        """Store what the results files hold of these requests."""
        results = self._load()
        found = [(request, result) for request in requests for result in results.get(request.key, ())]
        if found:
            take_in(ledger, found)
            ledger.flush()

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Nothing more: what came is stored, and the rest is `missing`, unless the model cannot take such a request."""
        for call in calls:
            faults = [fault for fault in self._faults(call) if fault.kind == "declined"]
            fault = faults[0] if faults else Fault("missing", "not_in_the_results")
            yield call, Reply({}, fault, None, fault.status, on_record=True)

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """Writes the batch file and says what to do with it, and what came back with an error."""
        written = write_calls(self.requests_path, calls, self.settings)
        asked = "1 request" if written == 1 else f"{written} requests"
        what = f"stage `{stage}` waits for {asked} ({by_prompt(calls)}), written to {self.requests_path}"
        what += self.came_back(calls)
        first = next(iter(self.result_paths), None)
        results = f"read them with `factory batch read` ({first})" if first is not None else "add `results:`"
        fix = f"Have them answered (`vllm run-batch -i ... -o ...`, or a hosted batch API), {results}, and run again"
        return Pending(what, fix=fix)

    def came_back(self, calls: Iterable[Call]) -> str:
        """Words on those of these calls that came back without an answer; none if there are none."""
        errors = Counter(fault.detail for call in calls for fault in self._faults(call)[:1])
        if not errors:
            return ""
        told = "; ".join(words if n == 1 else f"{n} times {words}" for words, n in errors.most_common(3))
        return f"; {errors.total()} of them came back without an answer: {told}"

    def close(self) -> None:
        """Forget the results, so that they are read again."""
        self._results = None

    def _faults(self, call: Call) -> list[Fault]:
        """What results say against a call, those of lines that brought nothing."""
        return [
            result.fault
            for result in self._load().get(call.request.key, ())
            if result.fault is not None and not result.answers
            if result.first <= call.last and call.first <= result.last
        ]

    def _load(self) -> dict[str, list[Result]]:
        if self._results is None:
            self._results = {}
            for path in self.result_paths:
                if not path.is_file():
                    continue
                with byte_lines(path) as lines:
                    for result in parse_results(lines, str(path)):
                        self._results.setdefault(result.request_key, []).append(result)
        return self._results
