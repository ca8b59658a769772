"""The table of an evaluation: what every system says of the test texts, scored against their gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.gold_students import Inputs, gold_systems
from factory.evaluation.rivals import spent_on, teacher_labels
from factory.evaluation.scoring import DISTINCT, PUBLISHED, Scored, compare, score_system
from factory.evaluation.systems import (
    LabelSpace,
    Predictions,
    glass_box_system,
    label_model_systems,
    student_systems,
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
    warehouse: Warehouse, db: duckdb.DuckDBPyConnection, config: Mapping[str, Any], progress: Progress
) -> tuple[list[Scored], dict[str, Any] | None]:
    """Score every system that exists, on every row of test and on its distinct texts.

    Args:
        db: The gold file.
        config: `kind`, `positive`, `equivalents`, `equivalents_draws`, `teacher_labels`, `draws`, `seed`.

    Returns:
        Two rows for each system (none if test has no gold), and the label-equivalents curve or None.
    """
    labels = warehouse.query("SELECT name, active FROM labels ORDER BY label_no")
    shape = LabelSpace(
        [name for name, _ in labels], np.array([active for _, active in labels], bool), config["kind"] == "multi"
    )
    gold = read_gold(db, "test", len(labels))
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
    systems |= teacher_labels(warehouse, inputs, gold, hashes, shape, config["teacher_labels"], progress)
    spent = spent_on(warehouse, list(systems))
    every, distinct = np.arange(len(gold)), gold.distinct()
    scored: list[Scored] = []
    student = systems.get("student")
    for name, said in systems.items():
        for variant, rows in ((PUBLISHED, every), (DISTINCT, distinct)):
            row = score_system(
                name, variant, gold, rows, said, shape,
                positive=config["positive"], draws=config["draws"], seed=config["seed"],
            )  # fmt: skip
            if name in spent:
                row = replace(row, detail={**row.detail, "spent": spent[name]})
            if student is not None and name != "student":
                versus = compare(gold, rows, student, said, shape, draws=config["draws"], seed=config["seed"])
                row = replace(row, detail={**row.detail, "versus_student": versus})
            scored.append(row)
    return scored, extra


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
