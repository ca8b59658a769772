"""int8: a text's answer is its own, whatever stands beside it, and near that of fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from factory.encoders.int8 import WEIGHT_MOST, quantised, write_int8
from factory.errors import ExportError
from factory.export.parity import ALONE_TOLERANCE, _check_alone, dependence
from factory.predict.load import load_export
from factory.predict.predictors import GraphPredictor
from tests.topics import sentences


def small_graph(path: Path, d: int = 96, k: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of 1,200 tokens, a linear layer, a Gelu and another layer: tables and weights as they are in transformers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    table = rng.normal(size=(1200, d)).astype(np.float32)
    table[:, 3] *= 20  # a strong column, as trained encoders have them
    first = (rng.normal(size=(d, k)) * 0.1).astype(np.float32)
    second = (rng.normal(size=(k, d)) * 0.1).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "first"], ["h"]),
        helper.make_node("Gelu", ["h"], ["g"]),
        helper.make_node("MatMul", ["g", "second"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", d])],
        [numpy_helper.from_array(value, name) for name, value in (("table", table), ("first", first), ("second", second))],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return first, second


def runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda ids: np.asarray(session.run(["y"], {"ids": ids})[0])


def test_a_row_is_the_same_bit_for_bit_in_any_batch_and_near_fp32(tmp_path: Path) -> None:
    small_graph(tmp_path / "fp32.onnx")
    ids = np.random.default_rng(1).integers(0, 1200, (40, 9))
    exact, errors = runner(tmp_path / "fp32.onnx")(ids), []
    for feeds in ([{"ids": ids[row : row + 1]} for row in range(20)], []):
        write_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", feeds)
        ours = runner(tmp_path / "int8.onnx")
        together = ours(ids)
        for rows in ([0], [1, 0], list(range(7)), list(range(40))[::-1]):
            np.testing.assert_array_equal(ours(ids[rows]), together[rows])
        errors.append(float(np.abs(together - exact).mean() / np.abs(exact).mean()))
    assert errors[0] < 0.03
    assert errors[0] < errors[1] < 0.1, "knowing how large activations are helps"
    assert (tmp_path / "int8.onnx").stat().st_size < 0.35 * (tmp_path / "fp32.onnx").stat().st_size


def test_scores_of_a_wide_head_are_the_same_bit_for_bit_however_many_tokens_stand_beside(tmp_path: Path) -> None:
    """Heads of 256 numbers: ONNX Runtime adds 256 products in one run for 64 tokens, and in two for more."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    values = {"table": rng.normal(size=(1200, 96)), "q": rng.normal(size=(96, 256)), "k": rng.normal(size=(96, 256))}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "q"], ["queries"]),
        helper.make_node("MatMul", ["x", "k"], ["keys"]),
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["queries", "turned"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", "t"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(tmp_path / "fp32.onnx"))
    ids = rng.integers(0, 1200, (1, 300))
    write_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", [{"ids": ids[:, :length]} for length in (5, 9)])
    ours, exact = runner(tmp_path / "int8.onnx"), runner(tmp_path / "fp32.onnx")(ids)
    alone = ours(ids[:, :12])
    for length in (12, 64, 65, 300):
        np.testing.assert_array_equal(ours(ids[:, :length])[:, :12, :12], alone)
    assert np.abs(ours(ids) - exact).mean() < 0.03 * np.abs(exact).mean()


def test_the_same_graph_and_feeds_give_the_same_bytes(tmp_path: Path) -> None:
    small_graph(tmp_path / "fp32.onnx")
    feeds = [{"ids": np.arange(9)[None]}]
    for name in ("a", "b"):
        write_int8(tmp_path / "fp32.onnx", tmp_path / name, feeds)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_are_so_small_that_no_processor_adds_two_products_beyond_16_bits() -> None:
    weight = np.random.default_rng(0).standard_cauchy(size=(300, 70))
    weight[:, 5] = 0.0
    numbers, scale = quantised(weight)
    assert np.abs(numbers).max() == WEIGHT_MOST
    assert 255 * WEIGHT_MOST * 2 < 2**15
    plain = np.abs(weight).max(axis=0) / WEIGHT_MOST
    rounded = np.round(weight / np.maximum(plain, 1e-12)) * plain
    assert ((weight - numbers * scale) ** 2).sum() <= ((weight - rounded) ** 2).sum() + 1e-9
    assert (numbers[:, 5] == 0).all()


def test_an_answer_that_depends_on_its_neighbours_is_found_and_refused(tmp_path: Path) -> None:
    def own(texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text) / 1e4, 1 - len(text) / 1e4] for text in texts], np.float32)

    def by_batch(texts: Sequence[str]) -> np.ndarray:
        return own(texts) + np.float32(1e-4 * (len(texts) > 1))

    def by_longest(texts: Sequence[str]) -> np.ndarray:
        return own(texts) + np.float32(1e-9 * max(map(len, texts)))

    texts = ["a", "bb", "ccc"]
    assert dependence(own, texts) == 0
    assert dependence(by_batch, texts) == pytest.approx(1e-4, rel=0.01)
    assert dependence(by_longest, texts) > 1e-6
    _check_alone(own, "int8", texts, tmp_path)
    with pytest.raises(
        ExportError, match=r"the int8 export's answer for a text depends on the texts beside it, by 0.0001"
    ):
        _check_alone(by_batch, "int8", texts, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_text_gets_the_same_answer_alone_in_twos_in_a_batch_and_padded(transformer: Path, precision: str) -> None:
    exported = load_export(transformer, precision=precision)
    texts = ["", "the bank", "the match " * 100, "the oven " * 1200, *sentences(9, 30)[0]]
    alone = np.concatenate([exported.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(exported.predict_proba(texts), alone, atol=ALONE_TOLERANCE)
    np.testing.assert_allclose(exported.predict_proba(texts[::-1])[::-1], alone, atol=ALONE_TOLERANCE)
    assert isinstance(exported.predictor, GraphPredictor)
    padded, vectors = exported.predictor(texts, tokens=1 << 40)
    np.testing.assert_allclose(padded, alone, atol=ALONE_TOLERANCE)
    np.testing.assert_allclose(
        vectors, np.concatenate([exported.answer([text])[1] for text in texts]), atol=ALONE_TOLERANCE
    )
    for at in range(0, len(texts) - 1, 5):
        np.testing.assert_allclose(exported.predict_proba(texts[at : at + 2]), alone[at : at + 2], atol=ALONE_TOLERANCE)


@pytest.mark.slow
@pytest.mark.long
def test_the_export_says_what_was_checked(transformer: Path) -> None:
    import json

    parity = json.loads((transformer / "manifest.json").read_text())["parity"]
    assert parity["alone_max_difference_below"] == ALONE_TOLERANCE
    assert parity["int8_max_difference"] <= 0.1
    assert "does not depend on the texts beside it" in (transformer / "README.md").read_text()
