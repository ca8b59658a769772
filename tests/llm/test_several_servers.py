"""Several servers of one model: they share the work by what each has in flight, and it goes on when one is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from factory.errors import EngineError
from factory.llm import Ask, EngineSettings, ModelRef, Request, make_engine, send
from factory.warehouse.file import Warehouse
from tests.fake_server import FakeServer

SLOTS = 8
"""Answers in the making at once, of each server."""

Start = Callable[..., FakeServer]


def asks(n: int) -> list[Ask]:
    texts = [{"role": "user", "content": f"text {number}"} for number in range(n)]
    return [Ask(Request(ModelRef("fake"), (text,), {"max_tokens": 16})) for text in texts]


def engine(*servers: FakeServer, **more: Any) -> Any:
    given: dict[str, Any] = {"model": "fake", "concurrency": 64} | more
    return make_engine(EngineSettings(kind="server", url=[server.url for server in servers], **given))


def rate(n: int, *servers: FakeServer) -> float:
    """Answers a second in the middle half of `n`, when start and end are out of the way."""
    came: list[float] = []

    def told(found: Any) -> None:
        came.extend([time.monotonic()] * len(found))

    assert send(Warehouse.memory(), engine(*servers), asks(n), stage="t", told=told).answered == n
    return (n // 2) / (came[3 * n // 4] - came[n // 4])


@pytest.mark.slow
def test_two_servers_give_twice_the_answers_of_one(fake_server: Start) -> None:
    one, other = fake_server(latency_s=0.2, slots=SLOTS), fake_server(latency_s=0.2, slots=SLOTS)
    alone, together = rate(96, one), rate(192, one, other)
    print(f"{alone:.0f}/s of one, {together:.0f}/s of two")
    assert together > 1.6 * alone
    assert 72 <= other.stats()["requests"] <= 120


def test_of_two_servers_one_dies_and_nothing_is_paid_twice_but_what_it_had_in_the_making(fake_server: Start) -> None:
    n = 72
    one, other = fake_server(latency_s=0.1, slots=SLOTS), fake_server(latency_s=0.1, slots=SLOTS)
    before: dict[str, Any] = {}

    def die() -> None:
        while other.stats().get("answered", 0) < SLOTS:
            time.sleep(0.01)
        before.update(other.stats())
        other.stop()

    thread = threading.Thread(target=die)
    thread.start()
    warehouse = Warehouse.memory()
    assert send(warehouse, engine(one, other), asks(n), stage="t").answered == n
    thread.join()
    assert warehouse.scalar("SELECT count(*) FROM answers") == n
    assert warehouse.scalar("SELECT count(DISTINCT request_key) FROM answers") == n
    assert one.stats()["repeats"] == 0
    asked = one.stats()["requests"] + before["answered"]
    # what the dying server gave after it was last looked at, and what it had begun and could not give
    assert n - SLOTS <= asked <= n + SLOTS


@pytest.mark.parametrize("away", [0, 1])
def test_a_server_that_is_away_from_the_start_is_gone_without(fake_server: Start, away: int) -> None:
    there, gone = fake_server(), FakeServer(port=9)
    servers = [gone, there] if away == 0 else [there, gone]
    asking = engine(*servers, model=None)
    assert asking.model == ModelRef("fake"), "whichever is there says what it serves"
    assert asking.context_length() == 4096
    assert send(Warehouse.memory(), asking, asks(20), stage="t").answered == 20
    with pytest.raises(EngineError, match="no language model answers there"):
        _ = engine(gone, gone, model=None).model
