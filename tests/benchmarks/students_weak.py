"""Students on weak labels, of human rules and of recorded programs, and what the choice of defaults rests on."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _harness import Options, case, row
from students_data import DEFAULT, STRENGTHS, Rows, encoder, given, label_names, points, run, sample, table, vectors

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
        return points(np.repeat(probs.argmax(1), self.times), np.repeat(self.gold, self.times), metric)


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
    from factory.denoise.models.table import fit_label_model

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
    from factory.distill import read as reading
    from factory.encoders.vectors import vectors_of
    from factory.students.stored import texts_of
    from factory.task import current_card
    from factory.warehouse.file import Warehouse

    folder, metric, _, _ = WEAK[name]
    place, stem = run(name, folder, options)
    warehouse = Warehouse.open(place / f"{stem}.duckdb")
    classes = reading.classes_of(warehouse, current_card(warehouse))
    models = reading.label_models(warehouse)

    def part(numbers: Any, gold: np.ndarray, times: np.ndarray | None = None) -> Part:
        known = vectors_of(warehouse, encoder(), numbers)
        return Part(texts_of(warehouse, numbers), known, gold, np.ones(len(gold), int) if times is None else times)

    dev_nos, dev_gold = reading.dev_gold(warehouse, classes)
    dev_labels = dev_gold.argmax(1) if len(dev_nos) else np.zeros(0, int)
    soft, said = {}, {}
    numbers: Any = None
    for model in models:
        candidates = reading.corpus_candidates(warehouse, model, classes)
        numbers = candidates.text_nos
        soft[model.name] = (candidates.probs, candidates.covered)
    columns = table(str(options.data / folder), "train")
    train_gold = dict(zip(columns["text"], columns["label"], strict=True))
    gold = np.array([classes.names.index(train_gold[text]) for text in texts_of(warehouse, numbers)])
    if not len(dev_nos):  # AG News has no validation rows: 500 training texts stand in for them, and train nothing
        held = sample(len(numbers), 500, 11)
        rest = np.setdiff1d(np.arange(len(numbers)), held)
        dev_nos, dev_labels = np.asarray(numbers)[held], gold[held]
        numbers, gold = np.asarray(numbers)[rest], gold[rest]
        soft = {model: (probs[rest], covered[rest]) for model, (probs, covered) in soft.items()}
    found = Weak(metric, len(classes.names), part(numbers, gold), part(dev_nos, dev_labels), None, soft, said)
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
    from factory.students import fit_student, student_class

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

    def told(part_of_name: str, score: float, model: str, **more: Any) -> dict[str, Any]:
        return row(
            f"{source}_{name}_{part_of_name}", round(score, 1), round(weak.said[model], 1), unit=metric,
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
                if c == student_class(kind).strength_for_programs and model == chosen:
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
                       encoder=encoder(), config={"c": student_class(DEFAULT).strength_for_programs})  # fmt: skip
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
    from factory.students import fit_student, student_class

    assert weak.test is not None
    asked = given(DEFAULT, weak.test.texts, weak.test.known)
    found = {}
    for n in (10, 20, 50, 100, 200, 500, 1000):
        scores = []
        for seed in range(draws):
            rows = np.random.default_rng([seed, n]).permutation(len(weak.train.gold))[:n]
            learned = given(DEFAULT, [weak.train.texts[i] for i in rows.tolist()], weak.train.known[rows])
            student = fit_student(DEFAULT, learned, np.eye(weak.k)[weak.train.gold[rows]], encoder=encoder(),
                                  config={"c": student_class(DEFAULT).strength_for_programs})  # fmt: skip
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
