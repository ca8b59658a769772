"""`embedding`: a frozen sentence encoder and a linear head trained on soft labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from factory.encoders.base import Encoder
from factory.logistic import Head
from factory.students.base import Student, TrainingSet
from factory.students.heads import learn_head

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class EmbeddingConfig:
    """Options of the head.

    Attributes:
        c: Inverse regularisation (scikit-learn's `C`), or `"auto"`: chosen by agreement on held-out soft labels.
        gce: q of the generalized cross-entropy in [0, 1]; 0 is plain soft cross-entropy.
        folds: Parts of the cross-validation behind `auto`.
        seed: Of those parts.
    """

    c: float | Literal["auto"] = "auto"
    gce: float = 0.0
    folds: int = 3
    seed: int = 0


class EmbeddingStudent(Student):
    """A head over the encoder's unit vectors; takes texts or precomputed vectors."""

    kind: ClassVar[str] = "embedding"
    takes: ClassVar[Literal["texts", "vectors", "both"]] = "vectors"
    strength_for_programs: ClassVar[float | None] = 1.0
    strengths_on_dev: ClassVar[tuple[float, ...]] = (0.3, 1.0, 3.0, 10.0)
    Config: ClassVar[type[Any]] = EmbeddingConfig

    def __init__(self, head: Head, config: EmbeddingConfig, encoder: Encoder | None) -> None:
        super().__init__(config, head.multi, len(head.bias), encoder)
        self.head = head

    @classmethod
    def train(cls, lesson: TrainingSet, config: EmbeddingConfig) -> EmbeddingStudent:
        assert lesson.vectors is not None
        head, config, trials = learn_head(lesson.vectors, lesson, config)
        student = cls(head, config, lesson.encoder)
        student.trials = trials
        return student

    def _answer(self, texts: Sequence[str], vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
        assert vectors is not None
        return self.head.predict_proba(vectors)

    def scale_temperature(self, temperature: float) -> None:
        self.head = self.head.scaled(temperature)

    def _write(self, folder: Path) -> None:
        save_head(self.head, folder)

    @classmethod
    def _read(cls, folder: Path, config: Any, multi: bool, encoder: Encoder | None) -> EmbeddingStudent:
        return cls(load_head(folder, multi), config, encoder)


def save_head(head: Head, folder: Path) -> None:
    """Write a head as `head.safetensors`."""
    from safetensors.numpy import save_file

    save_file({"weight": head.weight, "bias": head.bias}, str(folder / "head.safetensors"))


def load_head(folder: Path, multi: bool) -> Head:
    """Read what `save_head` wrote."""
    from safetensors.numpy import load_file

    arrays = load_file(str(folder / "head.safetensors"))
    return Head(arrays["weight"], arrays["bias"], multi)
