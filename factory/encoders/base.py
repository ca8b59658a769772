"""What every encoder is: texts to unit vectors, under a key that names all that decides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.result import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder:
    """Texts to unit vectors.

    Attributes:
        name: What a person asked for or got: a hub name, a path, `all-MiniLM-L6-v2` or `hashing`.
        key: Hash of the weights and of how they are used, 64 hexadecimal digits: two encoders of one key give one vector.
        dimension: Length of a vector.
        says: One line for a person about which encoder this is and why.
        prompt: What is put before each text; the callers of `encode` do not.
        length: Tokens of a window; 0 where there are none.
        threads: On how many threads a graph computes; 0 lets it choose.
    """

    prompt: str = ""
    length: int = 0
    threads: int = 0

    def __init__(self, name: str, key: str, dimension: int, says: str) -> None:
        self.name = name
        self.key = key
        self.dimension = dimension
        self.says = says

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode texts.

        Args:
            texts: Any number of strings.
            progress: Called with (done, total, what).

        Returns:
            float32 [n, dimension]; every row has length 1 (a text without any known token may be all zeros).
        """
        raise NotImplementedError

    @property
    def folder(self) -> Path | None:
        """The folder of a sentence-transformers model, or None where there is no such model."""
        return None

    @property
    def graph_folder(self) -> Path | None:
        """The folder of the graph that gives its vectors (`model.onnx`, `tokenizer.json`, `graph.json`), or None."""
        return None

    @property
    def settings(self) -> Mapping[str, Any]:
        """What `load_encoder` needs to give this encoder again, as JSON."""
        return {"name": self.name}

    def body(self) -> Any:
        """A fresh `SentenceTransformer` that reads as this encoder does: its prompt by default, its window, its dimension.

        Raises:
            InputError: There is no such model.
        """
        raise InputError(f"{self.name} is no sentence-transformers model", fix="Name one with `encoder:`")

    @property
    def exact(self) -> Encoder:
        """The same without int8: what an export in fp32 computes."""
        return self

    @property
    def calibrated(self) -> bool:
        """Whether its vectors are those of a graph in int8, which an export in int8 repeats."""
        return False
