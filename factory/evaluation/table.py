"""The table of an evaluation: what every system says of the test texts, scored against their gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.deferral import deferrals
from factory.evaluation.gold_students import Inputs, gold_systems
from factory.evaluation.others import OtherAnswers, predictions
from factory.evaluation.rivals import Spent, combination, model_labels, size_of, spent_on, teacher_labels
from factory.evaluation.scoring import DISTINCT, PUBLISHED, Scored, compare, score_system
from factory.evaluation.systems import (
    LabelSpace,
    Predictions,
    glass_box_system,
    label_model_systems,
    label_space,
    student_systems,
    taught_by,
    teacher_systems,
    zero_shot_system,
)
from factory.result import Progress
from factory.warehouse.tables.gold import read_gold, read_human_votes
from factory.warehouse.tables.texts import split_hashes

if TYPE_CHECKING:
    import duckdb

    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.gold import HumanVotes


def score_all(
    warehouse: Warehouse, db: duckdb.DuckDBPyConnection, config: Mapping[str, Any], others: Sequence[OtherAnswers],
    progress: Progress,
) -> tuple[list[Scored], dict[str, Any] | None]:  # fmt: skip
    """Score every system that exists, on every row of test and on its distinct texts.

    Args:
        db: The gold file.
        config: `positive`, `equivalents`, `equivalents_draws`, `teacher_labels`, `draws`, `seed`.
        others: Answers of other systems.

    Returns:
        Two rows for each system (none if test has no gold), and the label-equivalents curve or None.
    """
    shape = label_space(warehouse)
    gold = read_gold(db, "test", len(shape.names))
    if not len(gold):
        return [], None
    content = split_hashes(warehouse, "test")
    hashes = [content[int(number)] for number in gold.texts]
    inputs = Inputs(warehouse, db)

    def inputs_of(encoder: Encoder | None) -> Any:
        return inputs.of(encoder, gold.texts, progress)

    systems = student_systems(warehouse, hashes, shape, inputs_of, progress)
    for name, said in label_model_systems(warehouse, gold.texts, hashes, shape).items():
        systems.setdefault(name, said)
    systems |= glass_box_system(warehouse, gold.texts, hashes, shape, inputs_of)
    systems |= teacher_systems(warehouse, gold.texts, shape)
    systems |= zero_shot_system(warehouse, hashes, shape, inputs_of)
    human = None if shape.multi else read_human_votes(db, gold)
    if human is not None:
        systems |= _human(human, hashes, shape)
    more, extra = gold_systems(inputs, gold, hashes, shape, systems.get("student"), config, progress)
    systems |= more
    spent = spent_on(warehouse, list(systems))
    mine = combination(systems)
    systems |= teacher_labels(
        warehouse, lambda encoder, numbers: inputs.of(encoder, numbers, progress), model_labels(warehouse), gold.texts, hashes,
        shape, config["teacher_labels"], spent.get(mine or "", Spent()).tokens,
    )  # fmt: skip
    systems |= {other.name: predictions(other, gold.texts, shape) for other in others}
    if shape.multi and shape.above:
        gold = replace(gold, labels=shape.implied(gold.labels))
        systems = {name: _with_implied(said, shape) for name, said in systems.items()}
    every, distinct = np.arange(len(gold)), gold.distinct()
    teachers = taught_by(warehouse)
    curves = deferrals(gold, systems, shape, draws=config["draws"], seed=config["seed"])
    scored: list[Scored] = []
    for name, said in systems.items():
        beside = {
            "versus_student": "student" if name != "student" else None,
            "versus_combination": mine if size_of(name) is not None else None,
            "versus_label_model": name if teachers.get(name) in systems else None,
        }
        for variant, rows in ((PUBLISHED, every), (DISTINCT, distinct)):
            row = score_system(
                name, variant, gold, rows, said, shape,
                positive=config["positive"], draws=config["draws"], seed=config["seed"],
            )  # fmt: skip
            detail = {**row.detail, **({"spent": spent[name].as_json} if name in spent else {})}
            if variant == PUBLISHED and name in curves:
                detail["deferral"] = curves[name]
            for key, one in beside.items():
                if one in systems:
                    other = systems[teachers[name]] if key == "versus_label_model" else said
                    versus = compare(gold, rows, systems[one], other, shape, draws=config["draws"], seed=config["seed"])
                    detail[key] = versus and {**versus, "of": one, "less": teachers.get(name, name)}
            scored.append(replace(row, detail=detail))
    return scored, extra


def _with_implied(said: Predictions, shape: LabelSpace) -> Predictions:
    """What a system says of several labels, with the labels that those imply."""
    return replace(
        said, labels=shape.implied(said.labels), probs=None if said.probs is None else shape.implied(said.probs)
    )


def _human(human: HumanVotes, hashes: Sequence[bytes], shape: LabelSpace) -> dict[str, Predictions]:
    from factory.evaluation.baselines import majority_of_votes

    found = {}
    every = np.ones(len(human.votes), bool)
    for name, position, keys in (("human_lfs", human.position, None), ("human_lfs_content_ties", None, hashes)):
        labels, covered, tied = majority_of_votes(human.votes, len(shape.names), position=position, hashes=keys)
        rule = "row index (as WRENCH)" if keys is None else "content hash"
        facts = {"rules": human.votes.shape[1], "tie_break": rule}
        found[name] = Predictions(labels, covered, tied, every, None, facts)
    return found
