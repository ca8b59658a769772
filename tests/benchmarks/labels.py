"""Label models: scores on the public vote sets without gold and with dev gold, crowd-kit beside them, and size.

python tests/benchmarks/labels.py [--data PATH] [--quick] [--only REGEX]

Cases: `sets/NAME` (both tables), `aims` (after the sets), `crowd/NAME` (crowd-kit on the sparse crowd sets), `size/10M/...`.
Every model is fitted without gold on a set's train votes (on the scored votes where there is no train); texts
without votes are a tie of all classes, and ties go by content hash, for every model alike. `auto` was built on
`labels_sets.BUILT_ON`; the aims are about `labels_sets.REPORTED_ON`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Options, Row, Skip, case, emit, main, row
from labels_sets import BUILT_ON, NO_TEXTS, REPORTED_ON, VoteData, keys_of, load, score, tfidf, with_dev

MODELS = (
    "majority",
    "weighted",
    "snorkel",
    "dawid_skene",
    "dawid_skene_missing",
    "dawid_skene_prior",
    "triplets",
    "joint",
)
RESULTS: dict[str, dict[str, dict[str, Any]]] = {"none": {}, "dev": {}}
QUICK = ("wrench_youtube", "llmvotes_emotion", "crowd_bluebird")


# Scores -------------------------------------------------------------------------------------------------------------------
def judged(data: VoteData, probs: np.ndarray) -> dict[str, Any]:
    """Scores on all and on covered rows; `said` and `gold` of all rows for the bootstrap."""
    from factory.denoise.decide import decide

    covered = data.score.votes.covered
    probs = probs.copy()
    probs[~covered] = 1 / len(data.classes)
    said, _ = decide(probs, keys_of(data.score.texts))
    known = data.score.gold >= 0
    both = known & covered
    return {
        "all": score(data.metric, data.score.gold[known], said[known]),
        "covered": score(data.metric, data.score.gold[both], said[both]),
        "said": said[known],
        "gold": data.score.gold[known],
    }


def not_worse(data: VoteData, one: dict[str, Any], other: dict[str, Any], *, rounds: int = 1000) -> list[float]:
    """95% interval of the difference of two models' scores on all rows, by paired bootstrap."""
    rng = np.random.default_rng(0)
    gold, first, second = one["gold"], one["said"], other["said"]
    gaps = []
    for _ in range(rounds):
        at = rng.integers(0, len(gold), len(gold))
        gaps.append(score(data.metric, gold[at], first[at]) - score(data.metric, gold[at], second[at]))
    return [round(float(value), 4) for value in np.percentile(gaps, [2.5, 97.5])]


def downstream(data: VoteData, probs: np.ndarray, vectors: list[Any] | None) -> float | None:
    """Score of one fixed student (logistic regression on TF-IDF), taught with the soft labels of covered rows of `fit`."""
    from factory.logistic import fit_logistic

    if vectors is None or data.same:
        return None
    rows = np.flatnonzero(data.fit.votes.covered)
    head = fit_logistic(vectors[0][rows], probs[rows], np.ones(len(rows)), c=10.0)
    said = head.logits(vectors[1]).argmax(axis=1)
    known = data.score.gold >= 0
    return round(score(data.metric, data.score.gold[known], said[known]), 4)


# The two tables -------------------------------------------------------------------------------------------------------------
def measure_set(options: Options, name: str) -> None:
    """All models on one set: without gold, and with dev gold."""
    from factory.denoise.choose import choose, predict
    from factory.denoise.models.table import fit_label_model
    from factory.denoise.on_dev import choose_on_dev
    from factory.errors import InputError

    plain = load(options.data, name, limit=1000 if options.quick else 5000)
    told = with_dev(plain)
    assert told.dev is not None
    k = len(plain.classes)
    keys = keys_of(plain.fit.texts)
    vectors = None
    if name not in NO_TEXTS:
        vectors = tfidf(plain.fit.texts, plain.score.texts, told.score.texts, told.dev.texts)
    half = "built" if name in BUILT_ON else "reported"
    for constant in range(k):
        probs = np.zeros((len(plain.score.texts), k))
        probs[:, constant] = 1
        known = plain.score.gold >= 0
        figure = score(plain.metric, plain.score.gold[known], np.full(int(known.sum()), constant))
        if k <= 10:
            emit(row(f"none/{name}/always {plain.classes[constant]}", round(figure, 4), unit=plain.metric, half=half))
    fitted: dict[str, Any] = {}
    for model in (*MODELS, "auto"):
        extra = {"features": vectors[0], "keys": keys} if vectors is not None and model in ("joint", "auto") else {}
        if model == "joint" and vectors is None:
            continue
        began = time.perf_counter()
        note = {}
        try:
            if model == "auto":
                choice = choose(plain.fit.votes, classes=k, **extra)
                fitted[model] = choice.model
                note = {"chosen": choice.name, "reason": choice.reason}
            else:
                limit = {"max_iter": 500} if model in ("dawid_skene", "dawid_skene_missing") else {}
                fitted[model] = fit_label_model(model, plain.fit.votes, classes=k, **extra, **limit)
        except InputError as error:
            emit({"case": f"none/{name}/{model}", "skipped": error.what})
            continue
        fit_s = time.perf_counter() - began
        began = time.perf_counter()
        shown = {} if vectors is None else {"features": vectors[1], "keys": keys_of(plain.score.texts)}
        probs = predict(fitted[model], plain.score.votes, **shown)
        predict_s = time.perf_counter() - began
        student = None
        if vectors is not None and not plain.same:
            student = downstream(
                plain, predict(fitted[model], plain.fit.votes, features=vectors[0], keys=keys), vectors
            )
        found = judged(plain, probs)
        tell("none", plain, model, found, fit_s=fit_s, predict_s=predict_s, downstream=student, half=half, **note)
        if model == "auto":
            auto = choice
    beside = {} if vectors is None else {"features": vectors[3], "keys": keys_of(told.dev.texts)}
    pool = {model: fitted[model] for model in fitted if model not in ("auto", "joint")}
    on_dev = choose_on_dev(auto, pool, (told.dev.votes, told.dev.gold), **beside)
    shown = {} if vectors is None else {"features": vectors[2], "keys": keys_of(told.score.texts)}
    for model, object_ in (*((m, f) for m, f in fitted.items() if m != "auto"), ("auto", on_dev.model)):
        note = {"chosen": on_dev.name, "reason": on_dev.reason} if model == "auto" else {}
        found = judged(told, predict(object_, told.score.votes, **shown))
        tell("dev", told, model, found, half=half, dev=len(told.dev.texts), **note)


def tell(table: str, data: VoteData, model: str, found: dict[str, Any], **more: Any) -> None:
    """Keep a result, and print it beside majority vote's."""
    kept = RESULTS[table].setdefault(data.name, {"metric": {"is": data.metric}})
    kept[model] = found
    base = kept["majority"]
    extra = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in more.items()
        if value is not None
    }
    if model == "auto":
        extra["against_majority_95"] = not_worse(data, found, base)
    emit(
        row(
            f"{table}/{data.name}/{model}",
            round(found["all"], 4),
            round(base["all"], 4),
            peer_name="majority",
            unit=data.metric,
            covered=round(found["covered"], 4),
            covered_majority=round(base["covered"], 4),
            coverage=round(float(data.score.votes.covered.mean()), 4),
            n=int((data.score.gold >= 0).sum()),
            lfs=data.score.votes.lfs,
            classes=len(data.classes),
            **extra,
        )
    )


def _register_sets() -> None:
    for name in (*BUILT_ON, *REPORTED_ON):

        def run(options: Options, name: str = name) -> None:
            if options.quick and name not in QUICK:
                raise Skip("--quick")
            measure_set(options, name)

        case(f"sets/{name}")(run)


_register_sets()


@case("aims")
def aims(options: Options) -> None:
    """What `auto` reaches on each half, in points of the set's own metric, accuracy and F1 apart."""
    for table, results in RESULTS.items():
        for half, names in (("reported", REPORTED_ON), ("built", BUILT_ON)):
            for rows in ("all", "covered"):
                for metric in ("accuracy", "f1"):
                    kept = {n: results[n] for n in names if n in results and results[n]["metric"]["is"] == metric}
                    if kept:
                        emit(_aim(f"aims/{table}/{half}/{rows}/{metric}", kept, rows, metric))


def _aim(name: str, kept: dict[str, dict[str, Any]], rows: str, metric: str) -> Row:
    gains, gaps, closed = {}, {}, []
    for data, models in kept.items():
        base = models["majority"][rows]
        best = max(found[rows] for model, found in models.items() if model not in ("metric", "auto"))
        gains[data] = 100 * (models["auto"][rows] - base)
        gaps[data] = 100 * (best - base)
        if gaps[data] >= 1:
            closed.append((gains[data], gaps[data]))
    share = sum(gain for gain, _ in closed) / max(sum(gap for _, gap in closed), 1e-9)
    return row(
        name,
        round(float(np.mean(list(gains.values()))), 3),
        0.0,
        peer_name="majority",
        unit=f"points of {metric}, mean",
        sets=len(kept),
        worst=round(min(gains.values()), 3),
        worst_set=min(gains, key=lambda data: gains[data]),
        a_point_above=sum(gain >= 1 for gain in gains.values()),
        gap_closed=round(share, 3),
        gap_sets=len(closed),
    )


# crowd-kit ------------------------------------------------------------------------------------------------------------------
@case("crowd/crowd-kit")
def crowd_kit(options: Options) -> None:
    """crowd-kit's aggregators on the sparse crowd sets, beside ours, with seconds."""
    import pandas as pd
    from crowdkit.aggregation import MACE, DawidSkene, MajorityVote, OneCoinDawidSkene

    from factory.denoise.models.table import fit_label_model

    peers = {
        "MajorityVote": lambda: MajorityVote(),
        "DawidSkene": lambda: DawidSkene(n_iter=50),
        "OneCoinDawidSkene": lambda: OneCoinDawidSkene(n_iter=50),
        "MACE": lambda: MACE(n_restarts=2, n_iter=30, random_state=0),
    }
    for name in [n for n in (*BUILT_ON, *REPORTED_ON) if n.startswith("crowd_")]:
        if options.quick and name not in QUICK:
            continue
        data = load(options.data, name)
        votes, k = data.score.votes, len(data.classes)
        codes = votes.codes.astype(int)
        frame = pd.DataFrame(
            {"task": np.repeat(np.arange(len(votes)), votes.lengths), "worker": codes // k, "label": codes % k}
        )
        known = np.flatnonzero(data.score.gold >= 0)
        began = time.perf_counter()
        probs = fit_label_model("dawid_skene_prior", votes, classes=k).predict_proba(votes)
        seconds = time.perf_counter() - began
        mine = judged(data, probs)["covered"]
        for peer, make in peers.items():
            began = time.perf_counter()
            found = make().fit_predict(frame)
            took = time.perf_counter() - began
            figure = float((found.reindex(known).to_numpy() == data.score.gold[known]).mean())
            emit(
                row(
                    f"crowd/{name}/{peer}",
                    round(mine, 4),
                    round(figure, 4),
                    peer_name=f"crowd-kit 1.4 {peer}",
                    unit="accuracy",
                    ours_s=round(seconds, 3),
                    peer_s=round(took, 3),
                    n=len(known),
                )
            )


# Size -----------------------------------------------------------------------------------------------------------------------
def worker(**task: Any) -> dict[str, Any]:
    """One size task in a process of its own."""
    script = Path(__file__).with_name("labels_size.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(task)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def size(options: Options, kind: str, distinct: float | None) -> None:
    """Read, fit and predict 10,000,000 x 30 votes against the library at 1,000,000, in the same run."""
    large, small = (1_000_000, 100_000) if options.quick else (10_000_000, 1_000_000)
    called = {10_000_000: "10M", 1_000_000: "1M", 100_000: "100k"}
    with tempfile.TemporaryDirectory() as folder:
        theirs, mine = str(Path(folder) / "theirs.npy"), str(Path(folder) / "ours.npy")
        path, little = str(Path(folder) / "large.duckdb"), str(Path(folder) / "small.duckdb")
        worker(do="make", path=little, n=small, distinct=distinct)
        peers, ours = [], []
        for _ in range(1 if options.quick else 3):  # interleaved: the machine may be shared
            peers.append(worker(do="library", path=little, n=small, keep=theirs))
            ours.append(worker(do="ours", path=little, n=small, model="snorkel", keep=mine))
        peer = sorted(peers, key=lambda found: found["total_s"])[len(peers) // 2]
        ours_small = sorted(ours, key=lambda found: found["total_s"])[len(ours) // 2]
        per_row = round(peer["total_s"] / small * 1e6, 4)
        peer_name = f"snorkel.LabelModel at {called[small]}"
        emit(
            row(
                f"size/{called[small]}/{kind}/snorkel",
                round(ours_small["total_s"] / small * 1e6, 4),
                per_row,
                peer_name=peer_name,
                unit="us per row",
                smaller_is_better=True,
                largest_difference=float(np.abs(np.load(theirs) - np.load(mine)).max()),
                peak_gb=round(ours_small["peak_gb"], 3),
                peer_peak_gb=round(peer["peak_gb"], 3),
                rounds=len(peers),
                ours_spread_s=[round(min(o["total_s"] for o in ours), 3), round(max(o["total_s"] for o in ours), 3)],
                peer_spread_s=[round(min(p["total_s"] for p in peers), 3), round(max(p["total_s"] for p in peers), 3)],
            )
        )
        worker(do="make", path=path, n=large, distinct=distinct)
        told = {
            key: round(value, 4) for key, value in worker(do="shares", path=path, n=large).items() if key != "peak_gb"
        }
        for model in ("snorkel", "dawid_skene", "majority"):
            found = worker(do="ours", path=path, n=large, model=model)
            emit(
                row(
                    f"size/{called[large]}/{kind}/{model}",
                    round(found["total_s"] / large * 1e6, 4),
                    per_row,
                    peer_name=peer_name,
                    unit="us per row",
                    smaller_is_better=True,
                    **{name: round(value, 3) for name, value in found.items() if value is not None},
                    **told,
                )
            )


@case("size/10M/own patterns")
def size_own(options: Options) -> None:
    """Every row drawn by itself: at least half of the rows have a pattern of their own."""
    size(options, "own patterns", None)


@case("size/10M/1% distinct")
def size_distinct(options: Options) -> None:
    """Rows that repeat a hundredth as many kinds of row."""
    size(options, "1% distinct", 0.01)


@case("denoise/10M")
def denoise_at_size(options: Options) -> None:
    """The stage `denoise` on 10,000,000 x 30 votes: from the warehouse into the warehouse, by majority vote and Snorkel."""
    n = 1_000_000 if options.quick else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "size.duckdb")
        worker(do="make", path=path, n=n, distinct=None)
        worker(do="furnish", path=path, n=n)
        found = worker(do="denoise", path=path, n=n, model="snorkel")
        emit(
            row(
                "denoise/1M" if options.quick else "denoise/10M",
                round(found["total_s"], 2),
                unit="s",
                rows_written=found["rows"],
                peak_gb=round(found["peak_gb"], 3),
                **found["facts"],
            )
        )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="PATH", help="folder of the public data sets (else $LABEL_FACTORY_DATA, ../shared/data)"
    )


if __name__ == "__main__":
    for at, word in enumerate(sys.argv):
        if word == "--data" and at + 1 < len(sys.argv):
            os.environ["LABEL_FACTORY_DATA"] = sys.argv[at + 1]
    main(__doc__, _arguments)
