"""How varied a set of texts is, and how like real ones. Plain functions on texts and vectors."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.names import words


def self_bleu(texts: Sequence[str], *, most: int = 5, epsilon: float = 0.1) -> list[float]:
    """Self-BLEU-1 to -`most`: the mean BLEU of each text against all others; lower is more varied.

    Smoothing is method 1 of Chen and Cherry (2014): a precision of zero counts `epsilon`. The maximum count of an n-gram
    over the other texts is read off its two largest counts, so the work is linear in the n-grams and not in the pairs.

    Args:
        texts: Two or more; sets of different size are not comparable, so draw them to one size first.
        most: The largest n.
        epsilon: Of the smoothing.

    Returns:
        `most` values between 0 and 1; NaN for fewer than two texts.
    """
    tokens = [words(text) for text in texts]
    if len(tokens) < 2:
        return [math.nan] * most
    lengths = np.array([len(item) for item in tokens])
    penalties = _brevity_penalties(lengths)
    logs = np.zeros((most, len(tokens)))
    for n in range(1, most + 1):
        counts = [Counter(tuple(item[at : at + n]) for at in range(len(item) - n + 1)) for item in tokens]
        best: dict[tuple[str, ...], list[int]] = {}
        for count in counts:
            for gram, times in count.items():
                largest = best.setdefault(gram, [0, 0])
                if times > largest[0]:
                    largest[:] = [times, largest[0]]
                elif times > largest[1]:
                    largest[1] = times
        for at, count in enumerate(counts):
            hit = 0
            for gram, times in count.items():
                first, second = best[gram]
                hit += min(times, second if times == first else first)
            total = max(1, sum(count.values()))
            logs[n - 1, at] = math.log((hit or epsilon) / total)
    zero = np.exp(logs[0]) * np.maximum(lengths, 1) < 0.5
    values = np.exp(np.cumsum(logs, axis=0) / np.arange(1, most + 1)[:, None]) * penalties
    values[:, zero] = 0.0
    return [float(value) for value in values.mean(1)]


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Distinct word n-grams over all word n-grams, 0 to 1; NaN if there are none."""
    grams = [tuple(item[at : at + n]) for item in map(words, texts) for at in range(len(item) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes over bytes after DEFLATE (level 9); higher is more repetitive."""
    raw = "\n".join(texts).encode()
    return len(raw) / len(zlib.compress(raw, 9)) if raw else math.nan


def mean_distance(vectors: NDArray[np.float32]) -> float:
    """Mean cosine distance over all pairs.

    Args:
        vectors: float32 [n, d], unit length.
    """
    n = len(vectors)
    if n < 2:
        return math.nan
    total = np.asarray(vectors, np.float64).sum(0)
    own = float((np.asarray(vectors, np.float64) ** 2).sum())
    return float(1 - (total @ total - own) / (n * (n - 1)))


def separability(real: NDArray[np.float32], synthetic: NDArray[np.float32], *, random_seed: int = 0) -> float:
    """AUROC of a classifier that tells synthetic from real texts: .5 cannot, 1 always can.

    Logistic regression on the vectors, balanced classes, 5-fold cross-validation, scored on the held-out folds together.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = np.concatenate([real, synthetic])
    y = np.r_[np.zeros(len(real), int), np.ones(len(synthetic), int)]
    if min(len(real), len(synthetic)) < 5:
        return math.nan
    folds = StratifiedKFold(5, shuffle=True, random_state=random_seed)
    model = LogisticRegression(max_iter=1000, class_weight="balanced", C=1.0)
    return float(roc_auc_score(y, cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]))


def entity_entropy(texts: Sequence[str], *, model: str = "en_core_web_lg") -> dict[str, float] | None:
    """Entropy in bits of the named entities of each kind, by spaCy; None where it or its model is not installed."""
    try:
        import spacy

        pipe = spacy.load(model)
    except (ImportError, OSError):
        return None
    found: dict[str, Counter[str]] = {}
    for document in pipe.pipe(texts):
        for entity in document.ents:
            found.setdefault(entity.label_, Counter())[entity.text] += 1
    return {kind: _entropy(counts) for kind, counts in sorted(found.items())}


def mauve_score(
    real: Sequence[str], synthetic: Sequence[str], *, model: str = "gpt2-xl", random_seed: int = 0
) -> float | None:
    """MAUVE (Pillutla et al. 2021) with SynthesizRR's settings; None where `mauve-text` or the model is not at hand."""
    try:
        import mauve

        out = mauve.compute_mauve(
            p_text=list(real), q_text=list(synthetic), featurize_model_name=model, max_text_length=512, num_buckets=30,
            mauve_scaling_factor=1, seed=random_seed, verbose=False,
        )  # fmt: skip
    except (ImportError, OSError):
        return None
    return float(out.mauve)


def diversity(texts: Sequence[str], vectors: NDArray[np.float32] | None = None) -> dict[str, Any]:
    """All measures of variety of one set, and its size. Compare sets of one size alone."""
    bleu = self_bleu(texts)
    values: dict[str, Any] = {
        "n": len(texts), "self_bleu": [_round(value) for value in bleu], "distinct_1": _round(distinct_n(texts, 1)),
        "distinct_2": _round(distinct_n(texts, 2)), "distinct_3": _round(distinct_n(texts, 3)),
        "compression": _round(compression_ratio(texts)),
        "mean_distance": None if vectors is None else _round(mean_distance(vectors)),
        "words": _round(float(np.mean([len(words(text)) for text in texts]))) if texts else None,
    }  # fmt: skip
    return values


def _brevity_penalties(lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """BLEU's penalty of each text against the other one that is nearest to it in length (of two as near, the shorter)."""
    different, counts = np.unique(lengths, return_counts=True)
    penalties = {}
    for at, (own, count) in enumerate(zip(different.tolist(), counts.tolist(), strict=True)):
        others = different[
            [*([at - 1] if at else []), *([at] if count > 1 else []), *([at + 1] if at + 1 < len(different) else [])]
        ]
        closest = min(others.tolist(), key=lambda other: (abs(other - own), other))
        penalties[own] = 0.0 if own == 0 else 1.0 if own > closest else math.exp(1 - closest / own)
    return np.array([penalties[length] for length in lengths.tolist()])


def _entropy(counts: Counter[str]) -> float:
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
