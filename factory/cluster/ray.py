"""Ray, the way beyond one machine: whether it is there, a session on it, and what comes back from it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from factory.errors import ClusterError
from factory.extras import install, is_there

LOCAL = "local"
"""Ray's own word for this machine."""

_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


def need_ray() -> None:
    """Look whether Ray is installed, without importing it.

    Raises:
        ClusterError: It is not.
    """
    if not is_there("ray"):
        raise ClusterError("Ray is not installed", fix=f"Run: {install('ray')}")


def usual_address() -> str:
    """The cluster that `RAY_ADDRESS` names; without it this machine."""
    return os.environ.get("RAY_ADDRESS") or LOCAL


@contextmanager
def session(address: str | None = None) -> Iterator[Any]:
    """Ray, connected: by the caller's own `ray.init` if there was one, else to a cluster, else to processes on this machine that
    end with the block.

    A cluster's nodes need label-factory installed, and the files that are named to them at the same paths.

    Args:
        address: Of the cluster (`HOST:6379`); `local` for this machine. None: see `usual_address`.

    Yields:
        The module `ray`.

    Raises:
        ClusterError: Ray is not installed, or cannot be started or reached.
    """
    need_ray()
    given = address or usual_address()
    # Ray's switch for laptops; here it keeps the servers of a local session on 127.0.0.1. A cluster that is joined is as it is.
    if given == LOCAL:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(sys.stderr):  # Ray prints there what it has to say of lost workers; stdout is for results
            if given == LOCAL:
                start_here(ray)
            else:
                join(ray, given)
            yield ray
    finally:
        ray.shutdown()
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def join(ray: Any, address: str) -> None:
    """Connect to a cluster.

    Raises:
        ClusterError: It cannot be reached.
    """
    try:
        ray.init(address=address, **_QUIET)
    except Exception as error:  # Ray raises bare ones too
        raise ClusterError(
            f"Ray's cluster cannot be reached: {_short(error)}",
            where=f"ray {address}",
            fix="Check the address (`cluster: {ray: HOST:6379}` or RAY_ADDRESS); `local` is this machine",
        ) from error


def start_here(ray: Any, **more: Any) -> None:
    """Start Ray's processes on this machine, and connect to them.

    Args:
        ray: The module.
        more: For `ray.init`.

    Raises:
        ClusterError: They do not start, twice.
    """
    for last in (False, True):
        try:
            ray.init(address="local", include_dashboard=False, **_QUIET, **more)
            return
        except Exception as error:  # Ray raises bare ones too
            ray.shutdown()
            if last:
                raise ClusterError(
                    f"Ray cannot be started: {last_line(error)}", fix="See /tmp/ray/session_latest/logs"
                ) from error
            # it gives its processes 30 seconds, which a busy machine may need to load them; then they are in memory


def _short(error: BaseException) -> str:
    """A message on one line: all of it where versions differ, else its last line."""
    return " ".join(str(error).split()) if "ersion mismatch" in str(error) else last_line(error)


def last_line(error: BaseException) -> str:
    """The last line of a message: where Ray says what it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
