from __future__ import annotations

from collections.abc import Callable

import pytest

from factory.synthesis.stage import synthesize
from factory.warehouse import Warehouse
from tests.synthesis.conftest import ScriptedEngine, writer


def tables(warehouse: Warehouse) -> list[list[tuple]]:
    return [
        warehouse.query(
            "SELECT * EXCLUDE (plan_no) FROM synthetic ORDER BY synthetic_no",
        ),
        warehouse.query("SELECT * FROM slots ORDER BY plan_no, slot_no"),
        warehouse.query("SELECT plan_no, key, config, done FROM plans ORDER BY plan_no"),
        warehouse.query("SELECT text_no, content_hash, origin FROM texts ORDER BY text_no"),
    ]


@pytest.mark.parametrize("method", ["synthesizrr", "few_shot"])
def test_every_label_gets_exactly_what_was_asked_for(corpus: Callable[..., Warehouse], method: str) -> None:
    warehouse = corpus()
    result = synthesize(
        warehouse, ScriptedEngine(writer(broken=0.4)), method=method, per_label=6, candidates=8, retrieval="lexical"
    )
    assert result.did["accepted"] == {"cars": 6, "pets": 6}
    assert not result.skipped
    again = synthesize(
        warehouse, ScriptedEngine(writer()), method=method, per_label=6, candidates=8, retrieval="lexical"
    )
    assert again.skipped


def test_a_killed_run_ends_like_an_undisturbed_one(corpus: Callable[..., Warehouse]) -> None:
    how = {"method": "synthesizrr", "per_label": 6, "candidates": 8, "retrieval": "lexical"}
    undisturbed = corpus()
    synthesize(undisturbed, ScriptedEngine(writer(broken=0.5)), **how)
    killed = corpus()
    for stop in (0, 1, 5, 9, 14, 20):
        with pytest.raises(KeyboardInterrupt):
            synthesize(killed, ScriptedEngine(writer(broken=0.5), stop_after=stop % 4), **how)
    synthesize(killed, ScriptedEngine(writer(broken=0.5)), **how)
    assert tables(killed) == tables(undisturbed)


def test_without_seeds_the_label_descriptions_are_the_queries(corpus: Callable[..., Warehouse]) -> None:
    warehouse = corpus(seeds=0)
    result = synthesize(warehouse, ScriptedEngine(writer()), per_label=3, encoder="hashing")
    assert result.did["accepted"] == {"cars": 3, "pets": 3}
    assert warehouse.query("SELECT count(seed_text_no), count(passage_text_no) = count(*) FROM synthetic") == [(0, True)]
