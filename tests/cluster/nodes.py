"""A cluster of several nodes on this machine: each a raylet of its own with one processor, which can be killed like a machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

STORE = 80 << 20
"""Bytes of each node's object store, unless it is said."""


class Nodes:
    """The nodes; the first is the head, which a driver joins by `address`."""

    def __init__(self, count: int, store: int = STORE) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        given: dict[str, Any] = {"num_cpus": 1, "object_store_memory": store, "include_dashboard": False}
        try:
            self._cluster: Any = Cluster(initialize_head=True, head_node_args=given)
        except Exception:  # a bare one: Ray gives it 30 seconds, which a busy machine may need to load it
            self._cluster = Cluster(initialize_head=True, head_node_args=given)
        self.nodes = [self._cluster.head_node]
        self.nodes += [self._cluster.add_node(wait=False, **given) for _ in range(count - 1)]
        self._cluster.wait_for_nodes()
        self.address: str = self._cluster.address

    def raylet(self, number: int) -> psutil.Process:
        """The process that is a node."""
        return psutil.Process(self.nodes[number].all_processes["raylet"][0].process.pid)

    def seats(self) -> list[int]:
        """How many of our actors are on each node; none on one that is dead."""
        return [len(self.workers(number, "ray::Seat")) for number in range(len(self.nodes))]

    def workers(self, number: int, kind: str = "ray::") -> list[psutil.Process]:
        """The processes of a node in which Ray does work of this kind; none on one that is dead."""
        return [process for process in _family(self.raylet(number)) if kind in _line(process)]

    def wait_for_seats(self, wanted: list[int], patience_s: float = 60.0) -> None:
        """Wait until every node has so many of our actors."""
        until = time.monotonic() + patience_s
        while (found := self.seats()) != wanted and time.monotonic() < until:
            time.sleep(0.2)
        assert found == wanted

    def kill(self, number: int) -> None:
        """What a power cut does to a node: everything ends at once."""
        family = _family(self.raylet(number))
        for process in family:
            process.suspend()
        for process in family:
            process.kill()

    def stop(self) -> None:
        """End all of it."""
        self._cluster.shutdown()


def _family(raylet: psutil.Process) -> list[psutil.Process]:
    return [raylet, *raylet.children(recursive=True)]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


@contextmanager
def cluster(count: int, store: int = STORE) -> Iterator[Nodes]:
    """So many nodes, until the block ends; `store` is the bytes of each one's object store."""
    nodes = Nodes(count, store)
    try:
        yield nodes
    finally:
        nodes.stop()
