"""`embedding`: a frozen sentence encoder and a linear head trained on soft labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from factory.encoders import Encoder
from factory.errors import InputError
from factory.result import Progress
from factory.students.base import Student, TextsAndVectors, write_json
from factory.students.head import Head, choose_strength, fit_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.students.base import Inputs


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
    Config: ClassVar[type[Any]] = EmbeddingConfig

    def __init__(self, head: Head, config: EmbeddingConfig, encoder: Encoder | None) -> None:
        self.head = head
        self.config = config
        self.encoder = encoder
        self.multi = head.multi
        self.n_labels = len(head.bias)
        self.trials: list[tuple[float, float]] = []

    @classmethod
    def fit(
        cls,
        inputs: Inputs,
        soft_labels: NDArray[np.floating[Any]],
        weights: NDArray[np.floating[Any]],
        *,
        config: EmbeddingConfig,
        multi: bool,
        encoder: Encoder | None,
        progress: Progress,
    ) -> EmbeddingStudent:
        vectors = _vectors(inputs, encoder, progress)
        trials: list[tuple[float, float]] = []
        if config.c == "auto":
            c, trials = choose_strength(
                vectors, soft_labels, weights, multi=multi, gce=config.gce, folds=config.folds, seed=config.seed
            )
            config = replace(config, c=c)
        head = fit_head(vectors, soft_labels, weights, c=float(config.c), multi=multi, gce=config.gce)
        student = cls(head, config, encoder)
        student.trials = trials
        return student

    def predict_proba(self, inputs: Inputs) -> NDArray[np.float32]:
        return self.head.predict_proba(_vectors(inputs, self.encoder, None))

    def cool(self, temperature: float) -> None:
        self.head = self.head.cooled(temperature)

    def save(self, folder: Path) -> None:
        save_head(self.head, folder)
        write_json(folder / "student.json", {"kind": self.kind, "multi": self.multi, "config": asdict(self.config)})

    @classmethod
    def load(cls, folder: Path, encoder: Encoder | None) -> EmbeddingStudent:
        import json

        facts = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        return cls(load_head(folder, facts["multi"]), EmbeddingConfig(**facts["config"]), encoder)


def save_head(head: Head, folder: Path) -> None:
    """Write a head as `head.safetensors`."""
    from safetensors.numpy import save_file

    save_file({"weight": head.weight, "bias": head.bias}, str(folder / "head.safetensors"))


def load_head(folder: Path, multi: bool) -> Head:
    """Read what `save_head` wrote."""
    from safetensors.numpy import load_file

    arrays = load_file(str(folder / "head.safetensors"))
    return Head(arrays["weight"], arrays["bias"], multi)


def _vectors(inputs: Inputs, encoder: Encoder | None, progress: Progress | None) -> NDArray[np.float32]:
    if isinstance(inputs, np.ndarray):
        return inputs
    if isinstance(inputs, TextsAndVectors):
        return inputs.vectors
    if encoder is None:
        raise InputError("the student 'embedding' needs an encoder for texts", fix="Give one from `load_encoder`")
    return encoder.encode(inputs, progress)
