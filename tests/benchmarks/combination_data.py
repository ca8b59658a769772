"""What `combination.py` compares: a warehouse with programs, votes and the model's labels; what every system says of test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from _harness import ROOT, Options, Skip

NO_STUDENTS = ("anchored", "anchors_only", "logistic")


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
        pipeline: The ready pipeline whose programs and answers are taken.
        folder: Of its files.
        pool: Training texts, drawn uniformly, that the model labelled.
        sizes: Numbers of labels that are compared with their worth in programs and anchors.
    """

    pipeline: str
    folder: str
    pool: int
    sizes: tuple[int, ...] = (100, 300, 600)


SETS = {
    "trec": Set("trec", "wrench_trec", 2000, (100, 300, 600, 2000)),
    "agnews": Set("agnews", "agnews", 2000, (100, 300, 600, 2000)),
    "emotion": Set("emotion", "emotion", 600),
    "reuters": Set("reuters", "reuters21578_90", 600),
    "amazon": Set("amazon", "amazon_counterfactual_en", 600),
    "sst5": Set("sst5", "sst5", 600),
    "youtube": Set("youtube", "wrench_youtube", 300, (100, 300)),
    "sms": Set("sms", "wrench_sms", 300, (100, 300)),
}


@dataclass(frozen=True)
class Ready:
    """A warehouse in which everything that was asked is stored, and whom to ask for the same again."""

    warehouse: Any
    engine: Any
    encoder: Mapping[str, Any]


def ready(name: str, encoder: Mapping[str, Any], options: Options) -> Ready:
    """Ask programs and labels from the recorded answers, vote, denoise and encode; what is there already is taken.

    Args:
        name: Of the set.
        encoder: Settings of the encoder.
        options: `folder`, `heap` and `tests` are read.

    Raises:
        Skip: Data, pipeline or answers are not there.
    """
    from factory.denoise.stage import denoise
    from factory.encoders.encoder import load_encoder
    from factory.encoders.vectors import vectors_of
    from factory.errors import EngineError, InputError
    from factory.llm import make_engine
    from factory.llm.settings import EngineSettings
    from factory.pipeline.load import load_pipeline
    from factory.pipeline.run import run_pipeline
    from factory.pipeline.steps import make_step
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.texts import labelled_texts

    of, given = SETS[name], options.extra
    path = ROOT / "pipelines" / f"{of.pipeline}.yaml"
    if not path.is_file():
        raise Skip(f"there is no pipeline {of.pipeline}")
    pipeline = load_pipeline(path, {"data": str(options.data / of.folder)})
    engine = make_engine(EngineSettings.model_validate(dict(pipeline.engine or {})), base=pipeline.base)
    base = given["folder"] / f"{name}-{given['heap']}-{given['tests']}"
    if not (base / "done").is_file():
        labelled = [
            step for step in pipeline.steps if step.verb == "annotate" and getattr(step.params, "split", "") == "test"
        ]
        first = [step for step in pipeline.steps if step.verb in ("ingest", "author")]
        pool = make_step("annotate", {"split": "train", "limit": of.pool})
        try:
            run_pipeline(replace(pipeline, steps=(*first, pool, *labelled)), folder=base, told=_told)
        except EngineError as error:
            raise Skip(f"answers are missing: {error}") from error
        warehouse = Warehouse.open(base / f"{pipeline.name}.duckdb")
        shrink(warehouse, given["heap"], given["tests"])
        run_pipeline(replace(pipeline, steps=(make_step("vote", {}),)), folder=base, told=_told)
        warehouse.close_idle()
        (base / "done").touch()
    known = load_encoder(dict(encoder))
    work = given["folder"] / f"{base.name}-{known.key[:12]}"
    if not (work / "done").is_file():
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)
    warehouse = Warehouse.open(work / f"{pipeline.name}.duckdb")
    vectors_of(warehouse, known, labelled_texts(warehouse).numbers, _progress)
    try:
        denoise(warehouse, encoder=dict(encoder))
    except InputError as error:
        raise Skip(str(error)) from error
    return Ready(warehouse, engine, encoder)


def shrink(warehouse: Any, heap: int, tests: int) -> None:
    """Keep the first texts of train and test in the random order that `annotate` draws by; the others never were there."""
    from factory.annotation.core import sample_order
    from factory.warehouse.tables.gold import gold_file
    from factory.warehouse.tables.texts import split_hashes

    drop: list[int] = []
    for split, most in (("train", heap), ("test", tests)):
        found = split_hashes(warehouse, split)
        numbers = list(found)
        drop += [numbers[at] for at in sample_order(list(found.values()), 0)[most:]]
    with warehouse.lease() as db:
        for table in ("occurrences", "texts"):
            db.execute(f"DELETE FROM {table} WHERE text_no IN (SELECT unnest(?::INTEGER[]))", [drop])
    with gold_file(warehouse) as db:
        db.execute("DELETE FROM gold WHERE text_no IN (SELECT unnest(?::INTEGER[]))", [drop])


class Test:
    """The test texts with their gold, and what systems say of them."""

    def __init__(self, of: Ready, db: Any) -> None:
        from factory.evaluation.gold_students import Inputs
        from factory.evaluation.systems import LabelSpace
        from factory.task import current_card
        from factory.warehouse.tables.gold import read_gold
        from factory.warehouse.tables.texts import split_hashes

        self.of, self.warehouse = of, of.warehouse
        labels = self.warehouse.query("SELECT name, active FROM labels ORDER BY label_no")
        self.multi = current_card(self.warehouse).kind == "multi"
        self.shape = LabelSpace([name for name, _ in labels], np.array([on for _, on in labels], bool), self.multi)
        self.gold = read_gold(db, "test", len(labels))
        content = split_hashes(self.warehouse, "test")
        self.hashes = [content[int(number)] for number in self.gold.texts]
        self.inputs = Inputs(self.warehouse, db)
        self.rows = np.arange(len(self.gold))

    def students(self) -> dict[str, Any]:
        """Every trained student, every label model and the mixture."""
        from factory.evaluation.systems import label_model_systems, student_systems

        found = student_systems(self.warehouse, self.hashes, self.shape, lambda e: self.inputs.of(e, self.gold.texts))
        return {**label_model_systems(self.warehouse, self.gold.texts, self.hashes, self.shape), **found}

    def rivals(self, sizes: Sequence[int]) -> dict[str, Any]:
        """The teacher on test, the student's recipe on its labels and on gold."""
        from factory.evaluation.gold_students import gold_systems
        from factory.evaluation.rivals import model_labels, teacher_labels
        from factory.evaluation.systems import teacher_systems
        from factory.result import no_progress

        config = {"equivalents": False, "equivalents_draws": 1, "seed": 0}
        gold, _ = gold_systems(self.inputs, self.gold, self.hashes, self.shape, None, config, no_progress)
        labels = teacher_labels(
            self.warehouse,
            self.inputs.of,
            model_labels(self.warehouse),
            self.gold.texts,
            self.hashes,
            self.shape,
            sizes,
            0,
        )
        return {**teacher_systems(self.warehouse, self.gold.texts, self.shape), **gold, **labels}

    def predictions(self, columns: Mapping[int, np.ndarray], texts: Any, label_nos: Sequence[int]) -> Any:
        """What probabilities [n, k] of all texts by problem say of the test texts."""
        from factory.evaluation.systems import from_columns

        at = texts.rows(self.gold.texts)
        probs = columns[0] if not self.multi else np.stack([one[:, 1] for one in columns.values()], axis=1)
        return from_columns(probs[at], label_nos, self.hashes, self.shape, {})

    def score(self, name: str, said: Any) -> Any:
        """Its figures with intervals."""
        from factory.evaluation.scoring import PUBLISHED, score_system

        return score_system(
            name, PUBLISHED, self.gold, self.rows, said, self.shape, positive=None, draws=1000, seed=0
        ).metrics

    def f1_of_labels(self, said: Any) -> dict[str, float]:
        """The F1 of each label."""
        from factory.evaluation.scoring import PUBLISHED, score_system

        found = score_system("", PUBLISHED, self.gold, self.rows, said, self.shape, positive=None, draws=10, seed=0)
        return {name: round(one["f1"], 3) for name, one in found.detail["per_class"].items()}

    def versus(self, a: Any, b: Any) -> dict[str, float] | None:
        """The paired difference, a minus b."""
        from factory.evaluation.scoring import compare

        return compare(self.gold, self.rows, a, b, self.shape, draws=1000, seed=0)


def members(test: Test, uniform: int) -> Iterator[tuple[str, Any]]:
    """What every member of the mixture says of test, and the mixture with a part of it taken away.

    Args:
        test: The test texts.
        uniform: How many labels of the pool stand in for the anchors where these are to be drawn uniformly.
    """
    from factory.denoise.models import anchored
    from factory.distill.curate import Rules
    from factory.distill.mixing import stuff_of
    from factory.distill.mixture.members import LEAST_OF_CLASS, MEMBERS
    from factory.distill.mixture.mix import cross_fitted, weighed
    from factory.distill.read import classes_of
    from factory.distill.system import Plan
    from factory.encoders.encoder import load_encoder
    from factory.evaluation.rivals import model_labels
    from factory.task import current_card
    from factory.warehouse.tables.anchors import Anchor, read_anchors

    warehouse, encoder = test.warehouse, load_encoder(dict(test.of.encoder))
    classes = classes_of(warehouse, current_card(warehouse))
    plan = Plan(warehouse, classes, encoder, [("hybrid", encoder)], {}, {}, Rules(), 0.1, None)
    drawn = [Anchor(no, labels, "model", None, None) for no, labels, _ in model_labels(warehouse)[:uniform]]
    every = read_anchors(warehouse, "teach")
    found: dict[str, dict[int, np.ndarray]] = {}

    def put(name: str, problem: int, probs: np.ndarray) -> None:
        found.setdefault(name, {})[problem] = probs

    for anchors, what in ((every, "all"), (every, "no_anchors_in_em"), (drawn, "uniform_anchors")):
        stuff = stuff_of(plan, anchors, lambda *_: None)
        light = partial(anchored.fit, weight=1e-6) if what == "no_anchors_in_em" else anchored.fit
        for at, material in enumerate(stuff.materials):
            counts = np.bincount(material.labels[material.labels >= 0], minlength=2)
            if test.multi and counts.min() < LEAST_OF_CLASS:  # its label model answers, in whatever is compared
                for name in (*MEMBERS, "mixture_no_students") if what == "all" else (f"mixture_{what}",):
                    put(name, at, _label_model(plan, stuff.texts, classes.numbers[at]))
                continue
            with patch.object(anchored, "fit", light):
                answers, retired, _ = cross_fitted(material, stuff.folds)
            said = dict(zip(MEMBERS, answers, strict=True))
            if what == "all":
                for name, probs in said.items():
                    put(name, at, probs)
                said = {name: said[name] for name in NO_STUDENTS}
            put(
                "mixture_no_students" if what == "all" else f"mixture_{what}",
                at,
                weighed(material, said, retired).probs,
            )
    for name, columns in found.items():
        yield name, test.predictions(columns, stuff.texts, classes.numbers)


def _label_model(plan: Any, texts: Any, label_no: int) -> np.ndarray:
    """The chosen label model's no and yes for one label of all texts."""
    from factory.warehouse.tables.labels import soft_labels

    soft = soft_labels(plan.warehouse, plan.chosen.number, text_nos=texts.numbers.tolist())
    yes = np.zeros(len(texts.numbers))
    yes[texts.rows(soft.text_nos)] = np.nan_to_num(soft.probs[:, label_no])
    return np.stack([1 - yes, yes], axis=1)


def _told(step: Any, result: Any) -> None:
    print(f"  {step.verb}: {'; '.join(result.says[:2])}", file=sys.stderr, flush=True)


def _progress(done: int, total: int, what: str) -> None:
    if done % 2048 == 0 or done == total:
        print(f"  {done} of {total} {what}", file=sys.stderr, flush=True)
