"""Go or no go: one plain sentence about whether the student was worth it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """Whether to use the student.

    Attributes:
        decision: `use`, `do not use` or `unsure`.
        sentence: One sentence for a person, with the figures it rests on.
        reasons: Every comparison that was looked at, in words.
    """

    decision: str
    sentence: str
    reasons: tuple[str, ...]


def go_no_go(
    systems: Mapping[str, Mapping[str, Any]], *, paired: Mapping[str, Interval] | None = None, metric: str = "accuracy",
    system: str = "student", label_equivalents: float | None = None, n_dev: int = 0,
    majority_share: float | None = None, useful: float = 0.02,
) -> Verdict:  # fmt: skip
    """Say whether to use a student, from scores alone ("Weaker than you think", Zhu et al. 2023, asks for these baselines).

    Args:
        systems: System name to its scores; `metric` and, where known, `ci95` are read.
        paired: Baseline name to the 95 % interval of (student - baseline), from a paired bootstrap.
        metric: Which score, in [0, 1], higher is better.
        system: Which student.
        label_equivalents: How many random gold texts train the same student as well, or None.
        n_dev: How many gold texts there are in dev.
        majority_share: Share of the commonest label: what no learning at all scores (accuracy only).
        useful: A difference smaller than this is no reason, in units of the metric.

    Returns:
        The verdict. A baseline that does not exist is not compared with.

    Example:
        >>> go_no_go({"student": {"accuracy": 0.9}, "dev_only": {"accuracy": 0.8}}, paired={"dev_only": (0.05, 0.15)}).decision
        'use'
    """
    if system not in systems:
        return Verdict("do not use", "Do not use it: there is no student to judge.", ())
    score = float(systems[system][metric])
    reasons, against, doubts, gains = list[str](), list[str](), list[str](), list[str]()
    dev_is_as_good = False
    if majority_share is not None and metric == "accuracy":
        reasons.append(f"always the commonest label: {_percent(majority_share)}")
        if score <= majority_share + useful:
            against.append(f"always answering with the commonest label scores {_percent(majority_share)}")
    for name, words in _BASELINES.items():
        if name not in systems:
            continue
        other = float(systems[name][metric])
        low, high = (paired or {}).get(name, (score - other, score - other))
        reasons.append(f"{words}: {_percent(other)} (student less this: {_signed(low)} to {_signed(high)} points)")
        if high < 0 and other - score > useful / 2:
            against.append(f"{words} scores {_percent(other)}, surely more")
        elif low > 0:
            gains.append(f"{words} ({_percent(other)})")
        elif other >= score - useful / 2:
            doubts.append(f"{words} scores {_percent(other)}, which cannot be told apart")
            dev_is_as_good = dev_is_as_good or name == "dev_only"
    if label_equivalents is not None:
        reasons.append(f"worth about {label_equivalents:.0f} gold labels")
        if n_dev and label_equivalents < n_dev:
            doubts.append(f"it is worth {label_equivalents:.0f} gold labels and dev alone has {n_dev}")
    said = f"it scores {_percent(score)} {metric.replace('_', '-')}"
    worth = "" if label_equivalents is None else f", as much as {label_equivalents:.0f} random gold labels would give"
    if against:
        return Verdict("do not use", f"Do not use it: {said}, and {'; '.join(against)}.", tuple(reasons))
    if doubts and (dev_is_as_good or not gains):
        return Verdict("unsure", f"Not proven: {said}{worth}, but {'; '.join(doubts)}.", tuple(reasons))
    beaten = f", and beats {', and '.join(gains)}" if gains else ""
    doubt = f"; note that {'; '.join(doubts)}" if doubts else ""
    trade = _trade(systems, score, metric, useful)
    return Verdict("use", f"Use it: {said}{worth}{beaten}{trade}{doubt}.", tuple(reasons))


_BASELINES = {
    "dev_only": "the same student on the gold of dev alone",
    "zero_shot": "the encoder with label descriptions alone",
    "majority": "majority vote of the programs without a student",
}


def _trade(systems: Mapping[str, Mapping[str, Any]], score: float, metric: str, useful: float) -> str:
    if "teacher" not in systems:
        return ""
    teacher = float(systems["teacher"][metric])
    asking = "; asking the language model for every text"
    if teacher - score > useful:
        return f"{asking} scores {_percent(teacher)}, {_signed(teacher - score)} points"
    return f"{asking} ({_percent(teacher)}) is hardly better or worse"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"
