"""The studio's server: on 127.0.0.1 alone, behind a link that carries a random token."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

import uvicorn

from factory.errors import InputError
from factory.predict.http_limits import ImpatientProtocol
from factory.studio.app import make_app
from factory.studio.desk import Desk

HOST = "127.0.0.1"


def serve(desk: Desk, *, port: int = 0, told: Callable[[str], None] = lambda line: None) -> None:
    """Serve a run's pages until interrupted. What was begun from them ends with it, and can be gone on with.

    Args:
        desk: The run at hand.
        port: On 127.0.0.1; 0 takes a free one.
        told: Called with the link when the server can be asked.

    Raises:
        InputError: The port cannot be used.
    """
    try:
        listening = socket.create_server((HOST, port), backlog=64)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{HOST}:{port} cannot be used: {words}", fix="Choose another --port, or none") from error
    with listening:
        number, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        app = make_app(desk, token=token, cookie=f"studio_{number}")
        told(f"the studio of {desk.run}: http://{HOST}:{number}/?token={token} (Ctrl-C ends it)")
        config = uvicorn.Config(
            app, log_level="warning", http=ImpatientProtocol, timeout_graceful_shutdown=2, timeout_keep_alive=5
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            desk.runner.stop()
