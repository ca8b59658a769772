"""Prices, budgets and estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.errors import BudgetError, InputError
from factory.llm import Ask, EngineSettings, ModelRef, Price, Request, Usage, ask, make_engine, parse_budget
from factory.llm.engines.base import Call
from factory.llm.estimate import estimate
from factory.llm.prices import cost_of, price_of, price_table
from factory.warehouse.file import Warehouse


def request(text: str, **sampling: object) -> Request:
    return Request(
        ModelRef("fake"), ({"role": "user", "content": text},), {"temperature": 1.0, "max_tokens": 16, **sampling}
    )


def engine(url: str = "http://127.0.0.1:9/v1", **more: object):
    return make_engine(EngineSettings(kind="server", url=url, model="fake", **more))  # type: ignore[arg-type]


def test_tokens_cached_tokens_and_gpu_hours_cost_what_the_table_says() -> None:
    price = Price(input=2.0, cached=0.5, output=8.0)
    assert cost_of(price, Usage(1000, 100, 400), None, 1) == pytest.approx((600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)
    own = Price(gpu_hour=3.6, gpus=2)
    assert cost_of(own, Usage(1000, 100), 1000.0, 4) == pytest.approx(3.6 * 2 / 3600 / 4)


def test_the_shipped_table_prices_the_models_that_it_names_and_their_dated_versions_alone() -> None:
    assert len(price_table()) >= 5
    settings = EngineSettings(kind="server", url="http://x/v1", model="gpt-4o-mini-2024-07-18")
    mini, dated = price_of(settings, "gpt-4o-mini"), price_of(settings, "gpt-4o-mini-2024-07-18")
    assert mini is not None
    assert mini == dated == price_of(settings, "openai/gpt-4o-mini")
    assert mini.output < 1.0
    for other in (
        "my-own-model",
        "gpt-5-pro",
        "gpt-5.2",
        "gpt-4o-audio-preview",
        "gpt-4o-mini-tts",
        "my-gpt-4o",
        "gpt-5-",
    ):
        assert price_of(settings, other) is None, other
    assert price_of(EngineSettings(kind="recorded", answers="a"), "gpt-4o") is None


@pytest.mark.parametrize(
    ("text", "money", "tokens"),
    [
        ("2.50", 2.5, None),
        ("$3", 3.0, None),
        ("200k tokens", None, 200_000),
        ("1.5M tokens", None, 1_500_000),
        ("7 tok", None, 7),
    ],
)
def test_budgets_are_money_or_tokens(text: str, money: float | None, tokens: int | None) -> None:
    budget = parse_budget(text)
    assert (budget.money, budget.tokens) == (money, tokens)


def test_what_is_no_budget_is_refused() -> None:
    with pytest.raises(InputError, match="cannot read `a lot` as a budget"):
        parse_budget("a lot")


@pytest.mark.parametrize("given", ["2000 tokens", "0.002"])
def test_a_budget_stops_before_it_is_passed_and_a_larger_one_goes_on(fake_server, tmp_path: Path, given: str) -> None:
    server = fake_server(latency_s=0.01)
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    ours = engine(server.url, price={"input": 1.0, "output": 1.0})
    asks = [Ask(request(f"text {i} " + "word " * 20)) for i in range(200)]
    budget = parse_budget(given)
    with pytest.raises(BudgetError, match="would be passed"):
        ask(warehouse, ours, asks, stage="t", budget=budget)
    spent = warehouse.query("SELECT sum(tokens_in + tokens_out), sum(cost) FROM answers")[0]
    assert 0 < spent[0] <= 2000
    assert spent[1] <= 0.002
    stored = warehouse.scalar("SELECT count(*) FROM answers")
    assert stored == server.stats()["requests"]
    assert len(ask(warehouse, ours, asks, stage="t", budget=parse_budget("1M tokens"))) == 200
    assert server.stats()["requests"] == 200


def test_a_budget_in_money_needs_a_price(fake_server) -> None:
    server = fake_server()
    with pytest.raises(BudgetError, match="no price"):
        ask(Warehouse.memory(), engine(server.url), [Ask(request("x"))], stage="t", budget=parse_budget("1"))


def test_failed_but_billed_calls_are_counted(fake_server) -> None:
    server = fake_server(faults={"empty_choices": 0.4})
    warehouse = Warehouse.memory()
    ask(
        warehouse,
        engine(server.url, price={"input": 1.0, "output": 1.0}),
        [Ask(request(f"{i}")) for i in range(30)],
        stage="t",
    )
    billed = warehouse.query("SELECT count(*), sum(cost), min(tokens_in) FROM attempts WHERE outcome = 'retried'")[0]
    assert billed[0] > 0
    assert billed[1] > 0
    assert billed[2] > 0


def test_an_estimate_is_a_range_that_holds_what_really_came(fake_server) -> None:
    server = fake_server()
    requests = [request(f"text {i}") for i in range(20)]
    calls = [Call(one, 0, 1) for one in requests]
    ours = engine(server.url, price={"input": 1.0, "output": 2.0})
    told = estimate(calls, ours)
    assert (told["requests"], told["answers"], told["tokens_counted"]) == (20, [40, 40], False)
    warehouse = Warehouse.memory()
    ask(warehouse, ours, [Ask(one, range(2)) for one in requests], stage="t")
    tokens_in, tokens_out, cost = warehouse.query("SELECT sum(tokens_in), sum(tokens_out), sum(cost) FROM answers")[0]
    assert told["tokens_in"] == pytest.approx([tokens_in] * 2, rel=0.3)
    more = estimate(calls, ours, least=0, most=100)
    assert more["answers"] == [0, 100]
    for name in ("tokens_in", "tokens_out", "cost"):
        assert more[name] == pytest.approx([0, 2.5 * told[name][1]], rel=0.01)
    few, many = (estimate(calls[:n], ours, most=100)["seconds"] for n in (1, 20))
    assert few == pytest.approx([few[0], many[1]], rel=0.01), "what is left takes no longer when less of it is known"
    assert told["tokens_out"][0] <= tokens_out <= told["tokens_out"][1]
    assert told["cost"][0] * 0.7 <= cost <= told["cost"][1] * 1.3


def test_a_choice_is_estimated_by_its_labels() -> None:
    choice = Request(
        ModelRef("fake"), ({"role": "user", "content": "x"},), {"max_tokens": 500}, {"choice": ["yes", "no"]}
    )
    told = estimate([Call(choice, 0, 0)], engine())
    assert told["tokens_out"][1] < 10
    assert told["cost"] is None
