"""The language model behind an export: it is asked for the labels of texts by the task card that the export carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from factory.llm.engines.base import Engine
    from factory.predict.exported import Exported
    from factory.prompts.labelling import Labelling

STAGE = "defer"
_CHUNK = 5000
"""Texts asked in one go, of an engine that answers at once."""

Answerer = Callable[[Sequence[str], Progress], list[tuple[str, ...] | None]]
"""Texts to the labels of each: None where there is no answer that can be used."""


class Annotator:
    """Asks an engine, and keeps its answers in a ledger of their own, so that none is paid for twice.

    Attributes:
        engine: Whom it asks.
        notes: What a person should know of the asking.
    """

    def __init__(self, exported: Exported, engine: Engine, ledger: Path, budget: str | None = None) -> None:
        """An export's card, put to an engine.

        Args:
            exported: The export.
            engine: Whom to ask.
            ledger: The DuckDB file that keeps requests and answers; made if it is not there.
            budget: The most to spend, as a pipeline gives it.

        Raises:
            InputError: The export carries no task card.
        """
        self._labelling = labelling_of(exported, engine.model, engine)
        self.engine, self._ledger, self._budget = engine, ledger, budget
        self.notes: list[str] = []

    def __call__(self, texts: Sequence[str], progress: Progress = no_progress) -> list[tuple[str, ...] | None]:
        """The labels of each text, None where the model gave none that can be read.

        Raises:
            Pending: The engine answers by file, and the requests were written.
            Unanswered: Texts have no answer, through nothing that the model said. What came is stored.
            BudgetError: The budget would be passed.
        """
        from factory.llm import Asker, Failure, parse_budget
        from factory.llm.engines.base import BY_FILE
        from factory.warehouse.file import Warehouse

        ask, found = self._labelling, []
        budget = None if self._budget is None else parse_budget(self._budget)
        asker = Asker(Warehouse.open(self._ledger), self.engine, STAGE, budget, progress)
        size = max(len(texts), 1) if self.engine.name in BY_FILE else _CHUNK
        for start in range(0, len(texts), size):
            wanted = [(ask.request(text), 0) for text in texts[start : start + size]]
            found += asker.parsed(wanted, ask.parse, again=ask.prompt.ask_again)
        self.notes += asker.notes
        asker.need_all(found)
        single = ask.card.kind == "single"
        return [None if isinstance(one, Failure) or (single and not one.value) else one.value for one in found]


def labelling_of(exported: Exported, model: Any, engine: Engine | None = None) -> Labelling:
    """How an export's card is put to a model.

    Raises:
        InputError: The export carries no task card.
    """
    from factory import prompts
    from factory.prompts.labelling import Labelling, labelling_prompt

    card = exported.card
    if engine is None:
        return Labelling(card, prompts.load(labelling_prompt(card)), model)
    asked = prompts.load(labelling_prompt(card), profile=engine.profile)
    return Labelling(card, asked, model, engine.sampling, engine.structured)


def write_requests(exported: Exported, texts: Sequence[str], path: Path, engine: Engine | None = None) -> int:
    """Write the requests for texts as a batch file, each text once; lines written.

    Args:
        exported: Its card is what is put to the model.
        texts: What to ask about.
        path: The JSONL file.
        engine: Whose model and settings the lines name; by default the model that the export's run asked.

    Raises:
        InputError: The export carries no card, or does not know whom its run asked; or the file is something else.
    """
    from factory.errors import InputError
    from factory.llm.batch_files import write_calls
    from factory.llm.calls import Call
    from factory.llm.request import ModelRef
    from factory.llm.settings import EngineSettings

    if engine is not None:
        ask, settings = labelling_of(exported, engine.model, engine), engine.settings
    elif exported.annotator:
        ask = labelling_of(exported, ModelRef(exported.annotator))
        settings = EngineSettings(kind="batch", model=exported.annotator, requests=str(path))
    else:
        fix = "Name an engine with --engine: the requests are written for its model"
        raise InputError("this export does not say which model its run asked", where=exported.folder, fix=fix)
    return write_calls(path, (Call(ask.request(text), 0, 0) for text in texts), settings)
