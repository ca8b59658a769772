"""`factory engine check` asks as the pipeline will, reads as the run will, and says what would be lost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from factory.llm import EngineSettings, ModelRef, Request, make_engine
from factory.llm.calls import Call
from factory.llm.check import OF_EACH, check_engine, kinds_of
from tests.llm.modes import FATAL, error

LOSSES: dict[str, tuple[dict[str, Any], str]] = {
    "an empty answer": ({"reply": ""}, "empty"),
    "blanks": ({"reply": "  \n "}, "empty"),
    "a filtered answer": ({"reply": "", "finish_reason": "content_filter"}, "refused by a content filter"),
    "cut off": ({"reply": "Okay, the user writes to a shop", "finish_reason": "length"}, "cut off at max_tokens (24)"),
    "cut off while reasoning": (
        {"reply": "<think>\nOkay, the user", "finish_reason": "length"}, "enable_thinking: false"),
    "reasoning apart, and nothing else": (
        {"message": {"role": "assistant", "content": None, "reasoning_content": "Okay"}, "finish_reason": "length"},
        "enable_thinking: false"),
    "reasoning apart, not cut": (
        {"message": {"role": "assistant", "content": None, "reasoning_content": "Okay"}}, "all that came is reasoning"),
    "no label in it": ({"reply": "I would say it is a nice message."}, "unreadable (no_label"),
    "a refusal of the server": ({"raw": error(400, "unknown field `seed`")}, "unknown field `seed`"),
    "a web page": ({"raw": {"body": "<html>Sign in</html>", "headers": {"Content-Type": "text/html"}}}, "Sign in"),
    "a server that is broken": ({"raw": error(500, "CUDA error")}, "CUDA error"),
}  # fmt: skip


@pytest.fixture
def checked(fake_server: Any, told: Any, tmp_path: Path) -> Any:
    """Runs `factory engine check --json` on a small pipeline against a fake server: exit code, what it said, the server."""

    def run(**control: Any) -> tuple[int, dict[str, Any], Any]:
        server = fake_server(**control)
        (tmp_path / "p.yaml").write_text(
            f"""
name: k
task: {{name: t, text: a message, labels: [{{name: billing, description: Charges}}, {{name: delivery, description: Parcels}}]}}
engine: {{kind: server, url: "{server.url}", model: fake}}
steps:
  - ingest: {{train: {{texts: [one text, another text, a third one that is longer, a fourth, a fifth]}}}}
  - annotate: {{split: train}}
"""
        )
        code, out, _ = told("engine", "check", str(tmp_path / "p.yaml"), "--json")
        return code, json.loads(out), server

    return run


@pytest.mark.parametrize("mode", LOSSES)
def test_what_a_run_would_lose_is_not_ok(checked: Any, mode: str) -> None:
    control, words = LOSSES[mode]
    began = time.monotonic()
    code, found, server = checked(**control)
    assert code == 2
    assert found["ok"] is False
    (check,) = [check for check in found["checks"] if check["kind"] == "annotate (text)"]
    assert words in check["detail"]
    assert server.stats()["requests"] <= 2 * OF_EACH
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("mode", ["402", "model in a 400", "max_tokens", "redirect"])
def test_what_would_end_a_run_is_not_ok(checked: Any, mode: str) -> None:
    raw, words = FATAL[mode]
    code, found, server = checked(raw=raw)
    assert code == 2
    assert words in found["checks"][-1]["detail"]
    assert server.stats()["requests"] <= OF_EACH


def test_a_few_of_each_kind_are_asked_as_the_run_will_ask_them(checked: Any) -> None:
    code, found, server = checked(reply="billing", keep_bodies=True)
    assert (code, found["ok"]) == (0, True)
    assert found["checks"][-1]["detail"].startswith("3 answers, ")
    assert {(body["max_tokens"], body["temperature"], body["seed"]) for body in server.bodies()} == {(24, 0.0, 0)}


def test_one_unreadable_answer_among_good_ones_is_told(checked: Any) -> None:
    broken = {"choices": [{"index": 0, "message": {"content": "who knows"}, "finish_reason": "stop"}]}
    code, found, _ = checked(reply="billing", raw={"body": broken}, raw_if="longer")
    assert code == 2
    assert (
        "1 of 3 answers cannot be used, and a run would lose such answers: unreadable" in found["checks"][-1]["detail"]
    )


def some(texts: int) -> list[Call]:
    asked = [({"role": "user", "content": f"Text {number}"},) for number in range(texts)]
    return [Call(Request(ModelRef("fake"), one, {"max_tokens": 8}, prompt="p"), 0, 0) for one in asked]


@pytest.mark.parametrize("seed", [0, None])
def test_a_server_that_a_batch_with_seeds_ends_is_told_before_a_run(fake_server: Any, seed: int | None) -> None:
    server = fake_server(die_of_seeds=OF_EACH + 1, latency_s=0.3)
    ours = make_engine(EngineSettings(kind="server", url=server.url, model="fake", seed=seed, patience_s=1.0))
    found = check_engine(ours, some(12))
    if seed is None:
        assert found["ok"]
        assert not any("seeds" in check["kind"] for check in found["checks"])
    else:
        assert not found["ok"]
        assert found["checks"][-1]["kind"] == "12 at once, with seeds"
        assert "the server went away" in found["checks"][-1]["detail"]
        assert "`engine: {seed: null}`" in found["checks"][-1]["detail"]


def test_samples_that_do_not_come_are_missed(fake_server: Any) -> None:
    server = fake_server(faults={"missing": 1.0})
    ours = make_engine(EngineSettings(kind="server", url=server.url, model="fake"))
    one = Request(
        ModelRef("fake"), ({"role": "user", "content": "x"},), {"temperature": 1.0, "max_tokens": 8}, prompt="p"
    )
    found = check_engine(ours, [Call(one, 0, 3)])
    assert not found["ok"]
    assert (
        "1 answers of 2 came" in found["checks"][-1]["detail"] or "answers of 4 came" in found["checks"][-1]["detail"]
    )


def test_the_longest_the_shortest_and_one_between_stand_for_their_kind() -> None:
    def call(n: int, prompt: str) -> Call:
        return Call(Request(ModelRef("m"), ({"role": "user", "content": "x " * n},), prompt=prompt), 0, 9)

    kinds = kinds_of([call(n, prompt) for n in range(4, 400, 4) for prompt in ("a", "b")])
    assert [kind.name for kind in kinds] == ["a (text)", "b (text)"]
    assert [len(one.request.messages[0]["content"]) // 2 for one in kinds[0].calls] == [396, 4, 200]
    assert {one.n for one in kinds[0].calls} == {4}
