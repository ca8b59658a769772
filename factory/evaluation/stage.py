"""`store_gold` and `evaluate`. This module alone opens the gold file of `test` and `reference`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.canonical import digest
from factory.errors import InputError
from factory.evaluation.record import in_lines, in_short, newest_key, put, summary
from factory.params import Call, Params, stage
from factory.result import Progress, StageResult, no_progress
from factory.task import current_card
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.gold import FILE_SPLITS, forget_source, gold_file, gold_file_digest, has_gold_file

_VERSION = 6
"""Raised when figures are computed in another way, so that stored evaluations are computed anew."""


def store_gold(
    warehouse: Warehouse, sources: Mapping[str, Any], *, base: Path | None = None, progress: Progress = no_progress
) -> StageResult:
    """Read the gold of `test` and `reference`, and published votes on `test`, into the gold file beside the warehouse.

    Run it after `ingest` of the same sources: gold belongs to texts that are in the warehouse. Reference gold of texts that
    are not kept in `train` is left out and counted. Splits that are not named lose their gold.

    Args:
        sources: As `factory.corpus.stage.ingest` takes them; only `test` and `reference` are read.
        base: What relative paths are relative to.
        progress: Called after each batch of rows.

    Raises:
        InputError: A label that is not on the card, an empty label in `test`, or a file that cannot be read.
    """
    from factory.evaluation.gold_sources import sources_digest, store_source
    from factory.files.source import load_specs

    specs = {split: of for split, of in load_specs(sources, base=base).items() if split in FILE_SPLITS}
    if not specs and not has_gold_file(warehouse):
        return StageResult("store_gold", True, {}, ())
    ingested = sources_digest(warehouse)
    did: dict[str, Any] = {}
    says: list[str] = []
    written = 0
    with gold_file(warehouse) as db:
        named = {(split, spec.name) for split, of in specs.items() for spec in of}
        for split, path in db.execute("SELECT split, path FROM sources ORDER BY ALL").fetchall():
            if (split, path) not in named:
                forget_source(db, split, path)
                says.append(f"{path}: no longer gold of {split}")
                written += 1
        for split, of_split in specs.items():
            for spec in of_split:
                counts, lines = store_source(warehouse, db, split, spec, base, ingested, progress)
                written += counts is not None
                says += lines
        for split, rows, unlabelled, elsewhere in db.execute(
            "SELECT split, sum(n_rows), sum(n_unlabelled), sum(n_elsewhere) FROM sources GROUP BY split ORDER BY split"
        ).fetchall():
            did[f"{split}_gold"] = int(rows)
            left = [f"{int(unlabelled)} without a label"] if unlabelled else []
            if elsewhere:
                left.append(f"{int(elsewhere)} of texts that are not among the kept texts of the warehouse")
            says.append(f"gold of {split}: {int(rows):,} rows" + (f"; left out: {', '.join(left)}" if left else ""))
    return StageResult("store_gold", written == 0, did, tuple(says))


class EvaluateParams(Params):
    """The parameters of `evaluate`."""

    positive_label: str | None = Field(
        None,
        description="The class whose F1 is the task's published metric (spam in SMS); none by default: most tasks have none.",
    )
    label_equivalents: bool = Field(
        True,
        description="Whether to find out how many random gold texts the student is worth. It is the figure that needs no"
        " threshold; it needs `reference`, and is left out without.",
    )
    equivalents_draws: int = Field(
        10, ge=1, description="Random draws for each number of gold texts; ten show their spread."
    )
    teacher_labels: list[int] = Field(
        [100, 300, 600, 2000],
        description="Numbers of the model's own labels of training texts that the same student learns from alone, drawn at random"
        " (`teacher_labels_N`) and chosen by itself (`teacher_labels_N_active`); up to what the tokens of the combination would"
        " have bought, and that number too.",
    )
    rival: list[str | dict[str, Any]] = Field(
        [],
        description="Files of predictions by other systems on the texts of test, each a path or a mapping as in `ingest`: columns"
        " `text`, or `id` as in the file of test, and `label`. Each is a row of the table, called as its file.",
    )
    draws: int = Field(
        2000, ge=1, description="Resamples of the bootstrap: intervals are then steady to the third digit."
    )
    seed: int = Field(0, ge=0, description="Of resampling and draws.")


@stage("evaluate", EvaluateParams)
def evaluate(warehouse: Warehouse, params: EvaluateParams, call: Call) -> StageResult:
    """Score every system that exists on the test split, as published and on its distinct texts.

    Systems: every trained student by its name; every stored label model (`majority`, `snorkel`, ...); `teacher`; `human_lfs`
    (published votes, majority, WRENCH's row-index tie-break) and `human_lfs_content_ties` (ours); `zero_shot` (the student's
    encoder with label descriptions alone); `teacher_labels_N` (the student's recipe on N labels of the model alone); files of
    `rival`; `dev_only` and `full_gold` (the student's recipe on gold alone). Rules: a text that
    no program covers gets what `denoise` was told (`uncovered`), ties go by the text's content hash, an unreadable answer of the
    teacher is wrong, and texts the teacher was never asked about are not scored for it. In a task of kind multi
    gold and answers alike have the parents of each of their labels.

    Returns:
        `did`: the summary's systems, and how often test was evaluated.

    Raises:
        InputError: `positive_label` is not on the card, or a file of a rival cannot be used.
    """
    card = current_card(warehouse)
    positive = params.positive_label
    if positive is not None and positive not in card.label_names:
        known = ", ".join(card.label_names)
        raise InputError(f"`positive_label: {positive}` is not on the card", fix=f"Use one of {known}")
    if not has_gold_file(warehouse):
        return StageResult("evaluate", True, why="no test split: nothing to score")
    from factory.evaluation.others import read_others
    from factory.evaluation.systems import systems_digest
    from factory.evaluation.table import score_all

    others, says = read_others(warehouse, card, params.rival, call.base, call.progress)
    config = {
        "positive": positive, "equivalents": params.label_equivalents, "equivalents_draws": params.equivalents_draws,
        "teacher_labels": params.teacher_labels,
        "rival": [[one.name, [[no, *sorted(said)] for no, said in sorted(one.labels.items())]] for one in others],
        "draws": params.draws, "seed": params.seed, "version": _VERSION, "kind": card.kind, "card": card.revision,
    }  # fmt: skip
    with gold_file(warehouse) as db:
        key = digest([config, systems_digest(warehouse), gold_file_digest(db)])
        if newest_key(warehouse) == key:
            return _known(warehouse)
        call.begin()
        scored, extra = score_all(warehouse, db, config, others, call.progress)
    if not scored:
        return StageResult("evaluate", True, why="no gold of test, or no system yet: nothing to score")
    if not put(warehouse, key, scored, extra):
        return _known(warehouse)
    from factory.evaluation.agreement import dev_agreement
    from factory.evaluation.speed import costs_of

    found = summary(warehouse)
    assert found is not None
    systems = list(found["systems"])
    for number, name in enumerate(systems):  # what is on record of how fast they are is not measured again
        call.progress(number, len(systems), "systems timed")
        costs_of(warehouse, [name], measure=True)
    call.progress(len(systems), len(systems), "systems timed")
    agreement = dev_agreement(warehouse)
    warnings = (agreement.warning,) if agreement is not None and agreement.warning else ()
    return StageResult("evaluate", False, in_short(found), (*in_lines(found), *says, *warnings))


def _known(warehouse: Warehouse) -> StageResult:
    """What is said where the newest evaluation is of the same."""
    found = summary(warehouse)
    assert found is not None
    return StageResult("evaluate", True, in_short(found))
