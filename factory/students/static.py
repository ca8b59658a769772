"""`static`: a vector per token distilled from the encoder, averaged, beside hashed pairs of tokens; a head on soft labels.

Token vectors come from the encoder's answer to each token alone, reduced by principal components and weighted by how rare a
token is, as Model2Vec does (Tulkens and van Dongen 2024). An average forgets the order of words, which some tasks live by (what
a question asks for), so the head also sees tokens and pairs of neighbours as such. Inference is table look-ups: thousands of
texts a second on one core, with numpy and tokenizers alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from zipfile import BadZipFile

import numpy as np

from factory.canonical import digest
from factory.encoders.base import Encoder
from factory.files.replace import replaced
from factory.logistic import Features, probabilities
from factory.result import Progress, no_progress
from factory.students.base import Student, TextsAndVectors, TrainingSet
from factory.students.grams import gram_matrix, learn_idf
from factory.students.heads import learn_head
from factory.students.pooling import pool, static_answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.students.base import Inputs


@dataclass(frozen=True)
class StaticConfig:
    """Options.

    Attributes:
        c: Inverse regularisation, or `"auto"`: chosen by agreement on held-out soft labels.
        dimension: Principal components kept.
        rarity: `a` of the weight a / (a + p) of a token of frequency p (Arora et al. 2017); smaller mutes common ones more.
        pairs: Slots for hashed pairs of neighbouring tokens.
        max_length: Tokens of a text that count.
        folds: Parts of the cross-validation behind `auto`.
        seed: Of those parts.
    """

    c: float | Literal["auto"] = "auto"
    dimension: int = 256
    rarity: float = 1e-3
    pairs: int = 1 << 17
    max_length: int = 512
    folds: int = 3
    seed: int = 0


class StaticStudent(Student):
    """A table of token vectors, weights of tokens and pairs, and a linear head."""

    kind: ClassVar[str] = "static"
    takes: ClassVar[Literal["texts", "vectors", "both"]] = "texts"
    strength_for_programs: ClassVar[float | None] = 10.0
    strengths_on_dev: ClassVar[tuple[float, ...]] = (3.0, 10.0, 30.0)
    Config: ClassVar[type[Any]] = StaticConfig

    def __init__(self, arrays: Mapping[str, NDArray[Any]], tokenizer: str, config: StaticConfig, multi: bool) -> None:
        from tokenizers import Tokenizer

        super().__init__(config, multi, len(arrays["bias"]) if "bias" in arrays else 0)
        self.arrays = dict(arrays)
        self.tokenizer_json = tokenizer
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @classmethod
    def train(cls, lesson: TrainingSet, config: StaticConfig) -> StaticStudent:
        assert lesson.encoder is not None
        vectors, tokenizer = token_vectors(lesson.encoder, lesson.progress)
        student = cls({}, tokenizer, config, lesson.multi)
        ids = student.token_ids(lesson.texts)
        table = reduce_and_weigh(vectors, ids, config.dimension, config.rarity).astype(np.float16)
        idf = learn_idf(ids, len(table), config.pairs)
        columns = np.flatnonzero(idf)
        dense = pool(table, ids, config.max_length)
        sparse = gram_matrix(ids, len(table), idf)[:, columns]
        whole, student.config, student.trials = learn_head(Features(dense, sparse), lesson, config)
        d, student.n_labels = dense.shape[1], len(whole.bias)
        grams = np.zeros((len(idf), student.n_labels), np.float32)
        grams[columns] = whole.weight[:, d:].T
        head = np.ascontiguousarray(whole.weight[:, :d])
        student.arrays = {"embeddings": table, "weight": head, "bias": whole.bias, "grams": grams, "idf": idf}
        return student

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens, cut to `max_length`."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids[: self.config.max_length] for encoding in encoded]

    def _answer(self, texts: Sequence[str], vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
        out = np.zeros((len(texts), self.n_labels), np.float32)
        for start in range(0, len(texts), 4096):
            logits, _ = static_answers(self.arrays, self.token_ids(texts[start : start + 4096]), self.config.max_length)
            out[start : start + 4096] = probabilities(logits, self.multi)
        return out

    def vectors_behind(self, inputs: Inputs) -> NDArray[np.float32] | None:
        texts = inputs.texts if isinstance(inputs, TextsAndVectors) else [str(text) for text in inputs]
        return pool(self.arrays["embeddings"], self.token_ids(texts), self.config.max_length)

    def scale_temperature(self, temperature: float) -> None:
        for name in ("weight", "bias", "grams"):
            self.arrays[name] = self.arrays[name] / np.float32(temperature)

    def _write(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        save_file(self.arrays, str(folder / "static.safetensors"))
        (folder / "tokenizer.json").write_text(self.tokenizer_json, encoding="utf-8")

    @classmethod
    def _read(cls, folder: Path, config: Any, multi: bool, encoder: Encoder | None) -> StaticStudent:
        from safetensors.numpy import load_file

        arrays = load_file(str(folder / "static.safetensors"))
        return cls(arrays, (folder / "tokenizer.json").read_text(encoding="utf-8"), config, multi)


def token_vectors(encoder: Encoder, progress: Progress = no_progress) -> tuple[NDArray[np.float32], str]:
    """The encoder's vector of every token of its vocabulary on its own, and its tokenizer as JSON; kept in the cache folder.

    Args:
        encoder: One with a sentence-transformers model; its prompt, which stands before texts, takes no part.
        progress: Called with (done, total, what).

    Returns:
        float32 [vocabulary, d], and the tokenizer.
    """
    from factory.encoders.onnx_model import cache_folder

    path = cache_folder() / "tokens" / f"{digest(encoder.key)[:32]}.npz"
    try:
        with np.load(path) as kept:
            return kept["vectors"], str(kept["tokenizer"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        found = _token_vectors(encoder, progress)
    with suppress(OSError), replaced(path) as draft, draft.open("wb") as file:
        np.savez(file, vectors=found[0], tokenizer=np.array(found[1]))
    return found


def _token_vectors(encoder: Encoder, progress: Progress) -> tuple[NDArray[np.float32], str]:
    import torch

    model = encoder.body()
    tokenizer = model.tokenizer
    transformer, pooling = model[0].auto_model, model[1].pooling_mode
    size = len(tokenizer)
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    out = np.zeros((size, transformer.config.hidden_size), np.float32)
    device = next(transformer.parameters()).device
    with torch.inference_mode():
        for start in range(0, size, 2048):
            tokens = torch.arange(start, min(start + 2048, size))
            rows = [tokens] if first is None or last is None else [
                torch.full_like(tokens, first), tokens, torch.full_like(tokens, last),
            ]  # fmt: skip
            ids = torch.stack(rows, dim=1).to(device)
            hidden = transformer(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
            vector = hidden[:, 0] if pooling == "cls" else hidden.mean(1)
            progress(start, size, "token vectors of the encoder")
            out[start : start + len(tokens)] = torch.nn.functional.normalize(vector, dim=1).cpu().numpy()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["truncation"] = backend["padding"] = None
    return out, json.dumps(backend, ensure_ascii=False, sort_keys=True)


def reduce_and_weigh(
    vectors: NDArray[np.float32], ids: Sequence[Sequence[int]], dimension: int, rarity: float
) -> NDArray[np.float32]:
    """Principal components of the token vectors, each scaled by how rare its token is in these texts.

    Args:
        vectors: float32 [v, d].
        ids: Token ids of the texts, for frequencies; tokens that do not occur count as rarest.
        dimension: Components to keep.
        rarity: `a` of a / (a + p).

    Returns:
        float32 [v, min(dimension, d)].
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(values)[::-1][:dimension]
    axes = axes[:, order]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])] < 0, -1.0, 1.0)
    counts = np.zeros(len(vectors))
    for row in ids:
        np.add.at(counts, np.asarray(row, np.int64), 1.0)
    share = counts / max(counts.sum(), 1.0)
    return np.asarray((centred @ axes) * (rarity / (rarity + share))[:, None], np.float32)
