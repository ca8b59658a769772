"""A counting, OpenAI-compatible server in a process of its own, whose answers depend on nothing but the request.

It replays recorded answers by content where it has them and makes up the rest (`tests/kills/answers.py`). By itself:
`python tests/kills/server.py --port 8000 --recorded pipelines/youtube/answers.jsonl`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

LOOPS = "```python\ndef label(text):\n    while True:\n        text = text.strip()\n```"
"""What `loop_program` makes of one program."""


class CountingServer:
    """Starts the server as a process, and ends it.

    Args:
        recorded: Files of recorded answers to replay.
        latency_s: How long an answer takes.
        strict: Whether a request that was not recorded is refused (404) instead of made up.
        loop_program: Let the first program ever asked for (and every later answer to that same request) loop for ever.
    """

    def __init__(
        self, *, recorded: Sequence[Path] = (), latency_s: float = 0.0, strict: bool = False, loop_program: bool = False
    ) -> None:
        self._arguments = [f"--latency={latency_s}", f"--parent={os.getpid()}"]
        self._arguments += [f"--recorded={path}" for path in recorded]
        self._arguments += ["--strict"] * strict + ["--loop-program"] * loop_program
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    def __enter__(self) -> CountingServer:
        command = [sys.executable, __file__, *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    @property
    def url(self) -> str:
        """The base URL for an engine's settings."""
        return f"http://127.0.0.1:{self._port}/v1"

    def counts(self) -> dict[str, int]:
        """Since `reset`: `samples` asked for, `distinct` ones, `requests`, samples of the `largest`; `in_flight`, `unknown`."""
        found: dict[str, int] = self._call("/counts")
        return found

    def settled(self, patience_s: float = 10.0) -> dict[str, int]:
        """The counts once nothing is in flight any more (whoever asked may be dead)."""
        until = time.monotonic() + patience_s
        before = self.counts()
        while time.monotonic() < until:
            time.sleep(0.05)
            now = self.counts()
            if now == before and not now["in_flight"]:
                return now
            before = now
        raise TimeoutError(f"still in flight: {before}")

    def reset(self) -> None:
        """Count from zero."""
        self._call("/reset")

    def _call(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=30) as response:
            return json.loads(response.read())


def main() -> None:
    """Serve until the parent is gone."""
    from aiohttp import web

    from factory.canonical import digest
    from tests.kills.answers import answer_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--recorded", type=Path, action="append", default=[])
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--loop-program", action="store_true")
    given = parser.parse_args()
    recorded: dict[tuple[str, int], str] = {}
    for path in given.recorded:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            recorded[(row["key"], int(row.get("sample_no", 0)))] = row["answer"]
    counts: Counter[str] = Counter()
    seen: set[tuple[str, int]] = set()
    looping: list[tuple[str, int]] = []

    def text_of(key: tuple[str, int], messages: list[dict[str, str]]) -> str | None:
        text = recorded.get(key)
        if text is None:
            counts["unknown"] += 1
            text = None if given.strict else answer_of(messages, key[1])
        if given.loop_program and text is not None and "```python" in text and (not looping or key in looping):
            looping[:] = [key]
            return LOOPS
        return text

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        first, n = int(body.get("seed") or 0), int(body.get("n") or 1)
        content = digest({"messages": body["messages"], "schema": None})
        counts["requests"] += 1
        counts["in_flight"] += 1
        keys = [(content, first + at) for at in range(n)]
        counts["samples"] += n
        counts["largest"] = max(counts["largest"], n)
        seen.update(keys)
        texts = [text_of(key, body["messages"]) for key in keys]
        try:
            await asyncio.sleep(given.latency)
        finally:
            counts["in_flight"] -= 1
        if any(text is None for text in texts):
            return web.json_response({"error": {"message": "no such answer is recorded"}}, status=404)
        choices = [
            {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for at, text in enumerate(texts)
        ]
        usage = {
            "prompt_tokens": sum(len(message["content"]) for message in body["messages"]) // 4,
            "completion_tokens": sum(len(text or "") for text in texts) // 4 + 1,
        }
        usage["total_tokens"] = sum(usage.values())
        reply = {"id": content[:12], "object": "chat.completion", "created": 0, "model": body["model"]}
        return web.json_response({**reply, "choices": choices, "usage": usage})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "counting", "object": "model"}]})

    async def give_counts(_: web.Request) -> web.Response:
        names = ("requests", "samples", "largest", "in_flight", "unknown")
        return web.json_response({**{name: counts[name] for name in names}, "distinct": len(seen)})

    async def reset(_: web.Request) -> web.Response:
        counts.clear()
        seen.clear()
        return web.json_response({})

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/v1/models", models)
        app.router.add_get("/counts", give_counts)
        app.router.add_get("/reset", reset)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", given.port, backlog=1024)
        await site.start()
        assert site._server is not None
        print(site._server.sockets[0].getsockname()[1], flush=True)
        while not given.parent or os.path.exists(f"/proc/{given.parent}"):
            await asyncio.sleep(1.0)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
