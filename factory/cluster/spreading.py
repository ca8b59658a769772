"""Work done by Ray's actors, one for each processor of the cluster, and its results taken in the order of the items.

Plain actors, not Ray Data: results are committed in order by the one process that may write; no more than a few items may be read
ahead of the last commit, since what an item holds can depend on the results before it; and an actor is what a sandbox or a
model needs, which starts once. With actors that is one loop; Ray Data's executor decides by itself how far it reads ahead.

Nor are Ray's own restarts of actors used. An actor of a node that is gone comes back only where a processor is free, and in a
full cluster none is: that ended the run. Here an item of a lost actor is the next that any other gets.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from factory import __version__
from factory.cluster.ray import last_line, need_ray, session
from factory.errors import ClusterError, FactoryError
from factory.spread import Work, done_by, is_elsewhere

LOSSES = 2
"""How often an item is given to another actor because the one that had it was lost. One more, and the item may be to blame."""

LOOK_EVERY_S = 10.0
"""How long nothing comes back before we look whether the cluster has any processor left."""


@contextmanager
def on_ray(address: str | None = None) -> Iterator[None]:
    """Until the block ends, work that divides is done on Ray, which is started or joined when the first work comes.

    Args:
        address: As `session` takes it.

    Raises:
        ClusterError: Ray is not installed; later, that it cannot be started or reached, lost too many actors, or that a node
            has another label-factory or none.
    """
    need_ray()
    with ExitStack() as stack:
        found: list[Any] = []

        def elsewhere(work: Work[Any, Any], items: Iterator[Any], count: int, ahead: int) -> Generator[Any]:
            if not found:
                found.append(stack.enter_context(session(address)))
            return in_order(found[0], work, items, count, ahead)

        with done_by(elsewhere):
            yield


def on_ray_if(asked: bool) -> AbstractContextManager[None]:
    """`on_ray` where that is asked for, unless a block around this says already where work is done."""
    return on_ray() if asked and not is_elsewhere() else nullcontext()


def processors(ray: Any) -> int:
    """How many processors the cluster has, free or not."""
    return int(ray.cluster_resources().get("CPU", 0))


@dataclass(frozen=True, eq=False)
class _Sent:
    """What an actor has been asked: to do item `number`, or, if that is None, who it is."""

    seat: Any
    number: int | None = None


def in_order(ray: Any, work: Work[Any, Any], items: Iterator[Any], count: int, ahead: int) -> Generator[Any]:
    """Hand each item to whichever actor is free, and give the results back in order. Arguments as of `Elsewhere`.

    An actor gets its first item when it has started: one that finds no processor free holds nothing up.

    Raises:
        FactoryError: As the work raised it.
        ClusterError: Actors were lost too often, or a node has another label-factory.
    """
    kind = ray.remote(num_cpus=1, max_restarts=0)(seat_class())
    seats: set[Any] = set()
    asked: dict[Any, _Sent] = {}

    def start() -> None:
        seat = kind.remote()
        seats.add(seat)
        asked[seat.ready.remote()] = _Sent(seat)

    free: list[Any] = []
    again: deque[int] = deque()
    kept: dict[int, Any] = {}
    results: dict[int, Any] = {}
    lost: Counter[int | None] = Counter()
    sent = given = 0
    more = True
    try:
        for _ in range(max(1, min(count, processors(ray)))):
            start()
        most = ahead * len(seats)
        while more or given < sent:
            while free and (again or (more and sent - given < most)):
                if not again:
                    item = next(items, _END)
                    if item is _END:
                        more = False
                        break
                    # Ray's to keep, beside this process or on the disk, until its result is there
                    kept[sent] = ray.put(item)
                    again.append(sent)
                    sent += 1
                    del item
                seat, number = free.pop(), again.popleft()
                asked[seat.run.remote(kept[number])] = _Sent(seat, number)
            if given in results:
                yield results.pop(given)
                given += 1
                continue
            if not (more or given < sent):
                break
            done, _ = ray.wait(list(asked), num_returns=1, timeout=LOOK_EVERY_S)
            if not done:
                if not processors(ray):
                    raise ClusterError("no node of the cluster has a processor left", fix=_AGAIN)
                continue
            was = asked.pop(done[0])
            try:
                value = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, FactoryError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:  # its process, its node, or what it had made and not yet sent
                lost[was.number] += 1
                if lost[was.number] > (LOSSES if was.number is not None else LOSSES * count):
                    raise ClusterError(f"a Ray worker was lost: {last_line(error)}", fix=_AGAIN) from error
                seats.discard(was.seat)
                ray.kill(was.seat)
                if was.number is not None:
                    again.append(was.number)
                start()
                continue
            if was.number is None:
                refuse(*value)
                was.seat.take.remote(work.make, tuple(work.given))
            else:
                results[was.number] = value
                del kept[was.number]
            free.append(was.seat)
    finally:
        for seat in seats:
            ray.kill(seat)


_END = object()
_AGAIN = "What is done stands: run the same command again"


def refuse(node: str, version: str | None) -> None:
    """Refuse a node that has another label-factory than this process, or none.

    Raises:
        ClusterError: It has.
    """
    if version != __version__:
        has = "has no label-factory" if version is None else f"has label-factory {version}"
        raise ClusterError(
            f"a node of Ray's cluster {has}, and this process has {__version__}",
            where=node,
            fix=f'Run there: pip install "label-factory=={__version__}"',
        )


def seat_class() -> type:
    """The actor: one processor, with what does the work in it.

    Made here, so that it travels as it is and not by its name: it starts where label-factory is missing, and says so.
    """

    class Seat:
        def __init__(self) -> None:
            self.made: Any = None
            self.maker: Any = None

        def ready(self) -> tuple[str, str | None]:
            """Where it is, and which label-factory is there."""
            import ray

            util: Any = ray.util
            node = str(util.get_node_ip_address())
            try:
                import factory
            except ImportError:
                return node, None
            return node, getattr(factory, "__version__", None)

        def take(self, make: Any, given: Any) -> None:
            """What to work with from now on; it is made when the first item comes."""
            self.maker = (make, given)

        def run(self, item: Any) -> Any:
            """The result of an item."""
            if self.made is None:
                make, given = self.maker
                self.made = make(*given)
            return self.made(item)

    return Seat
