"""Gold is read in one place: kept rows alone, and one rule for texts whose rows disagree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import factory
from factory.corpus.stage import ingest
from factory.task import load_card
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import gold

CARD = load_card({"name": "t", "text": "a line", "labels": {"ham": "fine", "spam": "not fine"}})
MULTI = load_card({"name": "m", "kind": "multi", "text": "a line", "labels": {"a": "about a", "b": "about b"}})
ROOT = Path(factory.__file__).parent


def warehouse_of(folder: Path, card: Any = CARD, **splits: list[tuple[str, Any]]) -> Warehouse:
    warehouse = Warehouse.memory()
    files = {}
    for split, rows in splits.items():
        key = "labels" if card is MULTI else "label"
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps({"text": text, key: label}) + "\n" for text, label in rows))
        files[split] = path
    ingest(warehouse, card, files)
    return warehouse


def texts(warehouse: Warehouse) -> dict[int, str]:
    return dict(warehouse.query("SELECT text_no, text FROM texts"))


def test_a_dev_row_whose_text_stands_in_test_is_no_gold(tmp_path: Path) -> None:
    rows = [("in dev alone", "spam"), ("in both", "ham"), ("in both too", "spam")]
    warehouse = warehouse_of(tmp_path, dev=rows, test=[("in both", "ham"), ("in both too", "spam")])
    assert [texts(warehouse)[number] for number in gold.dev_gold(warehouse)] == ["in dev alone"]
    assert len(gold.gold_rows(warehouse, "dev", "seed", labels=2)) == 1


def test_the_digest_follows_kept_rows_alone(tmp_path: Path) -> None:
    rows = [("one", "spam"), ("two", "ham")]
    alone = gold.gold_digest(warehouse_of(tmp_path, dev=rows, train=[("two", "ham")]), "dev")
    assert alone == gold.gold_digest(warehouse_of(tmp_path, dev=rows), "dev")
    assert alone != gold.gold_digest(warehouse_of(tmp_path, dev=rows, test=[("two", "ham")]), "dev")
    assert alone != gold.gold_digest(warehouse_of(tmp_path, dev=[("one", "ham"), ("two", "ham")]), "dev")


def test_the_digest_says_first_how_many_texts_have_gold(tmp_path: Path) -> None:
    torn = warehouse_of(tmp_path, dev=[("parcel", "ham"), ("parcel", "spam")])
    assert gold.gold_digest(torn, "dev").startswith("0:")  # distill leaves `student_dev` out by it
    assert gold.gold_digest(torn, "seed") == "0:"
    assert gold.gold_digest(warehouse_of(tmp_path, dev=[("one", "ham"), ("two", "ham")]), "dev").startswith("2:")


def test_gold_belongs_to_the_split_of_its_own_row(tmp_path: Path) -> None:
    warehouse = warehouse_of(tmp_path, dev=[("shared", "spam"), ("other", "ham")], seed=[("shared", "ham")])
    assert set(gold.dev_gold(warehouse).values()) == {(1,), (0,)}
    assert [seed.labels for seed in gold.seed_gold(warehouse)] == [(0,)]
    assert [text.labels for text in gold.gold_texts(warehouse, "dev", "seed")] == [
        (0,)
    ]  # "shared" disagrees across them


def test_a_text_under_two_labels_has_no_gold_and_is_named_with_its_places(tmp_path: Path) -> None:
    rows = [("parcel", "ham"), ("parcel", "spam"), ("twice", "spam"), ("twice", "spam")]
    warehouse = warehouse_of(tmp_path, dev=rows)
    assert [texts(warehouse)[number] for number in gold.dev_gold(warehouse)] == ["twice"]
    found = gold.gold_rows(warehouse, "dev", labels=2)
    assert (found.rows.tolist(), found.single.tolist()) == ([3, 4], [1, 1])
    (line,) = gold.disagreements(warehouse, "dev")
    place = tmp_path / "dev.jsonl"
    assert line == (
        "gold of dev: 1 text is left out, since rows of one text carry different labels"
        f" (first: {place}:1 and {place}:2)"
    )
    assert gold.disagreements(warehouse, "seed") == []


def test_a_multi_text_without_labels_has_gold_and_one_with_other_labels_elsewhere_has_none(tmp_path: Path) -> None:
    rows = [
        ("none", []),
        ("both", ["a", "b"]),
        ("torn", ["a"]),
        ("torn", ["a", "b"]),
        ("torn too", []),
        ("torn too", ["b"]),
    ]
    warehouse = warehouse_of(tmp_path, MULTI, dev=rows)
    named = {texts(warehouse)[number]: labels for number, labels in gold.dev_gold(warehouse).items()}
    assert named == {"none": (), "both": (0, 1)}


def test_seeds_come_in_the_order_of_their_file(tmp_path: Path) -> None:
    rows = [("zebra", "ham"), ("ape", "spam"), ("zebra", "ham"), ("mole", "ham")]
    warehouse = warehouse_of(tmp_path, train=[("mole", "ham"), ("ape", "ham")], seed=rows)
    assert [texts(warehouse)[seed.text_no] for seed in gold.seed_gold(warehouse)] == ["zebra", "ape", "mole"]


def test_no_other_file_asks_the_table_of_gold() -> None:
    sql = re.compile(r"\b(FROM|JOIN|INTO|UPDATE|TABLE)\s+gold\b")
    files = [*ROOT.rglob("*.py"), *(ROOT.parent / "warehouse").rglob("views.sql")]
    asking = {
        path.relative_to(ROOT.parent).as_posix() for path in files if sql.search(path.read_text(encoding="utf-8"))
    }
    assert asking == {"factory/warehouse/tables/gold.py"}


def test_the_gold_file_is_opened_by_evaluation_alone() -> None:
    opening = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if re.search(r"\bgold_file\(|\bgold_path\b", path.read_text(encoding="utf-8"))
    }
    assert opening == {"evaluation/stage.py", "warehouse/file.py", "warehouse/tables/gold.py"}
