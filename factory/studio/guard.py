"""Who may ask the studio, and what its pages may load: a token, this host, this origin, and no script but our own."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SAFE = ("GET", "HEAD")
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'; script-src 'self';"
    " style-src 'self'; img-src 'self' data:"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox allow-same-origin"
)
"""Of the report, which carries its own styles and pictures, and no script."""
HEADERS = {
    "x-content-type-options": "nosniff", "referrer-policy": "same-origin", "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
}  # fmt: skip


class Guard:
    """ASGI middleware. The link that the studio prints carries its token; it becomes a cookie, which every request must bear.

    A request that changes something must come from a page of the studio itself: its `Origin` is compared with its `Host`.
    Whether the host is this machine's is `RequestLimits`'s to say.
    """

    def __init__(self, app: Any, *, token: str, cookie: str) -> None:
        """Around an application.

        Args:
            app: The application.
            token: Whoever has it may ask.
            cookie: Name of the cookie, one for each port: browsers share cookies between the ports of a host.
        """
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[-1]
        if given and scope["method"] in SAFE:
            if self._is_token(given):
                cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                path = scope["path"] if re.fullmatch(r"(/[\w-]+)+", scope["path"], re.ASCII) else "/"
                await _answer(send, 303, "", [("location", path), ("set-cookie", cookie)])
            else:
                await _answer(send, 403, "This link is not of the studio that runs here. Use the one that it printed.")
            return
        if not self._is_token(self._cookie_of(headers)):
            await _answer(send, 403, "Open the link that `factory studio` printed: it lets this browser in.")
            return
        if scope["method"] not in SAFE and headers.get("origin") != f"http://{headers.get('host', '')}":
            await _answer(send, 403, "This request did not come from a page of the studio.")
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = {"content-security-policy": POLICY, **HEADERS}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in there),
                ]
            await send(message)

        await self.app(scope, receive, guarded)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _cookie_of(self, headers: MutableMapping[str, str]) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""


async def _answer(send: Send, status: int, words: str, more: list[tuple[str, str]] | None = None) -> None:
    content = words.encode()
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(content)), **HEADERS}
    listed = [*headers.items(), *(more or [])]
    await send({"type": "http.response.start", "status": status,
                "headers": [(k.encode(), v.encode()) for k, v in listed]})  # fmt: skip
    await send({"type": "http.response.body", "body": content})
