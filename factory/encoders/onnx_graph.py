"""A sentence-transformers body as a graph: transformer, pooling of one mode, dense layers, a unit vector for each row."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import ExportError

OPSET = 20


def write_body(body: Any, path: Path) -> None:
    """Export a body as one fp32 graph: `input_ids` and `attention_mask`, int64 [w, t], to `vectors`, float32 [w, d].

    Args:
        body: A `SentenceTransformer` whose modules are a transformer, a pooling of one mode, and dense or normalising ones.
        path: Where to write; the same bytes for the same body.

    Raises:
        ExportError: The body has modules or a pooling that the graph does not know.
    """
    import torch

    graph = body_module(body).eval().to("cpu")
    ids = torch.randint(5, 100, (3, 7), generator=torch.Generator().manual_seed(0))
    rows, tokens = torch.export.Dim("rows", min=1, max=65536), token_dimension(body)
    shape = {0: rows, 1: tokens}
    write_module(
        graph,
        (ids, torch.ones_like(ids)),
        path,
        inputs=["input_ids", "attention_mask"],
        outputs=["vectors"],
        shapes={"input_ids": shape, "attention_mask": shape},
    )


def body_module(body: Any) -> Any:
    """A torch module from token ids and mask, int64 [w, t], to unit vectors, float32 [w, d].

    Raises:
        ExportError: The body has modules or a pooling that the graph does not know.
    """
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

    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = modules[0].auto_model
            self.others = torch.nn.ModuleList(module for module in modules[2:] if not isinstance(module, Normalize))

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
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
            return torch.nn.functional.normalize(vector, dim=1)

    return Body()


def token_dimension(body: Any) -> Any:
    """How many tokens a row may have, for `torch.export`."""
    import torch

    return torch.export.Dim("tokens", min=4, max=max(int(body.max_seq_length or 512), 8))


def write_module(
    module: Any, example: tuple[Any, ...], path: Path, *, inputs: Sequence[str], outputs: Sequence[str], shapes: Mapping[str, Any]
) -> None:  # fmt: skip
    """Write a torch module as one ONNX file that tells nothing of the machine that wrote it."""
    import onnx
    import torch

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module, example, dynamo=True, input_names=list(inputs), output_names=list(outputs),
            dynamic_shapes=dict(shapes), opset_version=OPSET,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    _plain(model)
    onnx.save_model(model, str(path), save_as_external_data=False)


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
