"""Encoding by ONNX Runtime: a graph made once of a model, kept in the user's cache folder, and asked in batches of like length.

On a CPU this is about twice as fast as torch or more, and neither torch nor sentence-transformers is imported once the graph is
there. The graph is in int8 (`encoders.int8`: each token has a scale of its own, so a text's vector does not depend on its
neighbours) where its vectors stay near those of fp32, and in fp32 elsewhere. Vectors of either have keys of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.encoders.graph_model import GraphModel, feed_rows
from factory.encoders.settings import Own, Wanted, files_of
from factory.encoders.windows import window_tokenizer, windows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENVIRONMENT = "LABEL_FACTORY_CACHE"
GRAPH_VERSION = 2
"""Raised when the same model would give another graph."""
LEAST_COSINE = 0.99
"""Mean cosine of int8 vectors to those of fp32, on texts that int8 was not fitted to, below which fp32 is kept. all-MiniLM-L6-v2
has .998 and all-mpnet-base-v2 .997 on AG News and TREC (`tests/benchmarks/encoders.py --only int8`)."""
CALIBRATION = (
    "Where was the first university founded?", "Refund please!!", "the film is slow, but its ending is worth the wait",
    "Oil prices rose 2.4% on Tuesday after OPEC said it would cut output by 500,000 barrels a day.", "ok", "",
    "The parcel with order number 48-2213 has not come, and nobody answers the telephone.",
    "Wie lange dauert die Lieferung, und was kostet sie?", "Le match s'est terminé sur un score de trois à un.",
    "¿Cuándo abre el museo los domingos?", "今天的天气很好，我们去公园吧。", "Сколько стоит билет до Москвы?",
    "@anna thx 4 the link :) #photo http://example.org/a?b=1", "Báwo ni ọjọ́ ìsinmi yín ṣe rí?", "आज बाज़ार बंद है।",
    "I have used this blender every morning for two years, and it has never failed me. The lid leaks a little when it is full. "
    "My sister bought the larger one and says that it is louder. For the price I would buy it again without a second thought.",
    "def mean(values): return sum(values) / len(values)", "WARNING: account locked. Call 0800 555 010 now to unlock it.",
    "The central bank left interest rates unchanged, as analysts had expected, and said inflation would ease next year.",
    "The striker scored twice in the last ten minutes, so that the home team won the cup for the first time since 1987.",
    "Stir the flour into the melted butter, then pour in the milk bit by bit until the sauce is smooth.",
    "Protein kinase inhibitors reduced tumour growth in mice that had been given a high dose.", "love it", "not what I ordered",
)  # fmt: skip
"""Texts that tell how large the numbers inside of a model become."""
CHECKED = (
    "What is the capital of Peru?", "The shares of the airline fell by a tenth after it warned of lower profits.",
    "this was the worst meal I have had in years", "Mein Konto ist gesperrt, was soll ich tun?", "free entry, text WIN to 80082",
    "Scientists found water vapour in the atmosphere of a planet that is twice as large as ours.", "great phone, poor battery",
    "He felt happy when the letter came, though he had not expected it so soon.",
)  # fmt: skip
"""Texts that judge what int8 loses."""


@dataclass(frozen=True)
class Graph:
    """A graph that was made of a model.

    Attributes:
        place: Its folder; None where none could be made.
        precision: `int8` or `fp32`.
        note: What a person should know: why there is none, or that it was made just now.
    """

    place: Path | None
    precision: str
    note: str = ""


def cache_folder() -> Path:
    """Where graphs are kept: $LABEL_FACTORY_CACHE, else `label-factory` in the user's cache folder."""
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "label-factory"


def has_accelerator() -> bool:
    """Whether torch has something quicker than the CPU; on Linux without a device torch is not even imported."""
    devices = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    if sys.platform.startswith("linux") and not devices:
        return False
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def graph_of(folder: Path, choice: Wanted, own: Own, load: Callable[[], Any]) -> Graph:
    """The graph of a model: from the cache, or made and kept there. Making takes half a minute for 22 million parameters.

    Args:
        folder: Of the model.
        choice: From `settled`.
        own: From `own_of`.
        load: Gives the model as a `SentenceTransformer`.
    """
    if not own.graph:
        return Graph(None, "", "by torch: its modules are not a transformer, a pooling and dense layers")
    of = {"prompt": choice.prompt, "length": choice.length, "dimension": choice.dimension, "graph": GRAPH_VERSION}
    place = cache_folder() / "encoders" / digest({**of, "files": files_of(folder)})
    note = ""
    if not (place / "graph.json").is_file():
        started = time.monotonic()
        try:
            _make(place, choice, load)
        except OSError as error:
            return Graph(None, "", f"by torch: no graph can be kept in {place} ({error.strerror})")
        note = f"made into a graph for ONNX Runtime in {time.monotonic() - started:.0f} s, once"
    told = json.loads((place / "graph.json").read_text(encoding="utf-8"))
    if "refused" in told:
        return Graph(None, "", f"by torch: it cannot be a graph ({told['refused']})")
    return Graph(place, told["precision"], note)


def _make(place: Path, choice: Wanted, load: Callable[[], Any]) -> None:
    """Write the folder, whole or not at all; a model that cannot be a graph is remembered as one."""
    from factory.encoders.int8 import write_int8
    from factory.encoders.onnx_graph import write_body
    from factory.errors import ExportError

    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        draft = Path(scratch) / "graph"
        draft.mkdir()
        fp32, int8 = draft / "fp32.onnx", draft / "int8.onnx"
        body = load().to("cpu").eval()
        try:
            write_body(body, fp32)
            write_int8(fp32, int8, calibration(body, choice.prompt or ""))
            tokens, pad = body.tokenizer.backend_tokenizer.to_str(), int(body.tokenizer.pad_token_id or 0)
            exact, near = (_opened(path, tokens, pad, choice).encode(CHECKED) for path in (fp32, int8))
            cosine = float((exact * near).sum(axis=1).mean())
            precision = "int8" if cosine >= LEAST_COSINE else "fp32"
            told: dict[str, Any] = {"precision": precision, "cosine": round(cosine, 5), "pad": pad}
            (draft / "tokenizer.json").write_text(tokens, encoding="utf-8")
            (int8 if precision == "int8" else fp32).rename(draft / "model.onnx")
        except OSError:
            raise
        except Exception as error:  # whatever the exporters cannot do: torch can, and the reason is kept and said
            what = error.what if isinstance(error, ExportError) else f"{type(error).__name__}: {error}"
            told = {"refused": " ".join(what.split())[:300]}
        for left in (fp32, int8):
            left.unlink(missing_ok=True)
        (draft / "graph.json").write_text(json.dumps(told), encoding="utf-8")
        if (place / "graph.json").is_file():
            return  # another process was quicker
        shutil.rmtree(place, ignore_errors=True)  # half removed by hand
        try:
            draft.rename(place)
        except OSError:
            if not (place / "graph.json").is_file():
                raise


def open_graph(place: Path, choice: Wanted, threads: int = 0) -> GraphModel:
    """The graph that `graph_of` found; threads as of `GraphModel`."""
    told = json.loads((place / "graph.json").read_text(encoding="utf-8"))
    return _opened(
        place / "model.onnx", (place / "tokenizer.json").read_text(encoding="utf-8"), told["pad"], choice, threads
    )


def _opened(path: Path, tokens: str, pad: int, choice: Wanted, threads: int = 0) -> GraphModel:
    prompt, length = choice.prompt or "", int(choice.length or 0)
    return GraphModel(str(path), tokens, pad=pad, prompt=prompt, length=length, threads=threads)


def calibration(body: Any, prompt: str) -> list[dict[str, NDArray[Any]]]:
    """What graphs of a frozen encoder are fitted to, here and in an export, so that both are the same."""
    pad = int(body.tokenizer.pad_token_id or 0)
    cutter = window_tokenizer(body.tokenizer.backend_tokenizer, int(body.max_seq_length or 512))
    return [feed_rows(windows, pad) for windows in windows_of(cutter, [prompt + text for text in CALIBRATION])]
