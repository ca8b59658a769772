"""One ONNX graph from token ids to probabilities: encoder, pooling, windows of long texts joined, head, softmax or sigmoid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.encoders.onnx_graph import body_module, token_dimension, write_module

if TYPE_CHECKING:
    from factory.logistic import Head


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
    import torch

    graph = _graph(body, head, grams, idf).eval().to("cpu")
    ids = torch.randint(5, 100, (3, 7), generator=torch.Generator().manual_seed(0))
    windows = torch.tensor([[7.0, 0.0, 0.0], [0.0, 7.0, 7.0]])
    texts, rows = torch.export.Dim("texts", min=1, max=65536), torch.export.Dim("rows", min=1, max=65536)
    shape = {0: rows, 1: token_dimension(body)}
    write_module(
        graph,
        (ids, torch.ones_like(ids), windows),
        path,
        inputs=["input_ids", "attention_mask", "windows"],
        outputs=["probabilities", "sentence_embedding"],
        shapes={"input_ids": shape, "attention_mask": shape, "windows": {0: texts, 1: rows}},
    )


def _graph(body: Any, head: Head, grams: Any, idf: Any) -> Any:
    import torch

    vocabulary = body.tokenizer.backend_tokenizer.get_vocab_size()

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body_module(body)
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
            vector = self.body(input_ids, attention_mask)
            vector = torch.nn.functional.normalize(windows @ vector, dim=1)
            logits = self.head(vector)
            if grams is not None:
                first = (windows > 0) & (windows.cumsum(1) == windows)
                logits = logits + first.to(windows.dtype) @ self.wide(input_ids, attention_mask)
            return (torch.sigmoid(logits) if head.multi else torch.softmax(logits, dim=1)), vector

    return Graph()
