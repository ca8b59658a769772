"""The line's two ends for a notebook: texts and gold from lists, files or data frames in, the table of systems out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.pipeline.steps import take_in
from factory.result import StageResult
from factory.task import TaskCard

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


def ingest(
    warehouse: Warehouse,
    card: TaskCard,
    *,
    train: Any = None,
    seed: Any = None,
    dev: Any = None,
    test: Any = None,
    reference: Any = None,
    bad_rows: int = 0,
) -> StageResult:
    """Read texts and gold into a warehouse.

    Args:
        warehouse: `Warehouse.memory()` or `Warehouse.open(path)`.
        card: The task.
        train: Unlabelled texts: a list of strings, a path, or a source (`{"path": ..., "text": ...}`).
        seed: Gold the model may be shown: a list of `(text, label)`, a path, or a source. So too `dev`, `test`, `reference`.
        dev: Gold for choices.
        test: Gold for evaluation alone; its labels never enter the warehouse file.
        reference: Gold of training texts, for the full-gold row alone.
        bad_rows: Most unusable rows per source.

    Returns:
        Counts of texts, occurrences, duplicates and what was dropped.

    Raises:
        InputError: A source cannot be read.
    """
    given = {"train": train, "seed": seed, "dev": dev, "test": test, "reference": reference}
    sources = {split: _source(source) for split, source in given.items()}
    return take_in(warehouse, card, sources, base=Path.cwd(), bad_rows=bad_rows)


def evaluate(warehouse: Warehouse, **params: Any) -> Mapping[str, Any]:
    """Score every system that exists on the test split.

    Args:
        warehouse: Where votes, labels and students are.
        **params: As `factory.evaluation.stage.evaluate` takes them.

    Returns:
        `{split, n, systems: {NAME: {accuracy, macro_f1, ci95, metrics, coverage, n_scored}}}`.
    """
    from factory.evaluation import stage

    stage.evaluate(warehouse, **params)
    return stage.summary(warehouse) or {}


def _source(source: Any) -> Any:
    """A list of texts, or of (text, label), becomes an inline source; anything else stays."""
    if isinstance(source, (list, tuple)) and source and not isinstance(source[0], (Mapping, Path)):
        if isinstance(source[0], str):
            return {"texts": list(source)}
        return {"texts": [text for text, _ in source], "labels": [label for _, label in source]}
    return source
