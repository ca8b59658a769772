"""What the line's answer is worth without gold: how often it says what anchors say that it has not seen.

The audit slice is not looked at. The score is half the share of right answers and half their mean over labels, so that a rare
label counts; each anchor counts by the inverse of its probability of being drawn. In a `multi` task an answer is as right as the
share of labels that both say of those that either says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import hypot, sqrt
from typing import TYPE_CHECKING

import numpy as np

from factory.task import current_card
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.labels import MIXTURE, label_models, soft_labels

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

MOST_WORTH = 5.0
"""How much more than the mean an anchor counts at most, and how much less."""


@dataclass(frozen=True)
class Judgement:
    """How right an answer is on anchors.

    Attributes:
        right: 0 to 1, by text number; a text on which no program speaks has no answer of the label model.
        labels: What the anchor says, as label numbers.
        worth: How much it counts, relative to the others.
    """

    right: Mapping[int, float]
    labels: Mapping[int, frozenset[int]]
    worth: Mapping[int, float]

    @cached_property
    def weights(self) -> dict[int, float]:
        """How much of the score each anchor is; they add up to 1."""
        return self._weights(self.right)

    @property
    def score(self) -> float:
        """0 to 1."""
        return sum(weight * self.right[number] for number, weight in self.weights.items())

    def of_label(self, label: int) -> tuple[float, int]:
        """How right it is on the anchors of a label, drawn towards the score by two anchors more, and how many there are."""
        mine = [number for number in self.right if label in self.labels[number]]
        total = sum(self.worth[number] for number in mine)
        right = sum(self.worth[number] * self.right[number] for number in mine)
        return (right + 2 * self.score) / (total + 2), len(mine)

    def gain(self, before: Mapping[int, float]) -> tuple[float, float] | None:
        """By how much the score is higher than before, on the anchors that were judged both times, and its standard error.

        Args:
            before: How right the answer was then, by text number.
        """
        common = [number for number in self.right if number in before]
        if len(common) < 2:
            return None
        weights = self._weights(common)
        change = {number: self.right[number] - before[number] for number in common}
        mean = sum(weights[number] * change[number] for number in common)
        spread = sqrt(sum((weights[number] * (change[number] - mean)) ** 2 for number in common))
        return mean, hypot(spread, max(weights.values()))  # one anchor more or less is never known better

    def _weights(self, numbers: Mapping[int, float] | list[int]) -> dict[int, float]:
        total = sum(self.worth[number] for number in numbers)
        by_label: dict[int, float] = {}
        for number in numbers:
            for label in self.labels[number]:
                by_label[label] = by_label.get(label, 0.0) + self.worth[number]
        share = 0.5 if by_label else 1.0
        return {
            number: self.worth[number]
            * (share / total + sum(0.5 / len(by_label) / by_label[label] for label in self.labels[number]))
            for number in numbers
        }


def judge(warehouse: Warehouse, *, mixture: bool = True) -> Judgement | None:
    """Judge the mixture, or where there is none the label model, by the anchors that teach; neither has seen them.

    Args:
        warehouse: Where they are.
        mixture: Whether the mixture may be the answer.

    Returns:
        None without anchors that have an answer.
    """
    anchors = read_anchors(warehouse, "teach")
    models = [one for one in label_models(warehouse) if one.chosen or (mixture and one.name == MIXTURE)]
    if not anchors or not models:
        return None
    model = max(models, key=lambda one: one.name == MIXTURE)
    multi = current_card(warehouse).kind == "multi"
    soft = soft_labels(warehouse, model.number, text_nos=[one.text_no for one in anchors])
    said: dict[int, frozenset[int]] = {}
    for number, probs, covered in zip(soft.text_nos.tolist(), np.nan_to_num(soft.probs), soft.covered, strict=True):
        if covered or multi:
            said[number] = frozenset(np.flatnonzero(probs >= 0.5).tolist() if multi else [int(probs.argmax())])
    right = {one.text_no: _alike(one.labels, said[one.text_no]) for one in anchors if one.text_no in said}
    if not right:
        return None
    inverse = {one.text_no: 1 / one.p for one in anchors if one.p}
    mean = sum(inverse.values()) / max(len(inverse), 1)
    return Judgement(
        right,
        {one.text_no: one.labels for one in anchors},
        {one.text_no: min(max(inverse.get(one.text_no, mean) / (mean or 1.0), 1 / MOST_WORTH), MOST_WORTH)
         if inverse else 1.0 for one in anchors},
    )  # fmt: skip


def _alike(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0
