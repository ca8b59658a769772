"""What every student is: fitted on soft labels, asked for probabilities, saved without pickle."""

from __future__ import annotations

import difflib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from factory.errors import InputError
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders import Encoder

    Inputs: TypeAlias = "Sequence[str] | NDArray[np.float32] | TextsAndVectors"

STUDENTS: Mapping[str, str] = {
    "hybrid": "factory.students.hybrid:HybridStudent",
    "linear": "factory.students.linear:LinearStudent",
    "embedding": "factory.students.embedding:EmbeddingStudent",
    "setfit": "factory.students.setfit:SetFitStudent",
    "static": "factory.students.static:StaticStudent",
}
"""Name -> where its class is; imported when it is asked for."""


@dataclass(frozen=True)
class TextsAndVectors:
    """Texts with their vectors, for a student that reads both.

    Attributes:
        texts: n strings.
        vectors: float32 [n, d], row i of text i.
    """

    texts: Sequence[str]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.integer[Any]]) -> TextsAndVectors:
        """Rows by number, in the order asked."""
        return TextsAndVectors([self.texts[row] for row in rows.tolist()], self.vectors[rows])

    def keep(self, mask: NDArray[np.bool_]) -> TextsAndVectors:
        """Some of the rows."""
        return TextsAndVectors([t for t, kept in zip(self.texts, mask, strict=True) if kept], self.vectors[mask])


class Student(ABC):
    """A fitted classifier over `n_labels` labels.

    Attributes:
        kind: Its name in `STUDENTS`.
        takes: Whether `fit` and `predict_proba` read texts, take precomputed vectors of the encoder instead, or read both
            (`TextsAndVectors`; with texts alone it encodes them).
        config: The frozen dataclass it was fitted with, choices resolved.
        multi: Whether each label is a question of its own (sigmoid) or one of all is right (softmax).
    """

    kind: ClassVar[str]
    takes: ClassVar[Literal["texts", "vectors", "both"]]
    Config: ClassVar[type[Any]]
    config: Any
    multi: bool
    n_labels: int

    @classmethod
    @abstractmethod
    def fit(
        cls,
        inputs: Inputs,
        soft_labels: NDArray[np.floating[Any]],
        weights: NDArray[np.floating[Any]],
        *,
        config: Any,
        multi: bool,
        encoder: Encoder | None,
        progress: Progress,
    ) -> Student:
        """Train. See `fit_student` for what the arguments are."""

    @abstractmethod
    def predict_proba(self, inputs: Inputs) -> NDArray[np.float32]:
        """Probabilities.

        Args:
            inputs: Texts; a student that `takes` vectors also accepts float32 [n, d].

        Returns:
            float32 [n, k]; rows sum to 1 for a single task, each entry stands alone for a multi task.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the student into an empty folder: safetensors and JSON, the same bytes for the same student."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, encoder: Encoder | None) -> Student:
        """Read what `save` wrote."""

    def cool(self, temperature: float) -> None:
        """Divide the logits by a temperature from now on, by dividing the head itself; nothing is left to apply later."""
        raise NotImplementedError(f"the student {self.kind!r} has no head to cool")

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The configuration with every `auto` resolved: fitting with it again does no search."""
        return asdict(self.config)


def student_class(kind: str) -> type[Student]:
    """The class of a student by its name.

    Raises:
        InputError: There is no student of that name.
    """
    if kind not in STUDENTS:
        near = difflib.get_close_matches(kind, STUDENTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(STUDENTS)}"
        raise InputError(f"there is no student {kind!r}; {hint}")
    module, _, name = STUDENTS[kind].partition(":")
    found: type[Student] = getattr(importlib.import_module(module), name)
    return found


def make_config(kind: str, options: Mapping[str, Any] | None) -> Any:
    """A student's configuration out of plain options.

    Raises:
        InputError: An option that this student does not have.
    """
    cls = student_class(kind).Config
    known = [field.name for field in fields(cls)]
    for key in options or {}:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"It has: {', '.join(known)}"
            raise InputError(f"the student {kind!r} has no option `{key}`", fix=hint)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in (options or {}).items()}
    return replace(cls(), **values)


def fit_student(
    kind: str,
    inputs: Inputs,
    soft_labels: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]] | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    multi: bool = False,
    encoder: Encoder | None = None,
    progress: Progress = no_progress,
) -> Student:
    """Train a student on probabilistic labels.

    Args:
        kind: A name in `STUDENTS`.
        inputs: n texts; or their vectors, float32 [n, d], for a student that takes them (`embedding`); or both
            (`TextsAndVectors`) for one that reads both (`hybrid`).
        soft_labels: [n, k], in [0, 1]. Single: rows sum to 1 (one-hot rows are hard labels). Multi: the probability of yes,
            NaN where nothing is known (left out of the loss).
        weights: [n], at least 0; None is 1 for all. A row of weight 0 takes no part.
        config: The student's options; unset ones take their defaults.
        multi: Whether a text may have any number of labels.
        encoder: For students that stand on a sentence encoder.
        progress: Called with (done, total, what).

    Returns:
        The fitted student.

    Raises:
        InputError: Unknown kind or option, nothing to learn from, or shapes that do not match.

    Example:
        >>> texts = ["good film", "great fun", "bad plot", "dull and bad"] * 5
        >>> labels = np.array([[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0]] * 5)
        >>> fit_student("linear", texts, labels).predict_proba(["great"]).argmax()
        np.int64(0)
    """
    targets = np.asarray(soft_labels, np.float64)
    if targets.ndim != 2 or len(targets) != len(inputs):
        raise InputError(f"soft labels of shape {targets.shape} do not fit {len(inputs)} texts")
    mass = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    if mass.shape != (len(targets),) or not np.isfinite(mass).all() or (mass < 0).any():
        raise InputError("weights are one number per text, 0 or more")
    keep = mass > 0
    if multi:
        keep &= ~np.isnan(targets).all(axis=1)
    elif np.isnan(targets[keep]).any():
        raise InputError("a soft label of a single task is NaN", fix="Leave rows without a label out")
    if not keep.any():
        raise InputError("there is nothing to learn from: no text has a label and a weight")
    chosen: Any
    if keep.all():
        chosen = inputs
    elif isinstance(inputs, TextsAndVectors):
        chosen = inputs.keep(keep)
    elif isinstance(inputs, np.ndarray):
        chosen = inputs[keep]
    else:
        chosen = [text for text, kept in zip(inputs, keep, strict=True) if kept]
    return student_class(kind).fit(
        chosen,
        targets[keep],
        mass[keep] / mass[keep].mean(),
        config=make_config(kind, config),
        multi=multi,
        encoder=encoder,
        progress=progress,
    )


def texts_in(inputs: Inputs) -> list[str]:
    """The texts of what a student was given."""
    return [str(text) for text in (inputs.texts if isinstance(inputs, TextsAndVectors) else inputs)]


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys: the same value, the same bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
