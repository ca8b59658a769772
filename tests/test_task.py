"""Task cards: what may stand in one, the line of what may not, revisions, and label numbers that never change."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory.errors import InputError
from factory.task import TaskCard, as_yaml, current_card, label_names, load_card, register
from factory.warehouse.file import Warehouse

ROOT = Path(__file__).resolve().parent.parent
GOOD: dict[str, Any] = {"name": "t", "text": "a line", "labels": {"ham": "fine", "spam": "not fine"}}


@pytest.mark.parametrize("path", sorted(ROOT.glob("pipelines/*/task.yaml")), ids=lambda path: path.parent.name)
def test_every_shipped_card_loads(path: Path) -> None:
    card = load_card(path)
    assert all(len(label.description) > 12 for label in card.labels)


def test_labels_may_be_a_mapping_or_a_list() -> None:
    one = load_card(GOOD)
    two = load_card(
        {**GOOD, "labels": [{"name": "ham", "description": "fine"}, {"name": "spam", "description": "not fine"}]}
    )
    assert one == two
    assert one.label_names == ["ham", "spam"]
    assert one.label("spam").description == "not fine"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (
            "name: t\ntext: x\nlabels: {a: x, b: y}\nguidlines: z\n",
            ":4",
            "unknown key `guidlines`; did you mean `guidelines`",
        ),
        ("name: t\nlabels: {a: x, b: y}\n", ":1", "`text` is missing"),
        ("name: t\ntext: x\nkind: both\nlabels: {a: x, b: y}\n", ":3", "kind"),
        ("name: t\ntext: x\nlabels:\n  - {name: a, description: x}\n  - {name: b, descr: y}\n", ":5", "labels.1"),
        (
            "name: t\ntext: x\nlabels:\n  - {name: a, description: x}\n  - {name: a, description: y}\n",
            ":1",
            "stands twice",
        ),
        ("name: t\ntext: x\nlabels: {a: x}\n", ":1", "two labels or more"),
        ("name: t\ntext: x\nlabels: {a: x, b: ''}\n", ":3", "description"),
        ("name: t\ntext: x\nlabels: {a: x, ' b': y}\n", ":3", "blanks"),
        ("name: a b\ntext: x\nlabels: {a: x, b: y}\n", ":1", "name"),
        ("name: t\ntext: x\ndefault_label: c\nlabels: {a: x, b: y}\n", ":1", "default_label"),
        ("name: t\ntext: [x\nlabels: {a: x}\n", ":3", "no YAML|not YAML"),
        ("name: t\ntext: x\nlabels:\n  a: x\n  b:\n    description: y\n    parent: c\n", ":7", "has the parent 'c'"),
        (
            "name: t\ntext: x\nlabels:\n  - {name: a, description: x, parent: b}\n  - {name: b, description: y, parent: a}\n",
            ":4",
            "'a' is its own parent",
        ),
        ("name: t\ntext: x\nother: maybe\nlabels: {a: x, b: y}\n", ":3", "`other` is true or false"),
        ("name: t\ntext: x\nother: true\nlabels: {a: x, other: y}\n", ":3", "there is one already"),
        ("name: t\nkind: multi\ntext: x\nother: true\nlabels: {a: x}\n", ":4", "kind single"),
        ("name: t\ntext: x\nlabels: {path: no.csv, name: a}\n", ":3", "no file of labels"),
        ("name: t\ntext: x\nlabels: {path: no.csv, nam: a}\n", ":3", "did you mean `name`"),
        ("- a\n- b\n", "", "a task card is a YAML mapping"),
        ("", "", "a task card is a YAML mapping"),
    ],
)
def test_a_wrong_card_is_one_line_that_names_the_place(tmp_path: Path, text: str, place: str, words: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        load_card(path)
    assert f"{path}{place}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("content", "words"), [(b"\xff\xfe\x00binary", "not UTF-8"), (None, "no such file")])
def test_a_card_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "task.yaml").write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_card(tmp_path / "task.yaml")


def test_yaml_that_would_make_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError):
        load_card(tmp_path / "task.yaml")


def test_a_revision_changes_with_any_word_and_not_with_the_form() -> None:
    card = load_card(GOOD)
    assert card.revision == load_card(yaml.safe_load(yaml.safe_dump(GOOD))).revision
    assert card.revision != load_card({**GOOD, "guidelines": "x"}).revision
    assert len(card.revision) == 64


def test_label_numbers_are_append_only() -> None:
    warehouse = Warehouse.memory()
    register(warehouse, load_card(GOOD))
    register(warehouse, load_card({**GOOD, "labels": {"eggs": "new", "spam": "changed"}}))
    assert warehouse.query("SELECT label_no, name, description, active FROM labels ORDER BY 1") == [
        (0, "ham", "fine", False), (1, "spam", "changed", True), (2, "eggs", "new", True),
    ]  # fmt: skip
    register(warehouse, load_card(GOOD))
    assert label_names(warehouse) == ["ham", "spam", "eggs"]
    assert warehouse.query("SELECT name FROM labels WHERE active ORDER BY 1") == [("ham",), ("spam",)]


def test_a_card_is_registered_once_and_its_revisions_are_kept() -> None:
    warehouse = Warehouse.memory()
    for _ in range(2):
        register(warehouse, load_card(GOOD))
    assert warehouse.scalar("SELECT count(*) FROM tasks") == 1
    changed = load_card({**GOOD, "guidelines": "be strict"})
    register(warehouse, changed)
    assert current_card(warehouse) == changed
    assert warehouse.scalar("SELECT count(*) FROM tasks") == 2


def test_a_warehouse_without_a_task_says_so() -> None:
    with pytest.raises(InputError, match="no task yet"):
        current_card(Warehouse.memory())


def test_fields_are_rendered_in_the_order_of_the_card() -> None:
    card = TaskCard.model_validate({**load_card(GOOD).model_dump(), "fields": ["title", "body"]})
    assert card.render_fields({"body": "there", "title": "hi"}) == "title: hi\nbody: there"


ROWS = """id,skill,about,under,also
1,Java,A language,programming,J2SE | JVM
2,programming,,,
3,"baking, cakes","Sweet
things",,
"""


def test_labels_may_stand_in_a_csv_file_beside_the_card(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(ROWS)
    told = {"path": "labels.csv", "name": "skill", "description": "about", "parent": "under", "aliases": "also"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**GOOD, "labels": told, "other": True}))
    card = load_card(tmp_path / "task.yaml")
    assert card.label_names == ["Java", "programming", "baking, cakes", "other"]
    assert card.label("Java").aliases == ("J2SE", "JVM")
    assert card.label("Java").meaning == "A language A part of programming. Also called: J2SE, JVM."
    assert card.label("programming").description == "programming"
    assert card.label("baking, cakes").description == "Sweet things"
    assert card.above == {"Java": ("programming",)}
    assert load_card({**GOOD, "labels": told, "other": True}, base=tmp_path) == card
    (tmp_path / "whole.yaml").write_text(as_yaml(card))
    assert load_card(tmp_path / "whole.yaml").revision == card.revision


@pytest.mark.parametrize(
    ("rows", "place", "words"),
    [
        ("nam,description\na,x\n", ":1", "no column `name`; did you mean `nam`"),
        ('name,description\na,"x\ny"\nb,y,z\n', ":4", "3 cells, and the heading 2"),
        ("name,description\na,x\n ,y\n", ":3", "no name"),
        ("name\na\n\nb\na\n", ":5", "stands twice, the first time in line 2"),
        ("name,parent\na,\nb,c\n", ":3", "parent 'c' of label 'b'"),
        ("name,parent\na,b\nb,a\n", ":2", "its own parent"),
        ("name\na\nb\x07\n", ":3", "control characters"),
        ('name\na\n"b\n', ":3", "not CSV"),
    ],
)
def test_a_wrong_row_of_a_label_file_is_told_by_file_and_line(
    tmp_path: Path, rows: str, place: str, words: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(rows)
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**GOOD, "labels": {"path": "labels.csv"}}))
    with pytest.raises(InputError, match=words) as error:
        load_card(tmp_path / "task.yaml")
    assert f"{path}{place}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_card_may_have_labels_called_path_and_name() -> None:
    card = load_card({**GOOD, "labels": {"path": "About a way.", "name": "About a name."}})
    assert card.label_names == ["path", "name"]


def test_a_parent_is_a_new_revision_and_none_is_not() -> None:
    labels = [{"name": "a", "description": "x"}, {"name": "b", "description": "y"}]
    plain = load_card({**GOOD, "labels": labels})
    nested = load_card({**GOOD, "labels": [labels[0], {**labels[1], "parent": "a"}]})
    assert plain.revision == load_card({**GOOD, "labels": {"a": "x", "b": "y"}}).revision
    assert nested.revision != plain.revision


def test_a_card_of_many_labels_is_checked_in_no_time() -> None:
    labels = [{"name": f"l{n}", "description": "x", **({"parent": f"l{n // 10}"} if n else {})} for n in range(14_000)]
    started = time.process_time()
    card = load_card({**GOOD, "labels": labels})
    assert card.above["l13999"] == ("l1399", "l139", "l13", "l1", "l0")
    assert time.process_time() - started < 3
