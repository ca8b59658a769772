"""The next purchase, decided by expected gain per price. Pure: what was bought, and what it brought, is all that it looks at.

The gain of a purchase is `theta * reach`. `reach` is known: how much of the error it can touch, times how much it adds to what is
there. `theta` begins as the benchmarks have it (`curves`) and is updated as a normal mean is by every measured gain of its kind,
each weighed by its standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, inf, isfinite, log2
from typing import Literal

from factory.pipeline.auto.curves import CURVES, FIRST_ANCHORS, PROGRAMS, Kind
from factory.warehouse.tables.purchases import words_of

RARE = 0.02
"""A label with less than this share of the heap is hardly there: no program and no anchor finds many texts of it."""
LEAST_CONFLICT = 0.05
"""Where programs disagree on fewer texts than this, programs for these texts are not offered."""
LEAST_PART = 1 / 3
"""Of the last purchase, what is left of a budget must pay such a part."""
LEAST_GAIN = 0.001
"""A gain below a tenth of a point is not worth a round."""
KIN = 2.0
"""How much more coarsely a kind of program is known by the gains of another kind."""
UNKNOWN = 0.75
"""What the answer is taken to be worth before an anchor has judged it."""


@dataclass(frozen=True)
class Bought:
    """A purchase that is done.

    Attributes:
        kind: What was bought; `first` for the first round.
        label: The label that it was for, if it was for one.
        size: How many were asked for.
        reach: What `theta` was multiplied by; 0 in the first round.
        spent: What it cost, in the unit of the budget.
        gain: By how much the score rose, or None where that could not be measured.
        error: The standard error of the gain.
    """

    kind: Kind | Literal["first"]
    size: int
    reach: float = 0.0
    spent: float = 0.0
    gain: float | None = None
    error: float = inf
    label: str | None = None


@dataclass(frozen=True)
class LabelState:
    """What is known of a label: its share of the heap, and the share of its anchors that the answer gets right."""

    name: str
    share: float
    right: float


@dataclass(frozen=True)
class State:
    """What a decision looks at.

    Attributes:
        bought: All purchases so far, the first round among them.
        programs: Programs that vote, whatever they are for.
        anchors: Anchors that teach.
        labels: The labels.
        score: What the answer is worth, 0 to 1, or None while no anchor judges it.
        conflicts: The share of the heap on which programs disagree.
        prices: Of one, by kind, in the unit of the budget.
        left: What is left of the budget; infinite without one.
        most: How many of a kind can still be bought, where that is bounded; a kind with 0 is not offered.
        rounds: How many purchases may still be made.
        scale: How much larger than usual a purchase is.
    """

    bought: Sequence[Bought]
    programs: int
    anchors: int
    labels: Sequence[LabelState]
    score: float | None
    conflicts: float
    prices: Mapping[Kind, float]
    left: float
    most: Mapping[Kind, int]
    rounds: int
    scale: int = 1


@dataclass(frozen=True)
class Purchase:
    """Something that may be bought next.

    Attributes:
        kind, size, label, reach: As of `Bought`.
        price: What it will take, in the unit of the budget.
        expected: The expected gain.
        sd: The standard error of that expectation.
        why: Why it was chosen, in words.
    """

    kind: Kind
    size: int
    label: str | None
    reach: float
    price: float
    expected: float
    sd: float
    why: str = ""

    @property
    def words(self) -> str:
        """What it is, for a person."""
        return words_of(self.kind, self.size, self.label)

    @property
    def rate(self) -> float:
        """Expected gain per price."""
        return self.expected / self.price

    @property
    def rate_sd(self) -> float:
        """The standard error of `rate`."""
        return self.sd / self.price


@dataclass(frozen=True)
class Stop:
    """Nothing more is bought.

    Attributes:
        why: In words.
    """

    why: str


def decide(state: State) -> Purchase | Stop:
    """The next purchase, or why there is none."""
    if state.rounds <= 0:
        return Stop("as many rounds as are allowed")
    every = offers(state)
    if not every:
        return Stop("nothing more is on offer")
    worth = [one for one in every if one.expected > max(one.sd, LEAST_GAIN)]
    if not worth:
        best = max(every, key=lambda one: one.expected)
        return Stop(f"nothing promises more than noise: {best.words} would bring {points(best.expected, best.sd)}")
    payable = [one for one in worth if one.price <= state.left]
    if not payable:
        cheapest = min(worth, key=lambda one: one.price)
        price, left = (
            f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (cheapest.price, max(state.left, 0.0))
        )
        return Stop(f"the budget: {cheapest.words} would take {price}, and {left} is left")
    best, usual = max(payable, key=lambda one: one.rate), _usual(state, payable)
    if _clear(best, usual):
        return replace(best, why=f"the most for its price, {best.rate / usual.rate:.1f} times that of {usual.words}")
    if all(one is usual or _clear(usual, one) for one in payable):
        return replace(usual, why="the most for its price" if len(payable) > 1 else "alone worth more than noise")
    return replace(usual, why="no difference above its standard error: half to programs and half to anchors")


def offers(state: State) -> list[Purchase]:
    """Everything that may be bought next, whatever it promises, each with what is expected of it."""
    error = 1.0 - (UNKNOWN if state.score is None else state.score)
    sizes = {kind: _size(state, kind) for kind in CURVES}
    found: list[tuple[Kind, str | None, float]] = [
        ("programs", None, error * log2(1 + sizes["programs"] / max(state.programs, 1))),
        ("anchors", None, error * log2(1 + sizes["anchors"] / (FIRST_ANCHORS + state.anchors))),
    ]
    if state.conflicts >= LEAST_CONFLICT:
        reach = min(error, state.conflicts / 2)  # of two labels, one is wrong
        found.append(("conflict_programs", None, reach / (1 + _times(state, "conflict_programs"))))
    if len(state.labels) > 1 and state.score is not None:
        hardly_there = [one for one in state.labels if one.share < RARE]
        of_labels: list[tuple[Kind, Sequence[LabelState]]] = [("label_programs", state.labels), ("texts", hardly_there)]
        for kind, labels in of_labels:
            if labels:
                reaches = {one.name: label_reach(state, one) / (1 + _times(state, kind, one.name)) for one in labels}
                label = max(reaches, key=lambda name: reaches[name])
                found.append((kind, label, reaches[label]))
    purchases = []
    for kind, of_label, reach in found:
        if sizes[kind] > 0:
            if kind not in ("programs", "anchors"):  # `brings` is of a whole purchase
                reach *= min(1.0, sizes[kind] / CURVES[kind].size)
            theta, sd = learned(kind, state.bought)
            price = max(sizes[kind] * state.prices[kind], 1e-12)
            purchases.append(Purchase(kind, sizes[kind], of_label, reach, price, theta * reach, sd * reach))
    return purchases


def label_reach(state: State, label: LabelState) -> float:
    """How much of the score (half accuracy, half the mean over labels) the label's own errors are."""
    return 0.5 * (label.share + 1 / len(state.labels)) * (1.0 - label.right)


def learned(kind: Kind, bought: Sequence[Bought]) -> tuple[float, float]:
    """`theta` of a kind and its standard deviation, after what this run's purchases brought.

    Programs of one kind tell of those of another too, as if measured `KIN` times as coarsely.
    """
    prior = CURVES[kind]
    precision, weighed = prior.sd**-2, prior.brings * prior.sd**-2
    for one in bought:
        if one.gain is None or not isfinite(one.error) or one.error <= 0 or one.kind == "first":
            continue
        kin = one.kind != kind
        if kin and not (one.kind in PROGRAMS and kind in PROGRAMS):
            continue
        reach = one.reach * CURVES[one.kind].brings / prior.brings
        error = one.error * (KIN if kin else 1.0)
        precision += (reach / error) ** 2
        weighed += reach * one.gain / error**2
    return weighed / precision, precision**-0.5


def points(gain: float, error: float) -> str:
    """A gain in points, with its standard error."""
    told, within = round(100 * gain, 1) + 0.0, abs(round(100 * error, 1))
    return f"{told:+.1f} points (standard error {within:.1f})"


# ----------------------------------------------------------------------------------------------------------------------
def _clear(one: Purchase, other: Purchase) -> bool:
    """Whether one brings more for its price than another, by more than the difference's standard error."""
    return one.rate - other.rate > hypot(one.rate_sd, other.rate_sd)


def _size(state: State, kind: Kind) -> int:
    """How many of a kind are bought at once: the usual number, or what there is of them, or what is left pays for."""
    size = min(CURVES[kind].size * state.scale, state.most.get(kind, CURVES[kind].size * state.scale))
    paid = int(min(state.left / max(state.prices[kind], 1e-12), size))
    return paid if paid >= LEAST_PART * size else size


def _usual(state: State, payable: Sequence[Purchase]) -> Purchase:
    """What the default split buys: of programs and anchors the one that less was spent on so far."""
    spent = {
        "programs": sum(one.spent for one in state.bought if one.kind in (*PROGRAMS, "first")),
        "anchors": sum(one.spent for one in state.bought if one.kind == "anchors"),
    }
    main = [one for one in payable if one.kind in spent]
    if not main:
        return max(payable, key=lambda one: one.rate)
    return min(main, key=lambda one: spent[one.kind])


def _times(state: State, kind: str, label: str | None = None) -> int:
    return sum(one.kind == kind and one.label == label for one in state.bought)
