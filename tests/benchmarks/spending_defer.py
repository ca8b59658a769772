"""Cases of `spending.py`: what it is worth to hand over what is not sure, and a definition that changes.

`defer/SET`: the default line with 300 anchors, its student and the model's own labels of test, both by the recorded answers;
score and price where the least sure 0, 5, 10, 20, 40% go to the model. `definition/trec`: NUM is split into TIME and AMOUNT by
TREC's fine labels; what the line asks again beside asking everything again, and both students' scores on the new gold. Its
answers are recorded in `pipelines/trec/split_answers.jsonl`; where some are missing, the case writes their requests to --folder
and is skipped.

Warehouses are those of `combination_data`, in --folder.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from _harness import ROOT, Options, Row, Skip, case, row
from combination_data import SETS, Test, ready
from students_data import encoder_settings

SHOWN = ("trec", "agnews", "emotion", "reuters", "amazon", "sst5")
ANCHORS: Mapping[str, Any] = {"anchors": 300, "audit": 100}
PROGRAMS: Mapping[str, Any] = {"programs": 24, "varied": False}
TIME = ("NUM:date", "NUM:period")
PARTS = {
    "TIME": "The answer is a point or a stretch of time - a date, a year, a day, a time of day, an age or a duration.",
    "AMOUNT": "The answer is a number that is no time - a count, distance, size, speed, weight, temperature, price, percentage,"
    " rank, code or telephone number.",
}
"""What NUM is split into."""


def deferred(name: str, options: Options) -> list[Row]:
    """Score against the share that is handed over, for every system that is taken home."""
    from factory.annotation.stage import annotate
    from factory.distill.stage import distill
    from factory.evaluation.deferral import deferrals
    from factory.evaluation.rivals import spent_on
    from factory.evaluation.scoring import headline_metric
    from factory.evaluation.systems import glass_box_system, teacher_systems
    from factory.llm.prices import cost_of, price_date, price_table
    from factory.llm.request import Usage
    from factory.warehouse.tables.gold import gold_file

    settings = encoder_settings(options.extra.get("encoder", "minilm"))
    of = ready(name, settings, options)
    warehouse = of.warehouse
    annotate(warehouse, of.engine, among=SETS[name].pool, **ANCHORS)
    distill(warehouse, systems=["student", "combined"], encoder=settings)
    date, reference = price_date()
    price, rows = dict(price_table())[reference], []
    with gold_file(warehouse) as db:
        test = Test(of, db)
        said = {**test.students(), **teacher_systems(warehouse, test.gold.texts, test.shape)}
        said |= glass_box_system(
            warehouse, test.gold.texts, test.hashes, test.shape, lambda e: test.inputs.of(e, test.gold.texts)
        )
        spent = spent_on(warehouse, ["teacher"])["teacher"]
        each = Usage(round(spent.tokens_in / spent.requests), round(spent.tokens_out / spent.requests))
        money = cost_of(price, each, None, 1) or 0.0
        for system, curve in deferrals(test.gold, said, test.shape, draws=1000, seed=0).items():
            points = [
                {**point, "tokens_per_1000": round(1000 * point["share"] * (each.tokens_in + each.tokens_out)),
                 "money_per_1000": round(1000 * point["share"] * money, 4)}
                for point in curve["points"]
            ]  # fmt: skip
            by_share = {point["share"]: point["score"] for point in points}
            told = {"n": curve["n"], "teacher": curve["teacher"], "points": points, "prices": f"{reference} ({date})"}
            metric = headline_metric(test.shape.multi)
            rows.append(
                row(
                    f"defer/{name}/{system}",
                    by_share[0.1],
                    by_share[0.0],
                    peer_name="nothing deferred",
                    unit=metric,
                    **told,
                )
            )
            scores = "  ".join(f"{point['share']:.0%} {point['score']:.3f}" for point in points)
            print(f"  {name} {system}: {scores}  the model {curve['teacher']:.3f}", file=sys.stderr, flush=True)
    return rows


# A definition that changes --------------------------------------------------------------------------------------------------
def definition(options: Options) -> Row:
    """NUM of TREC split in two: what is bought again and what it brings, beside buying everything again."""
    from factory.denoise.stage import denoise
    from factory.distill.stage import distill
    from factory.evaluation.systems import student_systems
    from factory.programs.stage import vote

    settings = encoder_settings(options.extra.get("encoder", "minilm"))
    of = ready("trec", settings, options)
    assert of.warehouse.folder is not None
    sides = changed(of.warehouse.folder, options.extra["folder"])
    found, bought = {}, {}
    gold = fine_gold(options.data)
    for side, (warehouse, spent) in sides.items():
        vote(warehouse)
        denoise(warehouse, encoder=settings)
        distill(warehouse, systems=["student", "combined"], encoder=settings)
        found[side], bought[side] = _right(warehouse, student_systems, gold), spent
    share = {name: round(bought["ours"][name] / bought["again"][name], 4) for name in ("requests", "tokens")}
    scores = {f"{side}_systems": one for side, one in found.items()}
    return row(
        "definition/trec", found["ours"]["combined"], found["again"]["combined"], peer_name="everything asked again",
        unit="accuracy", bought=bought["ours"], whole=bought["again"], share=share, **scores,
    )  # fmt: skip


def changed(base: Path, folder: Path) -> dict[str, tuple[Any, dict[str, int]]]:
    """Two copies of a run after the change, `ours` and `again`, each with what it bought.

    Args:
        base: The folder of a run of TREC with its programs, votes and labels.
        folder: Where the copies and the files of answers and requests lie.

    Raises:
        Skip: Answers are missing; their requests are written.
    """
    from factory.annotation.stage import annotate
    from factory.llm import EngineSettings, Pending, make_engine
    from factory.programs.stage import author
    from factory.task import current_card, register
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.programs import accepted, set_state

    recorded = ROOT / "pipelines" / "trec"
    answers, mine = [recorded / "answers.jsonl"], recorded / "split_answers.jsonl"
    requests = folder / "definition-trec.requests.jsonl"
    answers += [mine] if mine.is_file() else []
    wanted: dict[tuple[str, int], dict[str, Any]] = {}

    def tried(step: Callable[[Any], Any]) -> None:
        one = folder / "definition-trec.step.jsonl"
        one.unlink(missing_ok=True)
        told = EngineSettings(kind="recorded", answers=list(map(str, answers)), requests=str(one))
        try:
            step(make_engine(told, base=folder))
        except Pending:
            for line in one.read_text(encoding="utf-8").splitlines():
                asked = json.loads(line)
                wanted.setdefault((asked["key"], asked["sample_no"]), asked)
            one.unlink()

    found = {}
    for side in ("ours", "again"):
        place = folder / f"definition-trec-{side}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        warehouse = Warehouse.open(place / "trec.duckdb")
        tried(lambda engine, w=warehouse: annotate(w, engine, among=SETS["trec"].pool, **ANCHORS))
        register(warehouse, split_card(current_card(warehouse)))
        with warehouse.lease() as db:
            db.execute("DELETE FROM occurrences WHERE split = 'dev'")  # whose gold is by the earlier card
            if side == "again":
                for program in accepted(warehouse):
                    set_state(db, program.number, "superseded", "again", "benchmark")
        before = _spent(warehouse)
        with patch("factory.programs.author.renew.change_of", _whole if side == "again" else _change):
            tried(lambda engine, w=warehouse: author(w, engine, **PROGRAMS))
        with patch("factory.annotation.carry.change_of", _every if side == "again" else _change):
            tried(lambda engine, w=warehouse: annotate(w, engine, among=SETS["trec"].pool, **ANCHORS))
        after = _spent(warehouse)
        found[side] = (warehouse, {name: after[name] - before[name] for name in after})
    if wanted:
        requests.write_text("".join(json.dumps(one) + "\n" for one in wanted.values()), encoding="utf-8")
        raise Skip(f"{len(wanted)} answers are missing: their requests are in {requests}, the answers belong in {mine}")
    return found


def split_card(card: Any) -> Any:
    """The card with NUM split into its parts."""
    from factory.task import Label

    parts = tuple(Label(name=name, description=told, was=("NUM",)) for name, told in PARTS.items())
    labels = [label for label in card.labels if label.name != "NUM"]
    guidelines = card.guidelines.replace('"What year ..." is NUM', '"What year ..." is TIME')
    return card.model_copy(update={"labels": (*labels, *parts), "guidelines": guidelines})


def fine_gold(data: Path) -> dict[str, str]:
    """The new gold by text, spelt without case, blanks and marks."""
    import pyarrow.parquet as pq

    found = {}
    for split in ("train", "test"):
        for one in pq.read_table(data / "trec" / f"{split}.parquet").to_pylist():
            fine = one["fine_label"]
            coarse = fine.partition(":")[0]
            found[_plain(one["text"])] = coarse if coarse != "NUM" else "TIME" if fine in TIME else "AMOUNT"
    return found


def _right(warehouse: Any, systems: Any, gold: Mapping[str, str]) -> dict[str, float]:
    """The accuracy of each student on test."""
    import numpy as np

    from factory.evaluation.heard import inputs_of
    from factory.evaluation.systems import label_space
    from factory.warehouse.tables.texts import split_hashes, texts_of

    shape, hashes = label_space(warehouse), split_hashes(warehouse, "test")
    numbers = np.array(sorted(hashes), np.int32)
    texts = texts_of(warehouse, numbers)
    truth = np.array([shape.names.index(gold[_plain(texts[int(no)])]) for no in numbers])
    said = systems(warehouse, [hashes[int(no)] for no in numbers], shape, lambda e: inputs_of(warehouse, e, numbers))
    return {name: round(float((one.labels == truth).mean()), 4) for name, one in said.items()}


def _spent(warehouse: Any) -> dict[str, int]:
    [(requests, tokens)] = warehouse.query(
        "SELECT sum(requests)::BIGINT, sum(tokens_in + tokens_out)::BIGINT FROM spend"
    )
    return {"requests": int(requests), "tokens": int(tokens)}


def _change(old: Any, new: Any) -> Any:
    from factory.revision import change_of

    return change_of(old, new)


def _whole(*_: Any) -> Any:
    from factory.revision import Change

    return Change(whole="everything is asked again")


def _every(old: Any, _: Any) -> Any:
    from factory.revision import Change

    return Change(frozenset(old.label_names))


def _plain(text: str) -> str:
    return re.sub(r"\W+", "", text.lower())


for _name in SHOWN:
    case(f"defer/{_name}")(lambda options, name=_name: deferred(name, options))
case("definition/trec")(definition)
