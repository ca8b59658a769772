"""A local OpenAI-compatible server in a process of its own, with programmable latency and faults; it counts what it gets.

    with FakeServer(latency_s=0.2, slots=128) as server:
        settings = EngineSettings(kind="server", url=server.url, model="fake")
        ...
        server.stats()["requests"]

What it answers is a function of the request alone, so that runs can be compared: a choice for `structured_outputs: choice`,
a minimal JSON value for a schema, else `echo <hash>`; `POST /control` with `{"reply": "text"}` sets a fixed text.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import heapq
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.kills.answers import answer_of


class FakeServer:
    """Starts the server as a process, and ends it."""

    def __init__(self, *, port: int = 0, **control: Any) -> None:
        """See `DEFAULTS` for what `control` may hold."""
        self.control_at_start = control
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> FakeServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL for an engine's settings."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it, on the same port as before if it ran before."""
        command = [sys.executable, __file__, "--port", str(self.port), "--control", json.dumps(self.control_at_start)]
        command += ["--parent", str(os.getpid())]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process.stdout and self._process.stdout.close()
            self._process = None

    def control(self, **values: Any) -> None:
        """Change its behaviour."""
        self._call("/control", values)

    def stats(self) -> dict[str, Any]:
        """`requests`, `answered`, `in_flight`, `most_in_flight`, `faults` by kind, `repeats` (bodies seen more than once),
        `samples` (completions given)."""
        return self._call("/stats", None)

    def bodies(self) -> list[dict[str, Any]]:
        """The last 10,000 request bodies (only with `keep_bodies: true`)."""
        return self._call("/bodies", None)["bodies"]

    def _call(self, path: str, body: Any) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=data, timeout=30) as response:
            found: dict[str, Any] = json.loads(response.read())
            return found


DEFAULTS: dict[str, Any] = {
    "latency_s": 0.0,  # time that an answer takes once it has a slot
    "slots": 0,  # answers in the making at once; the rest queue. 0: any number
    "reply": None,  # a fixed text
    "sensible": False,  # answer as `tests/kills/answers.py` does: programs, labels and texts that are good enough
    "length": None,  # length of the text in characters
    "finish_reason": "stop",
    "usage": True,  # or what to say instead
    "message": None,  # a message to give instead of one with the text
    "raw": None,  # {"status", "body", "headers"}: said to everybody instead of an answer; a body other than text is JSON
    "raw_if": None,  # only where this stands in the last message
    "raw_first": 0,  # only to so many requests; 0: to all
    "die_if": None,  # end the process, as a crash would, at a request whose last message holds this
    "die_of_seeds": 0,  # end the process at so many requests with a seed in the making at once, as vLLM 0.32 may on a CPU
    "models_raw": None,  # the same as `raw` for /v1/models
    "cached_tokens": 0,
    "keep_bodies": False,
    "down": False,  # refuse everything by closing the connection
    "faults": {},  # kind -> share of requests: rate_limited, rate_limited_wait, http_500, http_502, reset, cut_off, stall,
    # invalid_json, empty_choices, wrong_order, duplicate, bad_request, too_long, refused, huge
    "stall_s": 3600.0,
    "retry_after_s": 0.2,
    "limit_per_s": 0,  # answer 429 above this rate
    "faults_seed": 0,
    "models": ["fake"],
    "max_model_len": 4096,
    "api_key": None,
}


def _value_for(schema: Any, root: Any = None) -> Any:
    """A smallest value that a JSON schema allows."""
    root = schema if root is None else root
    if "$ref" in schema:
        found = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return _value_for(found, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return _value_for(schema[key][0], root)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _value_for(sub, root) for name, sub in schema.get("properties", {}).items()}
    if kind == "array":
        return [_value_for(schema.get("items", {}), root) for _ in range(max(schema.get("minItems", 0), 1))]
    if kind == "integer":
        return int(schema.get("minimum", 1))
    if kind == "number":
        return float(schema.get("minimum", 0.5))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return "word".ljust(schema.get("minLength", 0), "x")


def _text_for(body: dict[str, Any], sample: int, control: dict[str, Any]) -> str:
    if control["reply"] is not None:
        return str(control["reply"])
    if control["sensible"]:
        return str(answer_of(body["messages"], sample))
    digest = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode() + str(sample).encode()).hexdigest()
    structured = body.get("structured_outputs") or {}
    if "choice" in structured:
        return str(structured["choice"][int(digest[:8], 16) % len(structured["choice"])])
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return json.dumps(_value_for(form["json_schema"]["schema"]))
    text = f"echo {digest[:16]}"
    return text if control["length"] is None else (text + " ") * (control["length"] // len(text) + 1)


def main() -> None:
    """Serve until the parent is gone."""
    from aiohttp import web

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control", default="{}")
    parser.add_argument("--parent", type=int, default=0)
    given = parser.parse_args()
    control = DEFAULTS | json.loads(given.control)
    stats: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    bodies: list[Any] = []
    dice = random.Random(control["faults_seed"])
    gate: list[float] = []
    second = {"at": 0, "n": 0}

    def error(
        status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> web.Response:
        text = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code or status}})
        return web.Response(status=status, text=text, content_type="application/json", headers=headers)

    def spoken(given: dict[str, Any]) -> web.Response:
        body, headers = given.get("body", ""), {"Content-Type": "application/json"} | given.get("headers", {})
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=given.get("status", 200), body=text.encode(), headers=headers)

    def pick() -> str | None:
        roll = dice.random()
        for kind, share in control["faults"].items():
            if roll < share:
                return str(kind)
            roll -= share
        return None

    async def chat(request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        stats["requests"] += 1
        if control["down"]:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=503)
        body = json.loads(raw)
        if control["api_key"] and request.headers.get("Authorization") != f"Bearer {control['api_key']}":
            return error(401, "Incorrect API key provided")
        seen[hashlib.sha256(raw).hexdigest()] += 1
        if control["keep_bodies"]:
            bodies.append(body)
            del bodies[:-10_000]
        now = int(time.monotonic())
        second["at"], second["n"] = now, (second["n"] + 1 if second["at"] == now else 1)
        fault = pick()
        if control["limit_per_s"] and second["n"] > control["limit_per_s"]:
            fault = "rate_limited"
        if fault:
            faults[fault] += 1
        last = body["messages"][-1]["content"]
        if control["die_if"] and control["die_if"] in last:
            os._exit(1)
        raw_reply = control["raw"]
        if raw_reply and (control["raw_if"] or "") in last:
            stats["raw"] += 1
            if not control["raw_first"] or stats["raw"] <= control["raw_first"]:
                return spoken(raw_reply)
        if fault == "rate_limited":
            return error(429, "Rate limit reached")
        if fault == "rate_limited_wait":
            return error(429, "Rate limit reached", headers={"Retry-After": str(control["retry_after_s"])})
        if fault in {"http_500", "http_502", "http_503"}:
            return error(int(fault[-3:]), "Internal error")
        if fault == "bad_request":
            return error(400, "Invalid value for 'temperature'")
        if fault == "too_long":
            return error(400, "This model's maximum context length is 4096 tokens", "context_length_exceeded")
        if fault == "refused":
            return error(400, "The prompt was filtered", "content_filter")
        if fault == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=503)
        if fault == "stall":
            await asyncio.sleep(control["stall_s"])
        stats["in_flight"] += 1
        stats["most_in_flight"] = max(stats["most_in_flight"], stats["in_flight"])
        if "seed" in body and control["die_of_seeds"] and stats["in_flight"] >= control["die_of_seeds"]:
            os._exit(1)
        try:
            if control["slots"]:
                # Each slot knows when it is free, so that the server's own jitter does not make it slower than it says.
                if len(gate) != control["slots"]:
                    gate[:] = [0.0] * control["slots"]
                arrived = time.monotonic()
                ready = max(heapq.heappop(gate), arrived) + control["latency_s"]
                heapq.heappush(gate, ready)
                await asyncio.sleep(ready - time.monotonic())
            elif control["latency_s"]:
                await asyncio.sleep(control["latency_s"])
        finally:
            stats["in_flight"] -= 1
        return await answer(request, body, fault)

    async def answer(request: web.Request, body: dict[str, Any], fault: str | None) -> web.StreamResponse:
        n, seed = int(body.get("n", 1)), int(body.get("seed") or 0)
        choices = []
        for index in range(n):
            text = _text_for(body, seed + index, control)
            if fault == "huge":
                text = text + " word" * 200_000
            message = control["message"] or {"role": "assistant", "content": text}
            choices.append(
                {"index": index, "message": message, "finish_reason": control["finish_reason"], "logprobs": None}
            )
            if body.get("logprobs"):
                choices[-1]["logprobs"] = {"content": [{"token": text[:4], "logprob": -0.1, "top_logprobs": []}]}
        if fault == "empty_choices":
            choices = []
        if fault == "wrong_order":
            choices.reverse()
        if fault == "duplicate":
            choices = choices[:1] + choices
        if fault == "missing":
            choices = choices[: max(n // 2, 1)]
        reply: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        reply["choices"] = choices
        if control["usage"]:
            prompt = sum(len(message["content"]) // 4 + 4 for message in body["messages"])
            spent = sum(len(str(choice["message"]["content"])) // 4 for choice in choices)
            reply["usage"] = {"prompt_tokens": prompt, "completion_tokens": spent, "total_tokens": prompt + spent}
            reply["usage"]["prompt_tokens_details"] = {"cached_tokens": control["cached_tokens"]}
            if control["usage"] is not True:
                reply["usage"] = control["usage"]
        text = json.dumps(reply)
        if fault == "invalid_json":
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        if fault == "cut_off":
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": str(len(text))}
            )
            await response.prepare(request)
            await response.write(text[: len(text) // 2].encode())
            assert request.transport is not None
            request.transport.abort()
            return response
        if fault is None or fault in {"wrong_order", "duplicate", "huge", "stall"}:
            stats["answered"] += 1
            stats["samples"] += n
        return web.Response(text=text, content_type="application/json")

    async def models(request: web.Request) -> web.Response:
        stats["models"] += 1
        if control["models_raw"]:
            return spoken(control["models_raw"])
        rows = [
            {"id": name, "object": "model", "max_model_len": control["max_model_len"]} for name in control["models"]
        ]
        return web.json_response({"object": "list", "data": rows})

    async def set_control(request: web.Request) -> web.Response:
        control.update(await request.json())
        return web.json_response({})

    async def give_stats(request: web.Request) -> web.Response:
        repeats = sum(count - 1 for count in seen.values())
        return web.json_response({**stats, "requests": stats["requests"], "faults": faults, "repeats": repeats})

    async def give_bodies(request: web.Request) -> web.Response:
        return web.json_response({"bodies": bodies})

    async def watch_parent() -> None:
        while given.parent:
            try:
                os.kill(given.parent, 0)
            except OSError:
                os._exit(0)
            await asyncio.sleep(1.0)

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", chat)
        app.router.add_get("/v1/models", models)
        app.router.add_post("/control", set_control)
        app.router.add_get("/stats", give_stats)
        app.router.add_get("/bodies", give_bodies)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", given.port, backlog=4096, reuse_address=True)
        await site.start()
        assert site._server is not None
        print(site._server.sockets[0].getsockname()[1], flush=True)
        await watch_parent()
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
