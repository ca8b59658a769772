"""What an export says about itself, and what it needs to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GRAPHS = {"numpy": "1.26", "onnxruntime": "1.18", "tokenizers": "0.15"}
_ARRAYS = {"numpy": "1.26", "safetensors": "0.4"}
NEEDED = {"transformer": _GRAPHS, "hybrid": _GRAPHS, "static": {**_GRAPHS, "safetensors": "0.4"}, "linear": _ARRAYS}
"""Kind of export -> package -> the oldest version that the tests were run with, beside Python."""
_BOX = {"numpy": "2.0", "typer": "0.16"}
_BOX_ENCODERS = {
    "graph": {"onnxruntime": "1.23", "tokenizers": "0.22"},
    "hashing": {"rfc8785": "0.1.4", "scikit-learn": "1.6"},
}


def needed_by_box(encoder: str, *, rules: bool) -> dict[str, str]:
    """What a glass box needs, package -> version, beside label-factory itself without its dependencies.

    Args:
        encoder: `graph` or `hashing`.
        rules: Whether a program is a list of rules.
    """
    return {**_BOX, **_BOX_ENCODERS[encoder], **({"google-re2": "1.1.20250722"} if rules else {})}


@dataclass(frozen=True)
class ExportSpec:
    """What an export says about itself.

    Attributes:
        name: Of the task.
        text: What a text is.
        labels: Label name to description, in the order of the model's columns.
        multi: Whether a text may have any number of labels.
        fields: The task's fields, if its texts have several.
        system: Which system was exported.
        trust: Calibration to carry along: `temperature`, `conformal`, `abstain`, `scope`, and how many `texts` it is from.
        scope: Arrays that scope is judged by, from `factory.distill.scope.fit_scope`.
        facts: Name to value for the card: data, spend, choices.
        never_seen: Labels of the card that no training text had: they are never answered.
        has_test: Whether the run that made it has a `test` split, and so may have scores.
        calibrated: The system of that run that was calibrated on gold of dev, if there is one.
        text_columns: The columns that the texts were read from, one or more possibilities: where `predict` looks for texts.
        card: The task card, as JSON: what a model is asked by for the texts that `predict` defers.
        annotator: The model that the run asked for labels, or for programs where it asked for none.
    """

    name: str
    text: str
    labels: Mapping[str, str]
    multi: bool
    fields: Sequence[str] = ()
    system: str = "student"
    trust: Mapping[str, Any] = field(default_factory=dict)
    scope: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    never_seen: Sequence[str] = ()
    has_test: bool = False
    calibrated: str | None = None
    text_columns: Sequence[Sequence[str]] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    annotator: str | None = None

    @property
    def for_inference(self) -> dict[str, Any]:
        """What `inference.json` holds of it."""
        return {
            "labels": list(self.labels), "multi": self.multi, "fields": list(self.fields), "trust": dict(self.trust),
            "text_columns": [list(names) for names in self.text_columns], "never_seen": list(self.never_seen),
            "calibrated": self.calibrated, "card": dict(self.card), "annotator": self.annotator,
        }  # fmt: skip


def requirements_of(needed: Mapping[str, str]) -> str:
    """Package -> its oldest version, as pip reads them."""
    return "".join(f"{name}>={oldest}\n" for name, oldest in needed.items())
