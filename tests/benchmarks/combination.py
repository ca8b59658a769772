"""Programs and the model's own labels judged and mixed, beside the same student on labels alone for the same tokens.

    python tests/benchmarks/combination.py [--quick] [--only REGEX] [--encoder minilm|NAME] [--heap 5000] [--tests 2000]
                                           [--folder DIR]

Sets: TREC, AG News, emotion, Reuters, amazon_counterfactual_en, sst5, YouTube, SMS; dev hidden; everything that is asked is
recorded in the ready pipelines. For N labels of the model (100, 300, 600, 2,000, as far as the pool of uniformly drawn training
texts goes) the rival is the student's recipe on the first N. The combination spends the same tokens: its programs by the ledger,
and anchors for the rest, drawn by strata of the votes among the pool. No audit slice is taken: an estimate would cost both the
same. Beside them stand every member of the mixture alone, the mixture, the compact student that it taught (`combined`), today's
student, label models, the teacher and full gold; and the mixture with a part of it taken away (no anchors in EM, no students,
anchors drawn uniformly; without a mixture there is the member `anchored`, and its student). Accuracy (Reuters: micro-F1) and
macro-F1; paired intervals (95%) to the rival.

`--encoder NAME` takes the model NAME of $LABEL_FACTORY_MODELS. Warehouses, vectors and the result of each set lie in --folder, so
that a run that was ended goes on; remove SET-*.json there to have figures computed anew. `aims` counts over the results that are
there; `estimate/SET` draws 50 answers of people from gold (after the set's own case).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _harness import Options, Row, Skip, case, main, row
from combination_data import SETS, Test, members, ready
from combination_estimate import estimates
from students_data import encoder_settings

AIMED = ("trec", "agnews", "emotion", "reuters", "amazon", "sst5")
FIRST = ("teacher", "full_gold", "student", "combined", "mixture")


def arguments(parser: argparse.ArgumentParser) -> None:
    cache = os.environ.get("LABEL_FACTORY_BENCH_CACHE", Path.home() / ".cache" / "label-factory-bench")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--heap", type=int, default=5000, help="texts of training, at most")
    parser.add_argument("--tests", type=int, default=2000, help="texts of test, at most")
    parser.add_argument("--folder", type=Path, default=Path(cache) / "combination")


def compared(name: str, options: Options) -> list[Row]:
    """All rows of one set, from the folder if they are there."""
    if options.quick and name != "youtube":
        raise Skip("not in --quick")
    encoder = options.extra["encoder"]
    kept = _kept(name, options)
    if not kept.is_file():
        settings = encoder_settings(encoder)
        began = time.monotonic()
        rows = _measured(name, encoder, settings, options)
        kept.write_text(json.dumps({"rows": rows, "seconds": round(time.monotonic() - began)}, default=float))
    rows = json.loads(kept.read_text())["rows"]
    for one in rows:
        _table(one)
    return list(rows)


def _measured(name: str, encoder: str, settings: Mapping[str, Any], options: Options) -> list[Row]:
    from factory.annotation.stage import annotate
    from factory.distill.mixture.mix import LEAST_ANCHORS
    from factory.distill.stage import distill
    from factory.evaluation.rivals import model_labels, spent_on
    from factory.warehouse.tables.gold import gold_file
    from factory.warehouse.tables.labels import label_models

    of = ready(name, settings, options)
    warehouse = of.warehouse
    distill(warehouse, systems=["student"], encoder=dict(settings))
    labels = model_labels(warehouse)
    programs = spent_on(warehouse, ["programs_only"])["programs_only"].tokens
    each = sum(one.spent.tokens for one in labels) / len(labels)
    chosen = next(model.name for model in label_models(warehouse) if model.chosen)
    sizes = [size for size in SETS[name].sizes if size <= len(labels)]
    rows = []
    with gold_file(warehouse) as db:
        test = Test(of, db)
        rivals = test.rivals(sizes)
        for size in sizes[:2] if options.quick else sizes:
            spent = sum(one.spent.tokens for one in labels[:size])
            anchors = int((spent - programs) / each)
            told: tuple[str, ...] = ()
            if anchors >= LEAST_ANCHORS:
                annotate(warehouse, of.engine, anchors=anchors, audit=0, among=len(labels))
                told = distill(warehouse, systems=["combined"], encoder=dict(settings)).says
            said = {**test.students(), **rivals}
            if anchors < LEAST_ANCHORS:  # today's line is what there is
                said = {system: one for system, one in said.items() if system not in ("mixture", "combined")}
            else:
                said |= dict(members(test, anchors))
            ours, rival = "combined" if "combined" in said else "student", f"teacher_labels_{size}"
            figures = {system: test.score(system, one) for system, one in said.items()}
            metric = figures[ours]["metric"]
            facts = warehouse.scalar("SELECT params::VARCHAR FROM label_models WHERE name = 'mixture'") or "null"
            pairs = {
                f"{a} - {b}": test.versus(said[a], said[b])
                for a in ("combined", "mixture", "student") for b in (rival, "student", "full_gold", "teacher", chosen)
                if a != b and a in said and b in said
            }  # fmt: skip
            rows.append(
                row(f"{name}/{size}", figures[ours][metric], figures[rival][metric], peer_name=rival, unit=metric, ours_name=ours,
                    encoder=encoder, labels=size, anchors=max(anchors, 0), 
                    programs_tokens=programs, tokens_per_label=round(each, 1), test=len(test.gold), label_model=chosen,
                    systems={system: {key: one.get(key) for key in ("accuracy", "micro_f1", "macro_f1", "ci95")}
                             for system, one in figures.items()},
                    pairs=pairs, says=[line for line in told if "mixture" in line], mixture=json.loads(facts))
            )  # fmt: skip
    return rows


def _kept(name: str, options: Options) -> Path:
    extra = options.extra
    extra["folder"].mkdir(parents=True, exist_ok=True)
    quick = "-quick" if options.quick else ""
    return Path(extra["folder"]) / f"{name}-{extra['encoder']}-{extra['heap']}-{extra['tests']}{quick}.json"


def _table(one: Row) -> None:
    """A set's systems for a person: score, macro-F1, and the paired difference to the rival."""
    metric, rival = one["unit"], one["peer_name"]
    say = [f"\n{one['case']} ({one['encoder']}): {one['anchors']} anchors and {one['programs_tokens']:,} tokens of programs"
           f" for {one['labels']} labels of {one['tokens_per_label']:.0f} tokens; {metric}, macro-F1"]  # fmt: skip
    systems = one["systems"]
    for system in sorted(systems, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        pair = one["pairs"].get(f"{system} - {rival}")
        versus = "" if pair is None else f"  {pair['difference']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})"
        say.append(f"  {system:<26}{systems[system][metric]:.3f}  {systems[system]['macro_f1']:.3f}{versus}")
    print("\n".join([*say, *(f"  {line}" for line in one["says"])]), file=sys.stderr, flush=True)


def estimated(name: str, options: Options) -> list[Row]:
    """Accuracy without a test set, on one set."""
    if options.quick:
        raise Skip("not in --quick")
    return estimates(name, encoder_settings(options.extra["encoder"]), options)


for _name in SETS:
    case(_name)(lambda options, name=_name: compared(name, options))
    case(f"estimate/{_name}")(lambda options, name=_name: estimated(name, options))


@case("aims")
def aims(options: Options) -> list[Row]:
    """How many of the six sets hold each aim, by the largest number of labels of each, over the results that are there."""
    last = {}
    for name in AIMED:
        if (path := _kept(name, options)).is_file():
            last[name] = json.loads(path.read_text())["rows"][-1]
    if not last:
        raise Skip("no set has a result yet")

    def pair(one: Row, a: str, b: str) -> tuple[float, float, float]:
        found = one["pairs"].get(f"{a} - {b}") or {"difference": 0.0, "low": 0.0, "high": 0.0}
        return found["difference"], found["low"], found["high"]

    held: dict[str, list[str]] = {}
    for name, one in last.items():
        ours, rival = one["ours_name"], one["peer_name"]
        better = [pair(one, "mixture", other) for other in ("student", one["label_model"])]
        tests = {
            "mixture at least label model and student": all(d >= 0 for d, _, _ in better),
            "the same, or within noise": all(d >= 0 or high >= 0 for d, _, high in better),
            "compact student at least today's": pair(one, ours, "student")[0] >= 0,
            "combination ahead of teacher_labels": max(pair(one, own, rival)[1] for own in ("combined", "mixture")) > 0,
            "combination not behind it beyond noise": pair(one, ours, rival)[2] >= 0,
            "within 2 points of full gold": pair(one, ours, "full_gold")[0] >= -0.02,
            "within 3 points of the teacher": pair(one, ours, "teacher")[0] >= -0.03,
        }
        for aim, holds in tests.items():
            held.setdefault(aim, []).extend([name] if holds else [])
    return [
        row(f"aims/{aim}", len(names), len(last), peer_name="sets", unit="sets", held=names, encoder=options.extra["encoder"])
        for aim, names in held.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main(__doc__, arguments)
