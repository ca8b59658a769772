"""The step `ingest`: texts and open gold into the warehouse, the rest of the gold into its own file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.corpus.splits import LikeTest
from factory.errors import InputError
from factory.params import Call, Params, stage
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard
from factory.warehouse.file import Warehouse

SPLITS = ("train", "seed", "dev", "test", "reference")
_FORM = "a path, or `{path, text, label, format, where, ...}`, or a list of these"


class IngestParams(Params):
    """The parameters of `ingest`."""

    train: Any = Field(None, description=f"Unlabelled texts: {_FORM}. What the line labels and learns from.")
    seed: Any = Field(
        None, description="Gold-labelled examples that the model may be shown; none by default, a few per label help."
    )
    dev: Any = Field(
        None, description="Gold-labelled texts for choices; without them everything is chosen without gold."
    )
    test: Any = Field(
        None, description="Gold-labelled texts for evaluation alone: their labels never enter the warehouse file."
    )
    reference: Any = Field(
        None, description="Gold of training texts, for the report's full-gold row and label equivalents alone."
    )
    bad_rows: int = Field(
        0,
        ge=0,
        description="Most rows per source that may be unusable before the source is refused. None by default: look"
        " at them first.",
    )
    like_test: LikeTest = Field(
        "leave",
        description="Texts that differ from one of `test` in case, blanks or accents' form alone: `leave` takes them out of"
        " the other splits, as exact copies always are, since a student that learned them is scored too well; `keep`"
        " repeats a run from before.",
    )


@stage("ingest", IngestParams, second="card", takes=("base",))
def ingest(warehouse: Warehouse, params: IngestParams, call: Call) -> StageResult:
    """Read texts, and the gold of `seed` and `dev`, into the warehouse; `test` and `reference` gold into the gold file.

    Returns:
        Counts of texts, occurrences, duplicates and what was dropped.

    Raises:
        InputError: A source cannot be read or has more bad rows than allowed.
    """
    if call.card is None:
        raise InputError("`ingest` needs a task card")
    return take_in(
        warehouse, call.card, {split: getattr(params, split) for split in SPLITS}, base=call.base or Path(),
        bad_rows=params.bad_rows, like_test=params.like_test, progress=call.progress,
    )  # fmt: skip


def take_in(
    warehouse: Warehouse, card: TaskCard, given: Mapping[str, Any], *, base: Path, bad_rows: int = 0,
    like_test: LikeTest = "leave", progress: Progress = no_progress,
) -> StageResult:  # fmt: skip
    """Texts and open gold into the warehouse, the rest of the gold into its own file, and what is too near to new texts out.

    `given` maps a split to its source or None; all else is as in `factory.corpus.stage.ingest`.

    Raises:
        InputError: A source cannot be read or has more bad rows than allowed.
    """
    from factory.corpus import stage as corpus
    from factory.evaluation import stage as evaluation
    from factory.warehouse.held_out import decontaminate

    sources = {split: source for split, source in given.items() if source is not None}
    result = corpus.ingest(
        warehouse, card, sources, base=base, bad_rows=bad_rows, like_test=like_test, progress=progress
    )
    near = decontaminate(warehouse)
    dropped = (f"{near} synthetic texts were dropped: they are too close to the texts of dev or test",) if near else ()
    gold = evaluation.store_gold(warehouse, sources, base=base)
    skipped = result.skipped and gold.skipped and not near
    return StageResult("ingest", skipped, {**result.did, **gold.did}, (*result.says, *dropped, *gold.says))
