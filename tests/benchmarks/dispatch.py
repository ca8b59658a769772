"""What asking costs: requests a second through dispatch and ledger, and how near they come to what a server can give.

    python tests/benchmarks/dispatch.py [--quick] [--only openai|litellm|dspy|latency|servers|vllm|million|outage]

`overhead_*`: a server in another process that answers at once; this process and its threads on one core.
`latency_*`: a server that takes 200 ms and serves 128 at a time; the ideal is 640 answers/s.
`servers_*`: two servers that take 200 ms and serve 8 at a time, beside one; and one of the two killed in the middle.
`vllm_*`: real vLLM on a CPU with a tiny random model, beside a bare aiohttp client with the same requests and concurrency.
`million_*`: 1,000,000 pending requests, planned, looked up and sent; peak memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _harness import ROOT, Options, Row, Skip, case, main, row
from fake_server import FakeServer

CONCURRENCY = 128
TEXT = "Read the text and say which of the labels it has. " * 6


def messages(number: int, salt: str = "") -> list[dict[str, str]]:
    return [{"role": "system", "content": TEXT}, {"role": "user", "content": f"text {salt}{number}: {'word ' * 40}"}]


def asks(n: int, model: str = "fake", salt: str = "", **sampling: Any) -> Iterator[Any]:
    from factory.llm import Ask, ModelRef, Request

    for number in range(n):
        yield Ask(
            Request(
                ModelRef(model),
                tuple(messages(number, salt)),
                {"temperature": 0.7, "max_tokens": 16, **sampling},
                prompt="b",
            )
        )


def ours(
    url: str | list[str],
    n: int,
    *,
    model: str = "fake",
    salt: str = "",
    concurrency: int = CONCURRENCY,
    start: int = 64,
    told: Any = None,
    **sampling: Any,
) -> float:
    """Answers per second through dispatch and ledger, with a fresh DuckDB file."""
    from factory.llm import EngineSettings, make_engine, send
    from factory.warehouse.file import Warehouse

    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse.open(Path(folder) / "w.duckdb")
        engine = make_engine(EngineSettings(kind="server", url=url, model=model, concurrency=concurrency, start=start))
        began = time.perf_counter()
        sent = send(warehouse, engine, asks(n, model, salt, **sampling), stage="benchmark", told=told)
        seconds = time.perf_counter() - began
        assert sent.answered == n, sent
        assert warehouse.scalar("SELECT count(*) FROM answers") == n
    return n / seconds


def bare_aiohttp(
    url: str, n: int, *, model: str = "fake", salt: str = "", concurrency: int = CONCURRENCY, **sampling: Any
) -> float:
    """A bare client: a semaphore and `post`, nothing stored."""
    import aiohttp
    import orjson

    async def run() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:
            todo = iter(range(n))

            async def worker() -> None:
                for number in todo:
                    body = {
                        "model": model,
                        "messages": messages(number, salt),
                        "temperature": 0.7,
                        "max_tokens": 16,
                        "seed": 0,
                    }
                    async with session.post(
                        f"{url}/chat/completions",
                        data=orjson.dumps(body | sampling),
                        headers={"Content-Type": "application/json"},
                    ) as response:
                        assert response.status == 200
                        orjson.loads(await response.read())

            began = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(concurrency)))
            return n / (time.perf_counter() - began)

    return asyncio.run(run())


def openai_sdk(url: str, n: int, *, aiohttp: bool = True) -> float:
    """`openai.AsyncOpenAI` with a semaphore, over aiohttp (the SDK's faster transport) or over httpx (its default)."""
    import openai

    async def run() -> float:
        transport = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=transport) as client:
            gate = asyncio.Semaphore(CONCURRENCY)

            async def one(number: int) -> None:
                async with gate:
                    said = await client.chat.completions.create(
                        model="fake",
                        messages=messages(number),  # type: ignore[arg-type]
                        temperature=0.7,
                        max_tokens=16,
                    )
                    assert said.choices[0].message.content

            began = time.perf_counter()
            await asyncio.gather(*(one(number) for number in range(n)))
            return n / (time.perf_counter() - began)

    return asyncio.run(run())


def litellm_client(url: str, n: int) -> float:
    """`litellm.acompletion` with a semaphore."""
    import litellm

    litellm.suppress_debug_info = True

    async def run() -> float:
        gate = asyncio.Semaphore(CONCURRENCY)

        async def one(number: int) -> None:
            async with gate:
                said = await litellm.acompletion(
                    model="openai/fake",
                    api_base=url,
                    api_key="none",
                    messages=messages(number),
                    temperature=0.7,
                    max_tokens=16,
                )
                assert said.choices[0].message.content

        began = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(n)))
        return n / (time.perf_counter() - began)

    return asyncio.run(run())


def dspy_lm(url: str, n: int) -> float:
    """DSPy's own LM, called concurrently."""
    import dspy

    lm = dspy.LM(
        "openai/fake", api_base=url, api_key="none", cache=False, num_retries=0, temperature=0.7, max_tokens=16
    )

    async def run() -> float:
        gate = asyncio.Semaphore(CONCURRENCY)

        async def one(number: int) -> None:
            async with gate:
                assert await lm.acall(messages=messages(number))

        began = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(n)))
        return n / (time.perf_counter() - began)

    return asyncio.run(run())


PEERS = ("bare_aiohttp", "openai_sdk", "litellm_client", "dspy_lm")


# Each client runs in a process of its own, held to one core, so that imports and garbage of one do not weigh on another.
def in_a_process(client: str, *given: Any, cores: int = 1, **named: Any) -> dict[str, float]:
    """`{"figure", "cpu_s", "peak_mb"}` of one client function."""
    folders = [str(ROOT / "tests" / "benchmarks"), str(ROOT)]
    code = f"import sys; sys.path[:0] = {folders!r}; import dispatch; "
    code += f"dispatch.report({client!r}, {given!r}, {named!r}, {cores!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def report(client: str, given: tuple[Any, ...], named: dict[str, Any], cores: int) -> None:
    """Runs inside the client's process."""
    if cores == 1 and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    function = globals()[client]
    if client in PEERS or client == "ours":
        function(given[0], 64, **({**named, "salt": "warm"} if client in {"ours", "bare_aiohttp"} else named))
    before = time.process_time()
    figure = function(*given, **named)
    cpu = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"figure": figure, "cpu_s": cpu, "peak_mb": peak}))


def _overhead(options: Options, client: str, peer_name: str, share: float, name: str = "", **named: Any) -> list[Row]:
    n = 1000 if options.quick else 5000
    rounds = 1 if options.quick else 5
    mine: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    n_peer = max(int(n * share), 200)
    with FakeServer() as server:
        for _ in range(rounds):
            mine.append(in_a_process("ours", server.url, n))
            theirs.append(in_a_process(client, server.url, n_peer, **named))
    figures, others = [m["figure"] for m in mine], [t["figure"] for t in theirs]
    return [
        row(
            f"overhead_{name or peer_name.split()[0]}",
            statistics.median(figures),
            statistics.median(others),
            peer_name=peer_name,
            unit="requests/s",
            n=n,
            concurrency=CONCURRENCY,
            rounds=rounds,
            ours_spread=[min(figures), max(figures)],
            peer_spread=[min(others), max(others)],
            cpu_ms_per_request=round(statistics.median(m["cpu_s"] for m in mine) / n * 1e3, 3),
            peer_cpu_ms_per_request=round(statistics.median(t["cpu_s"] for t in theirs) / n_peer * 1e3, 3),
            requests_per_core_second=round(n / statistics.median(m["cpu_s"] for m in mine)),
        )
    ]


@case("overhead_openai")
def overhead_openai(options: Options) -> list[Row]:
    rows = _overhead(options, "openai_sdk", "openai SDK over aiohttp, with a semaphore", 0.2, "openai")
    return rows + _overhead(
        options, "openai_sdk", "openai SDK as it comes, with a semaphore", 0.1, "openai_httpx", aiohttp=False
    )


@case("overhead_litellm")
def overhead_litellm(options: Options) -> list[Row]:
    return _overhead(options, "litellm_client", "litellm acompletion with a semaphore", 0.05)


@case("overhead_dspy")
def overhead_dspy(options: Options) -> list[Row]:
    return _overhead(options, "dspy_lm", "dspy LM with a semaphore", 0.05)


@case("overhead_aiohttp")
def overhead_aiohttp(options: Options) -> list[Row]:
    return _overhead(options, "bare_aiohttp", "aiohttp bare, nothing stored", 1.0)


def steady_rate(url: str, seconds: float, ramp_s: float, ideal: float) -> float:
    """Answers per second in a window of so many seconds after the ramp."""
    at: list[float] = []

    def told(found: Any) -> None:
        at.extend([time.monotonic()] * len(found))

    began = time.monotonic()
    ours(url, int(ideal * (seconds + ramp_s + 3.0)), concurrency=1024, told=told)
    return sum(began + ramp_s <= moment < began + ramp_s + seconds for moment in at) / seconds


@case("latency_200ms_128_slots")
def latency(options: Options) -> Row:
    seconds = 5.0 if options.quick else 60.0
    with FakeServer(latency_s=0.2, slots=128) as server:
        found = in_a_process("steady_rate", server.url, seconds, 5.0, 640.0)
        most = server.stats()["most_in_flight"]
    return row(
        "latency_200ms_128_slots",
        found["figure"],
        640.0,
        peer_name="ideal: 128 slots / 0.2 s",
        unit="answers/s",
        seconds=seconds,
        ramp_s=5.0,
        most_in_flight=most,
    )


@case("latency_outage_30s")
def outage(options: Options) -> Row:
    """Throughput 2 to 10 s after an outage, beside that before it."""
    away, first = (3.0, 6.0) if options.quick else (30.0, 10.0)
    n = int(640 * (first + 13.0))
    at: list[float] = []
    times: dict[str, float] = {}
    with FakeServer(latency_s=0.2, slots=128) as server:

        def fail() -> None:
            time.sleep(first)
            times["from"] = time.monotonic()
            server.control(down=True)
            time.sleep(away)
            server.control(down=False)
            times["to"] = time.monotonic()

        thread = threading.Thread(target=fail)
        thread.start()
        ours(server.url, n, told=lambda found: at.extend([time.monotonic()] * len(found)), concurrency=256)
        thread.join()

    def rate(start: float, end: float) -> float:
        return sum(start <= moment < end for moment in at) / (end - start)

    before, after = rate(times["from"] - 5.0, times["from"]), rate(times["to"] + 5.0, times["to"] + 10.0)
    back = next((s for s in range(1, 11) if rate(times["to"] + s - 1, times["to"] + s) >= 0.9 * before), None)
    return row(
        "latency_outage_30s",
        after,
        before,
        peer_name="before the outage",
        unit="answers/s",
        outage_s=away,
        back_after_s=back,
    )


SLOW: dict[str, Any] = {"latency_s": 0.2, "slots": 8}


@case("servers_two")
def servers_two(options: Options) -> Row:
    """Two servers beside one of them, the same requests, in turns."""
    n, rounds = (160, 1) if options.quick else (800, 5)
    both: list[float] = []
    alone: list[float] = []
    with FakeServer(**SLOW) as one, FakeServer(**SLOW) as other:
        for _ in range(rounds):
            both.append(in_a_process("ours", [one.url, other.url], n)["figure"])
            alone.append(in_a_process("ours", one.url, n)["figure"])
    return row(
        "servers_two",
        statistics.median(both),
        statistics.median(alone),
        peer_name="one server",
        unit="answers/s",
        n=n,
        rounds=rounds,
        ideal=80,
        ours_spread=[min(both), max(both)],
        peer_spread=[min(alone), max(alone)],
    )


@case("servers_one_dies")
def servers_one_dies(options: Options) -> Row:
    """Requests that reach the servers per text where one of two is killed in mid-run; what is above 1 was in flight."""
    n = 160 if options.quick else 800
    before: dict[str, Any] = {}
    with FakeServer(**SLOW) as one, FakeServer(**SLOW) as other:

        def die() -> None:
            while other.stats().get("answered", 0) < n // 4:
                time.sleep(0.02)
            before.update(other.stats())
            other.stop()

        thread = threading.Thread(target=die)
        thread.start()
        figure = ours([one.url, other.url], n)  # which sees to it that every answer is stored, once
        thread.join()
        paid = one.stats()["requests"] + before["answered"]
    return row(
        "servers_one_dies",
        paid / n,
        (n + SLOW["slots"]) / n,
        peer_name="every text once, and what was in the making",
        unit="requests per text",
        smaller_is_better=True,
        n=n,
        answers_per_s=round(figure, 1),
    )


@case("vllm_cpu")
def vllm_cpu(options: Options) -> list[Row]:
    from vllm_server import VllmServer, vllm_python

    if vllm_python() is None:
        raise Skip("no vLLM: set LABEL_FACTORY_VLLM_PYTHON to a Python that has it")
    if options.quick:
        raise Skip("starting vLLM takes minutes: run without --quick")
    n, rounds = 4000, 7
    mine: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        server = VllmServer(Path(folder)).start()
        try:
            for number in range(rounds):
                # The same prompts for both; a salt for each turn keeps the prefix cache from favouring the second.
                turns = [(mine, "ours", f"a{number}-"), (theirs, "bare_aiohttp", f"b{number}-")]
                for figures, client, salt in turns if number % 2 == 0 else turns[::-1]:
                    more = {"start": CONCURRENCY} if client == "ours" else {}  # the other starts with all of them, too
                    before = server.cpu_s()
                    found = in_a_process(client, server.url, n, model="tiny", salt=salt, cores=2, **more)
                    figures.append(found | {"server_cpu_s": server.cpu_s() - before})
        finally:
            server.stop()
    ratios = [m["figure"] / t["figure"] for m, t in zip(mine, theirs, strict=True)]
    return [
        row(
            "vllm_cpu_tiny_model",
            statistics.median(m["figure"] for m in mine),
            statistics.median(t["figure"] for t in theirs),
            peer_name="aiohttp bare, nothing stored",
            unit="requests/s",
            n=n,
            rounds=rounds,
            concurrency=CONCURRENCY,
            ratio_median=round(statistics.median(ratios), 4),
            ratio_lower95=round(lower_bound(ratios), 4),
            ratios=[round(ratio, 3) for ratio in ratios],
            client_cpu_ms=round(statistics.median(m["cpu_s"] for m in mine) / n * 1e3, 3),
            peer_cpu_ms=round(statistics.median(t["cpu_s"] for t in theirs) / n * 1e3, 3),
            server_cpu_ms=round(statistics.median(m["server_cpu_s"] for m in mine) / n * 1e3, 3),
            # Client and server together, of the peer against ours: what the ratio comes to where they share a few busy cores,
            # and hardly moved by whatever else runs there.
            cpu_ratio=round(statistics.median(map(_whole_cpu, theirs)) / statistics.median(map(_whole_cpu, mine)), 4),
        )
    ]


def _whole_cpu(found: dict[str, float]) -> float:
    return found["cpu_s"] + found["server_cpu_s"]


def lower_bound(ratios: list[float]) -> float:
    """Lower end of a 95% bootstrap interval of the median."""
    dice = random.Random(0)
    medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(4000))
    return medians[int(0.025 * len(medians))]


@case("million_pending")
def million(options: Options) -> Row:
    n = 10_000 if options.quick else 1_000_000
    with FakeServer() as server:
        found = in_a_process("ours", server.url, n, cores=2, concurrency=256)
        sent = server.stats()["requests"]
    return row(
        "million_pending",
        found["peak_mb"],
        1024.0,
        peer_name="1 GB",
        unit="MB peak",
        smaller_is_better=True,
        n=n,
        sent=sent,
        requests_per_s=round(found["figure"]),
        cpu_ms_per_request=round(found["cpu_s"] / n * 1e3, 3),
    )


if __name__ == "__main__":
    main(__doc__)
