"""How long a server that answers nobody is waited for, and in which words the wait ends. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.llm.calls import Fault
from factory.llm.limits import Limit

FIRST_PATIENCE_S = 30.0
"""For how long a server that has answered nothing since the engine was made is waited for, if `patience_s` is not shorter."""


@dataclass(frozen=True, slots=True)
class Silence:
    """That an endpoint answers nobody.

    Attributes:
        name: The endpoint.
        since_s: For how long, in seconds.
        last: The last fault.
        turned_away: Whether it is there and asks us to come back later.
        asked_s: How long it asked us to wait from now on, in seconds; 0 if it did not.
    """

    name: str
    since_s: float
    last: Fault
    turned_away: bool
    asked_s: float


@dataclass(frozen=True, slots=True)
class End:
    """Why a run waits no longer, and what to do about it."""

    what: str
    where: str
    fix: str


def silence(name: str, limit: Limit, in_flight: int, last: Fault | None, now: float) -> Silence | None:
    """Whether an endpoint answers nobody; None if it does, or may yet answer what is in flight."""
    if last is None or limit.silent_since is None:
        return None
    turned_away = in_flight == 0 and (last.kind == "overload" or last.retry_after_s is not None)
    if limit.down_since is None and not turned_away:
        return None
    since = limit.silent_since if limit.down_since is None else limit.down_since
    asked = max(limit.paused_until - now, 0.0) if last.retry_after_s is not None else 0.0
    return Silence(name, now - since, last, turned_away, asked)


def verdict(found: Sequence[Silence], patience_s: float, *, met: bool, model: str | None) -> str | End:
    """What to say of a wait, or why it ends.

    Args:
        found: Of every endpoint.
        patience_s: How long to wait at most, in seconds.
        met: Whether any of them has answered before.
        model: What they serve, if that is known.
    """
    asked = min(one.asked_s for one in found)
    if asked > patience_s:
        one = min(found, key=lambda silent: silent.asked_s)
        what = f"the server asks to wait {duration(asked)} ({one.last.detail})"
        return End(what, one.name, f"Run again then, or give more than {patience_s:g} s as `patience_s`")
    one = min(found, key=lambda silent: silent.since_s)
    speaks = one.last.status is not None and one.last.kind != "timeout"
    patience = patience_s if met or one.turned_away else min(patience_s, FIRST_PATIENCE_S)
    if one.since_s <= patience:
        what = one.last.detail if speaks else "is away"
        return f"{one.name} {what}, for {one.since_s:.0f} s; waiting for it, at most {patience:.0f} s"
    if speaks:
        return End(f"for {patience:g} s the server {one.last.detail}, and nothing else", one.name, "")
    gone = "did not come back" if met else "did not answer"
    fix = f"Start the server (`vllm serve {model or 'MODEL'}`) or check `engine: {{url: ...}}`"
    return End(f"the server {gone} within {patience:g} s ({one.last.detail})", one.name, fix)


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(45), duration(720), duration(86400)
        ('45 s', '12 min', '24 h')
    """
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
