"""What students with a tuned encoder share: a body, a head on its vectors, and how both are kept without pickle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from factory.encoders.base import Encoder
from factory.encoders.torch_model import encode_with, load_sentence_transformer
from factory.errors import InputError
from factory.logistic import Head
from factory.students.base import Student, TextsAndVectors
from factory.students.embedding import load_head, save_head

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from factory.students.base import Inputs


class TunedStudent(Student):
    """A sentence encoder of its own and a linear head on its unit vectors; exported as any transformer.

    Attributes:
        body: A `SentenceTransformer`.
        head: Over its unit vectors.
    """

    takes: ClassVar[Literal["texts", "vectors", "both"]] = "texts"
    slow: ClassVar[bool] = True

    def __init__(self, body: Any, head: Head, config: Any) -> None:
        super().__init__(config, head.multi, len(head.bias))
        self.body = body
        self.head = head

    def _answer(self, texts: Sequence[str], vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return self.head.predict_proba(encode_with(self.body, texts))

    def vectors_behind(self, inputs: Inputs) -> NDArray[np.float32] | None:
        texts = inputs.texts if isinstance(inputs, TextsAndVectors) else [str(text) for text in inputs]
        return encode_with(self.body, texts)

    def scale_temperature(self, temperature: float) -> None:
        self.head = self.head.scaled(temperature)

    def _write(self, folder: Path) -> None:
        save_body(self.body, folder / "body")
        save_head(self.head, folder)

    @classmethod
    def _read(cls, folder: Path, config: Any, multi: bool, encoder: Encoder | None) -> Self:
        return cls(load_sentence_transformer(folder / "body"), load_head(folder, multi), config)


def save_body(body: Any, folder: Path) -> None:
    """Write a sentence-transformers body: safetensors, no model card, the same bytes for the same body."""
    body.save(str(folder), safe_serialization=True, create_model_card=False)
    for path in folder.rglob("*.bin"):
        raise InputError("the body cannot be written without pickle", where=path)
