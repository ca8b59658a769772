"""The line's two ends for a notebook: texts and gold from lists, files or data frames in, the table of systems out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.params import Call, stage
from factory.pipeline import ingest as step
from factory.result import StageResult

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


@stage("ingest", step.IngestParams, second="card", takes=("base",))
def ingest(warehouse: Warehouse, params: step.IngestParams, call: Call) -> StageResult:
    """Read texts and gold into a warehouse.

    Each split is a list of strings (gold: a list of `(text, label)`), a path, or a source (`{"path": ..., "text": ...}`).

    Returns:
        Counts of texts, occurrences, duplicates and what was dropped.

    Raises:
        InputError: A source cannot be read.
    """
    sources = {split: _source(getattr(params, split)) for split in step.SPLITS}
    return step.ingest.run(warehouse, params.model_copy(update=sources), call)


def evaluate(warehouse: Warehouse, **params: Any) -> Mapping[str, Any]:
    """Score every system that exists on the test split; `help(factory.evaluation.stage.evaluate)` has the parameters.

    Returns:
        `{split, n, systems: {NAME: {accuracy, macro_f1, ci95, metrics, coverage, n_scored}}}`.
    """
    from factory.evaluation.record import summary
    from factory.evaluation.stage import evaluate as score

    score(warehouse, **params)
    return summary(warehouse) or {}


def _source(source: Any) -> Any:
    """A list of texts, or of (text, label), becomes an inline source; anything else stays."""
    if isinstance(source, (list, tuple)) and source and not isinstance(source[0], (Mapping, Path)):
        if isinstance(source[0], str):
            return {"texts": list(source)}
        return {"texts": [text for text, _ in source], "labels": [label for _, label in source]}
    return source
