"""An export that was opened: what it knows of itself, and its answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import ExportError, InputError
from factory.files.manifest import checked
from factory.predict.glass_predictor import GlassPredictor
from factory.predict.predictors import read_safetensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.predict.predictors import Answers, Predictor
    from factory.task import TaskCard


class Exported:
    """An exported student, or a glass box.

    Attributes:
        labels: Label names in the order of the columns.
        multi: Whether a text may have any number of labels.
        kind: `transformer`, `hybrid`, `static`, `linear` or `glass_box`.
        fields: The task's fields, if its texts have several.
        text_columns: Columns that the training texts were in, one or more possibilities; empty if it is not known.
        trust: Calibration that the export carries: `conformal`, `abstain`, `scope`.
        never_seen: Labels that no training text spoke for; their probability is 0, or next to it.
        calibrated: The system of the run that made it that was calibrated on gold of dev, if there is one.
        annotator: The model that the run asked for labels, if it is known.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], facts: dict[str, Any], predictor: Predictor) -> None:
        self.folder = folder
        self.labels: list[str] = list(facts["labels"])
        self.multi: bool = bool(facts["multi"])
        self.kind: str = facts["kind"]
        self.fields: list[str] = list(facts.get("fields", []))
        self.text_columns: list[list[str]] = [list(names) for names in facts.get("text_columns", [])]
        self.trust: dict[str, Any] = dict(facts.get("trust", {}))
        self.never_seen: list[str] = list(facts.get("never_seen", []))
        self.calibrated: str | None = facts.get("calibrated")
        self.annotator: str | None = facts.get("annotator")
        self._card: dict[str, Any] | None = facts.get("card")
        self.predictor = predictor
        self._manifest = manifest

    @property
    def card(self) -> TaskCard:
        """The task card that the run had.

        Raises:
            InputError: The export carries none.
        """
        from factory.task import TaskCard

        if not self._card:
            fix = "Export again: exports of this version carry the card"
            raise InputError("this export carries no task card to ask a model by", where=self.folder, fix=fix)
        return TaskCard.model_validate(self._card)

    def answer(self, texts: Sequence[str]) -> Answers:
        """Probabilities, float32 [n, k], and the features that scope is judged on, float32 [n, d]; in the order asked."""
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32), np.zeros((0, 0), np.float32)
        return self.predictor(texts)

    def explain(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]:
        """What `answer` gives, and the reasons for each answer, objects [n]: `{"why": a sentence, "reasons": ...}`, as
        `factory.predict.reasons` describes them.

        Raises:
            InputError: The export has no programs.
        """
        if not isinstance(self.predictor, GlassPredictor):
            raise InputError(
                "this export has no programs, and so no reasons to give", where=self.folder,
                fix="Export the system `glass_box`, which needs a mixture (`annotate: {anchors: ...}`)",
            )  # fmt: skip
        return self.predictor.explain(texts) if texts else (*self.answer(texts), np.zeros(0, object))

    def why(self, texts: Sequence[str]) -> list[str]:
        """The reasons for each answer, a sentence for a person; errors as of `explain`."""
        return [reasons["why"] for reasons in self.explain(texts)[2]]

    @property
    def notes(self) -> list[str]:
        """What a person should know of the programs that were run: a missing layer of the sandbox, votes that were lost."""
        return self.predictor.notes if isinstance(self.predictor, GlassPredictor) else []

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [n, k], in the order asked."""
        return self.answer(texts)[0]

    def predict(self, texts: Sequence[str]) -> list[str] | list[list[str]]:
        """The most probable label of each text; in a multi task the labels above one half."""
        probs = self.predict_proba(texts)
        if self.multi:
            return [[self.labels[i] for i in np.flatnonzero(row >= 0.5)] for row in probs]
        return [self.labels[i] for i in probs.argmax(axis=1)]

    @cached_property
    def scope_arrays(self) -> dict[str, NDArray[Any]]:
        """What scope is judged by, read when it is first asked for; empty if the export carries nothing."""
        if "scope.safetensors" not in self._manifest["files"]:
            return {}
        try:
            return read_safetensors(checked(self.folder, self._manifest, "scope.safetensors"))
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(f"the export cannot be used: {error}", where=self.folder, fix="Export again") from error


def unseen_words(labels: Sequence[str]) -> str:
    """What follows from labels that no training text spoke for."""
    s, are, their = ("", "it is", "its") if len(labels) == 1 else ("s", "they are", "their")
    return (
        f"no training text had the label{s} {', '.join(map(repr, labels))}: {are} never answered, and texts of {their} kind get"
        " another label, however sure it looks"
    )
