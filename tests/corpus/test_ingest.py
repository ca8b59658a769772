"""Ingest: texts once, occurrences many times, gold of seed and dev alone, differences and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.corpus.stage import ingest
from factory.errors import InputError
from factory.files.rows import content_hash
from factory.task import TaskCard, load_card
from factory.warehouse.file import Warehouse

CARD = load_card(
    {"name": "t", "text": "a line", "labels": {"ham": "fine", "spam": "not fine"}},
)
MULTI = load_card({"name": "m", "kind": "multi", "text": "a line", "labels": {"a": "about a", "b": "about b"}})


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row if isinstance(row, dict) else {"text": row}) + "\n" for row in rows))
    return path


def gold(path: Path, rows: list[tuple[str, Any]]) -> Path:
    return jsonl(path, [{"text": text, "label": label} for text, label in rows])


def content(warehouse: Warehouse) -> dict[str, list[Any]]:
    """Every table of the corpus, times left out."""
    tables = {
        "texts": "SELECT text_no, content_hash, text, fields, origin FROM texts ORDER BY ALL",
        "occurrences": "FROM occurrences ORDER BY ALL",
        "gold": "FROM gold ORDER BY ALL",
        "bad_rows": "FROM bad_rows ORDER BY ALL",
        "sources": "SELECT * EXCLUDE (ingested_at) FROM sources ORDER BY ALL",
        "labels": "FROM labels ORDER BY ALL",
    }
    return {name: warehouse.query(sql) for name, sql in tables.items()}


def test_a_duplicate_is_one_text_with_several_occurrences(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    result = ingest(warehouse, CARD, {"train": jsonl(tmp_path / "a.jsonl", ["one", "two", "one", "one "])})
    assert warehouse.query("SELECT text_no, text FROM texts ORDER BY 1") == [(1, "one"), (2, "two"), (3, "one ")]
    assert warehouse.query("SELECT row_no, text_no FROM occurrences ORDER BY 1") == [(1, 1), (2, 2), (3, 1), (4, 3)]
    assert result.did["duplicates"] == 1
    assert warehouse.scalar("SELECT content_hash FROM texts WHERE text_no = 1") == content_hash("one")


def test_gold_is_stored_for_seed_and_dev_and_never_for_test(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    files = {
        split: gold(tmp_path / f"{split}.jsonl", [(f"{split} text", "spam")])
        for split in ("seed", "dev", "test", "reference")
    }
    ingest(warehouse, CARD, {**files, "train": jsonl(tmp_path / "train.jsonl", ["train text"])})
    stored = warehouse.query("SELECT split, label_no FROM gold JOIN occurrences USING (source_no, row_no) ORDER BY 1")
    assert stored == [("dev", 1), ("seed", 1)]
    assert warehouse.query("SELECT DISTINCT split FROM sources ORDER BY 1") == [
        ("dev",),
        ("seed",),
        ("test",),
        ("train",),
    ]


def test_a_text_of_test_leaves_every_other_split_and_it_is_said(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    sources = {
        "train": jsonl(tmp_path / "train.jsonl", ["a", "b", "b", "c"]),
        "dev": gold(tmp_path / "dev.jsonl", [("c", "ham"), ("d", "ham")]),
        "test": jsonl(tmp_path / "test.jsonl", ["b", "c", "c"]),
    }
    result = ingest(warehouse, CARD, sources)
    kept = warehouse.query("SELECT split, text FROM split_texts JOIN texts USING (text_no) ORDER BY ALL")
    assert kept == [("dev", "d"), ("test", "b"), ("test", "c"), ("train", "a")]
    assert result.did["left_for_test"] == 4
    assert any("3 left because they stand in test" in line for line in result.says)
    jsonl(tmp_path / "test.jsonl", ["c"])
    ingest(warehouse, CARD, sources)
    assert ("train", "b") in warehouse.query("SELECT split, text FROM split_texts JOIN texts USING (text_no)")


def test_rule_exemplars_leave_train_and_it_is_said(tmp_path: Path) -> None:
    rows = [{"text": "a", "exemplar": False}, {"text": "b", "exemplar": True}, {"text": "c", "exemplar": None}]
    warehouse = Warehouse.memory()
    result = ingest(warehouse, CARD, {"train": jsonl(tmp_path / "a.jsonl", rows)})
    assert result.did["exemplars"] == 1
    assert warehouse.query("SELECT text FROM texts ORDER BY 1") == [("a",), ("c",)]
    assert warehouse.query("SELECT row_no, drop_reason FROM bad_rows") == [(2, "exemplar")]
    assert any("1 rows are hand-labelled rule exemplars" in line for line in result.says)


def test_a_second_call_writes_nothing(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    sources = {"train": jsonl(tmp_path / "a.jsonl", ["a", "b"]), "dev": gold(tmp_path / "d.jsonl", [("x", "ham")])}
    assert not ingest(warehouse, CARD, sources).skipped
    before = (tmp_path / "w.duckdb").stat().st_mtime_ns
    assert ingest(warehouse, CARD, sources).skipped
    assert (tmp_path / "w.duckdb").stat().st_mtime_ns == before


def test_without_the_hint_a_second_call_reads_again_and_writes_nothing(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    sources = {"train": jsonl(tmp_path / "a.jsonl", ["a", "b"])}
    ingest(warehouse, CARD, sources)
    (tmp_path / "w.files.json").unlink()
    result = ingest(warehouse, CARD, sources)
    assert result.skipped
    assert result.did["new_rows"] == 2


def test_appended_texts_alone_are_added(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    sources = {"train": jsonl(tmp_path / "a.jsonl", ["a", "b"]), "test": jsonl(tmp_path / "t.jsonl", ["c"])}
    ingest(warehouse, CARD, sources)
    before = content(warehouse)
    jsonl(tmp_path / "a.jsonl", ["a", "b", "new", "a"])
    assert not ingest(warehouse, CARD, sources).skipped
    after = content(warehouse)
    assert [row for row in after["texts"] if row not in before["texts"]] == [
        (4, content_hash("new"), "new", None, "corpus")
    ]
    assert len([row for row in after["occurrences"] if row not in before["occurrences"]]) == 2
    assert all(row in after["texts"] for row in before["texts"])


def test_a_source_that_is_no_longer_named_leaves(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    ingest(
        warehouse,
        CARD,
        {"train": jsonl(tmp_path / "a.jsonl", ["a", "b"]), "dev": gold(tmp_path / "d.jsonl", [("x", "ham")])},
    )
    result = ingest(warehouse, CARD, {"train": jsonl(tmp_path / "b.jsonl", ["b", "c"])})
    assert warehouse.query("SELECT split, text FROM split_texts JOIN texts USING (text_no) ORDER BY ALL") == [
        ("dev", "x"), ("train", "b"), ("train", "c"),
    ]  # fmt: skip
    assert any("no longer a source of train" in line for line in result.says)


def test_changed_dev_labels_are_taken_in(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    sources = {"dev": gold(tmp_path / "d.jsonl", [("x", "ham"), ("y", "ham")])}
    ingest(warehouse, CARD, sources)
    gold(tmp_path / "d.jsonl", [("x", "spam"), ("y", "ham")])
    assert not ingest(warehouse, CARD, sources).skipped
    assert warehouse.query("SELECT row_no, label_no FROM gold ORDER BY 1") == [(1, 1), (2, 0)]


def test_several_sources_of_one_split_and_inline_texts(tmp_path: Path) -> None:
    warehouse = Warehouse.memory()
    ingest(
        warehouse,
        CARD,
        {
            "train": [str(jsonl(tmp_path / "a.jsonl", ["a"])), {"path": str(jsonl(tmp_path / "b.jsonl", ["b"]))}],
            "dev": {"texts": ["x", "y"], "labels": ["ham", "spam"]},
        },
    )
    assert warehouse.query("SELECT split, path FROM sources ORDER BY 1, 2")[0] == ("dev", "inline")
    assert warehouse.query(
        "SELECT text FROM split_texts JOIN texts USING (text_no) WHERE split = 'train' ORDER BY 1"
    ) == [("a",), ("b",)]
    assert warehouse.query("SELECT label_no FROM gold ORDER BY row_no") == [(0,), (1,)]


def test_fields_make_one_text_and_their_order_is_the_cards(tmp_path: Path) -> None:
    card = TaskCard.model_validate({**CARD.model_dump(), "fields": ("title", "body")})
    warehouse = Warehouse.memory()
    ingest(warehouse, card, {"train": jsonl(tmp_path / "a.jsonl", [{"body": "there", "title": "hi"}])})
    text, fields, key = warehouse.query("SELECT text, fields, content_hash FROM texts")[0]
    assert text == card.render_fields({"title": "hi", "body": "there"}) == "title: hi\nbody: there"
    assert json.loads(fields) == {"title": "hi", "body": "there"}
    assert bytes(key) == content_hash("", '{"body":"there","title":"hi"}')


def test_multi_labels_in_every_form(tmp_path: Path) -> None:
    rows = [("1", ["a", "b"]), ("2", []), ("3", "b"), ("4", '["a"]'), ("5", "")]
    warehouse = Warehouse.memory()
    ingest(warehouse, MULTI, {"dev": gold(tmp_path / "d.jsonl", rows)})
    assert warehouse.query("SELECT row_no, label_no FROM gold ORDER BY ALL") == [
        (1, 0),
        (1, 1),
        (2, -1),
        (3, 1),
        (4, 0),
        (5, -1),
    ]


def test_labels_off_the_card_are_ignored_when_told_so(tmp_path: Path) -> None:
    path = str(gold(tmp_path / "d.jsonl", [("1", ["a", "zzz"]), ("2", ["zzz"])]))
    warehouse = Warehouse.memory()
    with pytest.raises(InputError, match="'zzz' is not on the card"):
        ingest(warehouse, MULTI, {"dev": path})
    ingest(warehouse, MULTI, {"dev": {"path": path, "other_labels": "ignore"}})
    assert warehouse.query("SELECT row_no, label_no FROM gold ORDER BY ALL") == [(1, 0), (2, -1)]


def test_where_exclude_limit_and_renamed_labels(tmp_path: Path) -> None:
    rows = [{"text": str(i), "label": i % 2, "lang": "en" if i < 8 else "de"} for i in range(10)]
    path = str(jsonl(tmp_path / "d.jsonl", rows))
    spec = {
        "path": path,
        "where": {"lang": "en"},
        "exclude": {"text": ["0", "1"]},
        "limit": 4,
        "labels": {"0": "ham", "1": "spam"},
    }
    warehouse = Warehouse.memory()
    ingest(warehouse, CARD, {"dev": spec})
    assert warehouse.query("SELECT text, label_no FROM gold JOIN texts USING (text_no) ORDER BY 1") == [
        ("2", 0), ("3", 1), ("4", 0), ("5", 1),
    ]  # fmt: skip


def test_per_label_draws_so_that_fewer_are_a_part_of_more(tmp_path: Path) -> None:
    path = str(gold(tmp_path / "d.jsonl", [(f"{i}", ["ham", "spam"][i % 3 == 0]) for i in range(300)]))
    drawn = {}
    for count in (4, 16):
        warehouse = Warehouse.memory()
        ingest(warehouse, CARD, {"seed": {"path": path, "per_label": count, "sample_seed": 3}})
        assert warehouse.query("SELECT label_no, count(*) FROM gold GROUP BY 1 ORDER BY 1") == [(0, count), (1, count)]
        drawn[count] = {text for (text,) in warehouse.query("SELECT text FROM texts")}
    assert drawn[4] < drawn[16]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a\x00b", "label": "ham"}, "nul"),
        ({"text": "a\ud800b", "label": "ham"}, "lone_surrogate"),
        ({"text": "", "label": "ham"}, "empty_text"),
        ({"text": " \n", "label": "ham"}, "empty_text"),
        ({"text": None, "label": "ham"}, "empty_text"),
        ({"label": "ham"}, "empty_text"),
        ({"text": ["a"], "label": "ham"}, "broken_row"),
        ({"text": "x" * 1_000_001, "label": "ham"}, "too_long"),
        ({"text": "a", "label": ""}, "empty_label"),
        ({"text": "a", "label": None}, "empty_label"),
        ({"text": "a", "label": "eggs"}, "unknown_label"),
        ({"text": "a", "label": ["ham", "spam"]}, "several_labels"),
    ],
)
def test_an_unusable_row_is_refused_by_line_or_reported_when_allowed(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"text": "fine", "label": "ham"}, row])
    with pytest.raises(InputError) as error:
        ingest(Warehouse.memory(), CARD, {"dev": path})
    assert f"{path}:2: {reason}" in str(error.value)
    assert "bad_limit: 1" in str(error.value)
    warehouse = Warehouse.memory()
    result = ingest(warehouse, CARD, {"dev": {"path": str(path), "bad_limit": 1}})
    assert warehouse.query("SELECT row_no, drop_reason FROM bad_rows") == [(2, reason)]
    assert warehouse.query("SELECT item, drop_reason FROM dropped") == [(f"{path}:2", reason)]
    assert any("1 of 2 rows cannot be used" in line for line in result.says)


def test_bytes_of_another_encoding_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\nfine\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"a\.csv:3: not_utf8.*encoding"):
        ingest(Warehouse.memory(), CARD, {"train": tmp_path / "a.csv"})


def test_the_count_of_unusable_rows_is_given(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ["ok", "", "ok", "a\x00", ""])
    with pytest.raises(
        InputError, match=r":2: empty_text.*3 rows cannot be used \(empty_text 2, nul 1\) and 2 are allowed"
    ):
        ingest(Warehouse.memory(), CARD, {"train": path}, bad_rows=2)


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"trian": "x.jsonl"}, "did you mean `train`"),
        ({"train": {"path": "x.jsonl", "txet": "a"}}, "did you mean `text`"),
        ({"train": {"text": "a"}}, "a `path` or `texts`"),
        ({"train": 3}, "a source is a path"),
        ({"train": ["x.jsonl", "x.jsonl"]}, "stands twice"),
        ({"train": {"path": "x.jsonl", "limit": 0}}, "limit"),
        ({"train": {"texts": ["a"], "labels": ["x", "y"]}}, "1 texts and 2 labels"),
    ],
)
def test_a_wrong_source_is_one_clear_error(sources: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ingest(Warehouse.memory(), CARD, sources)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"text": "txt"}, "no column `txt`.*Did you mean `text`"),
        ({"label": "lable"}, "no column `lable`.*Did you mean `label`"),
        ({"where": {"lang": "en"}}, "no column `lang`"),
        ({"text": ["text", "label"]}, "the card has no `fields`"),
    ],
)
def test_a_wrong_column_is_one_clear_error(tmp_path: Path, spec: dict[str, Any], words: str) -> None:
    path = gold(tmp_path / "d.jsonl", [("a", "ham")])
    with pytest.raises(InputError, match=words):
        ingest(Warehouse.memory(), CARD, {"dev": {"path": str(path), **spec}})


def test_columns_are_guessed_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;Comment;Category\n1;hello;ham\n")
    result = ingest(Warehouse.memory(), CARD, {"dev": tmp_path / "a.csv"})
    said = " ".join(result.says)
    assert "column `Comment` (guessed)" in said
    assert "column `Category` (guessed)" in said
    assert "separated by ';'" in said


def test_a_column_that_cannot_be_guessed_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("foo,bar\n1,hello\n")
    with pytest.raises(InputError, match=r"no column looks like the text.*`foo`, `bar`"):
        ingest(Warehouse.memory(), CARD, {"train": tmp_path / "a.csv"})


def test_a_stop_between_sources_ends_as_an_undisturbed_call_does(tmp_path: Path) -> None:
    sources = {
        "train": jsonl(tmp_path / "a.jsonl", ["a", "b", "t"]), "dev": gold(tmp_path / "d.jsonl", [("b", "ham")]),
        "test": jsonl(tmp_path / "t.jsonl", ["t"]),
    }  # fmt: skip
    whole, broken = Warehouse.open(tmp_path / "1.duckdb"), Warehouse.open(tmp_path / "2.duckdb")
    ingest(whole, CARD, sources)

    def stop(done: int, total: int, what: str) -> None:
        if what.startswith("dev"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(broken, CARD, sources, progress=stop)
    assert warehouse_rows(broken) == 3
    ingest(broken, CARD, sources)
    assert content(broken) == content(whole)


def warehouse_rows(warehouse: Warehouse) -> int:
    return int(warehouse.scalar("SELECT count(*) FROM occurrences"))


splits = st.fixed_dictionaries(
    {split: st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8) for split in ("train", "dev", "test")}
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=splits, second=splits)
def test_an_update_holds_what_a_fresh_warehouse_holds(
    tmp_path_factory: pytest.TempPathFactory, first: Any, second: Any
) -> None:
    """Whatever changes between two calls, splits, gold and kept rows are those of the second state alone."""
    folder = tmp_path_factory.mktemp("update")

    def put(state: dict[str, list[str]]) -> dict[str, Path]:
        return {
            split: gold(folder / f"{split}.jsonl", [(text, "ham") for text in texts]) for split, texts in state.items()
        }

    def view(warehouse: Warehouse) -> list[Any]:
        return [
            warehouse.query(
                "SELECT split, row_no, text, kept, leave_reason FROM occurrences JOIN texts USING (text_no) ORDER BY ALL"
            ),
            warehouse.query("SELECT row_no, text, label_no FROM gold JOIN texts USING (text_no) ORDER BY ALL"),
            warehouse.query("SELECT split, content_digest, n_rows FROM sources ORDER BY ALL"),
        ]

    updated, fresh = Warehouse.memory(), Warehouse.memory()
    ingest(updated, CARD, put(first))
    ingest(updated, CARD, put(second))
    ingest(fresh, CARD, put(second))
    assert view(updated) == view(fresh)
    numbers = [number for (number,) in updated.query("SELECT text_no FROM texts ORDER BY 1")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_real_sets_are_read_whole(shared_data: Path) -> None:
    counts = {
        "wrench_youtube": (1470, 102, 250, 0),
        "wrench_trec": (4965, 500, 500, 68),
        "wrench_sms": (4399, 493, 500, 69),
    }
    for name, (train, dev, test, exemplars) in counts.items():
        labels = json.loads((shared_data / name / "card.json").read_text())["label_names"]
        card = load_card({"name": "t", "text": "a text", "labels": dict.fromkeys(labels, "x")})
        warehouse = Warehouse.memory()
        parts = {"train": "train", "dev": "validation", "test": "test"}
        did = ingest(
            warehouse,
            card,
            {split: shared_data / name / f"{part}.parquet" for split, part in parts.items()},
            like_test="keep",
        ).did
        assert {split: row["rows"] for split, row in did["splits"].items()} == {
            "train": train,
            "dev": dev,
            "test": test,
        }, name
        assert did["exemplars"] == exemplars
