"""What the exported student says of training texts, beside what is stored of them: where it differs, what is unlike them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from factory.errors import InputError
from factory.predict.decide import Asked, Judge
from factory.predict.load import load_export
from factory.programs.sandbox.host.pool import Sandbox
from factory.task import label_names
from factory.warehouse.tables.labels import soft_labels
from factory.warehouse.tables.texts import sample_texts

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

LOOKED_AT = 2000
"""Training texts that the student is asked about."""
FALSE_ALARMS = 0.05
"""Share of texts like those of training that may be called out of scope."""
Look = Literal["student", "outside"]
LOOKS: dict[Look, str] = {
    "student": f"the student says otherwise than the label model (of {LOOKED_AT:,})",
    "outside": f"out of the student's scope (of {LOOKED_AT:,})",
}
"""What the student may be asked about, in words."""


def export_of(warehouse: Warehouse) -> Path | None:
    """The run's own export, wherever the run was moved to, else the newest that is there."""
    home = warehouse.folder or Path()
    rows = warehouse.query("SELECT path FROM exports ORDER BY export_no DESC LIMIT 5")
    places = [Path(path) if Path(path).is_absolute() else home / path for (path,) in rows]
    return next((place for place in [home / "export", *places] if (place / "manifest.json").is_file()), None)


def student_looks(warehouse: Warehouse, look: Look, *, sandbox: Sandbox = "kernel") -> tuple[int, ...]:
    """Numbers of training texts, of a fixed sample of 2,000, on which the exported student says otherwise than the label model
    (`student`, the surest first), or that are out of its scope (`outside`, the most unlike first).

    Raises:
        InputError: Nothing was exported yet, or the export cannot tell.
    """
    folder = export_of(warehouse)
    if folder is None:
        raise InputError("nothing was exported yet", where=warehouse.path, fix="The step `export` writes a model")
    sample = sorted(sample_texts(warehouse, LOOKED_AT, "look"))
    model = load_export(folder, sandbox=sandbox, threads=1)
    if look == "outside":
        judge = Judge(model, Asked(scope=FALSE_ALARMS))
        said = list(judge(*model.answer([text for _, text in sample])))
        far = [(one["scope"], number) for one, (number, _) in zip(said, sample, strict=True) if not one["in_scope"]]
        return tuple(number for _, number in sorted(far))
    names, soft = label_names(warehouse), soft_labels(warehouse, text_nos=[number for number, _ in sample])
    texts, covered = dict(sample), soft.covered
    probs, _ = model.answer([texts[int(number)] for number in soft.text_nos])
    columns = [names.index(label) for label in model.labels if label in names]
    if len(columns) != len(model.labels):
        raise InputError("the export has labels that this run does not know", where=folder)
    stored = np.nan_to_num(soft.probs[:, columns]) if len(soft) else np.zeros((0, len(columns)))
    if model.multi:
        differs = ((stored > 0.5) != (probs >= 0.5)).any(axis=1)
        sure = np.abs(np.asarray(probs) - 0.5).max(axis=1) if len(soft) else np.zeros(0)
    else:
        differs, sure = stored.argmax(axis=1) != probs.argmax(axis=1), probs.max(axis=1)
    rows = [row for row in np.argsort(-sure, kind="stable") if differs[row] and covered[row]]
    return tuple(int(soft.text_nos[row]) for row in rows)
