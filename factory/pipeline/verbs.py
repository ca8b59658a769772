"""The table of steps: every verb that a pipeline may name, and the stage that does it. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Verb(NamedTuple):
    """A line of the table: where the stage is, and what it does in one line (so that `factory --help` need not load it)."""

    stage: str
    summary: str


STEPS: Mapping[str, Verb] = {
    "ingest": Verb("factory.pipeline.ingest:ingest", "Read texts and gold into the warehouse."),
    "synthesize": Verb("factory.synthesis.stage:synthesize", "Let the model write examples of each label."),
    "measure": Verb(
        "factory.synthesis.quality:measure", "Measure the synthetic texts: how varied, how like real ones."
    ),
    "tune": Verb("factory.tuning.stage:tune", "Let the model learn from its own accepted texts (a LoRA adapter)."),
    "buy": Verb("factory.pipeline.auto.stage:buy", "Decide what to buy from the model next, and buy it."),
    "author": Verb("factory.programs.stage:author", "Let the model write label programs."),
    "annotate": Verb("factory.annotation.stage:annotate", "Let the model label texts itself (the teacher)."),
    "vote": Verb("factory.programs.stage:vote", "Run the label programs over the texts."),
    "denoise": Verb("factory.denoise.stage:denoise", "Turn votes into probabilistic labels."),
    "distill": Verb("factory.distill.stage:distill", "Train students on them."),
    "evaluate": Verb("factory.evaluation.stage:evaluate", "Score every system on the test split."),
    "export": Verb("factory.export.stage:export", "Write a trained student into a folder."),
    "export_data": Verb(
        "factory.corpus.export:export_data", "Write texts with labels, weights and lineage into a folder."
    ),
    "report": Verb("factory.report.stage:report", "Write the report: one HTML page and its Markdown twin."),
}
