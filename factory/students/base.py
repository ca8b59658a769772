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

    from factory.encoders.base import Encoder

    Inputs: TypeAlias = "Sequence[str] | NDArray[np.float32] | TextsAndVectors"
    Trial: TypeAlias = tuple[Mapping[str, Any], float]

STUDENTS: Mapping[str, str] = {
    "hybrid": "factory.students.hybrid:HybridStudent",
    "linear": "factory.students.linear:LinearStudent",
    "embedding": "factory.students.embedding:EmbeddingStudent",
    "setfit": "factory.students.setfit:SetFitStudent",
    "finetune": "factory.students.finetune:FinetuneStudent",
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


@dataclass(frozen=True)
class TrainingSet:
    """What a student learns from, read to fit what it takes.

    Attributes:
        texts: n strings; empty where only vectors were given, which a student that takes vectors alone allows.
        vectors: float32 [n, d] of the encoder, or None for a student that takes texts alone.
        targets: float64 [n, k]; NaN where a label of a multi task is unknown.
        weights: float64 [n], above 0, mean 1.
        multi: Whether each label is a question of its own.
        encoder: The sentence encoder, or None.
        unlabelled: Further texts of the same sort without labels, for a student that can use them.
        progress: Called with (done, total, what).
    """

    texts: Sequence[str]
    vectors: NDArray[np.float32] | None
    targets: NDArray[np.float64]
    weights: NDArray[np.float64]
    multi: bool
    encoder: Encoder | None = None
    unlabelled: Sequence[str] = ()
    progress: Progress = no_progress

    def body(self) -> Any:
        """A fresh body of the sentence encoder, to be tuned."""
        assert self.encoder is not None, "`Student.fit` looked"
        return self.encoder.body()


class Student(ABC):
    """A fitted classifier over `n_labels` labels. A member defines `train`, `_answer`, `_write` and `_read`.

    Attributes:
        kind: Its name in `STUDENTS`.
        takes: Whether it reads texts, vectors of the encoder (texts are encoded where they are given instead), or both.
        stands_on_encoder: Whether it needs a sentence encoder to be trained.
        strength_for_programs: Its `c` where it learns from programs, or None if it has no such option. Agreement on held-out
            soft labels would choose a weaker penalty, because held-out labels of the same programs share their mistakes: on the
            validation rows of three WRENCH sets 1.0 beat that choice by 0.6 to 5 points (`embedding`).
        strengths_on_dev: What dev may choose its `c` from.
        slow: Whether it takes minutes to train, so that no curve of dozens of them is drawn.
        Config: The frozen dataclass of its options.
        config: The one it was fitted with, choices resolved.
        multi: Whether each label is a question of its own (sigmoid) or one of all is right (softmax).
        n_labels: k.
        encoder: The one it stands on, where it still asks it at work.
        trials: What was tried on the way to its configuration, each with a loss on held-out soft labels.
    """

    kind: ClassVar[str]
    takes: ClassVar[Literal["texts", "vectors", "both"]]
    stands_on_encoder: ClassVar[bool] = True
    strength_for_programs: ClassVar[float | None] = None
    strengths_on_dev: ClassVar[tuple[float, ...]] = ()
    slow: ClassVar[bool] = False
    Config: ClassVar[type[Any]]

    def __init__(self, config: Any, multi: bool, n_labels: int, encoder: Encoder | None = None) -> None:
        self.config = config
        self.multi = multi
        self.n_labels = n_labels
        self.encoder = encoder
        self.trials: list[Trial] = []

    @classmethod
    @abstractmethod
    def train(cls, lesson: TrainingSet, config: Any) -> Student:
        """Fit to a set that holds something to learn. `fit_student` is the way in."""

    @abstractmethod
    def _answer(self, texts: Sequence[str], vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Probabilities of texts, or of vectors, whichever it takes."""

    @abstractmethod
    def _write(self, folder: Path) -> None:
        """Write all but the configuration: safetensors and JSON, the same bytes for the same student."""

    @classmethod
    @abstractmethod
    def _read(cls, folder: Path, config: Any, multi: bool, encoder: Encoder | None) -> Student:
        """Read what `_write` wrote."""

    @abstractmethod
    def scale_temperature(self, temperature: float) -> None:
        """Divide the logits by a temperature from now on, by dividing the head itself; nothing is left to apply later."""

    def vectors_behind(self, inputs: Inputs) -> NDArray[np.float32] | None:
        """The unit vectors behind its answers, float32 [n, d], as its export gives them; None where it has none."""
        if isinstance(inputs, TextsAndVectors):
            return inputs.vectors
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f":
            return inputs
        return None if self.encoder is None else self.encoder.encode([str(text) for text in inputs])

    def predict_proba(self, inputs: Inputs) -> NDArray[np.float32]:
        """Probabilities.

        Args:
            inputs: Texts; a student that `takes` vectors also accepts float32 [n, d], or both together.

        Returns:
            float32 [n, k]; rows sum to 1 for a single task, each entry stands alone for a multi task.
        """
        return self._answer(*self._look(inputs, self.encoder, no_progress))

    @classmethod
    def fit(cls, inputs: Inputs, lesson: TrainingSet, config: Any) -> Student:
        """Train on what was given: `lesson` with its texts and vectors still to be filled from `inputs`.

        Raises:
            InputError: The student needs an encoder and has none, or was given vectors that it cannot use.
        """
        folder = None if lesson.encoder is None else lesson.encoder.folder
        if cls.stands_on_encoder and cls.takes != "vectors" and folder is None:
            raise InputError(f"the student {cls.kind!r} needs a sentence encoder", fix="Name one with `encoder:`")
        texts, vectors = cls._look(inputs, lesson.encoder, lesson.progress)
        return cls.train(replace(lesson, texts=texts, vectors=vectors), config)

    @classmethod
    def _look(
        cls, inputs: Inputs, encoder: Encoder | None, progress: Progress
    ) -> tuple[list[str], NDArray[np.float32] | None]:
        """Texts and vectors, as far as this student takes them."""
        if isinstance(inputs, TextsAndVectors):
            return list(inputs.texts), None if cls.takes == "texts" else inputs.vectors
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f":
            if cls.takes != "vectors":
                also = "" if cls.takes == "texts" else " alone"
                raise InputError(f"the student {cls.kind!r} takes texts, not vectors{also}")
            return [], inputs
        texts = [str(text) for text in inputs]
        if cls.takes == "texts":
            return texts, None
        if encoder is None:
            raise InputError(f"the student {cls.kind!r} needs an encoder for texts", fix="Give one from `load_encoder`")
        return texts, encoder.encode(texts, progress)

    def save(self, folder: Path) -> None:
        """Write the student into an empty folder: safetensors and JSON, the same bytes for the same student."""
        self._write(folder)
        write_json(folder / "student.json", {"kind": self.kind, "multi": self.multi, "config": asdict(self.config)})

    @classmethod
    def load(cls, folder: Path, encoder: Encoder | None = None) -> Student:
        """Read what `save` wrote."""
        facts = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in facts["config"].items()}
        return cls._read(folder, cls.Config(**values), bool(facts["multi"]), encoder)

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
    unlabelled: Sequence[str] = (),
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
        unlabelled: Further texts without labels; `finetune` uses them for consistency training, the others leave them.
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
    lesson = TrainingSet(
        (), None, targets[keep], mass[keep] / mass[keep].mean(), multi, encoder, tuple(unlabelled), progress
    )  # fmt: skip
    return student_class(kind).fit(chosen, lesson, make_config(kind, config))


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys: the same value, the same bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
