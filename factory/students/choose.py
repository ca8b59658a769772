"""Choices made on dev: label model, cut-off of confidence, synthetic texts or not, and the head's strength."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.result import Progress
from factory.students import reading
from factory.students.curate import Rules
from factory.students.head import loss_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

WITH_C = ("embedding", "hybrid", "linear", "static")


@dataclass(frozen=True)
class Choice:
    """What dev chose.

    Attributes:
        label_model: The label model to learn from, or None.
        rules: Curation.
        options: The student's options.
        barred: Texts of dev, which must not be learned from.
        facts: For the model's `params`.
    """

    label_model: reading.LabelModelRow | None
    rules: Rules
    options: dict[str, Any]
    barred: NDArray[np.int64]
    facts: dict[str, Any]


def choose_on_dev(plan: Any, kind: str, options: dict[str, Any], key: str, progress: Progress) -> Choice:
    """Try a compact grid and keep what scores best on dev; every trial is stored and none is done twice.

    The score is accuracy (single) or micro-F1 (multi) on dev, less a thousandth of the soft cross-entropy, which parts ties.
    """
    text_nos, gold = reading.dev_gold(plan.warehouse, plan.classes)
    programs, synthetic = plan.uses("student_dev")
    models: list[reading.LabelModelRow | None] = list(plan.models) if programs else [None]
    weights = [plan.rules.synthetic_weight] + ([0.0] if synthetic and programs else [])
    cutoffs = [plan.rules.confidence] + ([0.7] if programs and not plan.classes.multi else [])
    strengths: list[Any] = [options.get("c", "auto")]
    if "c" not in options and kind in WITH_C:
        strengths = [0.3, 1.0, 3.0, 10.0] if kind == "embedding" else [3.0, 10.0, 30.0]
    grid = [(m, w, f, c) for m in models for w in weights for f in cutoffs for c in strengths]
    known = dict(plan.warehouse.query("SELECT trial_no, score FROM trials WHERE key = ?", [key]))
    inputs: Any = None
    best: tuple[float, int] | None = None
    for number, (model, weight, cutoff, c) in enumerate(grid, start=1):
        if number not in known:
            rules = replace(plan.rules, synthetic_weight=weight, confidence=cutoff)
            rows = plan.rows("student_dev", model, rules, text_nos)
            score = -1.0
            if rows.kept.any():
                chosen = {**options, **({"c": c} if kind in WITH_C else {})}
                student = plan.fit(kind, rows, chosen, progress)
                inputs = plan.inputs(kind, text_nos, progress) if inputs is None else inputs
                score = dev_score(student.predict_proba(inputs), gold, plan.classes.multi)
            config = {
                "label_model": model.name if model else None,
                "synthetic_weight": weight,
                "confidence": cutoff,
                "c": c,
            }
            with plan.warehouse.lease() as db:
                db.execute(
                    "INSERT INTO trials (key, system, trial_no, config, criterion, score) VALUES (?, ?, ?, ?, ?, ?)",
                    [key, "student_dev", number, json.dumps(config), "dev", score],
                )
            known[number] = score
        progress(number, len(grid), "trials on dev")
        if best is None or known[number] > best[0]:
            best = (known[number], number)
    assert best is not None
    model, weight, cutoff, c = grid[best[1] - 1]
    picked = {**options, **({"c": c} if kind in WITH_C else {})}
    facts = {"dev_score": best[0], "dev_trial": best[1], "dev_trials": len(grid)}
    return Choice(model, replace(plan.rules, synthetic_weight=weight, confidence=cutoff), picked, text_nos, facts)


def dev_score(probs: NDArray[np.floating[Any]], gold: NDArray[np.float64], multi: bool) -> float:
    """Accuracy (or micro-F1 at one half) less a thousandth of the soft cross-entropy."""
    loss = loss_of(probs, gold, np.ones(len(gold)), multi)
    if not multi:
        return float((probs.argmax(axis=1) == gold.argmax(axis=1)).mean()) - 1e-3 * loss
    said = probs >= 0.5
    true = float((said & (gold > 0.5)).sum())
    return 2 * true / max(float(said.sum() + (gold > 0.5).sum()), 1.0) - 1e-3 * loss
