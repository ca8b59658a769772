"""What becomes of a call that failed: sent again, after how long, or given up in this run. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from factory.llm.calls import Fault


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of repetition.

    Attributes:
        retries: Repetitions after transport errors, timeouts and 5xx.
        malformed: Repetitions after replies that hold no answer: each of them may be paid for.
        overloads: Repetitions after 429, which say nothing against the request.
        outages: Repetitions of a call whose endpoint answered nobody since it was sent.
        base_s: First wait, in seconds; doubles each time.
        longest_s: Longest wait.
    """

    retries: int = 6
    malformed: int = 2
    overloads: int = 1000
    outages: int = 200
    base_s: float = 0.25
    longest_s: float = 20.0


Cause = Literal["retries", "malformed", "overloads", "outages"]
_CAUSES: dict[str, Cause] = {"overload": "overloads", "malformed": "malformed"}


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a call was repeated, by cause."""

    retries: int = 0
    malformed: int = 0
    overloads: int = 0
    outages: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """Send the call again after so many seconds."""

    after_s: float
    tries: Tries


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The call will not be sent again in this run."""

    reason: str
    detail: str


def after_fault(
    fault: Fault, tries: Tries, policy: Policy, *, alive: bool, jitter: float, probe: bool = False
) -> Again | GiveUp:
    """What to do about a call that failed.

    Args:
        fault: What happened.
        tries: What happened before.
        policy: The bounds.
        alive: Whether the endpoint answered anybody since the call was sent; if not, a transport error says nothing about
            this call.
        jitter: A random number in [0, 1).
        probe: Whether the call only looked whether an endpoint that was down is back: that it is not says nothing about the
            call, and how long to look is the run's patience.
    """
    if fault.kind in {"refused", "declined", "missing", "fatal"}:
        return GiveUp(fault.reason, fault.detail)
    away = fault.kind == "transport" or (fault.kind == "server" and not alive)
    if probe and away:
        return Again(policy.base_s * (0.5 + jitter), tries)
    cause: Cause = "outages" if fault.kind == "transport" and not alive else _CAUSES.get(fault.kind, "retries")
    done, most = getattr(tries, cause) + 1, getattr(policy, cause)
    if cause == "malformed":
        most = min(most, policy.retries)
    if done > most:
        times = "once" if done == 1 else f"{done} times"
        return GiveUp("gave_up", f"{times}: {fault.detail or fault.reason}")
    longest = {"overloads": 5.0, "outages": 2.0}.get(cause, policy.longest_s)
    wait = min(policy.base_s * 2.0 ** min(done - 1, 16), longest) * (0.5 + jitter)
    # How long a server asks to wait is said of the endpoint: the call may go to another one.
    return Again(wait, replace(tries, **{cause: done}))
