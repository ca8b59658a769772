"""A graph in int8 that answers the same for a text whatever stands beside it.

Quantising activations with one scale for a whole batch lets a text's answer depend on its neighbours and their padding. Here each
token has a scale of its own (Dettmers et al. 2022 call it vector-wise), written in plain ONNX operators: every row of a matrix
product is quantised by its own largest value, multiplied in integers, which is exact, and scaled back. So a row's answer is the
same bit for bit in any batch.

Products of two activations (a head's scores and what it reads) stay in fp32. ONNX Runtime adds their terms in runs whose length
depends on how many tokens stand beside, once there are more than 128 terms; a last bit that differs there moves a later rounding,
and 24 layers make half a hundredth of it. So products of more terms are written as sums of products of at most 128.

Weights have 7 bits and a scale for each column. With 7 bits no processor's multiply-and-add of 8-bit numbers saturates (those
without VNNI add pairs in 16 bits), so all of them compute the same. What that costs is won back by moving the range of strong
columns from the activations to the weights (Xiao et al. 2023), and by scales that clip where this lowers the squared error: on AG
News and TREC the probabilities are half as far from fp32 as with one scale for a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.windows import open_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[Any]]
    Range = tuple[NDArray[np.float32], NDArray[np.float32]]

WEIGHT_MOST = 63
"""Largest weight: 255 * 63 * 2 fits into 16 bits with a sign."""
LEAST_SIZE = 64
"""Rows and columns that a product's weights must have: smaller ones take no time, and the head is kept exact."""
LEAST_ROWS = 1000
"""Rows of a table of embeddings that is worth quantising."""
BALANCE = 0.5
"""Exponent of the activations' share in a column's range (Xiao et al. 2023 use one half)."""
ONE_SIDED = 0.25
"""Activations whose lowest value is above so many of their highest, below 0, are quantised from lowest to highest."""
MOST_TERMS = 128
"""Terms of a product of two activations that ONNX Runtime adds in one run, whatever the other sizes."""
TINY = 1e-12
_CONSTANTS = {
    "axis": np.array([-1], np.int64), "tiny": np.array(TINY, np.float32), "middle": np.uint8(128), "least": np.uint8(0),
    "signed": np.float32(1 / 127), "unsigned": np.float32(1 / 255),
}  # fmt: skip


def write_int8(fp32: Path, path: Path, feeds: Sequence[Feed]) -> None:
    """Quantise the matrix products and embeddings of a graph.

    Args:
        fp32: A graph.
        path: Where to write; the same bytes for the same graph and feeds.
        feeds: Inputs like those to come, which tell how large activations are. They decide no row's scale.
    """
    import onnx

    model = onnx.load(str(fp32))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    inputs: dict[str, list[str]] = {}
    for node in model.graph.node:
        if _reads(node, "MatMul", 1, weights):
            inputs.setdefault(node.input[0], []).append(node.input[1])
    products = [node.input[0] for node in model.graph.node if _of_activations(node, weights)]
    ranges, widths = _seen(model, list(inputs), products, feeds)
    writer = _Writer()
    balanced = {
        name: _balance(ranges[name], [_array(weights[weight]) for weight in of])
        for name, of in inputs.items()
        if name in ranges and all(uses[weight] == 1 for weight in of)
    }
    for node in model.graph.node:
        if _reads(node, "MatMul", 1, weights):
            low, high = ranges.get(node.input[0], (np.float32(-1), np.float32(1)))
            signed = bool(np.min(low) < -ONE_SIDED * np.max(high))
            writer.product(node, _array(weights[node.input[1]]), balanced.get(node.input[0]), signed=signed)
        elif _of_activations(node, weights) and widths.get(node.input[0], 0) > MOST_TERMS:
            writer.parts(node, widths[node.input[0]])
        elif _reads(node, "Gather", 0, weights):
            writer.lookup(node, _array(weights[node.input[0]], np.float32))
        else:
            writer.nodes.append(node)
    still = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in still]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(writer.nodes)
    model.graph.initializer.extend([*kept, *writer.tensors.values()])
    onnx.save_model(model, str(path), save_as_external_data=False)


def quantised(weight: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Weights [d, k] as integers with a scale for each column: the scale, of a few, that leaves the least squared error.

    Returns:
        int8 [d, k] in [-63, 63], and float64 [k]; their product is near the weights.
    """
    largest = np.maximum(np.abs(weight).max(axis=0), TINY)
    best, least = largest / WEIGHT_MOST, np.full(weight.shape[1], np.inf)
    rough = weight.astype(np.float32)  # halves the time, and the scales that are compared lie far apart
    for share in np.linspace(0.6, 1.0, 17):
        scale = largest * share / WEIGHT_MOST
        units = rough / scale.astype(np.float32)
        left = units - np.clip(np.rint(units), -WEIGHT_MOST, WEIGHT_MOST)
        error = np.einsum("dk,dk->k", left, left).astype(np.float64) * scale**2
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return np.clip(np.round(weight / best), -WEIGHT_MOST, WEIGHT_MOST).astype(np.int8), best


class _Writer:
    """Nodes and tensors of the new graph; what several products need of one input is computed once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}
        self._rows: dict[str, str] = {}

    def product(
        self, node: Any, weight: NDArray[np.float64], balance: NDArray[np.float64] | None, *, signed: bool
    ) -> None:
        """A product of rows and weights [d, k]: quantise each row, multiply integers, scale back.

        `balance` [d] is what the columns of the rows are divided by and the weights multiplied with; a row is quantised around 0
        (`signed`), or else from its lowest to its highest value.
        """
        from onnx import TensorProto

        rows, out = node.input[0], node.output[0]
        numbers, scale = quantised(weight if balance is None else weight * balance[:, None])
        if rows not in self._rows:
            self._rows[rows] = self._quantise_rows(rows, balance, signed=signed)
        mine = self._rows[rows]
        self._tensor(f"{out}_w", numbers)
        self._tensor(f"{out}_s", (scale / (127 if signed else 255)).astype(np.float32))
        self._add("MatMulInteger", [f"{mine}_u", f"{out}_w", "int8_middle" if signed else "int8_least"], f"{out}_i")
        self._add("Cast", [f"{out}_i"], f"{out}_f", to=TensorProto.FLOAT)
        self._add("Mul", [f"{out}_f", f"{out}_s"], f"{out}_g")
        if signed:
            self._add("Mul", [f"{out}_g", f"{mine}_r"], out)
            return
        self._tensor(f"{out}_c", (numbers.astype(np.float64) * scale).sum(axis=0).astype(np.float32))
        self._add("Mul", [f"{out}_g", f"{mine}_r"], f"{out}_h")
        self._add("Mul", [f"{out}_c", f"{mine}_lo"], f"{out}_k")
        self._add("Add", [f"{out}_h", f"{out}_k"], out)

    def parts(self, node: Any, width: int) -> None:
        """A product of activations [.., n, width] and [.., width, m] as the sum of products of at most `MOST_TERMS` terms."""
        out, total = node.output[0], ""
        for axis in (-1, -2):
            self._tensor(f"int8_axis{axis}", np.array([axis], np.int64))
        for first in range(0, width, MOST_TERMS):
            last = min(first + MOST_TERMS, width)
            for edge in (first, last):
                self._tensor(f"int8_at{edge}", np.array([edge], np.int64))
            for side, axis in enumerate((-1, -2)):
                bounds = [f"int8_at{first}", f"int8_at{last}", f"int8_axis{axis}"]
                self._add("Slice", [node.input[side], *bounds], f"{out}_{side}_{first}")
            part = f"{out}_p{first}"
            self._add("MatMul", [f"{out}_0_{first}", f"{out}_1_{first}"], part)
            if total:
                self._add("Add", [total, part], out if last == width else f"{out}_t{first}")
            total = f"{out}_t{first}" if total else part

    def lookup(self, node: Any, table: NDArray[np.float32]) -> None:
        """A table of embeddings [v, d] as integers with a scale for each row."""
        from onnx import TensorProto

        ids, out = node.input[1], node.output[0]
        scale = (
            np.maximum(np.maximum(table.max(1, keepdims=True), -table.min(1, keepdims=True)), np.float32(TINY)) / 127
        )
        self._tensor(f"{out}_w", np.rint(table / scale).astype(np.int8))
        self._tensor(f"{out}_s", scale)
        self._add("Gather", [f"{out}_w", ids], f"{out}_i")
        self._add("Gather", [f"{out}_s", ids], f"{out}_r")
        self._add("Cast", [f"{out}_i"], f"{out}_f", to=TensorProto.FLOAT)
        self._add("Mul", [f"{out}_f", f"{out}_r"], out)

    def _quantise_rows(self, rows: str, balance: NDArray[np.float64] | None, *, signed: bool) -> str:
        """Rows as `NAME_u`, uint8; `NAME_r` is what one stands for (of `NAME_lo`, where it counts from the lowest value)."""
        name = f"{rows}_int8"
        for constant, value in _CONSTANTS.items():
            self._tensor(f"int8_{constant}", value)
        if balance is not None:
            self._tensor(f"{name}_b", (1 / balance).astype(np.float32))
            self._add("Mul", [rows, f"{name}_b"], f"{name}_x")
            rows = f"{name}_x"
        self._add("ReduceMax", [rows, "int8_axis"], f"{name}_hi", keepdims=1)
        self._add("ReduceMin", [rows, "int8_axis"], f"{name}_lo", keepdims=1)
        if signed:
            self._add("Neg", [f"{name}_lo"], f"{name}_no")
            self._add("Max", [f"{name}_hi", f"{name}_no", "int8_tiny"], f"{name}_r")
        else:
            self._add("Sub", [f"{name}_hi", f"{name}_lo"], f"{name}_d")
            self._add("Max", [f"{name}_d", "int8_tiny"], f"{name}_r")
            self._add("Sub", [rows, f"{name}_lo"], f"{name}_y")
            rows = f"{name}_y"
        self._add("Div", [rows, f"{name}_r"], f"{name}_n")
        step, zero = ("int8_signed", "int8_middle") if signed else ("int8_unsigned", "int8_least")
        self._add("QuantizeLinear", [f"{name}_n", step, zero], f"{name}_u")
        return name

    def _tensor(self, name: str, value: Any) -> None:
        from onnx import numpy_helper

        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(np.asarray(value), name)

    def _add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"node_{output}", **attributes))


def _reads(node: Any, kind: str, at: int, weights: Mapping[str, Any]) -> bool:
    """Whether a node is of a kind and its input there a table of weights that is worth quantising."""
    if node.op_type != kind or node.input[at] not in weights:
        return False
    size = list(weights[node.input[at]].dims)
    return len(size) == 2 and (min(size) >= LEAST_SIZE if kind == "MatMul" else size[0] >= LEAST_ROWS)


def _array(tensor: Any, kind: type[Any] = np.float64) -> NDArray[Any]:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor), kind)


def _balance(known: Range, weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What the columns of the activations are divided by so that their ranges and those of the weights are alike: [d]."""
    large = np.maximum(np.abs(known[0]), np.abs(known[1])).astype(np.float64)
    heavy = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    share = np.maximum(large, 1e-4) ** BALANCE / np.maximum(heavy, 1e-6) ** (1 - BALANCE)
    return np.asarray(share / np.exp(np.log(share).mean()))


def _of_activations(node: Any, weights: Mapping[str, Any]) -> bool:
    return node.op_type == "MatMul" and not any(name in weights for name in node.input)


def _seen(
    model: Any, names: Sequence[str], products: Sequence[str], feeds: Sequence[Feed]
) -> tuple[dict[str, Range], dict[str, int]]:
    """What some values of a graph are for feeds.

    Returns:
        The lowest and the highest value of each column of `names`, and the last size of those of `products` that have the same
        for texts of different lengths.
    """
    from onnx import TensorProto, helper

    every = list(dict.fromkeys([*names, *products]))
    if not every or not feeds:
        return {}, {}
    probe = type(model)()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in every)
    session = open_session(probe.SerializeToString())
    found: dict[str, Range] = {}
    widths: dict[str, set[int]] = {name: set() for name in products}
    for feed in feeds:
        values = dict(zip(every, session.run(every, dict(feed)), strict=True))
        for name in names:
            flat = values[name].reshape(-1, values[name].shape[-1])
            low, high = flat.min(axis=0), flat.max(axis=0)
            before = found.get(name, (low, high))
            found[name] = np.minimum(low, before[0]), np.maximum(high, before[1])
        for name in products:
            widths[name].add(values[name].shape[-1])
    lengths = {tuple(value.shape[1:] for value in feed.values()) for feed in feeds}
    return found, {name: sizes.pop() for name, sizes in widths.items() if len(sizes) == 1 and len(lengths) > 1}
