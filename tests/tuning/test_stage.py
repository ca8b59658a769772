from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.annotation.stage import annotate
from factory.corpus.stage import ingest
from factory.errors import EngineError, InputError
from factory.evaluation.stage import evaluate, summary
from factory.llm import EngineSettings, make_engine
from factory.synthesis.stage import synthesize
from factory.task import TaskCard
from factory.tuning.stage import tune
from factory.warehouse.file import Warehouse
from tests.synthesis.conftest import CARD, ScriptedEngine, writer

QUICK: dict[str, Any] = {"epochs": 1, "rank": 4, "batch": 8, "demonstrations": 0}


def rows(warehouse: Warehouse) -> list[Any]:
    return [
        warehouse.query("SELECT key, name, weights, params, path FROM adapters ORDER BY adapter_no"),
        warehouse.query("SELECT * FROM adapter_rows ORDER BY ALL"),
    ]


def test_it_learns_from_the_accepted_self_guide_texts_once(
    guided: Callable[..., Warehouse], tiny: Path, tmp_path: Path
) -> None:
    warehouse = guided(tmp_path / "w.duckdb")
    result = tune(warehouse, base=str(tiny), **QUICK)
    name, folder = result.did["adapter"], Path(result.did["path"])
    assert folder == tmp_path / "adapters" / name
    assert name.startswith("tuned-")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert result.did["pairs"] == 6
    assert len(result.did["loss"]) == 2
    assert f"--lora-modules {name}={folder}" in result.says[1]
    again = tune(warehouse, base=str(tiny), **QUICK)
    assert again.skipped
    assert again.did["adapter"] == name
    (folder / "adapter_model.safetensors").unlink()
    mended = tune(warehouse, base=str(tiny), **QUICK)
    assert not mended.skipped
    assert mended.did["adapter"] == name
    assert warehouse.scalar("SELECT count(*) FROM adapters") == 1
    other = tune(warehouse, base=str(tiny), **{**QUICK, "rate": 1e-3})
    assert not other.skipped
    assert other.did["adapter"] != name


def test_a_killed_training_ends_like_an_undisturbed_one(
    guided: Callable[..., Warehouse], tiny: Path, tmp_path: Path
) -> None:
    undisturbed, killed = guided(tmp_path / "a" / "w.duckdb"), guided(tmp_path / "b" / "w.duckdb")
    how = {**QUICK, "base": str(tiny), "batch": 2}
    tune(undisturbed, **how)

    def cut(done: int, total: int, what: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(killed, **how, progress=cut)
    assert rows(killed) == [[], []]
    tune(killed, **how)
    assert rows(killed) == rows(undisturbed)
    left = [path.name for path in (tmp_path / "b" / "adapters").iterdir()]
    assert left == [killed.scalar("SELECT name FROM adapters")]


def test_an_adapter_knows_its_texts_and_answers_know_their_adapter(
    guided: Callable[..., Warehouse], tiny: Path, tmp_path: Path
) -> None:
    warehouse = guided(tmp_path / "w.duckdb")
    tuned = tune(warehouse, base=str(tiny), name="mine", **{**QUICK, "demonstrations": 1})
    kinds = {row[0] for row in warehouse.query("SELECT DISTINCT parent_kind FROM ancestors('adapter', '1')")}
    assert {"synthetic", "request", "prompt", "text", "source"} <= kinds
    engine = make_engine(EngineSettings(kind="transformers", model=str(tiny), structured=True))
    annotate(warehouse, engine, demonstrations=1)
    annotate(warehouse, engine, adapter="mine")
    asked = warehouse.query("SELECT adapter, count(*) FROM requests WHERE stage = 'annotate' GROUP BY ALL ORDER BY ALL")
    texts = warehouse.scalar("SELECT count(*) FROM split_texts WHERE split = 'test'")
    assert asked == [(tuned.did["adapter"], texts), (None, texts)]
    # the same chat for both: the prompt and the seeds that the adapter learned with
    assert warehouse.scalar("SELECT count(DISTINCT content_key) FROM requests WHERE stage = 'annotate'") == texts
    child = warehouse.scalar("SELECT request_key FROM requests WHERE adapter IS NOT NULL LIMIT 1")
    found = warehouse.query(
        "SELECT parent_kind, parent FROM lineage WHERE child_kind = 'request' AND child = ?", [child]
    )
    assert ("adapter", "1") in found
    evaluate(warehouse, draws=20)
    systems = (summary(warehouse) or {})["systems"]
    assert {"teacher", "self_tuned"} <= set(systems)
    assert annotate(warehouse, engine, adapter="mine").skipped


def test_texts_near_a_later_test_text_are_not_learned(
    guided: Callable[..., Warehouse], tiny: Path, tmp_path: Path
) -> None:
    warehouse = guided(tmp_path / "w.duckdb")
    victim, number = warehouse.query("SELECT text, synthetic_no FROM synthetic WHERE state = 'accepted' LIMIT 1")[0]
    ingest(warehouse, CARD, {"test": {"texts": [victim.upper() + "!"]}})
    tune(warehouse, base=str(tiny), balance=False, **QUICK)
    assert number not in [row[0] for row in warehouse.query("SELECT synthetic_no FROM adapter_rows")]
    assert warehouse.scalar("SELECT count(*) FROM adapter_rows") == 5


def test_what_was_not_learned_says_why(guided: Callable[..., Warehouse], tiny: Path, tmp_path: Path) -> None:
    warehouse = guided(tmp_path / "w.duckdb")
    warehouse_rows = warehouse.query(
        "SELECT synthetic_no FROM synthetic WHERE state = 'accepted' AND label_no = 0 ORDER BY synthetic_no LIMIT 1"
    )
    with warehouse.lease() as db:
        for (number,) in warehouse_rows:
            db.execute("UPDATE synthetic SET state = 'dropped', drop_reason = 'noise' WHERE synthetic_no = ?", [number])
    result = tune(warehouse, base=str(tiny), **QUICK)
    assert result.did["left_out"] == {"balance": 1, "too_long": 0}
    assert warehouse.query("SELECT drop_reason FROM dropped WHERE stage = 'tune'") == [("balance",)]


def test_mistakes_are_one_clear_line(
    guided: Callable[..., Warehouse], corpus_of: Callable[..., Warehouse], tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no accepted Self-Guide texts to learn from"):
        tune(corpus_of(), base=str(tiny))
    written = corpus_of()
    synthesize(written, ScriptedEngine(writer()), method="few_shot", name="own", per_label=1, candidates=10)
    with pytest.raises(InputError, match=r"or say `learn_from: \[own\]`"):
        tune(written, base=str(tiny))
    with pytest.raises(EngineError, match="the model cannot be loaded"):
        tune(written, base=str(tmp_path / "nowhere"), learn_from=["own"])
    warehouse = guided(tmp_path / "w.duckdb")
    with pytest.raises(InputError, match="no accepted texts of 'nothing'"):
        tune(warehouse, base=str(tiny), learn_from=["nothing"])
    with pytest.raises(InputError, match="does not say which weights it serves"):
        tune(warehouse)
    with pytest.raises(InputError, match=r"tune\.name: an adapter's name cannot be 'a/b'"):
        tune(warehouse, base=str(tiny), name="a/b")
    with pytest.raises(InputError, match="does not ask for one label"):
        tune(warehouse, base=str(tiny), prompt="write_example")
    with pytest.raises(InputError, match="there is no adapter 'mine'"):
        annotate(warehouse, make_engine(EngineSettings(kind="transformers", model=str(tiny))), adapter="mine")


def test_a_multi_task_is_refused(tiny: Path) -> None:
    warehouse = Warehouse.memory()
    card = TaskCard.model_validate({**CARD.model_dump(), "kind": "multi"})
    ingest(warehouse, card, {"train": {"texts": ["a text"]}})
    with pytest.raises(InputError, match="`single` alone"):
        tune(warehouse, base=str(tiny))


def test_engines_that_cannot_ask_an_adapter_say_so(
    guided: Callable[..., Warehouse], tiny: Path, tmp_path: Path, fake_server: Callable[..., Any]
) -> None:
    warehouse = guided(tmp_path / "w.duckdb")
    name = tune(warehouse, base=str(tiny), **QUICK).did["adapter"]
    server = make_engine(EngineSettings(kind="server", url=fake_server().url, model="fake"))
    with pytest.raises(EngineError, match=f"serves no adapter '{name}'.*--lora-modules {name}="):
        annotate(warehouse, server, adapter="tuned")
    (tmp_path / "answers.jsonl").write_text("")
    recorded = make_engine(EngineSettings(kind="recorded", answers=str(tmp_path / "answers.jsonl")))
    with pytest.raises(EngineError, match="recorded answers cannot speak for the adapter"):
        annotate(warehouse, recorded, adapter="tuned")
