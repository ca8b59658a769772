"""What gold of dev tells of label models and of functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from factory.denoise.choose import Choice, predict
from factory.denoise.models.base import LabelModel
from factory.label_matrix import VoteSet

CANDIDATES = ("majority", "weighted", "snorkel", "dawid_skene", "dawid_skene_prior", "triplets")
"""Models that dev gold is asked about, beside the choice made without it."""


def choose_on_dev(
    incumbent: Choice, candidates: Mapping[str, LabelModel], dev: tuple[VoteSet, np.ndarray], *, features: Any = None,
    keys: Any = None,
) -> Choice:  # fmt: skip
    """Keep a choice, or take the candidate that is better on covered dev texts by more than one standard error.

    Args:
        incumbent: What was chosen without gold.
        candidates: Fitted models by name.
        dev: Votes of gold-labelled texts and their labels.
        features: Vectors of those texts, if the incumbent or a candidate is `joint`.
        keys: Their keys.
    """
    rows = np.flatnonzero(dev[0].covered)
    if not len(rows):
        return incumbent
    shown, gold = dev[0].take(rows), dev[1][rows]
    more = {} if features is None else {"features": features[rows], "keys": np.asarray(keys)[rows]}
    pool = {**candidates, incumbent.key: incumbent.model}
    right = {name: _soft_hits(predict(model, shown, **more), gold) for name, model in pool.items()}
    on_dev = {name: round(float(hits.mean()), 6) for name, hits in right.items()}
    best, lead = incumbent.key, 0.0
    for name, hits in right.items():
        gain = hits - right[incumbent.key]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else np.inf
        if gain.mean() > error and gain.mean() > lead:
            best, lead = name, float(gain.mean())
    scores = {**incumbent.scores, **on_dev}
    if best == incumbent.key:
        reason = f"nothing is clearly better on {len(rows)} covered dev texts; {incumbent.reason}"
        return replace(incumbent, reason=reason, scores=scores)
    reason = (
        f"on {len(rows)} covered dev texts {on_dev[best]:.3f}, against {on_dev[incumbent.key]:.3f} of {incumbent.key}"
    )
    return Choice(best, pool[best], reason, scores, refused=incumbent.refused)


def worse_than_chance(votes: VoteSet, gold: np.ndarray, *, level: float = 0.01) -> list[tuple[int, float, int]]:
    """Functions that gold shows to be worse than chance.

    Args:
        votes: Of gold-labelled texts.
        gold: int [n], their classes.
        level: One-sided binomial test against 1 / classes.

    Returns:
        (function, accuracy, votes) of each, in order.
    """
    from scipy.stats import binomtest

    row, voter, label = votes.triplets()
    said = np.bincount(voter, minlength=votes.lfs)
    hits = np.bincount(voter, weights=label == np.asarray(gold)[row], minlength=votes.lfs).astype(int)
    return [
        (lf, float(hits[lf] / said[lf]), int(said[lf]))
        for lf in range(votes.lfs)
        if said[lf] and binomtest(int(hits[lf]), int(said[lf]), 1 / votes.classes, alternative="less").pvalue < level
    ]


def _soft_hits(probs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """1 for a right row, 1/t where the right class shares a tie of t, else 0."""
    tied = np.abs(probs - probs.max(axis=1, keepdims=True)) < 1e-5
    hits: np.ndarray = tied[np.arange(len(gold)), gold] / tied.sum(axis=1)
    return hits
