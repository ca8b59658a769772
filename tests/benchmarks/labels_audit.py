"""Auditing with planted errors beside cleanlab, and label-budget curves of asking beside random.

python tests/benchmarks/labels_audit.py [--quick] [--only REGEX]

Cases: `audit/SET/RATE/KIND` (precision, recall and F1 of finding planted errors in the train gold) and `ask/SET/STRATEGY/BUDGET`
(a fixed student's score on test after so many answers, simulated from train gold, against as many answers about random texts;
`random` itself against the same answers counted as votes like all others). How to ask was settled on `BUILT` and on train texts
of YouTube and TREC that were not in the pool, never on test; `REPORTED` are the figures to quote, and AG News was not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from _harness import Options, Row, Skip, case, emit, main, row
from labels_sets import VoteData, keys_of, load, lsa, score, tfidf

from factory.label_matrix import VoteSet

BUILT = ("knodle_yoruba_topics", "wrench_sms")
REPORTED = ("wrench_youtube", "wrench_trec", "agnews")
BUDGETS = (25, 50, 100, 200)
STRATEGIES = ("auto", "uncertainty", "active")


@case("audit/planted")
def audit(options: Options) -> None:
    """Planted label errors: precision, recall and F1 of ours and of cleanlab's default on the same probabilities."""
    from cleanlab.filter import find_label_issues

    from factory.review.find_errors import find_issues, out_of_sample

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


def ask_curves(options: Options, name: str) -> None:
    """Label-budget curves of one set, each strategy beside random: a student of labels denoised with M answers.

    As a user would: texts are asked about in rounds up to each budget, the answers (simulated from train gold) are read, and
    the labels are denoised anew before the next round, by `auto` without any gold. One seed is a draw of 1,000 train texts.
    """
    from factory.review.pick import pick

    data = load(options.data, name, limit=3000)
    vectors, keys = lsa(data.fit.texts, data.score.texts), keys_of(data.fit.texts)
    scores: dict[tuple[str, int], list[float]] = {}
    for seed in range(2 if options.quick else 10):
        rows = np.sort(np.random.default_rng(seed).permutation(len(data.fit.texts))[:1000])
        pool = Pool(data, rows, vectors[0][rows], vectors[1], keys[rows])
        first, plain = taught(pool, np.full(len(rows), -1))
        scores.setdefault(("nothing", 0), []).append(plain)
        for strategy in (*STRATEGIES, "random"):
            answers, (votes, probs) = np.full(len(rows), -1), first
            for budget in BUDGETS:
                more: dict[str, Any] = {"strategy": strategy, "seed": seed, "open_rows": answers < 0}
                need = budget - int((answers >= 0).sum())
                asked = pick(need, probs, votes, keys=pool.keys, features=pool.vectors, **more)
                answers[asked] = data.fit.gold[rows[asked]]
                (votes, probs), figure = taught(pool, answers)
                scores.setdefault((strategy, budget), []).append(figure)
                if strategy == "random":
                    scores.setdefault(("voter", budget), []).append(taught(pool, answers, believe=False)[1])
    for (strategy, budget), figures in scores.items():
        if strategy in STRATEGIES:
            emit(_curve_row(f"ask/{name}/{strategy}/{budget}", figures, scores, ("random", budget)))
        elif strategy == "random":
            emit(_curve_row(f"ask/{name}/random/{budget}", figures, scores, ("voter", budget)))


@dataclass(frozen=True)
class Pool:
    """Train texts that may be asked about (`rows` of the set), their vectors and keys, and the vectors of the scored texts."""

    data: VoteData
    rows: np.ndarray
    vectors: np.ndarray
    scored: np.ndarray
    keys: np.ndarray


def taught(pool: Pool, answers: np.ndarray, *, believe: bool = True) -> tuple[tuple[VoteSet, np.ndarray], float]:
    """The votes and what is believed after these answers (-1: none), and the score of a student taught with that.

    Texts without votes are left out, as `denoise` does unless told. Without `believe` answers are votes like all others.
    """
    from factory.denoise.choose import choose, predict
    from factory.denoise.people import Answered
    from factory.logistic import fit_logistic

    data, k = pool.data, len(pool.data.classes)
    matrix = np.column_stack([data.fit.votes.take(pool.rows).matrix(), answers])
    votes, people = VoteSet.from_matrix(matrix, k), (matrix.shape[1] - 1,) * believe
    more: dict[str, Any] = {"features": pool.vectors, "keys": pool.keys}
    model = Answered(choose(votes, classes=k, people=people, **more).model, people)
    probs = predict(model, votes, **more)
    rows = np.flatnonzero(votes.covered)
    head = fit_logistic(pool.vectors[rows], probs[rows], np.ones(len(rows)), c=10.0, iterations=50)
    said = head.logits(pool.scored).argmax(axis=1)
    return (votes, probs), score(data.metric, data.score.gold, said)


def _curve_row(
    name: str, figures: list[float], scores: Mapping[tuple[str, int], list[float]], beside: tuple[str, int]
) -> Row:
    gaps = np.array(figures) - np.array(scores[beside])
    return row(
        name,
        round(float(np.mean(figures)), 4),
        round(float(np.mean(scores[beside])), 4),
        peer_name={"voter": "answers as one more voter"}.get(beside[0], beside[0]),
        unit="score",
        seeds=len(figures),
        gain=round(float(gaps.mean()), 4),
        standard_error=round(float(gaps.std(ddof=1) / np.sqrt(len(gaps))), 4),
        without_answers=round(float(np.mean(scores["nothing", 0])), 4),
        half="built" if name.split("/")[1] in BUILT else "reported",
    )


def _register_curves() -> None:
    for name in (*BUILT, *REPORTED):

        def run(options: Options, name: str = name) -> None:
            if options.quick and name != REPORTED[0]:
                raise Skip("--quick")
            ask_curves(options, name)

        case(f"ask/{name}")(run)


_register_curves()


if __name__ == "__main__":
    main(__doc__)
