"""Texts by number, split and hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from factory.corpus.stage import ingest
from factory.files.rows import content_hash
from factory.task import load_card
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import texts

CARD = load_card({"name": "t", "text": "a line", "labels": {"ham": "fine", "spam": "not fine"}})


def warehouse_of(folder: Path, train: list[str], test: list[str]) -> Warehouse:
    warehouse = Warehouse.memory()
    for name, lines in (("train", train), ("test", test)):
        (folder / f"{name}.csv").write_text("text,label\n" + "".join(f"{line},ham\n" for line in lines))
    given = {split: folder / f"{split}.csv" for split, lines in (("train", train), ("test", test)) if lines}
    ingest(warehouse, CARD, given)
    return warehouse


def test_texts_are_read_by_number_in_any_order_and_unknown_numbers_are_left_out(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path, ["one", "two", "three"], [])
    assert texts.texts_of(warehouse, [3, 1, 3, 99]) == {1: "one", 3: "three"}
    assert texts.texts_of(warehouse, np.array([2])) == {2: "two"}
    assert texts.texts_of(warehouse, []) == {}
    assert texts.hashes_of(warehouse, [2, 99]) == {2: content_hash("two")}
    assert texts.numbers_of(warehouse, [content_hash("two"), content_hash("none")]) == {content_hash("two"): 2}


def test_a_split_holds_the_texts_that_are_kept_in_it(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path, ["one", "two", "one"], ["two"])
    assert texts.split_numbers(warehouse, "train").tolist() == [1]
    assert texts.split_hashes(warehouse, "test") == {2: content_hash("two")}
    assert texts.labelled_texts(warehouse).train.tolist() == [True, False]


def test_texts_are_added_once_whatever_they_were_before(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path, ["one"], [])
    with warehouse.lease() as db:
        assert texts.add_texts(db, ["new", "one", "new", "newer"], "passage") == [2, 1, 2, 3]
        assert texts.add_texts(db, [], "passage") == []
    assert warehouse.query("SELECT text, origin FROM texts ORDER BY text_no") == [
        ("one", "corpus"), ("new", "passage"), ("newer", "passage"),
    ]  # fmt: skip
    assert texts.labelled_texts(warehouse).numbers.tolist() == [1]


def test_a_passage_changes_no_digest_and_a_text_does(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path, ["one"], [])
    before = texts.texts_digest(warehouse)
    with warehouse.lease() as db:
        texts.add_texts(db, ["read alone"], "passage")
    assert texts.texts_digest(warehouse) == before
    with warehouse.lease() as db:
        texts.add_texts(db, ["written"], "synthetic")
    assert texts.texts_digest(warehouse) != before


def test_a_sample_is_drawn_by_content_and_not_by_number(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(40)]
    one = warehouse_of(tmp_path, lines, [])
    other = warehouse_of(tmp_path, lines[::-1], [])
    for drawn_by in ("sha256", "md5"):
        drawn = [[text for _, text in texts.sample_texts(w, 5, "salt", drawn_by=drawn_by)] for w in (one, other)]  # type: ignore[arg-type]
        assert drawn[0] == drawn[1]
        assert len(set(drawn[0])) == 5
    first = [number for number, _ in texts.sample_texts(one, 5, "salt")]
    assert first != [number for number, _ in texts.sample_texts(one, 5, "other")]
    assert set(first).isdisjoint(n for n, _ in texts.sample_texts(one, 5, "salt", exclude=first))
    assert texts.sample_texts(one, 0, "salt") == []
