"""Accuracy by fifty answers of people and the model's on real sets: the cases `estimate/SET` of `combination.py`.

Gold plays the people: of the test texts that the model labelled an audit slice of 100 is drawn, and the gold of 50 of them, 200
times. The truth is the accuracy on all those texts. Nothing is fitted or chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _harness import Options, Row, Skip, row
from combination_data import Test, ready

AUDIT, PEOPLE, DRAWS = 100, 50, 200
SYSTEMS = ("student", "combined", "mixture")


def estimates(name: str, settings: dict[str, Any], options: Options) -> list[Row]:
    """One row for each system: how often the 90% interval covers the truth, and its width beside the 50 answers' own."""
    from factory.evaluation.estimate import estimated
    from factory.evaluation.heard import confidence, labels_of
    from factory.warehouse.tables.gold import gold_file

    of = ready(name, settings, options)
    rows = []
    with gold_file(of.warehouse) as db:
        test = Test(of, db)
        said = {**test.students(), **test.rivals([])}
        if "teacher" not in said or "mixture" not in said:
            raise Skip("no teacher's answers or no mixture are there: run the set's own case first")
        at = np.flatnonzero(said["teacher"].asked)
        gold = [frozenset(np.flatnonzero(test.gold.labels[one]).tolist()) for one in at]
        told = {
            system: [labels_of(said[system])[one] for one in at] for system in (*SYSTEMS, "teacher") if system in said
        }
        right = {system: np.array([a == b for a, b in zip(gold, given, strict=True)]) for system, given in told.items()}
        for system in SYSTEMS:
            if system not in told:
                continue
            agrees = np.array([a == b for a, b in zip(told["teacher"], told[system], strict=True)], float)
            sure = confidence(said[system], test.shape)[at]
            rng, found = np.random.default_rng(0), []
            for _ in range(DRAWS):
                drawn = rng.permutation(len(at))
                here, audit = drawn[:PEOPLE], drawn[PEOPLE:AUDIT]
                signs = [(agrees[here], agrees[audit]), (sure[here], sure[drawn[PEOPLE:]])]
                found.append(estimated(right[system][here], signs))
            truth = float(right[system].mean())
            wrong, theirs = ~right[system], ~right["teacher"]
            width = float(np.mean([one.high - one.low for one in found]))
            alone = float(np.mean([one.alone[1] - one.alone[0] for one in found]))
            covered = float(np.mean([one.low <= truth <= one.high for one in found]))
            rows.append(row(
                f"estimate/{name}/{system}", covered, 0.85, peer_name="aim", unit="share covered", width=round(width, 3),
                width_of_people_alone=round(alone, 3), times=round(width / alone, 3), truth=round(truth, 3), texts=len(at),
                annotator=round(float(right["teacher"].mean()), 3), both_wrong=round(float((wrong & theirs).mean()), 3),
                both_wrong_by_chance=round(float(wrong.mean() * theirs.mean()), 3),
                same_wrong_label=round(float((wrong & theirs & (agrees > 0)).mean()), 3),
            ))  # fmt: skip
    return rows
