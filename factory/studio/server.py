"""The studio's server: on 127.0.0.1 alone, behind a link that carries a random token."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from factory.errors import InputError
from factory.predict.http_limits import ImpatientProtocol
from factory.programs.sandbox.host.pool import Sandbox
from factory.studio.app import make_app
from factory.studio.desk import Desk

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

HOST = "127.0.0.1"


def serve(
    warehouse: Warehouse, *, run: Path, person: str | None = None, port: int = 0, sandbox: Sandbox = "kernel",
    told: Callable[[str], None] = lambda line: None,
) -> None:  # fmt: skip
    """Serve a run's pages until interrupted.

    Args:
        warehouse: The run's.
        run: As it is named on the command line.
        person: Who labels and decides.
        port: On 127.0.0.1; 0 takes a free one.
        sandbox: What Python programs run in.
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
        app = make_app(Desk(warehouse, run, person, sandbox), token=token, cookie=f"studio_{number}")
        told(f"the studio of {run}: http://{HOST}:{number}/?token={token} (Ctrl-C ends it)")
        config = uvicorn.Config(
            app, log_level="warning", http=ImpatientProtocol, timeout_graceful_shutdown=2, timeout_keep_alive=5
        )
        uvicorn.Server(config).run(sockets=[listening])
