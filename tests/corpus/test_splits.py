"""Splits: what stands in test leaves the others, case and blanks apart, and gold that contradicts itself is told by line."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from factory.corpus.stage import ingest
from factory.errors import InputError
from factory.task import load_card
from factory.warehouse.file import Warehouse

CARD = load_card({"name": "t", "text": "a line", "labels": {"delivery": "x", "billing": "y", "réclamation": "z"}})
MULTI = load_card({"name": "m", "kind": "multi", "text": "a line", "labels": {"a": "about a", "b": "about b"}})


def put(folder: Path, name: str, lines: str) -> Path:
    (folder / name).write_text(lines, encoding="utf-8")
    return folder / name


def left(warehouse: Warehouse) -> list[tuple[str, str, str]]:
    return warehouse.query(
        "SELECT split, text, leave_reason FROM places JOIN texts USING (text_no) WHERE NOT kept ORDER BY ALL"
    )


def test_a_text_that_is_like_one_of_test_but_for_case_and_blanks_leaves_and_comes_back(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Où est mon colis") for form in ("NFC", "NFD"))
    sources = {
        "train": put(
            tmp_path,
            "train.csv",
            f'text\nwhere is my PARCEL\n"Where is  my parcel "\nWhere is my parcel\n{apart}\nWhere is my parcel?\n',
        ),
        "dev": put(tmp_path, "dev.csv", "text,label\nWHERE IS MY PARCEL,delivery\nother,billing\n"),
        "test": put(tmp_path, "test.csv", f"text,label\nWhere is my parcel,delivery\n{composed},delivery\n"),
    }
    warehouse = Warehouse.memory()
    said = ingest(warehouse, CARD, sources)
    assert left(warehouse) == [
        ("dev", "WHERE IS MY PARCEL", "like_test"), ("train", apart, "like_test"), ("train", "Where is  my parcel ", "like_test"),
        ("train", "Where is my parcel", "in_test"), ("train", "where is my PARCEL", "like_test"),
    ]  # fmt: skip
    assert said.did["left_for_test"] == 5
    assert (
        "train: 1 rows, 1 distinct texts; 1 left because they stand in test; 3 left because they differ from a text of test"
        in " ".join(said.says)
    )
    put(tmp_path, "test.csv", "text,label\nsomething else,delivery\n")
    ingest(warehouse, CARD, sources)
    assert left(warehouse) == []


def test_texts_like_those_of_test_may_be_told_to_stay(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    sources = {"train": {"texts": ["Where", "where", "x"]}, "test": {"texts": ["where"]}}
    assert ingest(warehouse, CARD, sources, like_test="keep").did["left_for_test"] == 1
    assert left(warehouse) == [("train", "where", "in_test")]
    assert ingest(warehouse, CARD, sources, like_test="keep").skipped
    assert ingest(warehouse, CARD, sources).did["left_for_test"] == 2
    assert ingest(warehouse, CARD, sources).skipped
    assert not ingest(warehouse, CARD, sources, like_test="keep").skipped
    assert left(warehouse) == [("train", "where", "in_test")]


def test_what_is_like_another_text_of_train_or_stands_in_dev_is_counted_and_stays(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    said = ingest(
        warehouse,
        CARD,
        {
            "train": {"texts": ["a b", "A  B", "a c", "x"]},
            "dev": {"texts": ["X", "y"], "labels": ["delivery", "billing"]},
        },
    )
    assert (said.did["alike"], said.did["train_texts_in_dev_or_seed"]) == (1, 1)
    assert left(warehouse) == []


def test_gold_that_contradicts_itself_is_told_by_file_and_line(tmp_path: Path) -> None:
    dev = put(
        tmp_path,
        "dev.csv",
        'text,label\n"two\nlines",billing\nWhere is my parcel,delivery\nwhere is my  parcel,billing\nfine,billing\n',
    )
    seed = put(tmp_path, "seed.csv", "text,label\nfine,billing\n")
    warehouse = Warehouse.memory()
    said = ingest(warehouse, CARD, {"dev": dev, "seed": seed})
    assert said.did["contradictions"] == 1
    assert f"gold contradicts itself: 'Where is my parcel' is delivery in {dev}:4, billing in {dev}:5" in said.says
    put(tmp_path, "seed.csv", "text,label\nfine,delivery\n")
    said = ingest(warehouse, CARD, {"dev": dev, "seed": seed})
    assert said.did["contradictions"] == 2
    assert f"gold contradicts itself: 'fine' is delivery in {seed}:2, billing in {dev}:6" in said.says


def test_sets_of_labels_contradict_each_other_where_they_are_not_the_same_set(tmp_path: Path) -> None:
    rows = {"texts": ["p", "p", "q", "Q"], "labels": [["a", "b"], ["b", "a"], ["a"], []]}
    said = ingest(Warehouse.memory(), MULTI, {"dev": rows})
    assert [line for line in said.says if "contradicts" in line] == [
        "gold contradicts itself: 'q' is a in inline: row 3, no label in inline: row 4"
    ]


def test_a_row_that_left_for_test_contradicts_nothing(tmp_path: Path) -> None:
    rows = {"texts": ["p", "P"], "labels": ["billing", "delivery"]}
    assert "contradictions" not in ingest(Warehouse.memory(), CARD, {"dev": rows, "test": {"texts": ["p"]}}).did


def test_a_warehouse_of_an_earlier_version_is_settled_when_it_is_next_looked_at(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    sources = {"train": put(tmp_path, "a.csv", "text\nWhere\n"), "test": put(tmp_path, "t.csv", "text\nwhere\n")}
    ingest(warehouse, CARD, sources)
    with warehouse.lease() as db:
        db.execute("DELETE FROM text_keys")
        db.execute("UPDATE occurrences SET kept = true, leave_reason = NULL")
    assert not ingest(warehouse, CARD, sources).skipped
    assert left(warehouse) == [("train", "Where", "like_test")]
    assert ingest(warehouse, CARD, sources).skipped


# A user's own columns -----------------------------------------------------------------------------------------------------
def own(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.query("SELECT split, place, fields FROM places ORDER BY source_no, row_no")


@pytest.mark.parametrize("name", ["id", "ID", "_id", "Id"])
def test_an_id_stays_with_its_row_by_default(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, "a.csv", f'{name},text,lang\n7,"one\ntwo",en\n008,three,de\n')
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, {"train": path})
    assert own(warehouse) == [
        ("train", f"{path}:2", f'{{"{name}": "7"}}'),
        ("train", f"{path}:4", f'{{"{name}": "008"}}'),
    ]


def test_columns_that_are_named_stay_and_change_with_their_file(tmp_path: Path) -> None:
    path = put(
        tmp_path, "a.jsonl", '{"Nr": 1, "text": "a", "lang": {"code": "en", "p": NaN}}\n{"Nr": 2, "text": "b"}\n'
    )
    spec = {"path": str(path), "id": "nr", "keep": ["lang"]}
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    ingest(warehouse, CARD, {"train": spec})
    wanted = ['{"Nr": 1, "lang": {"code": "en", "p": null}}', '{"Nr": 2, "lang": null}']
    assert [fields for _, _, fields in own(warehouse)] == wanted
    put(tmp_path, "a.jsonl", '{"Nr": 1, "text": "a", "lang": {"code": "en", "p": NaN}}\n{"Nr": 33, "text": "b"}\n')
    assert not ingest(warehouse, CARD, {"train": spec}).skipped
    assert [fields for _, _, fields in own(warehouse)] == [wanted[0], '{"Nr": 33, "lang": null}']
    assert ingest(warehouse, CARD, {"train": spec}).skipped
    ingest(warehouse, CARD, {"train": {"path": str(path), "id": False}})
    assert [fields for _, _, fields in own(warehouse)] == [None, None]
    ingest(warehouse, CARD, {"train": {"texts": ["c"]}})
    assert warehouse.scalar("SELECT count(*) FROM occurrence_fields") == 0


def test_columns_of_test_are_not_kept_since_they_may_hold_its_gold(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", "id,text,label,note\n1,a,billing,secret\n")
    with pytest.raises(InputError, match=r"ingest\.test: columns of `test` are not kept"):
        ingest(Warehouse.memory(), CARD, {"test": {"path": str(path), "keep": ["note"]}})
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, {"test": path})
    assert own(warehouse) == [("test", f"{path}:2", '{"id": "1"}')]


def test_lineage_names_the_line_and_the_id_and_a_dropped_row_its_line(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'id,text\n1696,"one\ntwo"\n1697,\n')
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, {"train": {"path": str(path), "bad_limit": 1}})
    assert warehouse.query("SELECT how FROM ancestors('text', '1')") == [(f'{path}:2 {{"id": "1696"}}',)]
    assert warehouse.query("SELECT item, drop_reason FROM dropped") == [(f"{path}:4", "empty_text")]
