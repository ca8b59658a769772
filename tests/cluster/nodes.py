"""A cluster of several nodes on this machine: each a raylet of its own with one processor, which can be killed like a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

STORE = 80 << 20
"""Bytes of each node's object store."""


class Nodes:
    """The nodes; the first is the head, which a driver joins by `address`."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        given: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=given)
        self.nodes = [self._cluster.head_node]
        self.nodes += [self._cluster.add_node(wait=False, **given) for _ in range(count - 1)]
        self._cluster.wait_for_nodes()
        self.address: str = self._cluster.address

    def raylet(self, number: int) -> psutil.Process:
        """The process that is a node."""
        return psutil.Process(self.nodes[number].all_processes["raylet"][0].process.pid)

    def seats(self) -> list[int]:
        """How many of our actors are on each node; none on one that is dead."""
        families = [_family(self.raylet(number)) for number in range(len(self.nodes))]
        return [sum("ray::Seat" in _line(process) for process in family) for family in families]

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
def cluster(count: int) -> Iterator[Nodes]:
    """So many nodes, until the block ends."""
    nodes = Nodes(count)
    try:
        yield nodes
    finally:
        nodes.stop()
