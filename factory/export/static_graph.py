"""The ONNX graph of a static student, from token ids to probabilities, node by node: it needs no torch and no tracing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.windows import open_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET, IR = 20, 10
"""What onnxruntime 1.18 reads, as the other graphs of an export need it."""


def write_static_graph(arrays: Mapping[str, NDArray[Any]], multi: bool, path: Path) -> None:
    """Write the graph.

    Inputs are `input_ids` and `attention_mask`, int64 [n, t], without special tokens; outputs as of `onnx_graph.write_graph`.

    Args:
        arrays: As `students.pooling.static_answers` takes them.
        multi: Sigmoids rather than a softmax.
        path: Where to write; the same bytes for the same student.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    tables = {"embeddings": arrays["embeddings"].astype(np.float16)}
    tables |= {name: arrays[name].astype(np.float32) for name in ("weight", "bias", "grams", "idf")}
    vocabulary = len(arrays["embeddings"])
    numbers = {
        "begin": [0], "second": [1], "end": [np.iinfo(np.int64).max], "last": [-1], "columns": [1], "third": [2],
        "left": 1_000_003, "right": 8_191, "pairs": len(arrays["idf"]) - vocabulary, "vocabulary": vocabulary,
    }  # fmt: skip
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tables.items()]
    tensors += [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in numbers.items()]
    tensors.append(numpy_helper.from_array(np.array(1e-12, np.float32), "tiny"))
    nodes: list[Any] = []

    def add(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, list(inputs), [output], name=f"node_{output}", **attributes))

    add("Cast", ["attention_mask"], "there", to=TensorProto.FLOAT)
    add("Unsqueeze", ["there", "third"], "there_wide")
    add("Gather", ["embeddings", "input_ids"], "half")
    add("Cast", ["half"], "each", to=TensorProto.FLOAT)
    add("Mul", ["each", "there_wide"], "known")
    add("ReduceSum", ["known", "columns"], "sum", keepdims=0)
    add("ReduceL2", ["sum", "columns"], "length", keepdims=1)
    add("Max", ["length", "tiny"], "length_safe")
    add("Div", ["sum", "length_safe"], "sentence_embedding")
    add("Gemm", ["sentence_embedding", "weight", "bias"], "dense", transB=1)
    add("Slice", ["input_ids", "begin", "last", "columns"], "first_ids")
    add("Slice", ["input_ids", "second", "end", "columns"], "next_ids")
    add("Mul", ["first_ids", "left"], "first_hash")
    add("Mul", ["next_ids", "right"], "next_hash")
    add("BitwiseXor", ["first_hash", "next_hash"], "hash")
    add("Mod", ["hash", "pairs"], "slot")
    add("Add", ["slot", "vocabulary"], "pair_slots")
    add("Concat", ["input_ids", "pair_slots"], "slots", axis=1)
    add("Slice", ["there", "second", "end", "columns"], "pair_there")
    add("Concat", ["there", "pair_there"], "slot_there", axis=1)
    add("Gather", ["idf", "slots"], "slot_idf")
    add("Mul", ["slot_idf", "slot_there"], "values")
    add("ReduceL2", ["values", "columns"], "norm", keepdims=1)
    add("Max", ["norm", "tiny"], "norm_safe")
    add("Gather", ["grams", "slots"], "slot_grams")
    add("Unsqueeze", ["values", "third"], "values_wide")
    add("Mul", ["slot_grams", "values_wide"], "pulls")
    add("ReduceSum", ["pulls", "columns"], "pull", keepdims=0)
    add("Div", ["pull", "norm_safe"], "sparse")
    add("Add", ["dense", "sparse"], "logits")
    add("Sigmoid" if multi else "Softmax", ["logits"], "probabilities")
    (k, d), value = arrays["weight"].shape, helper.make_tensor_value_info
    ids = [value(name, TensorProto.INT64, ["texts", "tokens"]) for name in ("input_ids", "attention_mask")]
    sizes = {"probabilities": k, "sentence_embedding": d}
    answers = [value(name, TensorProto.FLOAT, ["texts", size]) for name, size in sizes.items()]
    graph = helper.make_graph(nodes, "static", ids, answers, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    model.producer_name, model.producer_version = "label-factory", ""
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path), save_as_external_data=False)


def answer_by_graph(folder: Path) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """What the graph of an export says, read as the example on its card reads it: texts to probabilities, float32 [n, k]."""
    from tokenizers import Tokenizer

    facts = json.loads((folder / "inference.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(facts["max_length"])
    tokenizer.enable_padding()
    session = open_session((folder / "model.onnx").read_bytes())

    def answer(texts: Sequence[str]) -> NDArray[np.float32]:
        cut = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        feed = {
            "input_ids": np.array([each.ids for each in cut], np.int64),
            "attention_mask": np.array([each.attention_mask for each in cut], np.int64),
        }
        return np.asarray(session.run(["probabilities"], feed)[0], np.float32)

    return answer
