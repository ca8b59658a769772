"""Which encoder `auto` takes: the strongest at hand whose texts are encoded within `BUDGET_S` on this machine.

What is at hand: the packaged MiniLM, folders in $LABEL_FACTORY_MODELS, and what Hugging Face's cache on the disk holds. Nothing
is fetched. All constants are in `KNOWN`, with where they are from; another encoder is used by naming it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

MODELS = "LABEL_FACTORY_MODELS"
BUDGET_S = 15 * 60.0
"""So long may encoding take before a weaker and quicker encoder is taken."""
GPU_CORES = 100.0
"""One GPU in cores of a CPU: assumed, not measured, and low for current ones."""
CHARACTERS_PER_TOKEN = 4.0
"""Of English; other languages have fewer, so that their time is told too low by up to a half."""
LOOKED_AT = 64
"""Texts that length and language are judged by."""
MOST_ENCODED = 20_000
"""Texts of training that `distill` and `denoise` encode by default."""
NOT_ENGLISH = 10.0
"""Points that an encoder of English alone is put back where texts are mostly in other languages."""


@dataclass(frozen=True)
class Known:
    """What was measured of an encoder.

    Attributes:
        hub: Its hub name.
        folder: What `tests/prepare_models.py` calls its folder.
        tokens_per_s: Tokens that one core reads in a second, as `onnx_model` encodes.
        points: What a student gains over MiniLM, in points of accuracy.
        languages: `english` or `many`.
        prompt_tokens: Of its classification prompt, read with each text.
        source: Where the figures are from.
    """

    hub: str
    folder: str
    tokens_per_s: float
    points: float
    languages: str
    prompt_tokens: int
    source: str


KNOWN: Mapping[str, Known] = {
    "all-MiniLM-L6-v2": Known(
        "sentence-transformers/all-MiniLM-L6-v2", "minilm", 6900, 0.0, "english", 0,
        "130 AG News texts/s, 530 of TREC on one core with AVX-512 VNNI, int8",
    ),
    "all-mpnet-base-v2": Known(
        "sentence-transformers/all-mpnet-base-v2", "mpnet", 1140, 1.0, "english", 0,
        "38 AG News texts/s on two such cores, int8; points assumed, half of what MTEB publishes (65.1 and 63.1)",
    ),
    "embeddinggemma-300m": Known(
        "google/embeddinggemma-300m", "embeddinggemma", 430, 4.3, "many", 7,
        "13 AG News texts/s on two such cores; points: students taught by programs and labels on four sets, on average",
    ),
}  # fmt: skip
"""Encoders that `auto` chooses from, by name."""

PUBLISHED: Mapping[str, tuple[str, str, float]] = {
    "BAAI/bge-small-en-v1.5": ("MIT", "33 million", 74.14),
    "BAAI/bge-base-en-v1.5": ("MIT", "109 million", 75.53),
    "BAAI/bge-large-en-v1.5": ("MIT", "335 million", 75.97),
}
"""Encoders for whoever has a model hub: licence, parameters, and accuracy on the 12 English classification sets of MTEB (2022),
as their model cards publish it (all-mpnet-base-v2 has 65.07 there). Not measured here."""


@dataclass(frozen=True)
class Texts:
    """What is to be encoded.

    Attributes:
        count: Texts.
        tokens: Of a text, on average.
        english: Whether most of them are English.
    """

    count: int
    tokens: float
    english: bool = True


@dataclass(frozen=True)
class Candidate:
    """An encoder at hand, and what it would take.

    Attributes:
        name: In `KNOWN`.
        where: A folder, or empty for the packaged one.
        seconds: To encode all texts.
        points: What it is expected to gain over MiniLM.
    """

    name: str
    where: str
    seconds: float
    points: float


def candidates(at_hand: Mapping[str, str], texts: Texts, cores: float) -> list[Candidate]:
    """What each encoder at hand would take, the one to be used first.

    Args:
        at_hand: Names to folders, from `on_disk`.
        texts: What is to be encoded.
        cores: Of this machine.

    Example:
        >>> both = {"all-MiniLM-L6-v2": "", "embeddinggemma-300m": "models/embeddinggemma"}
        >>> [each.name for each in candidates(both, Texts(5000, 20), cores=2)]
        ['embeddinggemma-300m', 'all-MiniLM-L6-v2']
        >>> candidates(both, Texts(100_000, 300), cores=2)[0].name
        'all-MiniLM-L6-v2'
    """
    found = []
    for name, where in at_hand.items():
        known = KNOWN[name]
        seconds = texts.count * (texts.tokens + known.prompt_tokens) / (known.tokens_per_s * cores)
        behind = 0.0 if texts.english or known.languages == "many" else NOT_ENGLISH
        found.append(Candidate(name, where, seconds, known.points - behind))
    within = sorted((one for one in found if one.seconds <= BUDGET_S), key=lambda one: -one.points)
    return within + sorted((one for one in found if one.seconds > BUDGET_S), key=lambda one: one.seconds)


def on_disk(packaged: bool) -> dict[str, str]:
    """The known encoders that are on this machine: names to folders, empty for the packaged MiniLM.

    Args:
        packaged: Whether the packaged MiniLM is installed.
    """
    found = {"all-MiniLM-L6-v2": ""} if packaged else {}
    for name, known in KNOWN.items():
        prepared = Path(os.environ[MODELS]).expanduser() / known.folder if os.environ.get(MODELS) else None
        if prepared is not None and (prepared / "modules.json").is_file():
            found.setdefault(name, str(prepared))
        kept = _hub_folder() / f"models--{known.hub.replace('/', '--')}" / "snapshots"
        for snapshot in sorted(kept.glob("*/modules.json")):
            found.setdefault(name, str(snapshot.parent))
    return found


def in_hub_cache() -> list[str]:
    """The hub names of all sentence-transformers models that Hugging Face's cache on the disk holds."""
    found = {path.parts[-4] for path in _hub_folder().glob("models--*/snapshots/*/modules.json")}
    return sorted(name.removeprefix("models--").replace("--", "/") for name in found)


def cores_here(accelerator: bool) -> float:
    """What this machine computes with, in cores."""
    return GPU_CORES if accelerator else float(os.cpu_count() or 1)


def texts_in(warehouse: Warehouse) -> Texts:
    """What students of a warehouse will have encoded: a share of the training texts, and all held-out ones."""
    train, held = (
        int(warehouse.scalar(f"SELECT count(*) FROM split_texts WHERE split {which}"))
        for which in ("= 'train'", "IN ('seed', 'dev', 'test')")
    )
    rows = warehouse.query(
        "SELECT text FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
        f" ORDER BY content_hash LIMIT {LOOKED_AT}"
    )
    sample = tuple(str(text) for (text,) in rows)
    tokens = sum(map(len, sample)) / max(len(sample), 1) / CHARACTERS_PER_TOKEN + 2
    return Texts(min(train, MOST_ENCODED) + held, tokens, is_english(sample))


@lru_cache(maxsize=8)
def is_english(texts: Sequence[str]) -> bool:
    """Whether most texts are English, as far as `langdetect` can tell; true where there is nothing to tell by."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    told = []
    for text in texts:
        try:
            told.append(detect(text) == "en")
        except LangDetectException:  # no letters
            continue
    return not told or sum(told) * 2 >= len(told)


def in_words(found: Sequence[Candidate], texts: Texts) -> str:
    """Why the first was chosen, with what each would take."""
    takes = ", ".join(f"{one.name} {duration(one.seconds)}" for one in found)
    what = f"{texts.count:,} texts of about {texts.tokens:.0f} tokens{'' if texts.english else ', not English'}"
    return f"the strongest at hand within {duration(BUDGET_S)} for {what} ({takes})"


def duration(seconds: float) -> str:
    """Roughly, for a person."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _hub_folder() -> Path:
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def chosen_before(warehouse: Warehouse, names: Mapping[str, Any]) -> str | None:
    """The encoder that students of the warehouse stand on, if it is among these: a choice that was made is kept."""
    rows = warehouse.query("SELECT encoder FROM models WHERE encoder IS NOT NULL ORDER BY model_no DESC")
    return next((str(name) for (name,) in rows if name in names or name in names.values()), None)
