"""Names: labels are found however they are typed, and what becomes a path cannot lead out of its folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from factory.errors import InputError
from factory.names import LabelNames, folded, plain_name
from factory.task import current_card, load_card, register
from factory.warehouse.file import Warehouse


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_typed_in_either_way_are_one_label(form: str) -> None:
    find = LabelNames(["réclamation", "Größe"])
    assert find(unicodedata.normalize(form, "réclamation")) == "réclamation"
    assert find(unicodedata.normalize(form, "Größe")) == "Größe"
    assert find("reclamation") is None


def test_a_number_is_its_value_a_boolean_its_word_and_a_break_a_blank() -> None:
    find = LabelNames(["1", "0", "true", "late delivery", "2.5", "C/C++"])
    said = [
        "1.0",
        "0.00",
        "True",
        "TRUE",
        "late\ndelivery",
        "late  delivery",
        "2.5",
        "C/C++",
        "1.5",
        "late\xa0delivery",
        "c/c++",
    ]
    assert [find(one) for one in said] == [
        "1", "0", "true", "true", "late delivery", "late delivery", "2.5", "C/C++", None, None, None,
    ]  # fmt: skip


def test_what_may_be_two_labels_is_neither_and_the_exact_one_comes_first() -> None:
    find = LabelNames(["1", "1.0", "True", "true"])
    assert [find(one) for one in ("1", "1.0", "1.00", "True", "true", "TRUE")] == [
        "1",
        "1.0",
        None,
        "True",
        "true",
        None,
    ]


def test_a_card_and_a_warehouse_of_decomposed_names_hold_the_composed_ones() -> None:
    card = load_card({"name": "t", "text": "x", "labels": {"re\u0301clamation": "a", "b": "b"}})
    assert card.label_names == ["r\u00e9clamation", "b"]
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        db.execute("INSERT INTO labels VALUES (0, 're\u0301clamation', 'a', true)")
    assert register(warehouse, card) == ["r\u00e9clamation", "b"]
    assert current_card(warehouse).label_names == card.label_names


def test_texts_are_folded_by_case_blanks_and_accents_alone() -> None:
    assert folded(" Where\tis\n my PARCEL? ") == folded("where is my parcel?") != folded("where is my parcel")
    assert folded("CAFE\u0301 STRASSE") == folded("caf\u00e9 straße")


@pytest.mark.parametrize("name", ["quickstart", "v1.2", "my_run-3", "étude", "7"])
def test_a_plain_name_stays(name: str) -> None:
    assert plain_name(name, "it") == name


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "-rf", "a b", "a:b", "a*", "run [v1]", "x" * 65, "con", "NUL.txt",
     "a.", "a\n", "a\x00"],
)  # fmt: skip
def test_a_name_that_is_a_path_or_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="the run's name cannot be"):
        plain_name(name, "the run's name")


@pytest.mark.parametrize("value", [True, None, 3, 2.5])
def test_what_yaml_took_for_something_else_is_to_be_quoted(value: object) -> None:
    with pytest.raises(InputError, match=r"YAML.*quotes"):
        plain_name(value, "`name`")


PIPELINE = (
    "name: {name}\ntask: {{name: t, text: x, labels: {{a: x, b: y}}}}\nsteps:\n  - ingest: {{train: t.csv}}\n{more}"
)


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("../../escaped", "", r"p.yaml:1: `name` cannot be '../../escaped'"),
        ("/tmp/escaped", "", "`name` cannot be '/tmp/escaped'"),
        ("yes", "", "`name` is read by YAML as true"),
        ("fine", "  - export_data: {path: ../../out}\n", r"p.yaml:5: `export_data.path` leads out of the run's folder"),
        ("fine", "  - report: {path: /tmp/page}\n", "`report.path` leads out"),
        ("fine", "  - export: {path: a/../../b}\n", "`export.path` leads out"),
    ],
)
def test_a_pipeline_of_a_stranger_writes_nowhere_but_in_its_folder(
    tmp_path: Path, name: str, more: str, words: str
) -> None:
    from factory.pipeline.load import load_pipeline

    (tmp_path / "p.yaml").write_text(PIPELINE.format(name=name, more=more))
    with pytest.raises(InputError, match=words):
        load_pipeline(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text(PIPELINE.format(name="fine", more="  - export_data: {path: data/v1}\n"))
    assert load_pipeline(tmp_path / "p.yaml").name == "fine"


def test_a_prompt_is_read_from_the_folders_of_prompts_alone(tmp_path: Path) -> None:
    from factory import prompts

    (tmp_path / "prompts").mkdir()
    body = "inputs: {text: a text}\noutput: {name: label}\nform: label\n---\nSay it.\n"
    (tmp_path / "outside.md").write_text(f"---\nname: ../outside\n{body}")
    with pytest.raises(InputError, match=r"a prompt's name cannot be '\.\./outside'"):
        prompts.load("../outside", folder=tmp_path / "prompts")
    with pytest.raises(InputError, match="a prompt's name cannot be"):
        prompts.load(str(tmp_path / "outside"), folder=tmp_path / "prompts")
