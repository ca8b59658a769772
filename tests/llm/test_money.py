"""Prices, budgets and estimates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from factory.errors import BudgetError, InputError
from factory.llm import (
    Answer,
    Ask,
    EngineSettings,
    Failure,
    ModelRef,
    Price,
    Request,
    Usage,
    ask,
    make_engine,
    parse_budget,
)
from factory.llm.budget import Budget
from factory.llm.calls import Call, Reply
from factory.llm.engines.base import BulkEngine
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


# What was billed ------------------------------------------------------------------------------------------------------------
PRICE = {"input": 1.0, "output": 3.0}


def spend(warehouse: Warehouse) -> dict[str, Any]:
    names = (
        "requests",
        "answers",
        "tokens_in",
        "tokens_out",
        "tokens_counted",
        "cost",
        "cost_unknown",
        "failed_attempts",
    )
    rows = warehouse.query(f"SELECT {', '.join(names)} FROM spend")
    assert len(rows) == 1
    return dict(zip(names, rows[0], strict=True))


@pytest.mark.parametrize(
    "control",
    [
        {"message": {"role": "assistant", "content": None}, "usage": {"prompt_tokens": 100, "completion_tokens": 5}},
        {"faults": {"empty_choices": 1.0}},
        {"faults": {"missing": 1.0}},
        {"faults": {"cut_off": 0.7}},
        {"raw": {"body": {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 5}}}},
        {"raw": {"body": '{"choices": [{"index": 0, "mess'}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        {"usage": False},
    ],
    ids=["no content", "empty", "missing", "cut off", "no choices", "broken", "zero usage", "no usage"],
)
@pytest.mark.parametrize("given", ["0.001", "1500 tokens"])
def test_no_budget_is_passed_whatever_the_server_does(fake_server, given: str, control: dict[str, Any]) -> None:
    server = fake_server(**control)
    warehouse, budget = Warehouse.memory(), parse_budget(given)
    asks = [Ask(request(f"text {i} " + "word " * 40), range(2)) for i in range(60)]
    with pytest.raises(BudgetError, match="would be passed"):
        ask(warehouse, engine(server.url, price=PRICE, retries=3), asks, stage="t", budget=budget)
    told = spend(warehouse)
    assert 0 < told["tokens_in"] + told["tokens_out"] <= 1500 or budget.money is not None
    assert told["cost"] is not None
    assert 0 < told["cost"] <= 0.001 or budget.tokens is not None
    assert budget.spent_tokens >= told["tokens_in"] + told["tokens_out"]


def test_replies_that_hold_no_answer_are_in_the_totals(fake_server) -> None:
    server = fake_server(raw={"body": {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 5}}})
    warehouse = Warehouse.memory()
    (outcome,) = ask(warehouse, engine(server.url, price=PRICE), [Ask(request("x"))], stage="t").values()
    assert isinstance(outcome, Failure)
    told = spend(warehouse)
    assert (told["answers"], told["failed_attempts"], server.stats()["requests"]) == (0, 3, 3)
    assert (told["tokens_in"], told["tokens_out"]) == (300, 15)
    assert told["cost"] == pytest.approx(3 * 115e-6)


def test_a_price_that_nobody_knows_is_unknown_and_not_nothing(fake_server) -> None:
    server = fake_server(faults={"http_500": 0.5}, faults_seed=1)
    warehouse = Warehouse.memory()
    ask(warehouse, engine(server.url), [Ask(request(f"{i}")) for i in range(10)], stage="t")
    told = spend(warehouse)
    assert told["tokens_in"] > 0
    assert (told["cost"], told["cost_unknown"]) == (None, warehouse.scalar("SELECT count(*) FROM attempts"))


def test_what_a_call_cost_that_was_never_answered_is_unknown(fake_server) -> None:
    server = fake_server(faults={"stall": 1.0})
    warehouse = Warehouse.memory()
    ask(warehouse, engine(server.url, price=PRICE, timeout_s=0.5, retries=0), [Ask(request("x"))], stage="t")
    told = spend(warehouse)
    assert (told["cost"], told["cost_unknown"], told["tokens_in"]) == (None, 1, 0)


def test_refusals_cost_nothing_where_there_is_a_price(fake_server) -> None:
    server = fake_server(faults={"bad_request": 1.0})
    warehouse = Warehouse.memory()
    ask(warehouse, engine(server.url, price=PRICE), [Ask(request("x"))], stage="t")
    assert (spend(warehouse)["cost"], spend(warehouse)["cost_unknown"]) == (0.0, 0)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 40, "completion_tokens": 0},
        {"prompt_tokens": 10**12, "completion_tokens": 1},
        {"prompt_tokens": -5, "completion_tokens": 3},
        {"total_tokens": 105},
        {"prompt_tokens": "many"},
        {"prompt_tokens": 1e300, "completion_tokens": 1},
        [],
    ],
)
def test_a_count_that_cannot_be_is_estimated_and_marked(fake_server, usage: Any) -> None:
    server = fake_server(reply="an answer of some words", usage=usage)
    warehouse = Warehouse.memory()
    (answer,) = ask(warehouse, engine(server.url, price=PRICE), [Ask(request("some words to ask"))], stage="t").values()
    assert isinstance(answer, Answer)
    assert answer.usage.tokens_in > 0
    assert answer.usage.tokens_out == 6
    assert not answer.usage.counted
    assert spend(warehouse)["tokens_counted"] is False
    assert spend(warehouse)["cost"] > 0


def test_a_recording_costs_nothing_and_counts_towards_no_budget(tmp_path: Path) -> None:
    import json

    one = request("x")
    (tmp_path / "a.jsonl").write_text(json.dumps({"key": one.content_key, "answer": "hi"}) + "\n")
    recorded = make_engine(EngineSettings(kind="recorded", answers="a.jsonl", model="fake"), base=tmp_path)
    warehouse = Warehouse.memory()
    ask(warehouse, recorded, [Ask(one)], stage="t", budget=parse_budget("0.000001"))
    assert (spend(warehouse)["cost"], spend(warehouse)["cost_unknown"]) == (0.0, 0)


class Pulling(BulkEngine):
    """Pulls calls a batch at a time, as `transformers` does, or keeps so many running, as `vllm` does."""

    def __init__(self, batch: int, *, running: bool) -> None:
        super().__init__(EngineSettings(kind="transformers", model="fake"))
        self.name, self.batch, self.running = "fake", batch, running

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        source = iter(calls)
        if not self.running:
            while batch := list(islice(source, self.batch)):
                yield from ((call, self.reply(call)) for call in batch)
            return
        held: list[Call] = list(islice(source, self.batch))
        while held:
            call = held.pop(0)
            yield call, self.reply(call)
            held += islice(source, 1)

    def reply(self, call: Call) -> Reply:
        return Reply({n: Answer("hi", usage=Usage(10, 2), origin="fake") for n in range(call.first, call.last + 1)})


@pytest.mark.parametrize("running", [False, True])
def test_no_budget_ends_a_run_that_what_is_in_flight_would_free(running: bool) -> None:
    warehouse = Warehouse.memory()
    asks = [Ask(request(f"text {i}", max_tokens=2000)) for i in range(100)]  # four of them fill the budget
    budget = parse_budget("10_000 tokens")
    outcomes = ask(warehouse, Pulling(8, running=running), asks, stage="t", budget=budget)
    assert sum(isinstance(one, Answer) for one in outcomes.values()) == 100
    assert budget.spent_tokens == 1200
    with pytest.raises(BudgetError, match=r"1,2\d\d are spent, and at least 1 requests are left"):
        ask(warehouse, Pulling(8, running=running), [Ask(request("one", max_tokens=9000))], stage="t", budget=budget)


def test_a_budget_for_a_machine_by_the_hour_is_kept(fake_server) -> None:
    server = fake_server(latency_s=0.05, slots=4)
    warehouse, budget = Warehouse.memory(), Budget(money=0.002)
    asks = [Ask(request(f"text {i}")) for i in range(400)]
    with pytest.raises(BudgetError):
        ask(warehouse, engine(server.url, price={"gpu_hour": 36.0}, concurrency=16), asks, stage="t", budget=budget)
    assert 0 < spend(warehouse)["cost"] <= 0.002
    assert warehouse.scalar("SELECT count(*) FROM answers") > 1


def test_a_budget_needs_a_bound_on_the_answers(fake_server) -> None:
    server = fake_server(max_model_len=None)
    free = Request(ModelRef("fake"), ({"role": "user", "content": "x"},), {})
    with pytest.raises(BudgetError, match=r"nothing bounds an answer.*max_tokens"):
        ask(Warehouse.memory(), engine(server.url), [Ask(free)], stage="t", budget=parse_budget("10k tokens"))
    bounded = engine(server.url, extra_body={"max_completion_tokens": 50})
    assert len(ask(Warehouse.memory(), bounded, [Ask(free)], stage="t", budget=parse_budget("10k tokens"))) == 1
    assert estimate([Call(free, 0, 0)], bounded)["tokens_out"][1] == 50
