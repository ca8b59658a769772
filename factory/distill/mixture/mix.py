"""The mixture: members are fitted in five parts, weighed on anchors they have not seen, and then learn from all anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.calibrate import best_temperature, temper
from factory.distill.mixture.members import MEMBERS, Material, fit_members
from factory.distill.mixture.weigh import mixing_weights
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.distill.mixture.members import Answer

FOLDS = 5
LEAST_ANCHORS = 50
"""Anchors that a mixture is weighed by at least: ten in each part."""


@dataclass(frozen=True)
class Mixed:
    """What a mixture says of every text.

    Attributes:
        probs: float32 [n, k]. Of a training text by members that have seen neither it nor its anchor, of any other text by
            members that learned from all anchors.
        weights: By member, adding up to 1.
        agreement: By member, and by `mixture`, the share of anchors whose label it gives without having seen it.
        temperature: That the mixture's probabilities were scaled by.
        retired: Why programs are left out, by number, when all anchors are seen.
        members: The members of each part in turn, and at last those that learned from all anchors.
    """

    probs: NDArray[np.float32]
    weights: Mapping[str, float]
    agreement: Mapping[str, float]
    temperature: float
    retired: Mapping[int, str]
    members: Sequence[Mapping[str, Answer]] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What is worth keeping, JSON-able."""
        return {
            "weights": {name: round(value, 4) for name, value in self.weights.items()},
            "agreement": {name: round(value, 4) for name, value in self.agreement.items()},
            "temperature": round(self.temperature, 4),
        }


def folds_by_key(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The part of each text, int64 [n], by its key (`factory.denoise.decide.tie_keys`): it never depends on other texts."""
    return ((keys >> np.uint64(16)) % np.uint64(FOLDS)).astype(np.int64)


def mix(material: Material, folds: NDArray[np.int64], progress: Progress = no_progress) -> Mixed:
    """Fit and weigh the members, and answer for every text.

    Args:
        material: The texts; anchors are among the training texts.
        folds: int64 [n], the part of each text, 0 ... 4.
        progress: Called with (done, total, what).
    """
    said, retired, members = cross_fitted(material, folds, progress)
    return replace(weighed(material, dict(zip(MEMBERS, said, strict=True)), retired), members=members)


def cross_fitted(
    material: Material, folds: NDArray[np.int64], progress: Progress = no_progress
) -> tuple[NDArray[np.float32], Mapping[int, str], Sequence[Mapping[str, Answer]]]:
    """What every member says of every text, as `Mixed.probs` is made, why programs are retired, and the members.

    Args:
        material: As `mix` takes it, as are all.
        folds: Likewise.
        progress: Likewise.

    Returns:
        float32 [members, n, k], in the order of `MEMBERS`, reasons by number of the program, and `Mixed.members`.
    """
    n, heap = len(material.labels), material.heap
    said = np.zeros((len(MEMBERS), n, material.classes), np.float32)
    kept: list[Mapping[str, Answer]] = []
    for fold in range(FOLDS):
        progress(fold, FOLDS + 1, "parts of the mixture")
        members, _ = fit_members(material, heap & (folds != fold))
        _answer(said, members, np.flatnonzero(heap & (folds == fold)))
        kept.append(members)
    progress(FOLDS, FOLDS + 1, "parts of the mixture")
    members, retired = fit_members(material, heap)
    _answer(said, members, np.flatnonzero(~heap))
    progress(FOLDS + 1, FOLDS + 1, "parts of the mixture")
    return said, retired, (*kept, members)


def weighed(material: Material, said: Mapping[str, NDArray[np.float32]], retired: Mapping[int, str]) -> Mixed:
    """Weigh members by anchors that they have not seen, and calibrate their mixture.

    Args:
        material: The texts.
        said: Of each member, as `cross_fitted` gives it.
        retired: Likewise.
    """
    anchors = np.flatnonzero(material.labels >= 0)
    gold, worth = material.labels[anchors], material.worth[anchors]
    weights = mixing_weights(np.stack([given[anchors, gold] for given in said.values()]), worth)
    probs = np.asarray(sum(weight * given for weight, given in zip(weights, said.values(), strict=True)), np.float32)
    temperature = best_temperature(probs[anchors], gold)
    agreement = {
        name: float(np.average(given[anchors].argmax(axis=1) == gold, weights=worth))
        for name, given in {**said, "mixture": probs}.items()
    }
    weighed = {name: float(value) for name, value in zip(said, weights, strict=True)}
    return Mixed(temper(probs, temperature), weighed, agreement, temperature, retired)


def _answer(said: NDArray[np.float32], members: Mapping[str, Any], rows: NDArray[np.int64]) -> None:
    if len(rows):
        for at, name in enumerate(MEMBERS):
            said[at, rows] = members[name](rows)
