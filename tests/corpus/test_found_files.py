"""Files as they are found: what spreadsheets, pandas, `datasets` and others write is taken in, or refused in one clear line."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from factory.corpus.init import write_start
from factory.corpus.stage import ingest
from factory.errors import FactoryError, InputError, WarehouseError
from factory.task import TaskCard, load_card
from factory.warehouse.file import Warehouse

TEXTS = ["I was charged twice", "Where is my parcel", "Reset my password"]
LABELS = ["billing", "delivery", "account"]
CARD = load_card({"name": "t", "text": "a message", "labels": dict.fromkeys(LABELS, "x")})
MULTI = load_card({"name": "m", "kind": "multi", "text": "a message", "labels": dict.fromkeys(LABELS, "x")})


def put(folder: Path, content: str | bytes, name: str = "m.csv") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / name


def gold(source: Any, card: TaskCard = CARD) -> list[tuple[str, list[str]]]:
    """Texts with their labels, in the order of the source."""
    warehouse = Warehouse.memory()
    ingest(warehouse, card, {"dev": source})
    return warehouse.query(
        "SELECT any_value(text), coalesce(list(name ORDER BY label_no) FILTER (WHERE name IS NOT NULL), []) FROM gold"
        " JOIN texts USING (text_no) LEFT JOIN labels USING (label_no) GROUP BY source_no, row_no ORDER BY source_no, row_no"
    )


def single(*labels: str) -> list[tuple[str, list[str]]]:
    return [(text, [label]) for text, label in zip(TEXTS, labels or LABELS, strict=False)]


def csv_of(labels: list[str], column: str = "label") -> str:
    return f"text,{column}\n" + "".join(f'{text},"{label}"\n' for text, label in zip(TEXTS, labels, strict=True))


# Labels -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_of_card_and_file_may_be_typed_in_different_ways(tmp_path: Path, form: str) -> None:
    card = load_card({"name": "t", "text": "x", "labels": {unicodedata.normalize("NFC", "réclamation"): "a", "b": "b"}})
    path = put(tmp_path, unicodedata.normalize(form, "text,label\na,réclamation\n"))
    assert gold(path, card) == [("a", ["réclamation"])]


def test_an_unusual_blank_is_an_error_that_shows_it(tmp_path: Path) -> None:
    card = load_card({"name": "t", "text": "x", "labels": {"order status": "a", "b": "b"}})
    with pytest.raises(InputError, match=r"m.csv:2: unknown_label: label 'order\\xa0status' is not on the card"):
        gold(put(tmp_path, "text,label\na,order\u00a0status\n"), card)


@pytest.mark.parametrize(
    "labels", [{"0": "billing", "1": "delivery"}, {0: "billing", 1.0: "delivery"}, {"0.0": "billing", "1": "delivery"}]
)
def test_numbers_may_stand_for_labels_whatever_their_type(tmp_path: Path, labels: Any) -> None:
    floats, ints = (
        put(tmp_path, "text,label\na,0.0\nb,1.0\n"),
        put(tmp_path, '{"text": "a", "label": 0}\n{"text": "b", "label": 1.0}\n', "m.jsonl"),
    )
    for path in (floats, ints):
        assert gold({"path": str(path), "labels": labels}) == [("a", ["billing"]), ("b", ["delivery"])]
    with pytest.raises(
        InputError, match=r"'0\.0' is not on the card; say what it means with `labels: \{'0\.0': billing"
    ):
        gold(floats)


def test_a_missing_label_is_missing_and_not_a_label(tmp_path: Path) -> None:
    for content, name in (
        ("text,label\na,billing\nb,nan\n", "m.csv"),
        ('{"text": "a", "label": "billing"}\n{"text": "b", "label": NaN}\n', "m.jsonl"),
    ):
        path = put(tmp_path, content, name)
        with pytest.raises(InputError, match=f"{name}:[23]: empty_label"):
            gold(path)
    card = load_card({"name": "t", "text": "x", "labels": {"nan": "a grandmother", "billing": "b"}})
    assert gold(put(tmp_path, "text,label\na,nan\n"), card) == [("a", ["nan"])], "unless it is one"


@pytest.mark.parametrize(
    "cells",
    [['["billing","delivery"]', "['account']", "[]"], ["['billing' 'delivery']", "['account']", "[]"],
     ["('billing', 'delivery')", "('account',)", "()"],
     ["{'billing', 'delivery'}", "{'account'}", "set()"], ["[billing, delivery]", "account", ""]],
)  # fmt: skip
def test_lists_of_labels_in_cells_are_read_in_every_form_and_init_makes_a_multi_task_of_them(
    tmp_path: Path, cells: list[str]
) -> None:
    path = put(tmp_path, csv_of([cell.replace('"', '""') for cell in cells], "labels"))
    wanted = list(zip(TEXTS, [["billing", "delivery"], ["account"], []], strict=True))
    assert gold(path, MULTI) == wanted
    card, data = started(tmp_path, path)
    assert (card.kind, card.label_names) == ("multi", sorted(LABELS))
    assert [(text, sorted(labels)) for text, labels in gold(data["reference"], card)] == wanted


@pytest.mark.parametrize("mark", [";", "|"])
def test_separated_labels_are_told_of_and_init_says_the_separator(tmp_path: Path, mark: str) -> None:
    path = put(tmp_path, csv_of([f"billing{mark} delivery", "account", ""], "labels"))
    with pytest.raises(InputError, match=r"m\.csv:2: unknown_label.*it is 2 labels: say `label_separator: '[;|]'`"):
        gold(path, MULTI)
    card, data = started(tmp_path, path)
    assert data["reference"]["label_separator"] == mark
    assert gold(data["reference"], card) == list(zip(TEXTS, [["billing", "delivery"], ["account"], []], strict=True))


def test_a_comma_in_a_labels_name_makes_no_two_of_it(tmp_path: Path) -> None:
    path = put(tmp_path, csv_of(["Invoices, charges", "Parcels", "Parcels"]))
    assert started(tmp_path, path)[0].label_names == ["Invoices, charges", "Parcels"]
    path = put(tmp_path, 'text,label\na,"x, y"\nb,x\nc,y\n', "two.csv")
    assert started(tmp_path / "two", path)[0].label_names == ["x", "y"], "both stand alone elsewhere"


# Init -------------------------------------------------------------------------------------------------------------------
def started(folder: Path, file: Path, **told: Any) -> tuple[TaskCard, dict[str, Any]]:
    """The card that `init` writes, and its data with whole paths."""
    out = folder / f"start of {file.name}"
    written = write_start(file, out, **told)
    data = yaml.safe_load(Path(written["pipeline"]).read_text(encoding="utf-8"))["data"]
    for source in data.values():
        source["path"] = str(out / source["path"])
    return load_card(Path(written["task"])), data


WRITTEN: dict[str, tuple[pa.Array, list[str]]] = {
    "floats": (pa.array([0.0, 1.0, float("nan"), 1.0]), ["0", "1"]),
    "floats and nulls": (pa.array([0.0, 1.0, None, 1.5]), ["0", "1", "1.5"]),
    "booleans": (pa.array([True, False, None, True]), ["false", "true"]),
    "integers": (pa.array([3, 1, 2, 3], pa.int8()), ["1", "2", "3"]),
    "line ends": (pa.array(["late\ndelivery", "billing", "billing", None]), ["billing", "late delivery"]),
    "words of YAML": (pa.array(["yes", "no", "null", "1e3"]), ["1e3", "no", "null", "yes"]),
    "odd names": (pa.array(["C/C++", "a: b #c", "'q\"", "{x}"]), ["'q\"", "C/C++", "a: b #c", "{x}"]),
    "lists": (pa.array([["a", "b"], [], None, ["c"]], pa.list_(pa.string())), ["a", "b", "c"]),
    "dictionary": (pa.array(["x", "y", None, "x"]).dictionary_encode(), ["x", "y"]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_init_writes_ingest_reads(tmp_path: Path, name: str) -> None:
    values, names = WRITTEN[name]
    pq.write_table(pa.table({"text": [*TEXTS, "Refund me"], "label": values}), tmp_path / "m.parquet")
    card, data = started(tmp_path, tmp_path / "m.parquet")
    assert card.label_names == names
    warehouse = Warehouse.memory()
    ingest(warehouse, card, {"train": data["train"]})
    assert warehouse.scalar("SELECT count(*) FROM texts") == 4
    read = gold({**data["reference"], "bad_limit": 4}, card)
    assert {label for _, labels in read for label in labels} == set(names)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data", "text;label\nä,b;x\nc;y\n", {"format": "csv", "delimiter": ";"}),
        ("m.csv", "text;label\nfür;x\nc;y\n".encode("cp1252"), {"encoding": "cp1252", "delimiter": ";"}),
        ("m.dat", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n', {"format": "jsonl"}),
        ("m.csv", "text,label\na,x\nb,y\n,x\n", {"bad_limit": 1}),
        ("m.csv", 'text,label\n"never closed,x\nb,y\nc,x\n', {"bad_limit": 1}),
    ],
)
def test_init_says_what_a_pipeline_must_say(tmp_path: Path, name: str, content: Any, said: dict[str, Any]) -> None:
    card, data = started(tmp_path, put(tmp_path, content, name))
    assert {key: data["train"][key] for key in said} == said
    ingest(Warehouse.memory(), card, {"train": data["train"]})


def test_init_refuses_what_cannot_be_a_label_before_it_writes_anything(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column `label` holds what cannot be a label"):
        started(
            tmp_path,
            put(
                tmp_path,
                json.dumps({"text": "a", "label": "x\x1by"}) + "\n" + json.dumps({"text": "b", "label": "y"}),
                "m.jsonl",
            ),
        )
    with pytest.raises(InputError, match="column `label` holds what cannot be a label"):
        started(tmp_path, put(tmp_path, f"text,label\na,{'long ' * 60}\nb,y\n"))
    assert not list(tmp_path.glob("start*"))


def test_of_a_file_without_a_header_no_text_is_lost(tmp_path: Path) -> None:
    one, two = (
        put(tmp_path, "\n".join(TEXTS), "one.csv"),
        put(tmp_path, "I was charged,billing\nWhere is it,delivery\n", "two.csv"),
    )
    for file in (one, two):
        with pytest.raises(InputError, match=r"--format lines|--columns text,\.\.\."):
            started(tmp_path, file, labels=["a", "b"])
    _, data = started(tmp_path, one, labels=["a", "b"], told={"format": "lines"})
    warehouse = Warehouse.memory()
    assert ingest(warehouse, CARD, {"train": data["train"]}).did["texts"] == 3
    card, data = started(tmp_path, two, told={"columns": ["text", "label"]})
    assert gold(data["reference"], card) == [("I was charged", ["billing"]), ("Where is it", ["delivery"])]


# Values -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("m.jsonl", '{"text": "a"}\n{"text": NaN}\n', "m.jsonl:2"), ("m.jsonl", '{"text": "a"}\n{"text": 1e999}\n', "m.jsonl:2"),
        ("m.csv", "text,n\na,1\nnan,2\n", "m.csv:3"), ("m.json", '[{"text": "a"}, {"text": null}]', "m.json: row 2"),
    ],
)  # fmt: skip
def test_a_missing_text_is_no_text_nan(tmp_path: Path, name: str, content: str, place: str) -> None:
    with pytest.raises(InputError, match=f"{place}: empty_text"):
        ingest(Warehouse.memory(), CARD, {"train": put(tmp_path, content, name)})


def test_missing_values_of_a_notebook_are_missing(tmp_path: Path) -> None:
    import numpy as np
    import pandas as pd

    rows = ["a", None, float("nan"), pd.NA, np.float32("nan"), 42, True]
    warehouse = Warehouse.memory()
    said = ingest(warehouse, CARD, {"train": {"texts": rows, "bad_limit": 4}})
    assert warehouse.query("SELECT text FROM texts ORDER BY text_no") == [("a",), ("42",), ("true",)]
    assert "4 of 7 rows cannot be used (inline: row 2 empty_text" in " ".join(said.says)


def test_columns_are_found_whatever_their_case_and_inside_objects(tmp_path: Path) -> None:
    path = put(tmp_path, "TEXT,Label,Lang\na,billing,en\nb,delivery,de\n")
    assert gold({"path": str(path), "text": "text", "label": "LABEL", "where": {"lang": "en"}}) == [("a", ["billing"])]
    path = put(tmp_path, '{"data": {"text": "a"}, "meta": {"gold": {"name": "billing"}}}\n', "m.jsonl")
    assert gold({"path": str(path), "text": "data.text", "label": "meta.gold.name"}) == [("a", ["billing"])]
    with pytest.raises(
        InputError, match=r"m.jsonl:1: broken_row: column 'data' holds an object, not a text; name one of `data.text`"
    ):
        gold({"path": str(path), "text": "data", "label": "meta.gold.name"})


@pytest.mark.parametrize(
    "document", [{"text": {"0": "a"}, "label": {"0": "x"}}, {"text": ["a"], "label": ["x"]}, {"data": [{"text": "a"}]}]
)
def test_a_table_by_columns_says_how_to_write_rows(tmp_path: Path, document: Any) -> None:
    with pytest.raises(InputError, match='orient="records"'):
        ingest(Warehouse.memory(), CARD, {"train": put(tmp_path, json.dumps(document), "m.json")})


# Folders ----------------------------------------------------------------------------------------------------------------
def test_a_folder_of_files_has_a_line_for_every_row_and_types_may_differ(tmp_path: Path) -> None:
    put(tmp_path, '{"text": "a", "label": 1}\n', "d/a.jsonl")
    put(tmp_path, '\n{"text": "b", "label": "delivery"}\n', "d/b.jsonl")
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, {"dev": {"path": "d", "labels": {"1": "billing"}}}, base=tmp_path)
    placed = (
        "SELECT place, name FROM places JOIN gold USING (source_no, row_no) JOIN labels USING (label_no) ORDER BY 1"
    )
    assert warehouse.query(placed) == [
        ("d/a.jsonl:1", "billing"), ("d/b.jsonl:2", "delivery"),
    ]  # fmt: skip


def test_class_numbers_in_parquet_of_datasets_are_their_names(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=LABELS))}
    )
    rows = {"text": TEXTS, "labels": [[0, 1], [], [2]]}
    (tmp_path / "d").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "d" / "train.parquet"))
    assert [labels for _, labels in gold(tmp_path / "d", MULTI)] == [["billing", "delivery"], [], ["account"]]
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=features)}).save_to_disk(
        str(tmp_path / "s")
    )
    assert [labels for _, labels in gold(tmp_path / "s", MULTI)] == [["billing", "delivery"], [], ["account"]]


def damaged(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": [f"{n} some text" for n in range(5000)]}), path)
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)


@pytest.mark.parametrize("form", ["auto", "dataset"])
@pytest.mark.parametrize("kind", ["damaged", "double", "mixed"])
def test_a_folder_that_cannot_be_read_is_one_line_about_reading(tmp_path: Path, kind: str, form: str) -> None:
    if kind == "damaged":
        damaged(tmp_path / "d" / "train.parquet")
    elif kind == "double":
        (tmp_path / "d").mkdir()
        pq.write_table(
            pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "d" / "a.parquet"
        )
    elif form == "auto":
        pytest.skip("told apart by file")
    else:
        put(tmp_path, '{"text": "a", "label": 1}\n', "d/a.jsonl")
        put(tmp_path, '{"text": "b", "label": "x"}\n', "d/b.jsonl")
    with pytest.raises(FactoryError) as error:
        ingest(Warehouse.memory(), CARD, {"train": {"path": str(tmp_path / "d"), "format": form}})
    assert isinstance(error.value, InputError)
    assert not isinstance(error.value, WarehouseError)
    said = str(error.value)
    assert str(tmp_path / "d") in said
    assert "written" not in said
    assert "\n" not in said
