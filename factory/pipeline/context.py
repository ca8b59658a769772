"""What the steps of one run share: the card, the folders, one engine and one budget; and running one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.params import Call, Stage, no_engine
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard

if TYPE_CHECKING:
    from factory.llm.budget import Budget
    from factory.llm.engines.base import Engine
    from factory.pipeline.steps import Step
    from factory.warehouse.file import Warehouse


@dataclass
class Context:
    """What the steps of one run share.

    Attributes:
        card: The task card.
        folder: The run's folder: the warehouse, models, export and report lie in it.
        base: The folder that relative paths of the pipeline are relative to.
        engine_settings: The engine's settings as the pipeline gives them.
        budget: The most to spend, as the pipeline gives it.
        asked: Whom the steps ask instead of the pipeline's own engine, or that one once it was made.
    """

    card: TaskCard
    folder: Path
    base: Path
    engine_settings: Mapping[str, Any] | None = None
    budget: str | None = None
    asked: Engine | None = field(default=None, repr=False)
    _budget: Budget | None = field(default=None, repr=False)

    def engine(self) -> Engine:
        """The engine, made when the first step asks for it."""
        if self.asked is None:
            if self.engine_settings is None:
                raise no_engine()
            from factory.llm import make_engine
            from factory.llm.settings import EngineSettings

            self.asked = make_engine(EngineSettings.model_validate(dict(self.engine_settings)), base=self.base)
        return self.asked

    def spending(self) -> Budget | None:
        """The budget that all steps of this run share, or None."""
        if self.budget is not None and self._budget is None:
            from factory.llm import parse_budget

            self._budget = parse_budget(self.budget)
        return self._budget

    def call(self, stage: Stage[Any], progress: Progress = no_progress) -> Call:
        """What a stage gets beside its parameters."""
        return Call(
            asked=self.engine() if stage.asks else None, budget=self.spending(), progress=progress, card=self.card,
            base=self.base, folder=self.folder, settings=self.engine_settings, release=self.close,
        )  # fmt: skip

    def close(self) -> None:
        """End what the engine holds (connections, a model in memory)."""
        if self.asked is not None and hasattr(self.asked, "close"):
            self.asked.close()


def call_step(step: Step, warehouse: Warehouse, context: Context, progress: Progress = no_progress) -> StageResult:
    """Run one step with what the steps of a run share."""

    def told(done: int, total: int, what: str) -> None:
        warehouse.close_idle()  # while it computes, others may write
        progress(done, total, what)

    with warehouse.kept_open():
        return step.stage.run(warehouse, step.params, context.call(step.stage, told))
