"""The cases `curve/SET` and `auto/SET` of `spending.py`: what was decided and fixed mixes, from recorded answers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from _harness import Options, Row, Skip, case, row
from combination_data import SETS, Ready, Test, ready
from students_data import encoder_settings

DOZENS = (12, 24, 36)
"""Budgets, in programs."""
SPLITS = (0.15, 0.4, 0.65, 0.9)
"""Shares of the tokens that go to programs in the random splits: the middles of four equal parts of what is left to chance."""
SOLD = ("label_models", "soft_labels", "anchors", "models", "model_rows", "trials", "purchases")
"""Tables that are emptied before a replay begins."""
RECORDED = "FROM slots WHERE state = 'accepted' AND plan_no = (SELECT max(plan_no) FROM plans WHERE stage = 'author')"
"""The programs that are recorded."""
STASH = "recorded"
"""The stage of the requests of programs that a replay has not bought yet."""


def recorded_author(warehouse: Any, params: Any, _: Any) -> Any:
    """In place of the stage `author`: the first programs of the recorded plan, with what they cost.

    Prompts show texts of the whole corpus, and a heap may be a part of it; so nothing is rendered again.
    """
    from factory.result import StageResult

    there = warehouse.query(f"SELECT slot_no {RECORDED} ORDER BY 1")
    last = there[min(params.programs, len(there)) - 1][0]
    slots = "SELECT request_key FROM slots JOIN plans USING (plan_no) WHERE stage = 'author' AND slot_no <= ?"
    with warehouse.lease() as db:
        db.execute("UPDATE programs SET state = 'accepted' WHERE drop_reason = ? AND slot_no <= ?", [STASH, last])
        db.execute(f"UPDATE requests SET stage = 'author' WHERE stage = ? AND request_key IN ({slots})", [STASH, last])
    return StageResult("author", did={"accepted": min(params.programs, len(there))})


class Replay:
    """A set of which everything that may be bought is recorded."""

    def __init__(self, name: str, options: Options) -> None:
        from factory.distill.stage import distill
        from factory.evaluation.rivals import model_labels, spent_by_part

        self.name, self.options = name, options
        encoder = options.extra["encoder"]
        self.encoder = encoder_settings(encoder)
        self.of = ready(name, self.encoder, options)
        distill(self.of.warehouse, systems=["student"], encoder=self.encoder)  # the recipe of labels alone
        self.labels = model_labels(self.of.warehouse)
        self.recorded = int(self.of.warehouse.scalar(f"SELECT count(*) {RECORDED}"))
        self.program = spent_by_part(self.of.warehouse)["author"].tokens / self.recorded
        self.label = sum(one.spent.tokens for one in self.labels) / len(self.labels)
        self.kept = Path(options.extra["folder"]) / f"auto-{name}-{encoder}-{options.extra['heap']}.json"
        self.scores: dict[str, Any] = json.loads(self.kept.read_text()) if self.kept.is_file() else {}

    def fresh(self, what: str) -> Ready:
        """A copy of the warehouse in which nothing is bought."""
        from factory.warehouse.file import Warehouse

        source = self.of.warehouse.path
        folder = source.parent.with_name(f"replay-{self.name}-{what}")
        shutil.rmtree(folder, ignore_errors=True)
        self.of.warehouse.close_idle()
        shutil.copytree(source.parent, folder)
        warehouse = Warehouse.open(folder / source.name)
        with warehouse.lease() as db:
            for table in SOLD:
                db.execute(f"DELETE FROM {table}")
            db.execute("UPDATE programs SET state = 'rejected', drop_reason = ? WHERE state = 'accepted'", [STASH])
            db.execute("UPDATE requests SET stage = ? WHERE stage = 'author'", [STASH])
            for table in ("annotations", "slots", "plans"):
                anchors = "SELECT plan_no FROM plans WHERE config ->> '$.anchors' IS NOT NULL"
                db.execute(f"DELETE FROM {table} WHERE plan_no IN ({anchors})")
        return replace(self.of, warehouse=warehouse)

    def once(self, what: str, measure: Callable[[], Any]) -> Any:
        """A result from the folder, or measured now and kept there."""
        if what not in self.scores:
            print(f"  {self.name}: {what}", file=sys.stderr, flush=True)
            self.scores[what] = measure()
            self.kept.write_text(json.dumps(self.scores, default=float))
        return self.scores[what]

    def mix(self, programs: int, anchors: int) -> float:
        """The score of so many programs and anchors; of labels alone where there is no program."""
        if programs == 0:
            return float(self.once(f"labels {anchors}", lambda: self._of_labels(anchors)))
        return float(self.once(f"{programs} programs, {anchors} anchors", lambda: self._of_mix(programs, anchors)))

    def answers(self, of: Ready) -> float:
        """The score on test of what answers there."""
        from factory.warehouse.tables.gold import gold_file

        with gold_file(of.warehouse) as db:
            test = Test(of, db)
            said = test.students()
            system = "mixture" if "mixture" in said else "student"
            return float(test.score(system, said[system])["micro_f1" if test.multi else "accuracy"])

    def _of_mix(self, programs: int, anchors: int) -> float:
        from factory.annotation.stage import annotate
        from factory.denoise.stage import denoise
        from factory.distill.stage import distill
        from factory.programs.stage import author

        of = self.fresh("mix")
        with patch.object(author, "run", recorded_author):
            author(of.warehouse, of.engine, programs=programs)
        if anchors:
            annotate(of.warehouse, of.engine, anchors=anchors, audit=0, among=len(self.labels))
        denoise(of.warehouse, encoder=self.encoder)
        distill(of.warehouse, systems=["student", "combined"], encoder=self.encoder)
        return self.answers(of)

    def _of_labels(self, labels: int) -> float:
        from factory.evaluation.rivals import teacher_labels
        from factory.warehouse.tables.gold import gold_file

        with gold_file(self.of.warehouse) as db:
            test = Test(self.of, db)
            given = self.labels[:labels]
            said = teacher_labels(
                self.of.warehouse, test.inputs.of, given, test.gold.texts, test.hashes, test.shape, [labels], 0
            )
            if not said:
                return 0.0
            found = test.score("", said[f"teacher_labels_{len(given)}"])
            return float(found["micro_f1" if test.multi else "accuracy"])

    def bought(self, tokens: float) -> Mapping[str, Any]:
        """What `buy` decides for with so many tokens, and the score of that."""
        from factory.distill.stage import distill
        from factory.llm.budget import Budget
        from factory.pipeline.auto.stage import buy
        from factory.programs.stage import author

        of, same = self.fresh("auto"), {"encoder": self.encoder}
        with patch.object(author, "run", recorded_author):
            found = buy(
                of.warehouse, of.engine, budget=Budget(tokens=round(tokens)), programs=12, audit=0, rounds=20,
                kinds=["programs", "anchors"], most_programs=self.recorded, annotate={"among": len(self.labels)}, denoise=same,
                distill=same,
            )  # fmt: skip
        distill(of.warehouse, systems=["student", "combined"], encoder=self.encoder)
        return {"score": self.answers(of), "did": found.did}


def replayed(name: str, options: Options) -> list[Row]:
    """A row for each budget: the score of what was decided beside the best fixed mix."""
    if options.quick:
        raise Skip("not in --quick")
    of, rows = Replay(name, options), []
    for dozen in DOZENS:
        tokens = dozen * of.program * 1.01  # programs differ by some tokens

        def split(share: float, tokens: float = tokens) -> float:
            programs = min(round(share * tokens / of.program), of.recorded)
            left = max(tokens - programs * of.program, 0.0)
            return of.mix(programs, min(int(left / of.label), len(of.labels)) if share < 1 else 0)

        fixed = {"programs": split(1.0), "labels": split(0.0), "half": split(0.5)}
        chance = float(np.mean([split(share) for share in SPLITS]))
        auto = of.once(f"auto {dozen}", lambda tokens=tokens: of.bought(tokens))
        best = max(fixed, key=lambda mix: fixed[mix])
        rows.append(
            row(
                f"auto/{name}/{dozen}", auto["score"], fixed[best], peer_name=best, unit="score", tokens=round(tokens),
                regret=round(100 * (fixed[best] - auto["score"]), 2), random=round(chance, 4),
                ahead_of_random=round(100 * (auto["score"] - chance), 2),
                fixed={mix: round(one, 4) for mix, one in fixed.items()},
                bought=[f"{one['what']}: {one['why']}" for one in auto["did"]["purchases"]], stop=auto["did"]["stop"],
            )
        )  # fmt: skip
    return rows


def curve(name: str, options: Options) -> list[Row]:
    """The share of the error that programs beyond the first dozen, and anchors, took away, per doubling: on training texts."""
    from factory.distill.stage import distill
    from factory.pipeline.auto.curves import FIRST_ANCHORS
    from factory.task import current_card
    from factory.warehouse.tables.anchors import read_anchors
    from factory.warehouse.tables.gold import gold_file, read_gold
    from factory.warehouse.tables.labels import MIXTURE, label_models, soft_labels

    if options.quick:
        raise Skip("not in --quick")
    warehouse = ready(name, {"name": "minilm"}, options).warehouse
    if current_card(warehouse).kind == "multi":
        raise Skip("of tasks with one label")
    with gold_file(warehouse) as db:
        every = read_gold(db, "reference", int(warehouse.scalar("SELECT count(*) FROM labels")))
    kept = every.distinct()
    at = {int(number): place for place, number in enumerate(every.texts[kept])}
    gold = every.labels[kept].argmax(axis=1)
    voted = warehouse.query(
        "SELECT slot_no, list(text_no), list(vote) FROM votes JOIN programs USING (program_no)"
        " WHERE state = 'accepted' AND text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
        " GROUP BY slot_no ORDER BY 1"
    )

    def error(programs: int) -> float:
        counts = np.zeros(every.labels[kept].shape)
        for _, texts, votes in voted[:programs]:
            known = [(at[number], vote) for number, vote in zip(texts, votes, strict=True) if number in at]
            np.add.at(counts, tuple(np.array(known).T), 1)
        top = counts == counts.max(axis=1, keepdims=True)
        return float(1 - (top[np.arange(len(gold)), gold] / top.sum(axis=1)).mean())

    def wrong(text_nos: Any, probs: Any) -> float:
        rows = np.array([(at[number], row) for row, number in enumerate(text_nos.tolist()) if number in at])
        return float((probs[rows[:, 1]].argmax(axis=1) != gold[rows[:, 0]]).mean())

    few, all_ = error(12), error(len(voted))
    rows = [row(f"curve/{name}/programs", (1 - all_ / few) / np.log2(len(voted) / 12), unit="share of the error per doubling",
                programs=len(voted), error_of_12=round(few, 4), error=round(all_, 4))]  # fmt: skip
    anchors = len(read_anchors(warehouse, "teach"))
    if anchors:
        distill(warehouse, systems=["combined"], encoder={"name": "minilm"})
        models = {one.name: one for one in label_models(warehouse) if one.chosen or one.name == MIXTURE}
        mixed = soft_labels(warehouse, models.pop(MIXTURE).number, split="train")
        voted_by = soft_labels(warehouse, next(iter(models.values())).number, split="train")
        before, after = wrong(mixed.text_nos, _unseen(warehouse, voted_by)), wrong(mixed.text_nos, mixed.probs)
        doublings = np.log2(1 + anchors / FIRST_ANCHORS)
        rows.append(row(f"curve/{name}/anchors", (1 - after / before) / doublings, unit="share of the error per doubling",
                        anchors=anchors, error_of_student=round(before, 4), error=round(after, 4)))  # fmt: skip
    return rows


def _unseen(warehouse: Any, soft: Any) -> Any:
    """What the student says of training texts, of each half as taught by the label model on the other."""
    from factory.encoders.encoder import load_encoder
    from factory.students.base import fit_student
    from factory.students.stored import inputs_of

    encoder = load_encoder({"name": "minilm"})
    inputs, said = inputs_of(warehouse, "hybrid", encoder, soft.text_nos.tolist()), np.zeros_like(soft.probs)
    for part in (0, 1):
        learns = np.flatnonzero((np.arange(len(said)) % 2 != part) & soft.covered)
        student = fit_student("hybrid", inputs.take(learns), soft.probs[learns], config={"c": 10.0}, encoder=encoder)
        rows = np.flatnonzero(np.arange(len(said)) % 2 == part)
        said[rows] = student.predict_proba(inputs.take(rows))
    return said


for _name in SETS:
    case(f"auto/{_name}")(lambda options, name=_name: replayed(name, options))
    case(f"curve/{_name}")(lambda options, name=_name: curve(name, options))
