"""Answers by file: what is missing is written as OpenAI batch JSONL, and results are read when they are there.

`vllm run-batch -i REQUESTS -o RESULTS` and the hosted batch APIs take and give these files. Each run reads the results first, so
the round trip is: run (writes the requests, ends as pending), have the batch answered, run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from factory.files.lines import byte_lines
from factory.llm.batch_files import Result, parse_results, write_calls
from factory.llm.engines.base import BulkEngine, Call, Fault, Pending, Reply
from factory.llm.request import Answer
from factory.llm.settings import EngineSettings, as_list


class BatchEngine(BulkEngine):
    """Reads results that are there; what is missing is written to the requests file."""

    name = "batch"

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings)
        assert settings.requests is not None
        self.requests_path = base / settings.requests
        self.result_paths = [base / path for path in as_list(settings.results)]
        self._results: tuple[dict[tuple[str, int], Answer], dict[tuple[str, int], Fault]] | None = None

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Answer from the results files. A line with an error ends its call, unless another line answers it."""
        for call in calls:
            if self._results is None:
                self._results = self._load()
            answers, faults = self._results
            key = call.request.key
            samples = range(call.first, call.last + 1)
            found = {sample: answers[(key, sample)] for sample in samples if (key, sample) in answers}
            fault = None
            if len(found) < call.n:
                told = [faults[(key, s)] for s in samples if s not in found and (key, s) in faults]
                fault = told[0] if len(told) == call.n - len(found) else Fault("missing", "not_in_the_results")
            yield call, Reply(found, fault, None, None if fault is None else fault.status)

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """Writes the batch file and says what to do with it."""
        written = write_calls(self.requests_path, calls, self.settings)
        prompts = Counter(call.request.prompt or "?" for call in calls)
        names = ", ".join(f"{count} of `{name}`" for name, count in sorted(prompts.items()))
        results = (
            f"read them with `factory batch read` ({self.result_paths[0]})" if self.result_paths else "add `results:`"
        )
        return Pending(
            f"stage `{stage}` waits for {written} requests ({names}), written to {self.requests_path}",
            fix=f"Have them answered (`vllm run-batch -i ... -o ...`, or a hosted batch API), {results}, and run again",
        )

    def close(self) -> None:
        """Forget the results, so that they are read again."""
        self._results = None

    def _load(self) -> tuple[dict[tuple[str, int], Answer], dict[tuple[str, int], Fault]]:
        answers: dict[tuple[str, int], Answer] = {}
        faults: dict[tuple[str, int], Fault] = {}
        for path in self.result_paths:
            if not path.is_file():
                continue
            with byte_lines(path) as lines:
                for result in parse_results(lines, str(path)):
                    _sort_in(result, answers, faults)
        return answers, faults


def _sort_in(result: Result, answers: dict[tuple[str, int], Answer], faults: dict[tuple[str, int], Fault]) -> None:
    for sample in range(result.first, result.last + 1):
        key = (result.request_key, sample)
        if sample in result.answers:
            answers.setdefault(key, result.answers[sample])
        elif result.fault is not None and result.fault.kind == "refused":
            faults.setdefault(key, result.fault)
