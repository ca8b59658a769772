"""Bounds on what comes over HTTP: the size and the time of a request, its host, and how many connections stand open."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST_CONNECTIONS = 256
"""Connections that may stand open; a further one is closed at once."""
HEADERS_S = 10.0
"""Seconds from the opening of a connection, or the first byte of a further request, to the end of the request's headers."""

MOST_THROWN_AWAY, THROW_AWAY_S = 50_000_000, 5.0
"""Bytes of a body that is too large, and seconds, that are still read so that its sender sees why it was refused."""


class RequestLimits:
    """ASGI middleware: refuses other hosts, and bodies that are too large or too slow, before anything else sees them."""

    def __init__(self, app: Any, *, most_bytes: int, seconds: float, hosts: frozenset[str] | None = None) -> None:
        """Around an application.

        Args:
            app: The application.
            most_bytes: Of a body.
            seconds: From the end of the headers to the end of the body.
            hosts: Names that a request may be sent to, without a port; None allows any.
        """
        self.app, self.most_bytes, self.seconds, self.hosts = app, most_bytes, seconds, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            await _refuse(send, 400, f"this server answers on this machine alone, not to {headers.get('host', '')!r}")
            return
        length = headers.get("content-length", "0")
        try:
            async with asyncio.timeout(self.seconds):
                small = length.isdigit() and int(length) <= self.most_bytes
                body = await self._body(receive) if small else None
        except TimeoutError:
            await _refuse(send, 408, f"the request did not come to its end within {self.seconds:g} s")
            return
        if body is None:
            await _refuse(send, 413, f"a request has at most {self.most_bytes:,} bytes", receive)
            return
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> MutableMapping[str, Any]:
            return left.pop() if left else await receive()

        await self.app(scope, again, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, or None if it is too large."""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.most_bytes:
                return None
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return bytes(body)


class ImpatientProtocol(H11Protocol):
    """uvicorn's protocol with what it lacks: connections that never finish their headers are closed, and so are too many."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Close what is too much, and give the rest some seconds."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait for the end of the headers; a request that has begun is bounded by `RequestLimits`."""
        if self._idle() and self._deadline is None:
            self._wait()
        super().data_received(data)
        if not self._idle():
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._idle():
            self.transport.abort()


def hosts_of(host: str) -> frozenset[str] | None:
    """The names that a server bound to this address is asked by: those of this machine on loopback, any elsewhere.

    So a web page whose name was bent to 127.0.0.1 cannot ask it (DNS rebinding).

    Example:
        >>> hosts_of("0.0.0.0") is None, "localhost" in hosts_of("127.0.0.1")
        (True, True)
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return frozenset({"localhost", "127.0.0.1", "[::1]", host}) if loopback else None


def _host(header: str) -> str:
    """The name in a Host header: without its port, in small letters."""
    name = header.strip().lower()
    return name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]


async def _refuse(send: Send, status: int, words: str, receive: Receive | None = None) -> None:
    """Answer and close. With `receive` some more of the body is read and thrown away, so that its sender gets to the answer."""
    content = json.dumps({"detail": words}).encode()
    length = (b"content-length", str(len(content)).encode())
    headers = [(b"content-type", b"application/json"), length, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    thrown_away = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(THROW_AWAY_S):
            while receive is not None and thrown_away < MOST_THROWN_AWAY:
                message = await receive()
                thrown_away += len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    await send({"type": "http.response.body", "body": b""})
