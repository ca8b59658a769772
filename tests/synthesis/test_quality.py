from __future__ import annotations

from collections.abc import Callable

from factory.synthesis.quality import measure
from factory.synthesis.stage import synthesize
from factory.warehouse.file import Warehouse
from tests.synthesis.conftest import ScriptedEngine, writer


def test_every_method_and_label_is_measured_with_its_size(corpus: Callable[..., Warehouse]) -> None:
    warehouse = corpus()
    synthesize(warehouse, ScriptedEngine(writer()), method="few_shot", per_label=6, candidates=10, demos=0)
    synthesize(
        warehouse, ScriptedEngine(writer(seed=1)), method="synthesizrr", per_label=6, candidates=10, retrieval="lexical"
    )
    with warehouse.lease() as db:  # one program that says `cars` of everything
        db.execute(
            "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state)"
            " VALUES (1, 'k', 'p', 'python', 'hand', '', 'accepted')"
        )
        cars = db.execute("SELECT label_no FROM labels WHERE name = 'cars'").fetchall()[0][0]
        db.execute("INSERT INTO votes SELECT DISTINCT 1, text_no, ? FROM synthetic WHERE state = 'accepted'", [cars])
    result = measure(warehouse, encoder="hashing", most=10)
    rows = {(row["method"], row["label"]): row for row in result.did["rows"]}
    assert set(rows) == {(method, label) for method in ("few_shot", "synthesizrr") for label in (None, "pets", "cars")}
    assert {(label, row["n"]) for (_, label), row in rows.items()} == {(None, 10), ("pets", 6), ("cars", 6)}
    for (_, label), row in rows.items():
        assert len(row["self_bleu"]) == 5
        assert 0 < row["distinct_2"] <= 1
        assert row["compression"] > 1
        assert 0 < row["mean_distance"] < 1
        told = row["program_agreement"]
        assert told["of"] == 1.0
        if label is None:  # 10 of 6 + 6 were drawn
            assert told["share"] in (0.4, 0.5, 0.6)
        else:
            assert told["share"] == {"pets": 0.0, "cars": 1.0}[label]
    assert rows["few_shot", None]["passages_used"] is None
    used = rows["synthesizrr", None]["passages_used"]
    assert used["accepted"] == 12
    assert used["asked"] >= 12
    assert 0 <= rows["few_shot", None]["auroc_real"] <= 1
    assert len(result.says) == 3


def test_nothing_synthetic_gives_no_row(corpus: Callable[..., Warehouse]) -> None:
    assert measure(corpus(), encoder="hashing").did["rows"] == []
