"""An LLM-driven weak-supervision data factory.

From a task card and unlabelled text to a small, exported classifier, with a language model as the only annotator::

    task card -> synthesize -> author -> vote -> denoise -> distill -> evaluate -> export
                 every arrow reads from and writes to the warehouse (DuckDB)

Where things live:

    cli.py, commands/   thin: parse, call, print; studio/ the same in a browser
    pipeline/           a YAML file -> checked steps -> a run; what it will ask and cost
    corpus/             text in: files, splits, near-duplicates, passages; data out
    programs/           label programs: authoring, checks, rules, sandbox, voting
    annotation/         the model's own labels: anchors, teacher, prompted votes
    synthesis/ tuning/  texts that the model writes; a LoRA adapter that it learns from them
    denoise/            label models: votes -> probabilities
    distill/ students/  what learns from what; the models
    export/ predict/    what a user takes home, and running it
    evaluation/         scores and baselines, the only reader of test and reference gold; report/ shows them
    review/             what to ask next, likely label errors
    labels/ prompts/ llm/ encoders/ files/ warehouse/   below all wings: finding labels, messages, models, vectors, formats, the
                        DuckDB file

Imports run one way: cli -> pipeline -> stages -> cores -> what lies below all wings. Stages never import each other; cores
import no stage. A new label model, student, engine or synthesis method is one new file and one line in its folder's table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "FactoryError": "factory.errors",
    "Label": "factory.task",
    "TaskCard": "factory.task",
    "load_card": "factory.task",
    "Warehouse": "factory.warehouse.file",
    "EngineSettings": "factory.llm.settings",
    "make_engine": "factory.llm",
    "load_pipeline": "factory.pipeline.load",
    "run_pipeline": "factory.pipeline.run",
    "ingest": "factory.pipeline.notebook",
    "synthesize": "factory.synthesis.stage",
    "tune": "factory.tuning.stage",
    "author": "factory.programs.stage",
    "buy": "factory.pipeline.auto.stage",
    "annotate": "factory.annotation.stage",
    "vote": "factory.programs.stage",
    "denoise": "factory.denoise.stage",
    "distill": "factory.distill.stage",
    "evaluate": "factory.pipeline.notebook",
    "export": "factory.export.stage",
    "load_export": "factory.predict.load",
    "predict_file": "factory.predict.load",
    "predict": "factory.predict.shards",
    "run_programs": "factory.programs",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from factory.errors import FactoryError as FactoryError
    from factory.task import Label as Label
    from factory.task import TaskCard as TaskCard
    from factory.task import load_card as load_card
    from factory.warehouse.file import Warehouse as Warehouse


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'factory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
