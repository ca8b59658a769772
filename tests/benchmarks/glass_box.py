"""What reasons cost: texts per second of a glass box of rules, of one of Python programs, and of the compact int8 student.

    python tests/benchmarks/glass_box.py --only trec

On TREC and emotion, with programs from the recorded answers of the ready pipelines, MiniLM as the encoder and the student
`embedding`. Throughput does not depend on who gave the anchors, so labels of 200 training texts stand in for them; no score is
read. Ours is the glass box, its peers are the student that the same mixture taught, exported and asked in int8, the box with
reasons, and its programs alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _harness import ROOT, Options, Row, case, compare, main
from students_data import table

SETS = {"trec": ("wrench_trec", 24), "emotion": ("emotion", 18)}
ANCHORS = 200
BLOCK = 1024
"""Texts that are asked about at once, as `factory predict` reads a file: the sandbox starts each program once for each block."""


def boxes(options: Options, name: str, form: str, folder: Path) -> tuple[Any, Any]:
    """The exported glass box and the compact student of one set, opened."""
    from factory import EngineSettings, Warehouse, load_export, make_engine
    from factory.corpus.stage import ingest
    from factory.denoise.stage import denoise
    from factory.distill.stage import distill
    from factory.export.stage import export
    from factory.programs.stage import author, vote
    from factory.task import load_card
    from factory.warehouse.tables.anchors import put_person
    from factory.warehouse.tables.texts import texts_of

    data, count = SETS[name]
    source = {"path": str(options.data / data / "train.parquet"), "text": "text"}
    pipeline = name if form == "python" else f"{name}_rules"
    answers = str(ROOT / "pipelines" / pipeline / "answers.jsonl")
    warehouse = Warehouse.open(folder / "w.duckdb")
    ingest(warehouse, load_card(ROOT / "pipelines" / name / "task.yaml"), {"train": source}, like_test="keep")
    more = {"varied": False} if form == "python" else {"form": "rules"}
    author(warehouse, make_engine(EngineSettings(kind="recorded", answers=answers)), programs=count, **more)
    vote(warehouse)
    columns = table(str(options.data / data), "train")
    gold = dict(zip(columns["text"], columns["label"], strict=True))
    labels = dict(warehouse.query("SELECT name, label_no FROM labels"))
    numbers = [
        no for (no,) in warehouse.query("SELECT text_no FROM split_texts ORDER BY hash(text_no) LIMIT ?", [ANCHORS])
    ]
    texts = texts_of(warehouse, numbers)
    with warehouse.lease() as db:
        put_person(db, {no: [labels[str(gold[texts[no]])]] for no in numbers}, "stand-in", None)
    denoise(warehouse, model="majority", encoder="none")
    distill(warehouse, student="embedding", encoder="minilm", encode_at_most=2000, systems=["student", "combined"])
    for system in ("glass_box", "combined"):
        export(warehouse, folder / system, system=system)
    return load_export(folder / "glass_box"), load_export(folder / "combined")


def measured(options: Options, name: str, form: str) -> list[Row]:
    """Rows of one set and form of program."""
    data, _ = SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        box, compact = boxes(options, name, form, Path(folder))
        texts = [str(text) for text in table(str(options.data / data), "train")["text"]][:BLOCK]

        def rate(answer: Callable[[Sequence[str]], Any]) -> Callable[[], float]:
            def timed() -> float:
                started = time.perf_counter()
                answer(texts)
                return len(texts) / (time.perf_counter() - started)

            return timed

        found = compare(
            rate(box.predict_proba),
            {
                "the compact student, int8": rate(compact.predict_proba),
                "the glass box with reasons": rate(box.explain),
                "its programs alone": rate(box.predictor.box.run),
            },
            rounds=3 if options.quick else 5,
            warm_up=not options.quick,
        )
        why = box.why(texts[:3])
        sizes = {"programs": len(box.predictor.box.programs), "form": form, "texts": len(texts)}
        return found.rows(f"glass_box_{form}_{name}", unit="texts/s", **sizes, why=why)


for _name in SETS:
    for _form in ("rules", "python"):
        case(f"{_form}_{_name}")(lambda options, name=_name, form=_form: measured(options, name, form))

if __name__ == "__main__":
    main(__doc__)
