"""The steps of a run that know more than the warehouse: the run's folder, the card, and the sources of the gold file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.corpus.splits import LikeTest
from factory.errors import InputError
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard
from factory.warehouse.file import Warehouse


@dataclass
class Context:
    """What the steps of one run share.

    Attributes:
        card: The task card.
        folder: The run's folder: the warehouse, models, export and report lie in it.
        base: The folder that relative paths of the pipeline are relative to.
        engine_settings: The engine's settings as the pipeline gives them.
    """

    card: TaskCard
    folder: Path
    base: Path
    engine_settings: Mapping[str, Any] | None = None
    budget: str | None = None
    _engine: Any = field(default=None, repr=False)
    _budget: Any = field(default=None, repr=False)

    def engine(self) -> Any:
        """The engine, made when the first step asks for it."""
        if self._engine is None:
            if self.engine_settings is None:
                raise InputError(
                    "no engine is given", fix="Add `engine:` to the pipeline, or --engine on the command line"
                )
            from factory.llm import make_engine
            from factory.llm.settings import EngineSettings

            self._engine = make_engine(EngineSettings.model_validate(dict(self.engine_settings)), base=self.base)
        return self._engine

    def use(self, engine: Any) -> None:
        """Let the steps ask this engine instead of the pipeline's own."""
        self._engine = engine

    def spending(self) -> Any:
        """The budget that all steps of this run share, or None."""
        if self.budget is not None and self._budget is None:
            from factory.llm import parse_budget

            self._budget = parse_budget(self.budget)
        return self._budget

    def close(self) -> None:
        """End what the engine holds (connections, a model in memory)."""
        if self._engine is not None and hasattr(self._engine, "close"):
            self._engine.close()


def ingest(
    warehouse: Warehouse,
    *,
    context: Context,
    train: Any = None,
    seed: Any = None,
    dev: Any = None,
    test: Any = None,
    reference: Any = None,
    bad_rows: int = 0,
    like_test: LikeTest = "leave",
    progress: Progress = no_progress,
) -> StageResult:
    """Read texts, and the gold of `seed` and `dev`, into the warehouse; `test` and `reference` gold into the gold file.

    Args:
        warehouse: Where to.
        context: The run's context (card, base folder).
        train: Source of unlabelled texts, or a list of them: a path, or `{path, text, format, where, ...}`.
        seed: Source of gold-labelled examples that the model may be shown.
        dev: Source of gold-labelled texts for choices.
        test: Source of gold-labelled texts for evaluation alone.
        reference: Gold of training texts, for the full-gold row of a report alone.
        bad_rows: Most rows per source that may be unusable before the source is refused.
        like_test: `leave`: a text that differs from one of `test` in case, blanks or accents' form alone leaves the other splits,
            as an exact copy always does; `keep`: it stays.
        progress: Called with (rows read, rows in all or 0, what).

    Raises:
        InputError: A source cannot be read or has more bad rows than allowed.
    """
    given = {"train": train, "seed": seed, "dev": dev, "test": test, "reference": reference}
    return take_in(
        warehouse, context.card, given, base=context.base, bad_rows=bad_rows, like_test=like_test, progress=progress
    )


def take_in(
    warehouse: Warehouse,
    card: TaskCard,
    given: Mapping[str, Any],
    *,
    base: Path,
    bad_rows: int = 0,
    like_test: LikeTest = "leave",
    progress: Progress = no_progress,
) -> StageResult:
    """Texts and open gold into the warehouse, the rest of the gold into its own file, and what is too near to new texts out.

    Args:
        warehouse: Where to.
        card: The task.
        given: Split to its source, or None.
        base: The folder that relative paths are relative to.
        bad_rows: Most unusable rows per source.
        like_test: As `factory.corpus.stage.ingest` takes it.
        progress: Called with (rows read, rows in all or 0, what).

    Raises:
        InputError: A source cannot be read or has more bad rows than allowed.
    """
    from factory.corpus import stage as corpus
    from factory.corpus.decontaminate import decontaminate
    from factory.evaluation import stage as evaluation

    sources = {split: source for split, source in given.items() if source is not None}
    result: StageResult = corpus.ingest(
        warehouse, card, sources, base=base, bad_rows=bad_rows, like_test=like_test, progress=progress
    )
    near = decontaminate(warehouse)
    dropped = (f"{near} synthetic texts were dropped: they are too close to the texts of dev or test",) if near else ()
    gold: StageResult = evaluation.store_gold(warehouse, sources, base=base)
    return StageResult(
        "ingest",
        result.skipped and gold.skipped and not near,
        {**result.did, **gold.did},
        (*result.says, *dropped, *gold.says),
    )


def export(
    warehouse: Warehouse,
    *,
    context: Context,
    system: str = "student",
    path: str = "export",
    progress: Progress = no_progress,
) -> StageResult:
    """Export a trained student into the run's folder.

    Args:
        warehouse: Where the model is on record.
        context: The run's context.
        system: Which student.
        path: Folder, relative to the run's folder.
        progress: Called with (done, total, what).
    """
    from factory.distill import stage

    result: StageResult = stage.export(warehouse, context.folder / path, system=system, progress=progress)
    return StageResult("export", result.skipped, {**result.did, "path": str(context.folder / path)}, result.says)


def export_data(
    warehouse: Warehouse,
    *,
    context: Context,
    path: str = "data",
    formats: Sequence[str] = ("parquet", "jsonl"),
    dropped: bool = False,
) -> StageResult:
    """Export texts with labels, weights and lineage into the run's folder.

    Args:
        warehouse: Where the data is.
        context: The run's context.
        path: Folder, relative to the run's folder.
        formats: Any of `parquet`, `jsonl`, `datasets`, `wrench`.
        dropped: Whether dropped rows are written as well.
    """
    from factory.corpus import export as data

    result: StageResult = data.export_data(warehouse, context.folder / path, formats=tuple(formats), dropped=dropped)
    return result


def report(warehouse: Warehouse, *, context: Context, path: str = "report") -> StageResult:
    """Write the report: `PATH.html` and its Markdown twin `PATH.md`.

    Args:
        warehouse: What to report on.
        context: The run's context.
        path: Relative to the run's folder, without a suffix.
    """
    from factory.report import page

    result: StageResult = page.write(warehouse, context.folder / path)
    return StageResult(
        "report", result.skipped, {**result.did, "path": str(context.folder / f"{path}.html")}, result.says
    )
