"""`hybrid`: the encoder's vector beside hashed tokens and pairs of neighbours, and one linear head on soft labels.

A frozen encoder blurs what a text is about and how it is put; programs often vote on the very words. Seeing both, the head can
follow them where the vector alone cannot, and is still one convex problem. The export is one ONNX graph from token ids.

On validation rows it is ahead of `embedding`: with recorded programs by 3.9 points (YouTube), 2.7 (SMS) and 5.7 (TREC), with
human rules by 5.7 (SMS) and 6.4 (TREC). On each it agrees more with held-out labels too, which needs no gold:
`tests/benchmarks/students.py --only ^choose_`. So it is what `distill` trains unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from factory.encoders.base import Encoder
from factory.errors import InputError
from factory.logistic import Features, Head, probabilities
from factory.students.base import Student, TrainingSet
from factory.students.grams import gram_logits, gram_matrix, learn_idf
from factory.students.heads import learn_head

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class HybridConfig:
    """Options.

    Attributes:
        c: Inverse regularisation, or `"auto"`: chosen by agreement on held-out soft labels.
        pairs: Slots for hashed pairs of neighbouring tokens.
        folds: Parts of the cross-validation behind `auto`.
        seed: Of those parts.
    """

    c: float | Literal["auto"] = "auto"
    pairs: int = 1 << 16
    folds: int = 3
    seed: int = 0


class HybridStudent(Student):
    """A head over the encoder's unit vectors and over tokens and pairs of tokens."""

    kind: ClassVar[str] = "hybrid"
    takes: ClassVar[Literal["texts", "vectors", "both"]] = "both"
    strength_for_programs: ClassVar[float | None] = 10.0
    strengths_on_dev: ClassVar[tuple[float, ...]] = (3.0, 10.0, 30.0)
    Config: ClassVar[type[Any]] = HybridConfig

    def __init__(
        self, head: Head, grams: NDArray[np.float32], idf: NDArray[np.float32], config: HybridConfig, encoder: Encoder
    ) -> None:
        super().__init__(config, head.multi, len(head.bias), encoder)
        self.head, self.grams, self.idf = head, grams, idf
        self._tokenizer, self.max_tokens = tokenizer_of(encoder)

    @classmethod
    def train(cls, lesson: TrainingSet, config: HybridConfig) -> HybridStudent:
        dense = lesson.vectors
        assert lesson.encoder is not None
        assert dense is not None
        (_, d), k = dense.shape, lesson.targets.shape[1]
        empty = Head(np.zeros((k, d), np.float32), np.zeros(k, np.float32), lesson.multi)
        student = cls(empty, np.zeros((1, k), np.float32), np.zeros(1, np.float32), config, lesson.encoder)
        ids = student.token_ids(lesson.texts)
        vocabulary = student._tokenizer.get_vocab_size()
        idf = learn_idf(ids, vocabulary, config.pairs)
        columns = np.flatnonzero(idf)
        sparse = gram_matrix(ids, vocabulary, idf)[:, columns]
        whole, student.config, student.trials = learn_head(Features(dense, sparse), lesson, config)
        student.grams = np.zeros((len(idf), k), np.float32)
        student.grams[columns] = whole.weight[:, d:].T
        student.idf = idf
        student.head = Head(np.ascontiguousarray(whole.weight[:, :d]), whole.bias, lesson.multi)
        return student

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text without special tokens, the encoder's prompt before it, cut as the encoder cuts them."""
        assert self.encoder is not None
        said = [self.encoder.prompt + text for text in texts]
        encoded = self._tokenizer.encode_batch_fast(said, add_special_tokens=False)
        return [encoding.ids[: self.max_tokens] for encoding in encoded]

    def _answer(self, texts: Sequence[str], vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
        assert vectors is not None
        logits = self.head.logits(vectors)
        for start in range(0, len(texts), 4096):
            ids = self.token_ids(texts[start : start + 4096])
            logits[start : start + 4096] += gram_logits(self.grams, self.idf, ids, self._tokenizer.get_vocab_size())
        return probabilities(logits, self.multi)

    def scale_temperature(self, temperature: float) -> None:
        self.head, self.grams = self.head.scaled(temperature), self.grams / np.float32(temperature)

    def _write(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        arrays = {"weight": self.head.weight, "bias": self.head.bias, "grams": self.grams, "idf": self.idf}
        save_file(arrays, str(folder / "hybrid.safetensors"))

    @classmethod
    def _read(cls, folder: Path, config: Any, multi: bool, encoder: Encoder | None) -> HybridStudent:
        from safetensors.numpy import load_file

        if encoder is None:
            raise InputError("the student 'hybrid' needs its encoder")
        arrays = load_file(str(folder / "hybrid.safetensors"))
        head = Head(arrays["weight"], arrays["bias"], multi)
        return cls(head, arrays["grams"], arrays["idf"], config, encoder)


def tokenizer_of(encoder: Encoder) -> tuple[Any, int]:
    """The encoder's tokenizer without truncation, and how many tokens of a text it reads beside the two special ones.

    Raises:
        InputError: The encoder has no `tokenizer.json`.
    """
    from tokenizers import Tokenizer

    folder = encoder.folder
    if folder is None or not (folder / "tokenizer.json").is_file():
        raise InputError("the encoder has no tokenizer.json", where=folder, fix="Use the student `embedding`")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, encoder.length - 2
