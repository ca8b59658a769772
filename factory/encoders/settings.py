"""Which encoder, and how it reads: `encoder:` as a person writes it, and what a model's own files say.

    encoder: auto                                  # chosen (`encoders.auto`)
    encoder: sentence-transformers/all-mpnet-base-v2
    encoder: ./models/embeddinggemma
    encoder: {path: ./models/embeddinggemma, prompt: "task: classification | query: ", dimension: 256, length: 512}

Prompt, length and dimension are the model's own unless they are named: the classification prompt of
`config_sentence_transformers.json` where it has one (else the prompt that it uses by default, else none), and the window of
`sentence_bert_config.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from factory.canonical import digest
from factory.errors import InputError, nearest

WINDOWS_VERSION = 1
"""Raised when long texts are read in another way, so that stored vectors are computed anew."""
LENGTH = 512
"""Tokens that a model reads whose files name no length."""


class EncoderSettings(TypedDict, total=False):
    """An encoder as a mapping; `path` and `name` are one thing, and the others are the model's own by default."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    path: str
    name: str
    prompt: str
    dimension: Annotated[int, Field(ge=1)]
    length: Annotated[int, Field(ge=8)]
    precision: Literal["int8", "fp32"]


Named = str | EncoderSettings
"""What `encoder:` may be."""
HOW = (
    "`auto`, a name, a folder, or a mapping of `path` or `name` with `prompt`, `dimension` (the first so many numbers of a"
    " vector, for models that were trained for it), `length` (tokens of a window) and `precision`"
)


@dataclass(frozen=True)
class Wanted:
    """What was asked for; None where it is the model's own.

    Attributes:
        name: `auto`, a name, a folder or a hub name.
        prompt: Put before each text.
        dimension: The first so many numbers of a vector are kept.
        length: Tokens of a window, special ones included.
        precision: `int8` or `fp32`; None is what is quickest here within what is lost.
    """

    name: str
    prompt: str | None = None
    dimension: int | None = None
    length: int | None = None
    precision: str | None = None

    @property
    def as_json(self) -> dict[str, Any]:
        """As a mapping that `wanted` reads; what is the model's own is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def wanted(named: str | Mapping[str, Any]) -> Wanted:
    """What `encoder:` asks for.

    Raises:
        InputError: A mapping without `path` or `name`, with both, or with an unknown key.
    """
    if isinstance(named, str):
        return Wanted(named)
    known = {"path", *Wanted.__dataclass_fields__}
    for key in named:
        if key not in known:
            raise InputError(f"unknown key `{key}` in `encoder`{nearest(key, known)}")
    values = {key: value for key, value in named.items() if key != "path"}
    if ("path" in named) == ("name" in named):
        raise InputError("`encoder` as a mapping needs `path` or `name`, and only one of them")
    return Wanted(**{"name": str(named.get("path")), **values})


@dataclass(frozen=True)
class Own:
    """What a model's own files say.

    Attributes:
        prompt: For classification; empty where it has none.
        dimension: Of a vector.
        length: Tokens of a window.
        prompt_counts: Whether a prompt's tokens are pooled with the others.
        graph: Whether its modules are those that a graph can be made of.
    """

    prompt: str
    dimension: int
    length: int
    prompt_counts: bool = True
    graph: bool = True


def own_of(folder: Path) -> Own:
    """What a model's files say of itself; reads no weights."""
    told = _json(folder / "config_sentence_transformers.json")
    prompts = {str(name).lower(): str(text) for name, text in (told.get("prompts") or {}).items() if text}
    default = str(told.get("default_prompt_name") or "").lower()
    prompt = prompts.get("classification") or prompts.get(default) or ""
    config = _json(folder / "config.json")
    modules = _list(folder / "modules.json")
    pooling = next((_json(folder / one["path"] / "config.json") for one in modules if "ooling" in one["type"]), {})
    kinds = [str(one["type"]).rsplit(".", 1)[-1] for one in modules]
    graph = kinds[:2] == ["Transformer", "Pooling"] and set(kinds[2:]) <= {"Dense", "Normalize"}
    length = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    length = length or _json(folder / "tokenizer_config.json").get("model_max_length")
    known = int(length) if length and length < 1e6 else LENGTH
    dimension = _dimension(folder, modules, config)
    return Own(prompt, dimension, known, bool(pooling.get("include_prompt", True)), graph)


def settled(choice: Wanted, own: Own, where: Path) -> Wanted:
    """The same with prompt, dimension and length filled in.

    Raises:
        InputError: More than the model has, or a prompt that its pooling leaves out.
    """
    for what, asked, most in (("dimension", choice.dimension, own.dimension), ("length", choice.length, own.length)):
        if asked is not None and asked > most:
            raise InputError(f"`encoder.{what}` is {asked}, and this encoder has {most}", where=where)
    prompt = own.prompt if choice.prompt is None else choice.prompt
    if prompt and not own.prompt_counts:
        raise InputError(
            "this encoder's pooling leaves the tokens of a prompt out, which exports cannot do",
            where=where,
            fix='Say `prompt: ""`, or name another encoder',
        )
    return replace(
        choice, prompt=prompt, dimension=choice.dimension or own.dimension, length=choice.length or own.length
    )


def vector_key(folder: Path, choice: Wanted, own: Own, precision: str) -> str:
    """Hash of all that decides a vector: the model's files, prompt, length, dimension and precision.

    Args:
        folder: The model.
        choice: From `settled`.
        own: From `own_of`.
        precision: How it is computed: empty for fp32.
    """
    values: dict[str, Any] = {"encoder": "sentence-transformers", "files": files_of(folder), "windows": WINDOWS_VERSION}
    if choice.prompt:
        values["prompt"] = choice.prompt
    if choice.length != own.length:
        values["length"] = choice.length
    if choice.dimension != own.dimension:
        values["dimension"] = choice.dimension
    return digest({**values, "precision": precision} if precision else values)


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a model that decide what it computes: weights, configuration, tokenizer."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".json", ".safetensors", ".txt", ".model")
        and path.name != "data_config.json"
        and path.is_file()
    }


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; computed once per process for each state of it."""
    state = path.stat()
    return _sha256_of(str(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: str, size: int, modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dimension(folder: Path, modules: list[Any], config: Mapping[str, Any]) -> int:
    for module in reversed(modules):
        values = _json(folder / module["path"] / "config.json") if module["path"] else {}
        for key in ("out_features", "word_embedding_dimension", "embedding_dimension"):
            if key in values:
                return int(values[key])
    return int(config.get("hidden_size") or config["dim"])


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _list(path: Path) -> list[Any]:
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []
