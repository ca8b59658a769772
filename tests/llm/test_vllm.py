"""Real vLLM, three ways: through its server, in process, and by its batch runner: 500 requests of every kind each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.llm import Answer, Ask, EngineSettings, ModelRef, Pending, Request, ask, make_engine
from factory.llm.check import check_engine, problem_with
from factory.llm.request import Outcomes
from factory.warehouse.file import Warehouse

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).resolve().parents[2]
N = 500

KINDS = r"""
JSON = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["spam", "ham"]},
        "keywords": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 3},
        "sure": {"type": "boolean"},
    },
    "required": ["label", "keywords", "sure"],
    "additionalProperties": False,
}

def every_kind(model, n):
    def request(kind, number, schema=None, **sampling):
        messages = (
            {"role": "system", "content": "Say what the text is."},
            {"role": "user", "content": f"{kind} number {number}: please subscribe to my channel"},
        )
        return Request(model, messages, {"temperature": 1.0, "max_tokens": 12, **sampling}, schema, kind, "1")

    asks = []
    for number in range(n):
        asks.append(Ask(request("text", number)))
        asks.append(Ask(request("choice", number, {"choice": ["spam", "ham", "neither of them"]})))
        asks.append(Ask(request("json", number, {"json": JSON}, max_tokens=120)))
        asks.append(Ask(request("four", number), range(4)))
        asks.append(Ask(request("logprobs", number, logprobs=2)))
    return asks
"""
exec(KINDS)  # the same text runs in the environment of vLLM, which has no pytest


def check(outcomes: Outcomes, asks: list[Ask]) -> None:
    assert len(outcomes) == sum(len(list(a.samples)) for a in asks)
    for a in asks:
        for sample in a.samples:
            answer = outcomes[(a.request.key, sample)]
            assert isinstance(answer, Answer), answer
            if answer.finish_reason != "length":
                assert problem_with(answer, a.request) is None, (a.request.prompt, answer)
            if a.request.schema is not None:
                assert answer.finish_reason == "stop", answer
    choices = [o for a in asks if a.request.prompt == "choice" for o in [outcomes[(a.request.key, 0)]]]
    assert {c.text for c in choices if isinstance(c, Answer)} <= {"spam", "ham", "neither of them"}


def test_the_server_answers_every_kind_and_a_second_run_sends_nothing(vllm_server, tmp_path: Path) -> None:
    engine = make_engine(EngineSettings(kind="server", url=vllm_server.url, concurrency=128))
    assert engine.model == ModelRef("tiny")  # the server was asked
    assert engine.context_length() == 16384
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    asks = every_kind(engine.model, N)  # type: ignore[name-defined]  # noqa: F821
    check(ask(warehouse, engine, asks, stage="t"), asks)
    assert warehouse.query("SELECT bool_and(tokens_counted), min(tokens_out) > 0 FROM answers") == [(True, True)]
    outcomes = warehouse.query("SELECT outcome, reason, count(*) FROM attempts GROUP BY ALL ORDER BY ALL")
    assert ("answered", None, 5 * N) in outcomes, outcomes
    # A server that has no processor to itself loses a connection now and then.
    lost = {("retried", "connection_lost"), ("retried", "connect_timeout")}
    assert {(outcome, reason) for outcome, reason, _ in outcomes[1:]} <= lost, outcomes
    attempts = warehouse.scalar("SELECT count(*) FROM attempts")
    check(ask(warehouse, engine, asks, stage="t"), asks)
    assert warehouse.scalar("SELECT count(*) FROM attempts") == attempts


def test_n_samples_are_the_seeds_of_their_numbers(vllm_server) -> None:
    request = Request(ModelRef("tiny"), ({"role": "user", "content": "hello"},), {"temperature": 1.0, "max_tokens": 8})
    texts = []
    for max_n in (4, 1):
        engine = make_engine(EngineSettings(kind="server", url=vllm_server.url, model="tiny", max_n=max_n, seed=5))
        outcomes = ask(Warehouse.memory(), engine, [Ask(request, range(4))], stage="t")
        texts.append([outcomes[(request.key, k)].text for k in range(4)])  # type: ignore[union-attr]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_an_adapter_is_asked_by_name_and_is_another_identity(vllm_server) -> None:
    found = []
    for adapter in (None, "mine"):
        engine = make_engine(EngineSettings(kind="server", url=vllm_server.url, model="tiny", adapter=adapter))
        request = Request(engine.model, ({"role": "user", "content": "hello"},), {"temperature": 0, "max_tokens": 8})
        ((key, answer),) = ask(Warehouse.memory(), engine, [Ask(request)], stage="t").items()
        assert isinstance(answer, Answer)
        found.append((key, answer.text))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_a_prompt_that_is_too_long_ends_at_once_with_its_reason(vllm_server) -> None:
    engine = make_engine(EngineSettings(kind="server", url=vllm_server.url, model="tiny"))
    long = Request(engine.model, ({"role": "user", "content": "hello " * 30000},), {"max_tokens": 8})
    short = Request(engine.model, ({"role": "user", "content": "hello"},), {"max_tokens": 8})
    outcomes = ask(Warehouse.memory(), engine, [Ask(long), Ask(short)], stage="t")
    assert outcomes[(long.key, 0)].reason == "context_too_long"  # type: ignore[union-attr]
    assert isinstance(outcomes[(short.key, 0)], Answer)


def test_the_engine_check_sees_what_a_random_model_lacks_and_counts_tokens_as_the_server_does(vllm_server) -> None:
    engine = make_engine(EngineSettings(kind="server", url=vllm_server.url, model="tiny"))
    report = check_engine(engine, [])
    lost = {check["kind"]: check["detail"] for check in report["checks"] if not check["ok"]}
    assert set(lost) <= {"text", "four samples", "logprobs"}, (
        "a random model does not end by itself; all else is in order"
    )
    messages = [{"role": "user", "content": "hello there"}]
    request = Request(engine.model, tuple(messages), {"max_tokens": 4})  # type: ignore[arg-type]
    (answer,) = ask(Warehouse.memory(), engine, [Ask(request)], stage="t").values()
    assert engine.count_tokens(messages) == answer.usage.tokens_in  # type: ignore[union-attr]


IN_PROCESS = (
    r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from factory.llm import Answer, Ask, EngineSettings, ModelRef, Request, ask, make_engine
from factory.warehouse.file import Warehouse
"""
    + KINDS
    + r"""
if __name__ == "__main__":
    folder, n = sys.argv[2], int(sys.argv[3])
    settings = EngineSettings(kind="vllm", model=folder + "/model", adapters={"mine": folder + "/lora"}, concurrency=256,
        engine_args={"max_model_len": 4096, "enforce_eager": True})
    engine = make_engine(settings)
    warehouse = Warehouse.open(sys.argv[4])
    stored = []
    outcomes = ask(warehouse, engine, every_kind(engine.model, n), stage="t", progress=lambda done, *_: stored.append(done))
    assert all(isinstance(o, Answer) for o in outcomes.values()), [o for o in outcomes.values() if not isinstance(o, Answer)][:3]
    long = Request(engine.model, ({"role": "user", "content": "hello " * 30000},), {"max_tokens": 8})
    (refused,) = ask(warehouse, engine, [Ask(long)], stage="t").values()
    plain = make_engine(settings)
    plain._llm = engine.llm
    mine = make_engine(settings.model_copy(update={"adapter": "mine"}))
    mine._llm = engine.llm
    texts = []
    for one in (plain, mine):
        request = Request(one.model, ({"role": "user", "content": "hello"},), {"temperature": 0, "max_tokens": 8})
        texts.append(next(iter(ask(warehouse, one, [Ask(request)], stage="t").values())).text)
    told = {"refused": refused.reason, "texts": texts, "stored": stored, "length": engine.context_length()}
    print("\n" + json.dumps(told), flush=True)
    engine.close()
"""
)


def vllm_run(python: str, code: list[str], folder: Path) -> str:
    from vllm_server import ENVIRONMENT

    done = subprocess.run(
        [python, *code],
        env=os.environ | ENVIRONMENT,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_in_process_answers_every_kind_and_streams_them_out(tmp_path: Path) -> None:
    from vllm_server import tiny_model, vllm_python

    python = vllm_python()
    if python is None:
        pytest.skip("no vLLM: set LABEL_FACTORY_VLLM_PYTHON to a Python that has it")
    tiny_model(tmp_path)
    (tmp_path / "run.py").write_text(IN_PROCESS)
    path = tmp_path / "w.duckdb"
    out = vllm_run(python, ["run.py", str(ROOT), str(tmp_path), str(N), str(path)], tmp_path)
    told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert told["refused"] == "context_too_long"
    assert told["length"] == 4096
    assert told["texts"][0] != told["texts"][1]
    assert any(0 < done < 8 * N for done in told["stored"])  # stored while others were still being made
    engine = make_engine(
        EngineSettings(kind="recorded", answers=str(tmp_path / "none.jsonl"), model=str(tmp_path / "model"))
    )
    asks = every_kind(engine.model, N)  # type: ignore[name-defined]  # noqa: F821
    check(ask(Warehouse.open(path), engine, asks, stage="t"), asks)  # all of them are stored


@pytest.mark.slow
def test_the_batch_runner_of_vllm_answers_our_batch_file(tmp_path: Path) -> None:
    from vllm_server import CPU_ARGUMENTS, tiny_model, vllm_python

    python = vllm_python()
    if python is None:
        pytest.skip("no vLLM: set LABEL_FACTORY_VLLM_PYTHON to a Python that has it")
    model = tiny_model(tmp_path)
    settings = EngineSettings(kind="batch", model="tiny", requests="out.jsonl", results="in.jsonl")
    engine = make_engine(settings, base=tmp_path)
    asks = every_kind(engine.model, N)  # type: ignore[name-defined]  # noqa: F821
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    with pytest.raises(Pending):
        ask(warehouse, engine, asks, stage="t")
    command = ["-m", "vllm.entrypoints.openai.run_batch", "-i", "out.jsonl", "-o", "in.jsonl", "--model", str(model)]
    command += ["--served-model-name", "tiny", "--enforce-eager", "--max-model-len", "4096"]
    command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    vllm_run(python, [*command, *CPU_ARGUMENTS], tmp_path)
    engine.close()
    check(ask(warehouse, engine, asks, stage="t"), asks)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
