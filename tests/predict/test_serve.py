"""The server, over real processes: its address, batching, bounds on size and time, and an end within seconds."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from factory.errors import InputError
from factory.predict.http_limits import hosts_of
from factory.predict.load import load_export
from factory.predict.serve import MOST_BYTES, MOST_CHARACTERS, MOST_CHARACTERS_IN_ALL, MOST_TEXTS, make_app, serve
from tests.topics import SUBJECTS, sentences

ROOT = Path(__file__).resolve().parents[2]
HELD, _ = sentences(9, 20)
POST = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

PATCHED = """
import sys, time
from factory.predict import http_limits, load, serve, turns

answer = load.Exported.answer
def slow(self, texts):
    time.sleep(sum(map(len, texts)) * float(sys.argv[2]))
    return answer(self, texts)
load.Exported.answer = slow
http_limits.HEADERS_S = serve.BODY_S = 1.0
http_limits.MOST_CONNECTIONS = 40
turns.MOST_WAITING = 3
serve.serve(sys.argv[1], port=0, told=lambda line: print(line, file=sys.stderr, flush=True))
"""


class Server:
    """A server process and how to ask it."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process, self.line = process, line
        self.port = int(line.partition("http://127.0.0.1:")[2].partition(" ")[0])

    def ask(
        self, value: Any = None, *, body: bytes | None = None, path: str = "/predict", **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of one request; a GET without a body."""
        content = body if body is not None else None if value is None else json.dumps(value).encode()
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET" if content is None else "POST", path, content, sent)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def begin(self, head: str) -> socket.socket:
        """A connection that has sent this much."""
        link = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        link.sendall(head.encode())
        return link


@contextmanager
def started(*command: str) -> Iterator[Server]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            yield Server(process, process.stderr.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(linear: Path) -> Iterator[Server]:
    with started("-m", "factory.cli", "serve", str(linear), "--port", "0") as found:
        yield found


@pytest.fixture
def patched(linear: Path) -> Iterator[Server]:
    """One that needs 20 ms for 1,000 characters, with bounds that a test can wait for."""
    with started("-c", PATCHED, str(linear), "2e-5") as found:
        yield found


def test_it_says_where_it_is(server: Server, linear: Path) -> None:
    address = f"http://127.0.0.1:{server.port}"
    assert server.line == f"serving {linear} on {address} (its page: {address}/docs); Ctrl-C ends it\n"
    assert server.ask(path="/labels") == (200, {"labels": list(SUBJECTS), "multi": False, "never_seen": []})
    status, described = server.ask(path="/openapi.json")
    assert status == 200
    schema = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"texts", "sets", "scope", "target_precision"} <= set(schema["properties"])
    assert {"in_scope", "set", "label", "labels"} <= set(described["components"]["schemas"]["Answer"]["properties"])


def test_concurrent_requests_get_their_own_answers(server: Server, linear: Path) -> None:
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = server.ask({"texts": [HELD[number]]})[1]["results"][0]["label"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(HELD))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(HELD))] == load_export(linear).predict(HELD)
    status, health = server.ask(path="/health")
    assert (status, health["status"]) == (200, "ok")
    assert health["texts"] >= len(HELD)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{nope", 400),
        (b'{"texts":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"texts":["x"],"abstain_below":NaN}', 400),
        (b'{"texts":["x"],"sets":-Infinity}', 400),
        (b'{"texts":["\\ud800 x"]}', 400),
        (b'{"texts":["x"],"\\udfff":1}', 400),
        (b"\xff\xfe\xfd", 400),
        (b'{"texts":["a"],"sets":' + b"9" * 5000 + b"}", 400),
        (b'{"texts":["a"],"sets":1e999}', 422),
        (b'{"texts":[]}', 422),
        (b'{"texts":"a"}', 422),
        (b"[]", 422),
        (b'{"texts":["a"],"set":0.1}', 422),
        (b'{"texts":["a"],"sets":0.1}', 422),
        (b'{"texts":["a"],"abstain_below":0.5,"target_precision":0.9}', 422),
        (json.dumps({"texts": ["a"] * (MOST_TEXTS + 1)}).encode(), 422),
        (json.dumps({"texts": ["a" * (MOST_CHARACTERS + 1)]}).encode(), 413),
        (
            json.dumps({"texts": ["a" * MOST_CHARACTERS] * (MOST_CHARACTERS_IN_ALL // MOST_CHARACTERS + 1)}).encode(),
            413,
        ),
        (json.dumps({"texts": ["a" * 1000] * 8200}).encode(), 413),
        (b'{"texts":["a\\u0000b"]}', 200),
    ],
)
def test_wrong_questions_are_refused_and_never_an_error_of_the_server(server: Server, body: bytes, status: int) -> None:
    found, answer = server.ask(body=body)
    assert found == status, answer
    assert ("detail" in answer) == (status != 200)


def test_texts_without_words_are_named(server: Server) -> None:
    answer = server.ask({"texts": ["a", " \n", ""]})
    assert answer == (422, {"detail": "texts[1] is empty (2 of 3 texts are)"})


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_page_elsewhere_cannot_ask_without_being_allowed_to(server: Server, kind: str) -> None:
    assert server.ask({"texts": ["a"]}, Content_Type=kind)[0] == 415


@pytest.mark.parametrize(("host", "status"), [
    ("evil.example", 400), ("127.0.0.1.evil.example:8080", 400), ("", 400), ("localhost", 200), ("LOCALHOST:99", 200),
    ("127.0.0.1:8080", 200), ("[::1]:8080", 200),
])  # fmt: skip
def test_on_loopback_only_names_of_this_machine_are_answered(server: Server, host: str, status: int) -> None:
    assert server.ask({"texts": ["a"]}, Host=host)[0] == status


def test_elsewhere_than_on_loopback_every_name_is_answered() -> None:
    assert hosts_of("0.0.0.0") is None
    assert hosts_of("192.168.0.7") is None
    assert {"127.0.0.1", "[::1]", "localhost"} <= (hosts_of("::1") or set())


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    with server.begin(POST + f"Content-Length: {MOST_BYTES + 1}\r\n\r\n") as link:
        assert link.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_without_an_end_is_no_longer_read_and_takes_no_memory(server: Server) -> None:
    import psutil

    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    sent = 0
    with server.begin(POST + "Transfer-Encoding: chunked\r\n\r\n") as link, suppress(OSError):
        while sent < 1_000_000_000:
            link.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            sent += 0x10000
    assert sent < 200_000_000
    assert process.memory_info().rss - before < 60_000_000
    assert server.ask({"texts": ["a"]})[0] == 200


def test_half_sent_requests_and_slow_bodies_do_not_stay(patched: Server) -> None:
    head = POST + "Content-Length: 100\r\n"
    links = [patched.begin(head) for _ in range(15)]
    slow = patched.begin(head + "\r\n{")
    again = patched.begin("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    said = b""
    while not said.endswith(b"}"):
        said += again.recv(4000)
    again.sendall(b"GET /hea")
    begun = time.monotonic()
    assert patched.ask({"texts": ["a"]})[0] == 200, "others are served meanwhile"
    for link in (*links, again):
        with suppress(ConnectionResetError):
            assert link.recv(1000) == b""
    assert slow.recv(1000).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 10
    for link in (*links, slow, again):
        link.close()


def test_so_many_connections_and_no_more(patched: Server) -> None:
    links = [patched.begin("GET") for _ in range(60)]
    time.sleep(0.3)
    closed = 0
    for link in links:
        link.setblocking(False)
        try:
            closed += link.recv(10) == b""
        except BlockingIOError:
            pass
        except ConnectionResetError:
            closed += 1
        link.close()
    assert 15 <= closed <= 25
    time.sleep(0.3)
    assert patched.ask({"texts": ["a"]})[0] == 200


def test_a_small_request_is_answered_while_a_large_one_runs_and_one_too_many_is_told_so(patched: Server) -> None:
    large = json.dumps({"texts": ["x" * 20_000] * 40}).encode()  # 16 s of work
    links = []
    for _ in range(2):
        links.append(patched.begin(POST + f"Content-Length: {len(large)}\r\n\r\n"))  # fmt: skip
        links[-1].sendall(large)
    time.sleep(0.5)
    begun = time.monotonic()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(patched.ask({"texts": ["a"]})[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < 8
    assert {200, 503} == set(found)
    for link in links:
        link.close()
    time.sleep(1.5)
    begun = time.monotonic()
    assert patched.ask({"texts": ["a"]})[0] == 200
    assert time.monotonic() - begun < 1.0, "the work of clients that left goes on"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_seconds_while_a_large_request_runs(patched: Server, how: signal.Signals) -> None:
    large = json.dumps({"texts": ["x" * 20_000] * 40}).encode()
    with patched.begin(POST + f"Content-Length: {len(large)}\r\n\r\n") as link:  # fmt: skip
        link.sendall(large)
        time.sleep(1.0)
        begun = time.monotonic()
        patched.process.send_signal(how)
        patched.process.wait(timeout=30)
        assert time.monotonic() - begun < 6


def test_what_an_export_carries_is_offered_over_http(static: Path) -> None:
    from fastapi.testclient import TestClient

    with TestClient(make_app(static)) as client:
        # Of the held-out texts, two whose numbers have two digits, as nearly all of those of training have.
        asked = {"texts": [*HELD[14:16], "SELECT a FROM b"], "sets": 0.1, "scope": 0.05, "target_precision": 0.9}
        results = client.post("/predict", json={**asked, "probabilities": False}).json()["results"]
        assert [result["in_scope"] for result in results] == [True, True, False]
        assert all(isinstance(result["set"], list) and "probabilities" not in result for result in results)
        assert client.get("/health").json()["trust"] == ["conformal", "abstain", "scope"]


def test_an_address_that_cannot_be_used_is_one_clear_line(linear: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be used"):
            serve(linear, port=taken.getsockname()[1])
    with pytest.raises(InputError, match="cannot be used"):
        serve(linear, host="no.such.host.invalid", port=0)
    with pytest.raises(InputError, match="cannot be used"):
        serve(linear, port=70_000)
