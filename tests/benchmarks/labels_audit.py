"""Auditing with planted errors beside cleanlab, and label-budget curves of asking beside random.

python tests/benchmarks/labels_audit.py [--quick] [--only REGEX]

Cases: `audit/SET/RATE/KIND` (precision, recall and F1 of finding planted errors in the train gold) and `ask/SET/STRATEGY/BUDGET`
(a fixed student's score on test after so many answers, simulated from train gold, against as many answers about random texts).
How to ask was settled on `BUILT` alone; `REPORTED` are the figures to quote.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _harness import Options, Row, case, emit, main, row
from labels_sets import keys_of, load, score, tfidf

BUILT = ("knodle_yoruba_topics",)
REPORTED = ("wrench_youtube", "wrench_trec", "agnews")
BUDGETS = (0, 25, 50, 100, 200)
STRATEGIES = ("auto", "uncertainty", "active", "disagreement", "coverage", "density")


@case("audit/planted")
def audit(options: Options) -> None:
    """Planted label errors: precision, recall and F1 of ours and of cleanlab's default on the same probabilities."""
    from cleanlab.filter import find_label_issues

    from factory.labels.audit import find_issues, out_of_sample

    for name in REPORTED:
        data = load(options.data, name, limit=1000)
        vectors, gold, k = tfidf(data.fit.texts)[0], data.fit.gold, len(data.classes)
        for rate in (0.05, 0.1, 0.2):
            for kind in ("symmetric", "class-dependent"):
                rng = np.random.default_rng(1)
                bad = rng.random(len(gold)) < rate
                shift = rng.integers(1, k, len(gold)) if kind == "symmetric" else 1
                given = np.where(bad, (gold + shift) % k, gold)
                mine = np.zeros(len(gold), bool)
                mine[[issue.row for issue in find_issues(given, vectors, k)]] = True
                theirs = find_label_issues(given, out_of_sample(vectors, given, k))
                ours, peer = _hits(bad, mine), _hits(bad, theirs)
                more = {"precision": ours[0], "recall": ours[1], "peer_precision": peer[0], "peer_recall": peer[1]}
                emit(
                    row(
                        f"audit/{name}/{rate}/{kind}",
                        ours[2],
                        peer[2],
                        peer_name="cleanlab 2.9 default",
                        unit="F1",
                        n=len(gold),
                        **more,
                    )
                )


def _hits(bad: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    both = float((bad & found).sum())
    figures = both / max(found.sum(), 1), both / max(bad.sum(), 1), 2 * both / max(found.sum() + bad.sum(), 1)
    return round(figures[0], 3), round(figures[1], 3), round(figures[2], 3)


@case("ask/curves")
def ask(options: Options) -> None:
    """Label-budget curves: a student taught with denoised labels and M answers (simulated from train gold), against random."""
    for name in (*BUILT, *REPORTED):
        curves = ask_curves(options, name)
        for (strategy, budget), figures in curves.items():
            if strategy != "random":
                emit(_curve_row(name, strategy, budget, figures, curves["random", budget]))
        if options.quick:
            return


def ask_curves(options: Options, name: str) -> dict[tuple[str, int], list[float]]:
    """Scores by strategy and budget, one for each seed (a draw of 1,000 train texts)."""
    from factory.labels.ask import pick
    from factory.labels.auto import choose, predict
    from factory.labels.joint import soft_logistic

    data = load(options.data, name, limit=4000)
    vectors, k = tfidf(data.fit.texts, data.score.texts), len(data.classes)
    keys = keys_of(data.fit.texts)
    curves: dict[tuple[str, int], list[float]] = {}
    for seed in range(2 if options.quick else 10):
        rows = np.sort(np.random.default_rng(seed).permutation(len(data.fit.texts))[:1000])
        votes, features, gold = data.fit.votes.take(rows), vectors[0][rows], data.fit.gold[rows]
        model = choose(votes, classes=k, features=features, keys=keys[rows]).model
        probs = predict(model, votes, features=features, keys=keys[rows])
        for strategy in (*STRATEGIES, "random"):
            for budget in BUDGETS:
                more: dict[str, Any] = {"keys": keys[rows], "features": features, "strategy": strategy, "seed": seed}
                chosen = pick(budget, probs, votes, **more)
                target, known = probs.copy(), votes.covered.copy()
                target[chosen], known[chosen] = np.eye(k)[gold[chosen]], True
                weights, bias = soft_logistic(features[known], target[known], 10.0, rounds=50)
                said = np.asarray(vectors[1] @ weights + bias).argmax(axis=1)
                curves.setdefault((strategy, budget), []).append(score(data.metric, data.score.gold, said))
    return curves


def _curve_row(name: str, strategy: str, budget: int, figures: list[float], base: list[float]) -> Row:
    gaps = np.array(figures) - np.array(base)
    return row(
        f"ask/{name}/{strategy}/{budget}",
        round(float(np.mean(figures)), 4),
        round(float(np.mean(base)), 4),
        peer_name="random",
        unit="accuracy",
        seeds=len(figures),
        gain=round(float(gaps.mean()), 4),
        standard_error=round(float(gaps.std(ddof=1) / np.sqrt(len(gaps))), 4),
        half="built" if name in BUILT else "reported",
    )


if __name__ == "__main__":
    main(__doc__)
