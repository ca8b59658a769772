"""The logistic layer that students end in, fitted at the strength that their configuration names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from factory.logistic import Features, Head, choose_c, fit_logistic

if TYPE_CHECKING:
    from factory.students.base import TrainingSet, Trial

Floats = NDArray[np.floating[Any]]
ConfigT = TypeVar("ConfigT")


def learn_head(features: Floats | Features, lesson: TrainingSet, config: ConfigT) -> tuple[Head, ConfigT, list[Trial]]:
    """Fit at the strength that a configuration names, or at the one that agrees best with held-out soft labels.

    Args:
        features: Of the texts of the lesson.
        lesson: Targets, weights and `multi`.
        config: Has `c`, `folds` and `seed`, and may have `gce`.

    Returns:
        The head, the configuration with its `c` resolved, and what was tried.
    """
    settings: Any = config
    gce = float(getattr(config, "gce", 0.0))
    trials: list[tuple[float, float]] = []
    if settings.c == "auto":
        best, trials = choose_c(
            features, lesson.targets, lesson.weights, multi=lesson.multi, gce=gce, folds=settings.folds,
            seed=settings.seed, progress=lesson.progress,
        )  # fmt: skip
        settings = replace(settings, c=best)
    head = fit_logistic(
        features, lesson.targets, lesson.weights, c=float(settings.c), multi=lesson.multi, gce=gce, progress=lesson.progress
    )  # fmt: skip
    return head, settings, [({"c": c}, loss) for c, loss in trials]
