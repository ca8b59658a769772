"""DSPy programs and optimisers through our ledger."""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from factory.llm import EngineSettings, make_engine
from factory.llm.dspy_engine import dspy_lm
from factory.warehouse.file import Warehouse


def engine(url: str, **more: Any):
    return make_engine(EngineSettings(kind="server", url=url, model=more.pop("model", "fake"), **more))


def test_every_call_is_in_the_ledger_and_replayed(fake_server) -> None:
    import dspy

    server = fake_server(reply="[[ ## label ## ]]\nspam\n\n[[ ## completed ## ]]")
    warehouse = Warehouse.memory()
    program = dspy.Predict("text -> label")
    for _ in range(2):
        lm = dspy_lm(warehouse, engine(server.url), stage="s", temperature=0.5, max_tokens=20)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
                assert program(text="win a prize").label == "spam"
    assert server.stats()["requests"] == 1
    assert warehouse.query("SELECT stage, prompt FROM requests") == [("s", "dspy")]


def test_candidates_and_rollouts_become_sample_numbers(fake_server) -> None:
    server = fake_server()
    warehouse = Warehouse.memory()
    lm = dspy_lm(warehouse, engine(server.url), temperature=1.0)
    four = lm("hello", n=4)
    assert len(set(four)) == 4
    assert warehouse.query("SELECT sample_no FROM answers ORDER BY 1") == [(0,), (1,), (2,), (3,)]
    more = lm.copy(rollout_id=1)("hello", n=4)
    assert not set(more) & set(four)
    assert warehouse.query("SELECT count(DISTINCT request_key), max(sample_no) FROM answers") == [(1, 7)]
    assert lm("hello", n=4) == four
    sent = server.stats()["requests"]
    assert lm.copy(rollout_id=1)("hello", n=4) == more
    assert server.stats()["requests"] == sent


def test_threads_and_async_calls_go_out_together(fake_server) -> None:
    import dspy

    server = fake_server(latency_s=0.2)
    warehouse = Warehouse.memory()
    lm = dspy_lm(warehouse, engine(server.url), temperature=1.0)

    async def many() -> list[Any]:
        return await asyncio.gather(*(lm.acall(f"question {i}") for i in range(20)))

    assert len(asyncio.run(many())) == 20
    with dspy.context(lm=lm):
        found = dspy.Parallel(num_threads=8, disable_progress_bar=True)([(dspy.Predict("q -> a"), {"q": "x"})])
    assert len(found) == 1
    assert warehouse.scalar("SELECT count(*) FROM answers") >= 21


def test_a_typed_answer_becomes_a_schema(fake_server) -> None:
    import dspy

    server = fake_server(keep_bodies=True)
    lm = dspy_lm(Warehouse.memory(), engine(server.url))
    form = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {"enum": ["b"]}}}},
    }
    assert json.loads(lm("hello", response_format=form)[0]) == {"a": "b"}
    assert server.bodies()[0]["response_format"]["json_schema"]["schema"]["properties"] == {"a": {"enum": ["b"]}}
    assert isinstance(lm, dspy.LM)


def test_a_failure_reaches_the_program_as_an_error(fake_server) -> None:
    server = fake_server(faults={"bad_request": 1.0})
    lm = dspy_lm(Warehouse.memory(), engine(server.url))
    with pytest.raises(Exception, match="bad_request"):
        lm("hello")


LABELS = ["spam", "ham"]


def compile_once(given: Any, warehouse: Warehouse, folder: Path) -> Any:
    """`BootstrapFewShot` on the shipped prompt `annotate`; its state goes beside the prompt, in a folder of its own."""
    import dspy

    from factory.prompts import load, save_state

    prompt = load("annotate", folder=folder / "none")
    shared = {
        "kind_of_text": "a comment under a music video",
        "labels": [{"name": "spam", "description": "advertising"}, {"name": "ham", "description": "anything else"}],
        "guidelines": "",
    }
    trainset = [
        dspy.Example(**shared, text=f"comment {i}: please subscribe!", label=LABELS[i % 2]).with_inputs(*shared, "text")
        for i in range(12)
    ]
    lm = dspy_lm(
        warehouse,
        given,
        stage="optimise",
        prompt=prompt.name,
        prompt_version=prompt.version,
        schema=prompt.schema(LABELS),
        temperature=1.0,
        max_tokens=16,
    )
    with dspy.context(lm=lm, adapter=prompt.adapter(labels=LABELS, structured=True)):
        optimiser = dspy.BootstrapFewShot(
            metric=lambda example, prediction, trace=None: example.label == prediction.label,
            max_bootstrapped_demos=3,
            max_labeled_demos=4,
            max_rounds=2,
        )
        compiled = optimiser.compile(dspy.Predict(prompt.signature()), trainset=trainset)
    save_state("annotate", compiled, folder=folder)
    return compiled


def compile_twice(given: Any, tmp_path: Path) -> int:
    from factory.prompts import load

    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    first = compile_once(given, warehouse, tmp_path)
    sent = warehouse.scalar("SELECT count(*) FROM attempts")
    assert sent > 0
    assert warehouse.scalar("SELECT count(*) FROM answers") == sent
    assert warehouse.query("SELECT DISTINCT stage, prompt FROM requests") == [("optimise", "annotate")]
    state = (tmp_path / "annotate.state.json").read_bytes()
    compile_once(given, warehouse, tmp_path)
    assert warehouse.scalar("SELECT count(*) FROM attempts") == sent
    assert (tmp_path / "annotate.state.json").read_bytes() == state
    plain, optimised = load("annotate", folder=tmp_path / "none"), load("annotate", folder=tmp_path)
    assert optimised.version != plain.version
    values = {"kind_of_text": "a comment", "labels": [{"name": n, "description": n} for n in LABELS], "text": "hello"}
    assert first.demos
    assert len(optimised.messages(values)) == len(plain.messages(values)) + 2 * len(first.demos)
    return int(sent)


def test_a_compiled_prompt_is_used_by_the_next_render_and_a_second_compile_sends_nothing(
    fake_server, tmp_path: Path
) -> None:
    server = fake_server()
    sent = compile_twice(engine(server.url), tmp_path)
    assert server.stats()["requests"] == sent


@pytest.mark.vllm
def test_bootstrap_few_shot_on_real_vllm(vllm_server, tmp_path: Path) -> None:
    sent = compile_twice(engine(vllm_server.url, model="tiny", seed=None), tmp_path)
    print(f"{sent} requests")
