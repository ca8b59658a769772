"""Items given to whoever is free, in whatever order they come back or get lost: the results come in order, each once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import factory
from factory.cluster import spreading
from factory.cluster.spreading import in_order
from factory.errors import ClusterError, InputError
from factory.spread import Work, done_by, spread


class RayError(Exception):
    """Something of Ray's was lost."""


class RayTaskError(RayError):
    """The work itself went wrong."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class Reference:
    """A call that has not come back yet."""

    def __init__(self, do: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.do, self.arguments = do, arguments


class FakeActor:
    """Calls of it do their work when they are asked for."""

    def __init__(self, seat: Any, version: str | None) -> None:
        ready = SimpleNamespace(remote=lambda: Reference(lambda: ("10.0.0.7", version), ()))
        self.ready, self.take = ready, SimpleNamespace(remote=seat.take)
        self.run = SimpleNamespace(remote=lambda item: Reference(seat.run, (item,)))


class FakeRay:
    """Lets calls come back in an order of its own, and loses some."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(
        self, seed: int = 0, processors: int = 3, loses: float = 0.0, version: str | None = factory.__version__
    ) -> None:
        self.random, self.processors, self.loses, self.version = random.Random(seed), processors, loses, version
        self.living: set[Any] = set()
        self.started = 0

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.processors)}

    def remote(self, **_: Any) -> Any:
        def of(kind: type) -> Any:
            def start() -> FakeActor:
                actor = FakeActor(kind(), self.version)
                self.living.add(actor)
                self.started += 1
                return actor

            return SimpleNamespace(remote=start)

        return of

    def put(self, item: Any) -> Any:
        return item

    def kill(self, actor: Any) -> None:
        self.living.remove(actor)

    def wait(self, references: list[Reference], num_returns: int, timeout: float) -> tuple[list[Reference], None]:
        return [self.random.choice(references)], None

    def get(self, reference: Reference) -> Any:
        if self.random.random() < self.loses:
            raise RayError("The actor died.\nThe actor's node was terminated.")
        try:
            return reference.do(*reference.arguments)
        except Exception as error:
            raise RayTaskError(error) from error


def doubling() -> Callable[[int], int]:
    return lambda item: 2 * item


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("processors", [1, 3])
@pytest.mark.parametrize("loses", [0.0, 0.1])
def test_results_come_in_order_each_once_and_few_items_are_read_ahead(
    seed: int, processors: int, loses: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading, "LOSSES", 20)
    read: list[int] = []
    given: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            read.append(number)
            assert len(read) - len(given) <= 2 * processors
            yield number

    ray = FakeRay(seed, processors, loses)
    for result in in_order(ray, Work(doubling), items(), 20, 2):
        given.append(result)
    assert given == [2 * number for number in range(20)]
    assert read == list(range(20))
    assert not ray.living, "no actor is left behind"
    assert ray.started == processors or loses


def test_an_item_whose_actor_is_lost_again_and_again_ends_the_run() -> None:
    done: Counter[int] = Counter()

    class Poison(FakeRay):
        def get(self, reference: Reference) -> Any:
            if reference.arguments == (3,):
                done[3] += 1
                raise RayError("The worker died.\nIt was out of memory.")
            return super().get(reference)

    ray = Poison()
    with pytest.raises(ClusterError, match=r"a Ray worker was lost: It was out of memory.*run the same command again"):
        list(in_order(ray, Work(doubling), iter(range(8)), 8, 2))
    assert done[3] == spreading.LOSSES + 1
    assert not ray.living


def test_errors_of_ours_come_back_as_they_were_raised() -> None:
    def wrong() -> Callable[[int], int]:
        def do(item: int) -> int:
            raise InputError("cannot be read", where=f"row {item}")

        return do

    with pytest.raises(InputError, match="row 0: cannot be read"):
        list(in_order(FakeRay(processors=1), Work(wrong), iter([0]), 1, 2))


@pytest.mark.parametrize(
    ("version", "says"),
    [(None, r"10\.0\.0\.7: a node of Ray's cluster has no label-factory"), ("0.0.1", "has label-factory 0.0.1, and")],
)
def test_a_node_without_the_package_or_with_another_version_is_named(version: str | None, says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        list(in_order(FakeRay(version=version), Work(doubling), iter(range(8)), 8, 2))


def test_a_cluster_without_a_processor_is_not_waited_for() -> None:
    class Empty(FakeRay):
        def wait(self, references: list[Reference], num_returns: int, timeout: float) -> Any:
            return [], references

    with pytest.raises(ClusterError, match="no node of the cluster has a processor left"):
        list(in_order(Empty(processors=0), Work(doubling), iter(range(8)), 8, 2))


def test_work_is_done_here_unless_a_block_says_otherwise() -> None:
    work = Work(doubling, (), lambda item: item + 1)
    items = [("a", 1), ("b", 2)]
    assert list(spread(Work(doubling), items, 2)) == [("a", 2), ("b", 4)]
    assert list(spread(work, items, 2)) == [("a", 2), ("b", 3)]
    with done_by(lambda work, sent, count, ahead: (work.make(*work.given)(item) for item in sent)):
        assert list(spread(work, items, 2)) == [("a", 2), ("b", 4)]
    assert list(spread(work, items, 2)) == [("a", 2), ("b", 3)]


@pytest.mark.parametrize("seed", range(5))
def test_each_result_comes_with_what_was_kept_of_its_item(seed: int) -> None:
    ray = FakeRay(seed, loses=0.05)
    with done_by(lambda *given: in_order(ray, *given)):
        found = spread(Work(doubling), ((f"item {number}", number) for number in range(20)), 20)
        assert next(found) == ("item 0", 0)
        assert next(found) == ("item 1", 2)
        found.close()
    assert not ray.living, "an actor is left behind by whoever takes no more"
