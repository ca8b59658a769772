"""Synthetic data measured: what a student learns from it, how varied it is, how like real texts.

agnews    students on the recorded texts of pipelines/agnews_synthesizrr.yaml at equal size, beside seeds only, retrieved
          passages without a model, and real gold texts
trec      recall of rare labels with few-shot and Self-Guide texts of pipelines/trec_self_guide.yaml
llmsynth  the published sets written by GPT-4, Llama-2-70B, SuperGen, FewGen and a 1.5B model: filters, variety,
          separability, and students on synthetic, real, and both

Vectors are kept in the folder named by --folder (or LABEL_FACTORY_BENCH), so that a second run is quick.
Run: python tests/benchmarks/synthesis.py [--quick] [--only REGEX] [--folder DIR] [--draws N]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _harness import ROOT, Options, Row, Skip, case, emit, main

SUBSAMPLES = 5


class Bench:
    """Vectors cached in a warehouse, and students on them."""

    def __init__(self, options: Options, name: str) -> None:
        from factory.encoders.encoder import load_encoder
        from factory.warehouse.file import Warehouse

        given = options.extra.get("folder") or os.environ.get("LABEL_FACTORY_BENCH")
        self.folder = Path(given or Path(tempfile.gettempdir()) / "label-factory-bench").absolute()
        self.warehouse = Warehouse.open(self.folder / name / f"{name}.duckdb")
        self.encoder = load_encoder("auto")

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d], cached."""
        from factory.encoders.vectors import vectors_of
        from factory.warehouse.tables.texts import add_texts

        with self.warehouse.lease() as db:
            numbers = add_texts(db, list(texts), "passage")
        return vectors_of(self.warehouse, self.encoder, numbers)

    def probabilities(self, texts: Sequence[str], labels: Sequence[int], classes: int, test: np.ndarray) -> np.ndarray:
        """The embedding student's probabilities of the test vectors, after training on texts with hard labels."""
        from factory.students.base import fit_student

        soft = np.eye(classes, dtype=np.float32)[np.asarray(labels)]
        student = fit_student("embedding", self.vectors(texts), soft, config={"c": 1.0})
        return student.predict_proba(test)


def accuracy(probabilities: np.ndarray, gold: np.ndarray) -> float:
    return float((probabilities.argmax(1) == gold).mean())


def macro_f1(probabilities: np.ndarray, gold: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(gold, probabilities.argmax(1), average="macro"))


def told(name: str, figures: Sequence[float], unit: str, **facts: Any) -> Row:
    """A row of mean and standard deviation over draws."""
    spread = float(np.std(figures, ddof=1)) if len(figures) > 1 else 0.0
    return {
        "case": name, "ours": round(float(np.mean(figures)), 4), "peer": None, "peer_name": None, "unit": unit, "ratio": None,
        "sd": round(spread, 4), "draws": len(figures), **facts,
    }  # fmt: skip


def draw(pool: Mapping[int, Sequence[Any]], size: int, seed: int) -> tuple[list[Any], list[int]]:
    """`size` members of each label, and their labels."""
    members, labels = [], []
    for label, items in sorted(pool.items()):
        rng = np.random.default_rng([seed, label])
        chosen = [items[at] for at in rng.permutation(len(items))[:size]]
        members += chosen
        labels += [label] * len(chosen)
    return members, labels


# Synthesis of a pipeline ------------------------------------------------------------------------------------------------
def run_recorded(name: str, options: Options) -> tuple[Any, dict[str, str]]:
    """Run ingest and the synthesize steps of a pipeline on its recorded answers; steps without answers are left out."""
    from factory.llm import Pending
    from factory.pipeline.context import Context
    from factory.pipeline.load import load_pipeline
    from factory.pipeline.run import call_step
    from factory.warehouse.file import Warehouse

    data = options.data if name.startswith("agnews") else options.data / "wrench_trec"
    pipeline = load_pipeline(ROOT / "pipelines" / f"{name}.yaml", {"data": str(data)})
    bench = Bench(options, name)
    folder = bench.folder / name / "run"
    warehouse = Warehouse.open(folder / f"{name}.duckdb")
    context = Context(pipeline.card, folder, pipeline.base, pipeline.engine)
    missing = {}
    for step in pipeline.steps:
        if step.verb not in ("ingest", "synthesize"):
            continue
        try:
            call_step(step, warehouse, context)
        except Pending as error:
            missing[str(step.params.given().get("name"))] = str(error)
    return warehouse, missing


def by_label(rows: Sequence[tuple[str, int]]) -> dict[int, list[str]]:
    pool: dict[int, list[str]] = {}
    for text, label in rows:
        pool.setdefault(label, []).append(text)
    return pool


@case("agnews")
def agnews(options: Options) -> None:
    """Criterion rows at 40 and at 100 texts per label, with and without the seeds beside them."""
    import pyarrow.parquet as pq

    from factory.synthesis.measures import diversity, separability

    bench = Bench(options, "agnews_vectors")
    warehouse, missing = run_recorded("agnews_synthesizrr", options)
    names = [row[0] for row in warehouse.query("SELECT name FROM labels ORDER BY label_no")]
    test_table = pq.read_table(options.data / "agnews" / "test.parquet")
    train_table = pq.read_table(options.data / "agnews" / "train.parquet")
    rows_wanted = options.extra.get("test") or (500 if options.quick else test_table.num_rows)
    chosen = np.sort(np.random.default_rng(0).permutation(test_table.num_rows)[:rows_wanted])
    gold = np.array([names.index(label) for label in test_table["label"].to_pylist()])[chosen]
    test_texts = test_table["text"].to_pylist()
    test = bench.vectors([test_texts[at] for at in chosen])
    train = by_label(
        [
            (text, names.index(label))
            for text, label in zip(*(train_table[c].to_pylist() for c in ("text", "label")), strict=True)
        ]
    )
    draws = options.extra.get("draws") or (2 if options.quick else SUBSAMPLES)
    seeds = by_label(
        warehouse.query("SELECT text, label_no FROM gold JOIN texts USING (text_no) ORDER BY source_no, row_no")
    )
    eight = {label: texts[:8] for label, texts in seeds.items()}
    pools: dict[str, dict[int, list[str]]] = {}
    for method in [row[0] for row in warehouse.query("SELECT DISTINCT method FROM synthetic ORDER BY ALL")]:
        pools[method] = by_label(
            warehouse.query(
                "SELECT text, label_no FROM synthetic WHERE method = ? AND state = 'accepted' ORDER BY synthetic_no",
                [method],
            )
        )
        pools[f"{method} (filters off)"] = by_label(
            warehouse.query(
                "SELECT text, label_no FROM synthetic WHERE method = ? AND coalesce(drop_reason, '') NOT LIKE '%held_out'"
                " ORDER BY synthetic_no",
                [method],
            )
        )
    pools |= passages_without_a_model(warehouse)
    emit(told("agnews: seeds only (8)", *seeds_only(bench, train, eight, draws, len(names), test, gold)))
    base: dict[tuple[int, str], list[float]] = {}
    for size in (40, 100):
        for name, pool in sorted(pools.items()):
            if len(pool) < len(names) or min(len(texts) for texts in pool.values()) < size:
                continue
            alone, beside = [], []
            for seed in range(draws):
                texts, labels = draw(pool, size, seed)
                alone.append(accuracy(bench.probabilities(texts, labels, len(names), test), gold))
                more, also = draw(eight, 8, 0)
                beside.append(accuracy(bench.probabilities(texts + more, labels + also, len(names), test), gold))
            base[size, name] = alone
            texts, _ = draw(pool, size, 0)
            some, _ = draw(train, size, 99)
            vectors = bench.vectors(texts)
            emit(
                told(
                    f"agnews/{size}: {name}", alone, "accuracy", n_test=len(gold), with_seeds=round(float(np.mean(beside)), 4),
                    with_seeds_sd=round(float(np.std(beside, ddof=1)), 4),
                    auroc=round(separability(bench.vectors(some), vectors), 4),
                    **diversity(texts, vectors),
                )
            )  # fmt: skip
        figures = []
        for seed in range(draws):
            texts, labels = draw(train, size, seed)
            figures.append(accuracy(bench.probabilities(texts, labels, len(names), test), gold))
        base[size, "gold"] = figures
        some, _ = draw(train, size, 99)
        emit(
            told(
                f"agnews/{size}: real gold",
                figures,
                "accuracy",
                n_test=len(gold),
                **diversity(some, bench.vectors(some)),
            )
        )
    control = "passages of synthesizrr_3, no model"
    for (size, name), figures in sorted(base.items()):
        if name != control and (size, control) in base:
            gaps = np.array(figures) - np.array(base[size, control])
            emit(told(f"agnews/{size}: {name} minus {control}", gaps.tolist(), "accuracy, paired by subsample"))
    for name, words in missing.items():
        emit({"case": f"agnews: {name}", "skipped": words})


def passages_without_a_model(warehouse: Any) -> dict[str, dict[int, list[str]]]:
    """What each SynthesizRR plan retrieved, with the label of its seed: the control without a model."""
    pools = {}
    for (name,) in warehouse.query(
        "SELECT DISTINCT config ->> '$.name' FROM plans WHERE config ->> '$.method' = 'synthesizrr'"
    ):
        pools[f"passages of {name}, no model"] = by_label(
            warehouse.query(
                "SELECT t.text, l.label_no FROM slots s JOIN plans p USING (plan_no)"
                " JOIN texts t ON t.text_no = (s.parents ->> '$.passage')::INTEGER"
                " JOIN labels l ON l.name = (s.spec ->> '$.label')"
                " WHERE p.config ->> '$.name' = ? AND s.round = 0 ORDER BY s.slot_no",
                [name],
            )
        )
    return pools


def seeds_only(
    bench: Bench,
    train: Mapping[int, Sequence[str]],
    recorded: Mapping[int, Sequence[str]],
    draws: int,
    classes: int,
    test: np.ndarray,
    gold: np.ndarray,
) -> tuple[list[float], str]:
    """Students on 8 gold texts per label: the recorded draw, and fresh ones."""
    figures = []
    for seed in range(draws):
        texts, labels = draw(recorded, 8, 0) if seed == 0 else draw(train, 8, 1000 + seed)
        figures.append(accuracy(bench.probabilities(texts, labels, classes, test), gold))
    return figures, "accuracy"


@case("trec")
def trec(options: Options) -> None:
    """Recall of each label, and of the rare ABBR, from Self-Guide and few-shot texts beside the seeds alone."""
    import pyarrow.parquet as pq

    from factory.synthesis.measures import diversity

    bench = Bench(options, "trec_vectors")
    warehouse, missing = run_recorded("trec_self_guide", options)
    names = [row[0] for row in warehouse.query("SELECT name FROM labels ORDER BY label_no")]
    table = pq.read_table(options.data / "wrench_trec" / "test.parquet")
    gold = np.array([names.index(label) for label in table["label"].to_pylist()])
    test = bench.vectors(table["text"].to_pylist())
    seeds = by_label(
        warehouse.query("SELECT text, label_no FROM gold JOIN texts USING (text_no) ORDER BY source_no, row_no")
    )
    pools = {"seeds only": seeds}
    for (method,) in warehouse.query("SELECT DISTINCT method FROM synthetic ORDER BY ALL"):
        pools[method] = by_label(
            warehouse.query(
                "SELECT text, label_no FROM synthetic WHERE method = ? AND state = 'accepted' ORDER BY synthetic_no",
                [method],
            )
        )
    size = min(
        (len(texts) for name, pool in pools.items() if name != "seeds only" for texts in pool.values()), default=0
    )
    for name, pool in pools.items():
        figures, recalls = [], []
        for seed in range(SUBSAMPLES if name != "seeds only" else 1):
            texts, labels = draw(pool, size or 3, seed) if name != "seeds only" else draw(pool, 3, 0)
            found = bench.probabilities(texts, labels, len(names), test)
            figures.append(accuracy(found, gold))
            recalls.append([float((found.argmax(1)[gold == at] == at).mean()) for at in range(len(names))])
        recall = {label: round(float(value), 3) for label, value in zip(names, np.mean(recalls, axis=0), strict=True)}
        texts, _ = draw(pool, size or 3, 0)
        facts = diversity(texts, bench.vectors(texts))
        emit(told(f"trec: {name}", figures, "accuracy", n_test=len(gold), per_label=size or 3, recall=recall, **facts))
    for name, words in missing.items():
        emit({"case": f"trec: {name}", "skipped": words})


# Published synthetic sets -------------------------------------------------------------------------------------------------
SETS: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "agnews": ("llmsynth_agnews", ("synth_baseline", "synth_targeted"), "agnews/train", "agnews/test"),
    "sst2": (
        "llmsynth_sst2", ("synth_supergen", *(f"synth_fewgen_seed{seed}" for seed in (13, 21, 42, 87, 100))),
        "sst2/train", "sst2/test",
    ),
    "intimacy": (
        "llmsynth_wvg_question_intimacy", ("synth_gpt4", "synth_llama2_70b"),
        "llmsynth_wvg_question_intimacy/train", "llmsynth_wvg_question_intimacy/test",
    ),
}  # fmt: skip
MOST_REAL, MOST_MEASURED, MOST_TOLD_APART = 4000, 1000, 2000
"""Real training texts at most; texts for self-BLEU and the other measures of variety; texts of either kind for the AUROC."""


@case("llmsynth")
def llmsynth(options: Options) -> None:
    """One line per published set: filters, variety, separability, and the student on synthetic, real, and both.

    Synthetic and test sets are whole unless `--most` is given; real training texts are as many as the set has, at most 4,000;
    `real_equal` is the student on as many real texts as there are synthetic ones, at most those.
    """
    from factory.synthesis.measures import diversity, separability

    bench = Bench(options, "llmsynth_vectors")
    for task, (folder, splits, train_path, test_path) in SETS.items():
        most = 150 if options.quick else options.extra.get("most")
        real = read(options.data / f"{train_path}.parquet", most or MOST_REAL, 0)
        test = read(options.data / f"{test_path}.parquet", 300 if options.quick else most, 1)
        names = sorted({label for _, label in real} | {label for _, label in test})
        gold = np.array([names.index(label) for _, label in test])
        at_test = bench.vectors([text for text, _ in test])

        score = partial(scores, bench, names, at_test, gold)
        real_vectors = bench.vectors([text for text, _ in real])
        on_real = score(real)
        some = sampled(range(len(real)), MOST_MEASURED)
        facts = diversity([real[at][0] for at in some], real_vectors[some])
        emit(
            told(
                f"llmsynth/{task}: real", [on_real[0]], "accuracy", macro_f1=on_real[1], n_train=len(real), n_test=len(gold),
                measured_on=facts.pop("n"), **facts,
            )
        )  # fmt: skip
        for split in splits:
            rows = read(options.data / folder / f"{split}.parquet", most, 0)
            rows = [(text, label) for text, label in rows if label in names]
            kept, dropped = filtered(rows, [text for text, _ in real], [text for text, _ in test])
            alone, clean, both = score(rows), score(kept), score([*kept, *real])
            equal = score([real[at] for at in sampled(range(len(real)), len(rows))])
            vectors = bench.vectors([text for text, _ in rows])
            apart = separability(
                real_vectors[sampled(range(len(real)), MOST_TOLD_APART)],
                vectors[sampled(range(len(rows)), MOST_TOLD_APART)],
            )
            some = sampled(range(len(rows)), MOST_MEASURED)
            facts = diversity([rows[at][0] for at in some], vectors[some])
            emit(
                told(
                    f"llmsynth/{task}: {split}", [alone[0]], "accuracy", macro_f1=alone[1], filtered=clean[0],
                    filtered_macro_f1=clean[1], filtered_and_real=both[0], filtered_and_real_macro_f1=both[1],
                    real_equal=equal[0], real_equal_macro_f1=equal[1], real_all=on_real[0], real_all_macro_f1=on_real[1],
                    auroc_real_synthetic=round(apart, 4), n_synthetic=len(rows), kept=len(kept), dropped=dropped,
                    n_test=len(gold), measured_on=facts.pop("n"), **facts,
                )
            )  # fmt: skip


def scores(
    bench: Bench, names: Sequence[str], at_test: np.ndarray, gold: np.ndarray, rows: Sequence[tuple[str, str]]
) -> tuple[float, float]:
    """Accuracy and macro F1 on test of the student that learned from these rows."""
    labels = [names.index(label) for _, label in rows]
    found = bench.probabilities([text for text, _ in rows], labels, len(names), at_test)
    return round(accuracy(found, gold), 4), round(macro_f1(found, gold), 4)


def sampled(positions: Sequence[int], most: int) -> list[int]:
    """At most so many positions, drawn, in order."""
    return sorted(np.random.default_rng(7).permutation(list(positions))[:most].tolist())


def read(path: Path, most: int | None, seed: int) -> list[tuple[str, str]]:
    """The rows of a set, or so many of them, drawn."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise Skip(f"no {path}")
    table = pq.read_table(path, columns=["text", "label"])
    chosen = np.sort(np.random.default_rng(seed).permutation(table.num_rows)[:most])
    rows = table.take(chosen.tolist()).to_pylist()
    return [(row["text"], str(row["label"])) for row in rows if row["text"] and row["text"].strip()]


def filtered(
    rows: Sequence[tuple[str, str]], real: Sequence[str], test: Sequence[str]
) -> tuple[list[tuple[str, str]], Mapping[str, int]]:
    """What the stage's own filters keep of a published set, and how often each dropped a text."""
    from factory.synthesis.filters import count_reasons, expected_language, length_bounds, text_filters
    from factory.synthesis.screen import TextScreen

    check: Callable[[str, str | None], Any] = text_filters(
        bounds=length_bounds(real[:200]), expected=expected_language(real[:50])
    )
    screen = TextScreen(held_out=test, check_text=check)
    verdicts = [screen.screen(text, None) for text, _ in rows]
    kept = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict is None]
    return kept, dict(count_reasons([verdict[0] if verdict else None for verdict in verdicts]))


def arguments(parser: Any) -> None:
    parser.add_argument("--folder", help="keep vectors and runs here")
    parser.add_argument("--most", type=int, help="llmsynth: draw so many texts of each set (all; 4,000 real ones)")
    parser.add_argument("--draws", type=int, help="draws and subsamples (5)")
    parser.add_argument("--test", type=int, help="use so many test texts (all)")


if __name__ == "__main__":
    main(__doc__, arguments)
