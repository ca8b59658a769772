"""An LLM-driven weak-supervision data factory.

From a task card and unlabelled text to a small, exported classifier, with a language model as the only annotator::

    task card -> synthesize -> author -> vote -> denoise -> distill -> evaluate -> export
                 every arrow reads from and writes to the warehouse (DuckDB)

Where things live:

    task.py         the task card, its revisions, append-only label numbers
    warehouse.py    leasing, migrating and querying the DuckDB file (schema and views: warehouse/*.sql)
    corpus/         text in: CSV, JSONL, Parquet, Hugging Face datasets, WRENCH JSON; passages, retrieval, data export
    llm/            request and answer, engines, dispatch, ledger, batch files, DSPy
    prompts/        prompts/*.md -> DSPy signatures -> messages, and answers -> values
    synthesis/      SynthesizRR, Self-Guide, few-shot; filters; diversity measures
    tuning/         the language model learns from its own data: LoRA adapters
    programs/       label programs: authoring, checks, sandbox, applying, analysis, lifecycle
    annotation/     the model's own labels: the teacher, and prompted votes
    labels/         label models: from votes to probabilities; audit; asking
    unpacked.py     zstandard files, read to their true end
    encoders.py     sentence encoders and the vectors kept in the warehouse
    students/       curation, students, calibration, export, predict, serve
    evaluation/     metrics with intervals, baselines, the report; the only reader of test and reference gold
    pipeline.py     a YAML file -> checked steps (standard.py: those of one that names none; schema.py: for editors)
    cluster.py      Ray: whether it is there, a session on it
    run.py          steps -> stages, in order (steps.py: those that know the run's folder; running.py: one run at a time)
    planning.py     what a pipeline will still ask, and cost (outlook.py: what its steps may ask at most)
    cli.py          thin: parse, call, print (the commands: commands/)

Imports run one way: cli -> run, pipeline -> stage -> (core, warehouse, llm, prompts) -> task. Stages never import each other;
cores import no stage. A new label model, student, engine or synthesis method is one new file and one line in its folder's table.
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
