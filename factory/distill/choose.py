"""Choices: kind of student, encoder, label model, cut-off of confidence, synthetic texts or not, and the head's strength.

On dev where it may be used; without it by agreement with held-out labels. Every trial is stored, and none is done twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.distill import read as reading
from factory.distill.curate import Curated, Rules
from factory.encoders.base import Encoder
from factory.logistic import folds_of, loss_of
from factory.result import Progress
from factory.students.base import student_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.distill.system import Plan

FOLDS = 3
MOST_ROWS = 6000
"""Rows that take part in judging by agreement, which bounds its time."""


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        kind: A name in `STUDENTS`.
        encoder: Its encoder.
        label_model: The label model to learn from, or None.
        rules: Curation.
        options: The student's options.
        barred: Texts of dev, which must not be learned from.
        facts: For the model's `params`.
    """

    kind: str
    encoder: Encoder
    label_model: reading.LabelModelRow | None
    rules: Rules
    options: dict[str, Any]
    barred: NDArray[np.int64]
    facts: dict[str, Any]


class Trials:
    """The trials of one student, numbered in the order they are made, kept in the warehouse."""

    def __init__(self, plan: Plan, system: str, key: str, criterion: str) -> None:
        self.plan, self.system, self.key, self.criterion = plan, system, key, criterion
        query = "SELECT trial_no, score FROM trials WHERE key = ? AND criterion = ?"
        self.known: dict[int, float] = dict(plan.warehouse.query(query, [key, criterion]))
        self.made = 0
        self.best: tuple[float, int] = (-np.inf, 0)

    def score(self, config: dict[str, Any], judge: Callable[[], float]) -> float:
        """The score of the next trial: the stored one, or the judge's, stored."""
        self.made += 1
        if self.made not in self.known:
            found = judge()
            with self.plan.warehouse.lease() as db:
                db.execute(
                    "INSERT INTO trials (key, system, trial_no, config, criterion, score) VALUES (?, ?, ?, ?, ?, ?)",
                    [self.key, self.system, self.made, json.dumps(config), self.criterion, found],
                )
            self.known[self.made] = found
        score = self.known[self.made]
        if score > self.best[0]:
            self.best = (score, self.made)
        return score


def choose_on_dev(plan: Plan, key: str, progress: Progress) -> Choice:
    """Two short grids on dev: kind, encoder and label model first, then share of synthetic texts, cut-off and strength.

    The score is accuracy (single) or micro-F1 (multi) on dev, less a thousandth of the soft cross-entropy, which parts ties.
    """
    system = "student_dev"
    text_nos, gold = reading.dev_gold(plan.warehouse, plan.classes)
    programs, synthetic = plan.uses(system)
    models: list[reading.LabelModelRow | None] = list(plan.models) if programs else [None]
    trials = Trials(plan, system, key, "dev")

    def tried(choice: Choice) -> float:
        config = {
            "student": choice.kind,
            "encoder": choice.encoder.name,
            "label_model": choice.label_model.name if choice.label_model else None,
            "synthetic_weight": choice.rules.synthetic_weight,
            "confidence": choice.rules.confidence,
            "c": choice.options.get("c"),
        }

        def judge() -> float:
            rows = plan.rows(system, choice.label_model, choice.rules, text_nos.tolist())
            if not rows.kept.any():
                return -1.0
            student = plan.fit(choice.kind, choice.encoder, rows, choice.options, progress)
            asked = plan.inputs(choice.kind, choice.encoder, text_nos, progress)
            return gold_score(student.predict_proba(asked), gold, plan.classes.multi)

        found = trials.score(config, judge)
        progress(trials.made, 0, "trials on dev")
        return found

    first = [
        Choice(kind, encoder, model, plan.rules, plan.options_of(system, kind), text_nos, {})
        for kind, encoder in plan.candidates
        for model in models
    ]
    scores = [tried(choice) for choice in first]
    base, best = first[int(np.argmax(scores))], max(scores)
    weights = [plan.rules.synthetic_weight] + ([0.0] if synthetic and programs else [])
    cutoffs = [plan.rules.confidence] + ([0.7] if programs and not plan.classes.multi else [])
    strengths: tuple[float | None, ...] = student_class(base.kind).strengths_on_dev or (None,)
    strengths = (None,) if "c" in plan.options else strengths
    chosen = base
    for weight, cutoff, c in [(w, f, c) for w in weights for f in cutoffs for c in strengths]:
        rules = replace(plan.rules, synthetic_weight=weight, confidence=cutoff)
        options = base.options if c is None else {**base.options, "c": c}
        if rules == base.rules and options == base.options:
            continue
        choice = replace(base, rules=rules, options=options)
        score = tried(choice)
        if score > best:
            chosen, best = choice, score
    facts = {"dev_score": trials.best[0], "dev_trial": trials.best[1], "dev_trials": trials.made}
    return replace(chosen, facts=facts)


def choose_by_agreement(plan: Plan, system: str, rows: Curated, key: str, progress: Progress) -> tuple[str, Encoder]:
    """Choose the kind of student and its encoder without gold: by agreement with held-out labels, in three parts.

    The strength is not chosen so: held-out labels of the same programs share their mistakes, and the weakest penalty wins.

    Args:
        plan: What was asked for.
        system: Which system.
        rows: What it learns from.
        key: Under which the trials are kept.
        progress: Called with (done, total, what).

    Returns:
        The first of the best candidates; without a choice, or with fewer than two rows for each part, the first.
    """
    candidates = plan.candidates_of(system)
    kept = np.flatnonzero(rows.kept)
    if len(candidates) == 1 or len(kept) < 2 * FOLDS:
        return candidates[0]
    if len(kept) > MOST_ROWS:
        kept = np.sort(np.random.default_rng(len(kept)).permutation(kept)[:MOST_ROWS])
    fold = folds_of(len(kept), FOLDS, 0)
    trials = Trials(plan, system, key, "held-out agreement")
    scores = []
    for kind, encoder in candidates:
        options = plan.options_of(system, kind)

        def judge(kind: str = kind, encoder: Encoder = encoder, options: dict[str, Any] = options) -> float:
            total = 0.0
            for number in range(FOLDS):
                learn, held = kept[fold != number], kept[fold == number]
                weights = np.zeros(len(rows.weights))
                weights[learn] = rows.weights[learn]
                student = plan.fit(kind, encoder, replace(rows, weights=weights), options, progress)
                asked = plan.inputs(kind, encoder, rows.text_nos[held], progress)
                total += agreement(student.predict_proba(asked), rows.probs[held], plan.classes.multi) / FOLDS
            return total

        config = {"student": kind, "encoder": encoder.name, "c": options.get("c")}
        scores.append(trials.score(config, judge))
        progress(trials.made, len(candidates), "trials by agreement")
    return candidates[int(np.argmax(scores))]


def gold_score(probs: NDArray[np.floating[Any]], gold: NDArray[np.float64], multi: bool) -> float:
    """Accuracy (or micro-F1 at one half, over what is known) less a thousandth of the soft cross-entropy."""
    loss = loss_of(probs, gold, np.ones(len(gold)), multi)
    if not multi:
        return float((probs.argmax(axis=1) == gold.argmax(axis=1)).mean()) - 1e-3 * loss
    known = ~np.isnan(gold)
    said, yes = (probs >= 0.5) & known, np.nan_to_num(gold) > 0.5
    true = float((said & yes).sum())
    return 2 * true / max(float(said.sum() + yes.sum()), 1.0) - 1e-3 * loss


def agreement(probs: NDArray[np.floating[Any]], soft: NDArray[np.float64], multi: bool) -> float:
    """`gold_score` against soft labels taken as hard ones."""
    if multi:
        return gold_score(probs, np.where(np.isnan(soft), np.nan, (soft >= 0.5).astype(float)), True)
    return gold_score(probs, np.eye(soft.shape[1])[soft.argmax(axis=1)], False)
