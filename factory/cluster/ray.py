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

from factory.errors import ClusterError, FactoryError
from factory.extras import install, is_there

_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


def need_ray() -> None:
    """Look whether Ray is installed, without importing it.

    Raises:
        ClusterError: It is not.
    """
    if not is_there("ray"):
        raise ClusterError("Ray is not installed", fix=f"Run: {install('ray')}")


@contextmanager
def session() -> Iterator[Any]:
    """Ray, connected: by the caller's own `ray.init` if there was one, else to the cluster that `RAY_ADDRESS` names, else to
    processes on this machine that end with the block.

    A cluster's nodes need label-factory installed, and the files that are named to them at the same paths.

    Yields:
        The module `ray`.

    Raises:
        ClusterError: Ray is not installed, or cannot be started or reached.
    """
    need_ray()
    # Ray's switch for laptops; here it keeps the servers of a local session on 127.0.0.1. A cluster that is joined is as it is.
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    given = os.environ.get("RAY_ADDRESS")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(sys.stderr):  # Ray prints there what it has to say of lost workers; stdout is for results
            if given:
                join(ray, given)
            else:
                start_here(ray)
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
            f"Ray's cluster cannot be reached: {_last_line(error)}",
            where=f"RAY_ADDRESS={address}",
            fix="Check the address; without it, Ray runs on this machine",
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
                    f"Ray cannot be started: {_last_line(error)}", fix="See /tmp/ray/session_latest/logs"
                ) from error
            # it gives its processes 30 seconds, which a busy machine may need to load them; then they are in memory


def processors(ray: Any) -> int:
    """How many processors the cluster has, free or not, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


@contextmanager
def plain_errors(ray: Any) -> Iterator[None]:
    """Errors of Ray's workers as a person can use them.

    Raises:
        FactoryError: As a worker raised it.
        ClusterError: A worker was lost, and so were those that Ray started in its place.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FactoryError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"a Ray worker was lost: {_last_line(error)}",
            fix="What is done stands: run the same command again. A cluster's nodes need label-factory installed",
        ) from error


@contextmanager
def quiet_data() -> Iterator[None]:
    """Ray Data without its bars and its lines about them and its plans: progress is ours to show."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
