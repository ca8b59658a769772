"""Work that divides into items: done in this process, or wherever the block around it says (`factory.cluster`).

Whoever has such work says what is done to one item, and takes the results in the order of the items, each with what was kept
of its item. Where that is done is not its business, so there is one piece of code for the work, and one process that writes down
what came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Work(Generic[T, R]):
    """What is done to an item.

    Attributes:
        make: A class or function of a module, called once in each process that works: gives what takes an item and returns
            its result.
        given: Its arguments. They travel, as do items and results: plain values, and no open file or warehouse.
        here: What to use in this process instead of `make(*given)`.
    """

    make: Callable[..., Callable[[T], R]]
    given: Sequence[Any] = ()
    here: Callable[[T], R] | None = None


Elsewhere = Callable[[Work[Any, Any], Iterator[Any], int, int], Generator[Any]]
"""Does work: called with the work, its items, how many there are, and how many may be read ahead for each worker; gives the
results in the order of the items."""

_ELSEWHERE: ContextVar[Elsewhere | None] = ContextVar("elsewhere", default=None)


def spread(
    work: Work[T, R], items: Iterable[tuple[K, T]], count: int, *, ahead: int = 2, here: bool = False
) -> Generator[tuple[K, R]]:
    """Do work, item by item. A single item is always done here: it divides no further.

    Args:
        work: What is done to an item.
        items: Each with what is to be kept of it, which does not travel. Read by this process, one at a time, as there is
            room for them.
        count: How many there are.
        ahead: Elsewhere, how many items for each worker may be read beyond the last result that was taken.
        here: Whether it can be done in this process alone.

    Yields:
        What was kept of each item, and its result, in the order of the items.
    """
    elsewhere = _ELSEWHERE.get()
    if count == 0:
        return
    if elsewhere is not None and count > 1 and not here:
        kept: deque[K] = deque()

        def sent() -> Iterator[T]:
            for mine, item in items:
                kept.append(mine)
                yield item

        with closing(elsewhere(work, sent(), count, ahead)) as results:
            for result in results:
                yield kept.popleft(), result
        return
    do = work.here or work.make(*work.given)
    for mine, item in items:
        yield mine, do(item)


def is_elsewhere() -> bool:
    """Whether the block around this says where work is done."""
    return _ELSEWHERE.get() is not None


@contextmanager
def done_by(elsewhere: Elsewhere) -> Iterator[None]:
    """Until the block ends, `spread` has its work done by this."""
    token = _ELSEWHERE.set(elsewhere)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)
