"""Moving replies from the journal into the warehouse beside the sending: about once a second, in another thread."""

from __future__ import annotations

import asyncio
import time

from factory.llm.ledger import Ledger

STORE_EVERY_S = 1.0
STORE_MOST_S = 5.0
STORE_SHARE = 0.02
"""Once a second; less often, up to five, where that takes more than this share of the time (opening the file, writing and closing
it is some 50 ms, however few the rows)."""

STORE_ROWS = 2000
"""So many are worth a storing of their own."""


def pause_after(taken_s: float) -> float:
    """Seconds from the beginning of one storing to the next, if the last took so long.

    Example:
        >>> pause_after(0.005), pause_after(0.06), pause_after(0.5)
        (1.0, 3.0, 5.0)
    """
    return min(max(taken_s / STORE_SHARE, STORE_EVERY_S), STORE_MOST_S)


class Storing:
    """Stores what a ledger has taken in, one batch at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._running: asyncio.Future[None] | None = None
        self._began_at = time.monotonic()
        self._pause_s = pause_after(0.0)

    def begin_if_due(self, now: float) -> None:
        """Store in the background, if it is time to.

        Raises:
            WarehouseError: The last storing failed.
        """
        if self._running is not None and self._running.done():
            self._running.result()
            self._running = None
        pause = STORE_EVERY_S if self._ledger.unstored >= STORE_ROWS else self._pause_s
        if self._running is None and now - self._began_at >= pause:
            self._began_at = now
            self._running = asyncio.ensure_future(self._store())

    async def end(self) -> None:
        """Wait for what runs, and store the rest."""
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
        await self._store()

    async def _store(self) -> None:
        batch = self._ledger.take()
        if batch.attempts or batch.went_away:
            began = time.monotonic()
            await asyncio.to_thread(self._ledger.store, batch)
            self._ledger.settle(batch)
            self._pause_s = pause_after(time.monotonic() - began)
