"""Students: few-shot and 1,000-row protocols beside published figures, weak labels, several labels per text, throughput.

Test scores choose nothing: defaults were settled on the validation rows of WRENCH. Vectors are computed once and kept in the
folder that LABEL_FACTORY_BENCH_CACHE names, if it is set.

    python tests/benchmarks/students.py --only 'weak_(youtube|trec)'
    python tests/benchmarks/students.py --only throughput
    python tests/benchmarks/students.py --only fewshot --seeds 10
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from _harness import ROOT, Options, Skip, case, main, row

Rows = list[dict[str, Any]]


# Data -----------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=32)
def table(folder: str, split: str) -> dict[str, list[Any]]:
    """The columns of one split; rule exemplars of WRENCH left out."""
    import pyarrow.parquet as pq

    path = Path(folder) / f"{split}.parquet"
    if not path.exists():
        raise Skip(f"no {path}")
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    if "exemplar" in columns:
        keep = [str(value) != "True" for value in columns["exemplar"]]
        columns = {name: [v for v, kept in zip(values, keep, strict=True) if kept] for name, values in columns.items()}
    return columns


def label_names(folder: Path) -> list[str]:
    """Label names in the order of the votes' numbers."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return list(card["label_names"])


def encoder() -> Any:
    """The packaged MiniLM."""
    from factory.encoders import load_encoder

    found = load_encoder("auto")
    if found.folder is None:
        raise Skip("no sentence encoder is at hand: pip install label-factory[quickstart]")
    return found


def vectors(texts: list[str]) -> np.ndarray:
    """MiniLM's vectors, kept on disk if the environment names a folder for them."""
    cache = os.environ.get("LABEL_FACTORY_BENCH_CACHE")
    if not cache:
        return np.asarray(encoder().encode(texts))
    key = hashlib.sha256(json.dumps([encoder().key, texts]).encode()).hexdigest()[:24]
    path = Path(cache) / f"{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, encoder().encode(texts))
    return np.asarray(np.load(path))


STRENGTHS = {"embedding": (1.0, 0.3, 3.0, 10.0), "hybrid": (10.0, 3.0, 30.0), "linear": (10.0, 100.0)}


def given(kind: str, texts: list[str], known: np.ndarray) -> Any:
    """What a kind of student is given: texts, vectors, or both."""
    from factory.students.base import TextsAndVectors

    return {"embedding": known, "hybrid": TextsAndVectors(texts, known)}.get(kind, texts)


def sample(n: int, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of n rows, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:limit])


# 1: few shots, as SetFit publishes ---------------------------------------------------------------------------------------
FEWSHOT = {
    "agnews": ("agnews", 83.1, 2.3, "accuracy"),
    "sst5": ("sst5", 29.8, 1.7, "accuracy"),
    "cr": ("cr", 71.6, 3.7, "accuracy"),
    "emotion": ("emotion", 39.1, 4.7, "accuracy"),
    "amazoncf": ("amazon_counterfactual_en", 19.7, 5.5, "MCC"),
}


def _fewshot(name: str, options: Options) -> Rows:
    from factory.students import fit_student

    folder, published, spread, metric = FEWSHOT[name]
    seeds = 1 if options.quick else int(options.extra.get("seeds") or 10)
    most = int(options.extra.get("test_rows") or 1000)
    shots = int(options.extra.get("shots") or 8)
    path = str(options.data / folder)
    train = table(path, "train")
    if name == "cr":
        held = sample(len(train["text"]), 1000, 99)
        test = {key: [values[i] for i in held] for key, values in train.items()}
        rest = np.setdiff1d(np.arange(len(train["text"])), held)
        train = {key: [values[i] for i in rest] for key, values in train.items()}
    else:
        test = table(path, "test")
    names = sorted(set(train["label"]))
    rows = sample(len(test["text"]), most, 7)
    texts = [test["text"][i] for i in rows]
    gold = np.array([names.index(test["label"][i]) for i in rows])
    labels = np.array([names.index(label) for label in train["label"]])
    scores: dict[str, list[float]] = {"setfit": [], "embedding": []}
    seconds: list[float] = []
    held_vectors = vectors(texts)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        chosen = np.concatenate(
            [rng.choice(np.flatnonzero(labels == c), shots, replace=False) for c in range(len(names))]
        )
        few = [train["text"][i] for i in chosen]
        targets = np.eye(len(names))[labels[chosen]]
        started = time.perf_counter()
        tuned = fit_student("setfit", few, targets, encoder=encoder(), config={"seed": seed, "per_label": shots,
                            "max_steps": 100_000})  # fmt: skip
        seconds.append(time.perf_counter() - started)
        scores["setfit"].append(_score(tuned.predict_proba(texts).argmax(1), gold, metric))
        plain = fit_student("embedding", encoder().encode(few), targets, config={"c": 10.0})
        scores["embedding"].append(_score(plain.predict_proba(held_vectors).argmax(1), gold, metric))
        print(f"  {name} seed {seed}: setfit {scores['setfit'][-1]:.1f}", file=sys.stderr, flush=True)
    source = f"SetFit paper, MiniLM-L6, {shots} per class, 10 splits"
    facts = {"seeds": seeds, "test_rows": len(rows), "shots": shots, "published_sd": spread, "metric": metric}
    found = []
    for student, values in scores.items():
        mean, sd = statistics.mean(values), statistics.pstdev(values)
        reached = mean >= published - spread
        found.append(
            row(f"fewshot_{name}_{student}", round(mean, 1), published, peer_name=source, unit=metric, sd=round(sd, 1),
                reached=reached, seconds=round(statistics.mean(seconds), 1) if student == "setfit" else None, **facts)
        )  # fmt: skip
    return found


def _score(said: np.ndarray, gold: np.ndarray, metric: str) -> float:
    from sklearn.metrics import f1_score, matthews_corrcoef

    if metric == "MCC":
        return 100 * float(matthews_corrcoef(gold, said))
    if metric == "spam F1":
        return 100 * float(f1_score(gold, said))
    return 100 * float((said == gold).mean())


for _name in FEWSHOT:
    case(f"fewshot_{_name}")(lambda options, name=_name: _fewshot(name, options))


# 1: a thousand rows, as model2vec publishes ------------------------------------------------------------------------------
# tfidf, model2vec + logistic regression, model2vec tuned, setfit (MiniLM): results/README.md of MinishLab/model2vec.
THOUSAND = {
    "agnews": ("agnews", (81.7, 86.7, 87.2, 88.0)),
    "emotion": ("emotion", (59.3, 65.6, 67.1, 72.9)),
    "sst5": ("sst5", (18.5, 32.3, 38.0, 42.3)),
    "cr": ("cr", (65.6, 77.0, 79.5, 86.2)),
    "amazoncf": ("amazon_counterfactual_en", (85.2, 91.0, 91.9, 95.5)),
}
PEERS = {"linear": 0, "static": 2, "embedding": 1, "setfit": 3}


def _thousand(name: str, options: Options) -> Rows:
    from factory.students import fit_student

    folder, published = THOUSAND[name]
    path = str(options.data / folder)
    train = table(path, "train")
    if name == "cr":
        held = sample(len(train["text"]), 754, 99)
        test = {key: [values[i] for i in held] for key, values in train.items()}
        rest = np.setdiff1d(np.arange(len(train["text"])), held)
        train = {key: [values[i] for i in rest] for key, values in train.items()}
    else:
        test = table(path, "test")
    names = sorted(set(train["label"]))
    rows, held_rows = sample(len(train["text"]), 1000, 0), sample(len(test["text"]), 1000, 7)
    texts, held_texts = [train["text"][i] for i in rows], [test["text"][i] for i in held_rows]
    targets = np.eye(len(names))[[names.index(train["label"][i]) for i in rows]]
    gold = np.array([names.index(test["label"][i]) for i in held_rows])
    kinds = str(options.extra.get("students") or "linear,static,embedding").split(",")
    found = []
    for kind in kinds:
        taken = vectors(texts) if kind == "embedding" else texts
        asked = vectors(held_texts) if kind == "embedding" else held_texts
        config = {"max_steps": 150, "per_label": 100, "iterations": 2} if kind == "setfit" else {}
        if kind == "static":
            fit_student(kind, texts[:20], targets[:20], encoder=encoder(), config={"c": 1.0})
        started = time.perf_counter()
        student = fit_student(kind, taken, targets, encoder=encoder(), config=config)
        seconds = time.perf_counter() - started
        score = _score(student.predict_proba(asked).argmax(1), gold, "accuracy")
        peer = published[PEERS[kind]]
        note = ("tfidf", "model2vec + LR", "model2vec tuned", "setfit MiniLM-L6")[PEERS[kind]]
        found.append(
            row(f"rows1000_{name}_{kind}", round(score, 1), peer, peer_name=f"published: {note}", unit="accuracy",
                seconds_to_train=round(seconds, 1), train_rows=len(rows), test_rows=len(held_rows), reached=score >= peer)
        )  # fmt: skip
    return found


for _name in THOUSAND:
    case(f"rows1000_{_name}")(lambda options, name=_name: _thousand(name, options))


# 2: weak labels ----------------------------------------------------------------------------------------------------------
WEAK = {
    "youtube": ("wrench_youtube", "accuracy", 94.9, "published: RoBERTa on MV, PromptedWS table 3"),
    "sms": ("wrench_sms", "spam F1", 92.4, "published: RoBERTa on MV, PromptedWS table 3"),
    "trec": ("wrench_trec", "accuracy", 82.6, "published: COSINE (other split, more text)"),
    "agnews": ("agnews", "accuracy", 87.5, "published: COSINE (other split, more text)"),
}


def _weak_data(name: str, options: Options) -> dict[str, Any]:
    folder, metric, published, source = WEAK[name]
    names = label_names(options.data / folder)
    found: dict[str, Any] = {"names": names, "metric": metric, "published": published, "source": source}
    splits = {"train": "train", "dev": "validation", "test": "test"}
    for part, split in splits.items():
        if name == "agnews":
            columns = table(str(options.data / folder), "test" if part == "test" else "train")
            n = len(columns["text"])
            rows = sample(n, 2000, 7) if part == "test" else sample(n, 6500, 0)
            rows = rows[rows % 13 != 0] if part == "train" else rows[rows % 13 == 0] if part == "dev" else rows
        else:
            columns = table(str(options.data / folder), split)
            rows = np.arange(len(columns["text"]))
        texts = [columns["text"][i] for i in rows]
        votes = np.array([columns["votes"][i] for i in rows])
        gold = np.array([names.index(columns["label"][i]) for i in rows])
        found[part] = (texts, votes, gold)
    return found


def _weak(name: str, options: Options) -> Rows:
    """Human rules of WRENCH; dev hidden, and dev used to choose label model and strength."""
    from factory.labels.models import fit_label_model
    from factory.students import fit_student
    from factory.students.stage import WEAK_C

    data = _weak_data(name, options)
    metric, k = data["metric"], len(data["names"])
    texts, votes, train_gold = data["train"]
    held, held_votes, gold = data["test"]
    dev, _, dev_gold = data["dev"]
    covered = (votes >= 0).any(1).astype(float)
    train_vectors, held_vectors, dev_vectors = vectors(texts), vectors(held), vectors(dev)

    def judge(probs: np.ndarray, truth: np.ndarray = gold) -> float:
        return _score(probs.argmax(1), truth, metric)

    soft, said = {}, {}
    for model in ("majority", "snorkel"):
        fitted = fit_label_model(model, votes, classes=k)
        soft[model] = np.asarray(fitted.predict_proba(votes), float)
        said[model] = judge(fitted.predict_proba(held_votes))
    hard = np.eye(k)[soft["majority"].argmax(1)]
    plain = judge(fit_student("embedding", train_vectors, hard, covered, config={"c": 1.0}).predict_proba(held_vectors))
    facts = {"metric": metric, "train": len(texts), "dev": len(dev), "test": len(held), "plain_recipe": round(plain, 1)}
    facts |= {"published": data["published"], "published_name": data["source"]}
    found = []
    tried: list[tuple[float, str, Any, str]] = []
    for model, probs in soft.items():
        for kind in ("hybrid", "embedding", "linear"):
            taken, asked, looked = (
                given(kind, t, v) for t, v in ((texts, train_vectors), (held, held_vectors), (dev, dev_vectors))
            )
            score = 0.0
            for c in STRENGTHS[kind]:
                student = fit_student(kind, taken, probs, covered, config={"c": c}, encoder=encoder())
                answers = student.predict_proba(asked)
                tried.append(
                    (judge(student.predict_proba(looked), dev_gold), f"{kind} on {model}, c={c}", answers, model)
                )
                score = judge(answers) if c == WEAK_C[kind] else score
            found.append(
                row(f"weak_{name}_{kind}_{model}", round(score, 1), round(said[model], 1),
                    peer_name=f"label model {model} on the same votes", unit=metric,
                    at_least_the_label_model=score >= said[model], above_plain=round(score - plain, 1),
                    system="student (dev hidden)", **facts)
            )  # fmt: skip
    best = max(tried, key=lambda trial: trial[0])
    score = judge(best[2])
    found.append(
        row(f"weak_{name}_student_dev", round(score, 1), round(said[best[3]], 1), peer_name=f"label model {best[3]}",
            unit=metric, at_least_the_label_model=score >= said[best[3]], above_plain=round(score - plain, 1),
            system="student_dev", chosen=best[1], trials=len(tried), **facts)
    )  # fmt: skip
    only = judge(fit_student("embedding", dev_vectors, np.eye(k)[dev_gold]).predict_proba(held_vectors))
    full = judge(fit_student("embedding", train_vectors, np.eye(k)[train_gold]).predict_proba(held_vectors))
    dev_hidden = max(r["ours"] for r in found if r["case"].startswith(f"weak_{name}_embedding_snorkel"))
    curve = _curve(train_vectors, train_gold, held_vectors, k, judge, 2 if options.quick else 5)
    found.append(
        row(f"weak_{name}_baselines", round(only, 1), round(full, 1), peer_name="embedding on full gold",
            unit=metric, system="dev_only", label_equivalents=_equivalents(curve, dev_hidden), curve=curve, **facts)
    )  # fmt: skip
    return found


def _curve(train: np.ndarray, gold: np.ndarray, held: np.ndarray, k: int, judge: Any, draws: int) -> dict[int, float]:
    from factory.students import fit_student

    found = {}
    for n in (10, 20, 50, 100, 200, 500):
        scores = []
        for seed in range(draws):
            rows = np.random.default_rng([seed, n]).permutation(len(gold))[:n]
            student = fit_student("embedding", train[rows], np.eye(k)[gold[rows]], config={"c": 10.0})
            scores.append(judge(student.predict_proba(held)))
        found[n] = round(statistics.mean(scores), 1)
    return found


def _equivalents(curve: dict[int, float], score: float) -> float | str:
    sizes = sorted(curve)
    if score <= curve[sizes[0]]:
        return f"at most {sizes[0]}"
    for low, high in itertools.pairwise(sizes):
        if curve[high] >= score:
            share = (score - curve[low]) / max(curve[high] - curve[low], 1e-9)
            return round(float(np.exp(np.log(low) + share * (np.log(high) - np.log(low)))))
    return f"over {sizes[-1]}"


for _name in WEAK:
    case(f"weak_{_name}")(lambda options, name=_name: _weak(name, options))


def _programs(name: str, options: Options) -> Rows:
    """The recorded programs of a ready pipeline: students beside the label model they learned from, and the plain recipe."""
    import shutil

    from factory.encoders import vectors_of
    from factory.errors import EngineError
    from factory.pipeline import load_pipeline
    from factory.run import run_pipeline
    from factory.students import fit_student, reading
    from factory.students.stage import WEAK_C
    from factory.students.store import texts_of
    from factory.task import current_card
    from factory.warehouse import Warehouse

    folder, metric, published, source = WEAK[name]
    pipeline = load_pipeline(ROOT / "pipelines" / f"{name}.yaml", {"data": str(options.data / folder)})
    runs = os.environ.get("LABEL_FACTORY_BENCH_RUNS")
    place = Path(runs or tempfile.mkdtemp(prefix="students-bench-")) / name
    try:
        run_pipeline(pipeline, folder=place, only=["ingest", "author", "vote", "denoise"])
    except EngineError as error:
        raise Skip(f"answers are missing: {error}") from error
    finally:
        if not runs:
            import atexit

            atexit.register(shutil.rmtree, place, ignore_errors=True)
    warehouse = Warehouse.open(place / f"{pipeline.name}.duckdb")
    classes = reading.classes_of(warehouse, current_card(warehouse))
    models = reading.label_models(warehouse)
    chosen = models[0]
    columns = table(str(options.data / folder), "test")
    gold_of = {text: classes.names.index(label) for text, label in zip(columns["text"], columns["label"], strict=True)}
    held = [no for (no,) in warehouse.query("SELECT text_no FROM split_texts WHERE split = 'test' ORDER BY text_no")]
    words = texts_of(warehouse, held)
    gold = np.array([gold_of[text] for text in words])
    copies = {text: columns["text"].count(text) for text in words}
    repeat = np.array([copies[text] for text in words])

    def judge(probs: np.ndarray, truth: np.ndarray = gold, times: Any = repeat) -> float:
        return _score(np.repeat(probs.argmax(1), times), np.repeat(truth, times), metric)

    said: dict[str, float] = {}
    for model in models:
        rows = dict(
            warehouse.query(
                "SELECT text_no, probs FROM soft_labels WHERE label_model_no = ? AND text_no IN (SELECT unnest(?))",
                [model.number, held],
            )
        )
        said[model.name] = judge(classes.narrow(np.array([rows[no] for no in held], float)))
    dev_nos, dev_gold = reading.dev_gold(warehouse, classes)
    asked, looked = vectors_of(warehouse, encoder(), held), vectors_of(warehouse, encoder(), dev_nos)
    dev_words = texts_of(warehouse, dev_nos)
    found, tried, plain = [], [], 0.0
    base = {"metric": metric, "test": int(repeat.sum()), "dev": len(dev_nos), "published": published}
    base |= {
        "published_name": source,
        "label_model": chosen.name,
        "label_models": {k: round(v, 1) for k, v in said.items()},
    }
    scored: dict[str, float] = {}
    for model in models:
        candidates = reading.corpus_candidates(warehouse, model, classes)
        covered = candidates.covered.astype(float)
        learned = vectors_of(warehouse, encoder(), candidates.text_nos)
        texts = texts_of(warehouse, candidates.text_nos)
        if model.name == "majority":
            hard = np.eye(len(classes.names))[candidates.probs.argmax(1)]
            plain = judge(fit_student("embedding", learned, hard, covered, config={"c": 1.0}).predict_proba(asked))
        kinds = ("hybrid", "embedding", "linear")
        for kind in kinds:
            taken, at_test, at_dev = (
                given(kind, t, v) for t, v in ((texts, learned), (words, asked), (dev_words, looked))
            )
            for c in STRENGTHS[kind]:
                student = fit_student(kind, taken, candidates.probs, covered, encoder=encoder(), config={"c": c})
                probs = student.predict_proba(at_test)
                dev_score = judge(student.predict_proba(at_dev), dev_gold.argmax(1), 1)
                tried.append((dev_score, f"{kind} on {model.name}, c={c}", judge(probs), model.name))
                if c == WEAK_C[kind] and model.number == chosen.number:
                    scored[kind] = judge(probs)
    best = max(tried, key=lambda trial: trial[0])
    for kind, score in scored.items():
        found.append(
            row(f"programs_{name}_{kind}", round(score, 1), round(said[chosen.name], 1), unit=metric,
                peer_name=f"label model {chosen.name} it learned from", at_least_the_label_model=score >= said[chosen.name],
                plain_recipe=round(plain, 1), above_plain=round(score - plain, 1), system="student (dev hidden)", **base)
        )  # fmt: skip
    found.append(
        row(f"programs_{name}_student_dev", round(best[2], 1), round(said[best[3]], 1), unit=metric,
            peer_name=f"label model {best[3]} it learned from", at_least_the_label_model=best[2] >= said[best[3]],
            plain_recipe=round(plain, 1), above_plain=round(best[2] - plain, 1), system="student_dev", chosen=best[1],
            trials=len(tried), **base)
    )  # fmt: skip
    return found


for _name in WEAK:
    case(f"programs_{_name}")(lambda options, name=_name: _programs(name, options))


# 3: several labels per text ----------------------------------------------------------------------------------------------
@case("multi_goemotions")
def multi_goemotions(options: Options) -> Rows:
    """Simulated votes with unknowns: masked in the loss, and taken for no, side by side; linear student."""
    from sklearn.metrics import f1_score

    from factory.students import fit_student

    path = str(options.data / "goemotions")
    train, test = table(path, "train"), table(path, "test")
    rows, held = sample(len(train["text"]), 3000, 0), sample(len(test["text"]), 2000, 7)
    names = label_names(Path(path))

    def matrix(columns: dict[str, list[Any]], chosen: np.ndarray) -> np.ndarray:
        out = np.zeros((len(chosen), len(names)))
        for at, i in enumerate(chosen):
            value = columns["label"][i] if "label" in columns else columns["labels"][i]
            found = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
            for each in found if isinstance(found, list) else str(found).split("|"):
                out[at, names.index(each) if isinstance(each, str) else int(each)] = 1
        return out

    gold, truth = matrix(train, rows), matrix(test, held)
    rng = np.random.default_rng(0)
    wrong = rng.random(gold.shape) < np.where(gold > 0, 0.2, 0.01)
    votes = np.where(wrong, 1 - gold, gold)
    unknown = rng.random(gold.shape) < 0.6
    masked = np.where(unknown, np.nan, np.where(votes > 0, 0.9, 0.1))
    as_no = np.where(unknown, 0.1, np.where(votes > 0, 0.9, 0.1))
    texts, asked = [train["text"][i] for i in rows], [test["text"][i] for i in held]
    learned, looked = vectors(texts), vectors(asked)
    scores: dict[str, tuple[float, float]] = {}
    for way, targets in {"masked": masked, "unknown as no": as_no, "full gold": gold}.items():
        probs = fit_student("embedding", learned, targets, multi=True, config={"c": 1.0}).predict_proba(looked)
        said = probs >= _even_cut(probs, way, targets)
        scores[way] = (
            100 * float(f1_score(truth, said, average="micro", zero_division=0)),
            100 * float(f1_score(truth, said, average="macro", zero_division=0)),
        )
    facts = {"train": len(rows), "test": len(held), "labels": len(names), "unknown_share": 0.6, "votes": "simulated"}
    return [
        row(f"multi_goemotions_{way.replace(' ', '_')}", round(micro, 1), round(scores["full gold"][0], 1),
            peer_name="the same student on full gold", unit="micro F1", macro_f1=round(macro, 1),
            full_gold_macro_f1=round(scores["full gold"][1], 1), **facts)
        for way, (micro, macro) in scores.items() if way != "full gold"
    ]  # fmt: skip


def _even_cut(probs: np.ndarray, way: str, targets: np.ndarray) -> np.ndarray:
    """Per label the cut that says yes as often as the known training targets do: no gold of test is used."""
    share = np.nanmean(np.where(np.isnan(targets), np.nan, targets >= 0.5), axis=0)
    return np.array([np.quantile(probs[:, j], 1 - min(max(share[j], 1e-3), 0.999)) for j in range(probs.shape[1])])


# 4: throughput -----------------------------------------------------------------------------------------------------------
def _trained(options: Options, folder: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    from factory.students import fit_student
    from factory.students.export import ExportSpec, write_export

    path = str(options.data / folder)
    train, test = table(path, "train"), table(path, "test")
    names = sorted(set(train["label"]))
    rows, held = sample(len(train["text"]), 1000, 0), sample(len(test["text"]), 500 if options.quick else 2000, 7)
    texts, asked = [train["text"][i] for i in rows], [test["text"][i] for i in held]
    targets = np.eye(len(names))[[names.index(train["label"][i]) for i in rows]]
    gold = np.array([names.index(test["label"][i]) for i in held])
    root = Path(tempfile.mkdtemp(prefix="students-bench-"))
    found: dict[str, Any] = {"texts": asked, "gold": gold, "names": names, "train": len(rows), "root": root}
    for kind in kinds:
        taken = vectors(texts) if kind == "embedding" else texts
        student = fit_student(kind, taken, targets, encoder=encoder())
        spec = ExportSpec(folder, "a text", {name: name for name in names}, False)
        write_export(student, encoder(), spec, root / kind, asked[:20])
        found[kind] = root / kind
    return found


def _rate(predict: Any, texts: list[str], rounds: int) -> list[float]:
    predict(texts[:32])
    figures = []
    for _ in range(rounds):
        started = time.perf_counter()
        predict(texts)
        figures.append(len(texts) / (time.perf_counter() - started))
    return figures


def _throughput(name: str, folder: str, options: Options) -> Rows:
    import torch

    from factory.encoders import load_sentence_transformer
    from factory.students.predict import load_export

    threads = 1
    torch.set_num_threads(threads)
    made = _trained(options, folder, ("embedding", "static"))
    texts, gold, names = made["texts"], made["gold"], made["names"]
    rounds = 1 if options.quick else 3
    model = load_sentence_transformer(made["embedding"])
    ways: dict[str, Any] = {
        "torch": lambda some: torch.softmax(torch.tensor(model.encode(list(some), show_progress_bar=False)), 1).numpy(),
        "fp32": load_export(made["embedding"], precision="fp32", threads=threads).predict_proba,
        "int8": load_export(made["embedding"], precision="int8", threads=threads).predict_proba,
        "static": load_export(made["static"]).predict_proba,
    }
    said = {way: predict(texts).argmax(1) for way, predict in ways.items()}
    scores = {way: 100 * float((labels == gold).mean()) for way, labels in said.items()}
    agree = {way: 100 * float((labels == said["torch"]).mean()) for way, labels in said.items()}
    timed = texts[:500]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, predict in ways.items():
            rates[way] += _rate(predict, timed * (20 if way == "static" else 1), 1)
    middle = {way: statistics.median(values) for way, values in rates.items()}
    size = {way: sum(p.stat().st_size for p in made[kind].glob(glob)) / 1e6 for way, kind, glob in (
        ("int8", "embedding", "model_int8.onnx"), ("fp32", "embedding", "model.onnx"), ("static", "static", "static.*"),
    )}  # fmt: skip
    facts = {
        "texts": len(timed),
        "test_rows": len(texts),
        "threads": threads,
        "train": made["train"],
        "labels": len(names),
        "rounds": rounds,
    }
    wanted = {"int8": (2.0, 0.5), "static": (50.0, 5.0), "fp32": (1.0, 0.5)}
    return [
        row(f"throughput_{name}_{way}", round(middle[way], 1), round(middle["torch"], 1),
            peer_name="sentence-transformers on torch fp32", unit="texts/s", accuracy=round(scores[way], 1),
            torch_accuracy=round(scores["torch"], 1), points_lost=round(scores["torch"] - scores[way], 2),
            same_label_as_torch=round(agree[way], 2),
            megabytes=round(size[way], 1), wanted_ratio=need, wanted_points=most,
            reached=middle[way] >= need * middle["torch"] and round(scores["torch"] - scores[way], 6) <= most,
            spread=[round(min(rates[way]), 1), round(max(rates[way]), 1)], **facts)
        for way, (need, most) in wanted.items()
    ]  # fmt: skip


for _name, _folder in {"youtube": "wrench_youtube", "sms": "wrench_sms", "trec": "trec", "agnews": "agnews"}.items():
    case(f"throughput_{_name}_int8_static")(
        lambda options, name=_name, folder=_folder: _throughput(name, folder, options)
    )


@case("throughput_startup_static")
def startup(options: Options) -> Rows:
    """`factory predict` on a static export, three texts, from process start to exit."""
    made = _trained(options, "trec", ("static",))
    file = made["root"] / "three.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in made["texts"][:3]))
    command = [sys.executable, "-m", "factory.cli", "predict", str(made["static"]), str(file)]
    seconds = []
    for _ in range(3 if options.quick else 5):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        seconds.append(time.perf_counter() - started)
    return [
        row("throughput_startup_static", round(statistics.median(seconds), 2), 1.0, peer_name="wanted", unit="s",
            smaller_is_better=True, spread=[round(min(seconds), 2), round(max(seconds), 2)])
    ]  # fmt: skip


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=10, help="Few-shot splits (10 as published).")
    parser.add_argument("--shots", type=int, default=8, help="Texts per class of the few-shot cases.")
    parser.add_argument("--test-rows", type=int, default=1000, help="At most so many test rows of the few-shot cases.")
    parser.add_argument("--students", default="linear,static,embedding", help="Students of the rows1000 cases.")


if __name__ == "__main__":
    main(__doc__, _arguments)
