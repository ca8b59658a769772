"""The engine for a small model on a CPU: real `transformers`, a tiny random model."""

from __future__ import annotations

import numpy as np
import pytest

from factory.llm import Answer, Ask, EngineSettings, Failure, Request, ask, make_engine
from factory.llm.check import check_engine
from factory.llm.engines.transformers import choice_scores, draw
from factory.warehouse.file import Warehouse


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory):
    from tiny_model import build

    folder = build(tmp_path_factory.mktemp("tiny"), context=512)
    return make_engine(EngineSettings(kind="transformers", model=str(folder), batch_size=4))


def request(engine, text: str, schema=None, **sampling: object) -> Request:
    given = {"temperature": 1.0, "max_tokens": 6, **sampling}
    return Request(engine.model, ({"role": "user", "content": text},), given, schema)


def test_choices_are_valid_and_batches_do_not_change_them(engine) -> None:
    labels = {"choice": ["spam", "ham", "a longer label"]}
    asks = [Ask(request(engine, f"text {i}", labels), range(3)) for i in range(10)]
    together = ask(Warehouse.memory(), engine, asks, stage="t")
    assert {answer.text for answer in together.values()} <= set(labels["choice"])  # type: ignore[union-attr]
    for one in asks:
        alone = ask(Warehouse.memory(), engine, [one], stage="t")
        assert {k: a.text for k, a in alone.items()} == {k: together[k].text for k in alone}  # type: ignore[union-attr]


def test_texts_are_generated_in_batches_and_counted(engine) -> None:
    asks = [Ask(request(engine, f"text {i} " + "word " * i, temperature=0)) for i in range(9)]
    outcomes = ask(Warehouse.memory(), engine, asks, stage="t")
    for answer in outcomes.values():
        assert isinstance(answer, Answer)
        assert answer.usage.counted
        assert 0 <= answer.usage.tokens_out <= 6
        assert answer.usage.tokens_in > 3
    alone = ask(Warehouse.memory(), engine, asks[:1], stage="t")
    key = (asks[0].request.key, 0)
    assert alone[key].text == outcomes[key].text  # type: ignore[union-attr]


def test_samples_differ_and_are_repeatable(engine) -> None:
    one = request(engine, "hello")
    first = ask(Warehouse.memory(), engine, [Ask(one, range(4))], stage="t")
    second = ask(Warehouse.memory(), engine, [Ask(one, range(4))], stage="t")
    assert {k: a.text for k, a in first.items()} == {k: a.text for k, a in second.items()}  # type: ignore[union-attr]
    assert len({a.text for a in first.values()}) > 1  # type: ignore[union-attr]


def test_what_it_cannot_do_is_said(engine) -> None:
    long = request(engine, "hello " * 600)
    form = request(engine, "x", {"json": {"type": "object"}})
    outcomes = ask(Warehouse.memory(), engine, [Ask(long), Ask(form)], stage="t")
    reasons = {outcome.reason for outcome in outcomes.values() if isinstance(outcome, Failure)}
    assert reasons == {"context_too_long", "unsupported"}
    report = check_engine(engine, [])
    failed = {check["kind"] for check in report["checks"] if not check["ok"]}
    assert {"json", "regex", "logprobs"} <= failed, "and the free text of a random model is cut off"
    assert "choice" not in failed
    assert not report["ok"]


def test_scores_of_choices_of_unlike_length_are_means_per_token() -> None:
    assert np.exp(choice_scores(np.array([-1.0, -1.0]), [1, 1])) == pytest.approx([0.5, 0.5])
    assert np.argmax(choice_scores(np.array([-2.0, -3.0]), [1, 3])) == 1
    assert draw(np.array([-1.0, -0.1]), 0.0, 3) == 1
    drawn = [draw(np.log(np.array([0.8, 0.2])), 1.0, seed) for seed in range(300)]
    assert 0.1 < np.mean(drawn) < 0.3
