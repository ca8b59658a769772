"""One ONNX graph from token ids to probabilities: encoder, pooling, windows of long texts joined, head, softmax or sigmoid."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from factory.logistic import Head

OPSET = 20


def write_graph(body: Any, head: Head, path: Path, *, grams: Any = None, idf: Any = None) -> None:
    """Export a sentence-transformers body and a head as one fp32 graph.

    Inputs are `input_ids` and `attention_mask`, int64 [w, t], a row for each window of the texts, and `windows`, float32 [n, w]:
    how much each window counts for each text (`encoders.windows.shares`; the identity where every text fits). The outputs are
    `probabilities`, float32 [n, k], and `sentence_embedding`, float32 [n, d], the unit vector they come from.

    Args:
        body: A `SentenceTransformer` whose modules are a transformer, a pooling of one mode, and dense or normalising ones.
        head: Over the body's unit vectors.
        path: Where to write; the same bytes for the same body and head.
        grams: float32 [v + pairs, k], weights of tokens and pairs that a hybrid student adds to the logits, or None.
        idf: float32 [v + pairs], with `grams`.

    Raises:
        ExportError: The body has modules or a pooling that the graph does not know.
    """
    import onnx
    import torch

    graph = _graph(body, head, grams, idf).eval().to("cpu")
    ids = torch.randint(5, 100, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    windows = torch.tensor([[7.0, 0.0, 0.0], [0.0, 7.0, 7.0]])
    limit = max(int(body.max_seq_length or 512), 8)
    texts, rows = torch.export.Dim("texts", min=1, max=65536), torch.export.Dim("rows", min=1, max=65536)
    tokens = torch.export.Dim("tokens", min=4, max=limit)
    shape = {0: rows, 1: tokens}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph, (ids, mask, windows), dynamo=True, input_names=["input_ids", "attention_mask", "windows"],
            output_names=["probabilities", "sentence_embedding"], opset_version=OPSET,
            dynamic_shapes={"input_ids": shape, "attention_mask": shape, "windows": {0: texts, 1: rows}},
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    _plain(model)
    onnx.save_model(model, str(path), save_as_external_data=False)


def _graph(body: Any, head: Head, grams: Any, idf: Any) -> Any:
    import torch
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules = list(body)
    if len(modules) < 2 or not isinstance(modules[0], Transformer) or not isinstance(modules[1], Pooling):
        words = (
            f"an encoder of modules {', '.join(type(module).__name__ for module in modules)} cannot be written as ONNX"
        )
        raise ExportError(words, fix="Use a transformer with pooling")
    mode = modules[1].pooling_mode
    if mode not in ("mean", "cls", "max"):
        words = f"an encoder with pooling {mode!r} cannot be written as ONNX"
        raise ExportError(words, fix="Use mean, cls or max pooling")

    vocabulary = body.tokenizer.backend_tokenizer.get_vocab_size()

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = modules[0].auto_model
            self.others = torch.nn.ModuleList(module for module in modules[2:] if not isinstance(module, Normalize))
            self.head = torch.nn.Linear(head.weight.shape[1], head.weight.shape[0])
            with torch.no_grad():
                self.head.weight.copy_(torch.from_numpy(head.weight))
                self.head.bias.copy_(torch.from_numpy(head.bias))
            if grams is not None:
                self.register_buffer("grams", torch.from_numpy(grams))
                self.register_buffer("idf", torch.from_numpy(idf))

        grams: Any
        idf: Any

        def wide(self, ids: Any, mask: Any) -> Any:
            """Tokens and pairs between the first and the last token of each window, as `pooling.gram_logits` adds them."""
            inner, there = ids[:, 1:-1], mask[:, 2:]
            pairs = self.idf.shape[0] - vocabulary
            joined = torch.remainder((inner[:, :-1] * 1_000_003) ^ (inner[:, 1:] * 8_191), pairs) + vocabulary
            slots = torch.cat([inner, joined], dim=1)
            present = torch.cat([there, there[:, 1:]], dim=1).to(self.idf.dtype)
            values = self.idf[slots] * present
            norm = values.square().sum(1).sqrt().clamp(min=1e-12)
            return (self.grams[slots] * values.unsqueeze(-1)).sum(1) / norm.unsqueeze(-1)

        def forward(self, input_ids: Any, attention_mask: Any, windows: Any) -> Any:
            hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            if mode == "cls":
                vector = hidden[:, 0]
            elif mode == "max":
                vector = hidden.masked_fill(mask == 0, -1e9).max(1).values
            else:
                vector = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            for module in self.others:
                vector = module({"sentence_embedding": vector})["sentence_embedding"]
            vector = torch.nn.functional.normalize(vector, dim=1)
            vector = torch.nn.functional.normalize(windows @ vector, dim=1)
            logits = self.head(vector)
            if grams is not None:
                first = (windows > 0) & (windows.cumsum(1) == windows)
                logits = logits + first.to(windows.dtype) @ self.wide(input_ids, attention_mask)
            return (torch.sigmoid(logits) if head.multi else torch.softmax(logits, dim=1)), vector

    return Graph()


def _plain(model: Any) -> None:
    """Take out what tells of the machine that wrote the graph (paths, stack traces) and shapes that stand for a moment."""
    graph = model.graph
    del graph.value_info[:]
    model.producer_name, model.producer_version = "label-factory", ""
    for part in (model, *graph.node, *graph.initializer, *graph.input, *graph.output, *model.functions):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print and warn about what no user can act on."""
    previous, out = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
