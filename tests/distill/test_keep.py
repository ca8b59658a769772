"""A mixture as files: what is read back answers as the members did, program by program and label by label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.denoise.calibrate import temper
from factory.distill.mixture.compact import compact_agreement
from factory.distill.mixture.keep import Answered, about, keep
from factory.distill.mixture.members import Fitted, Material
from factory.distill.mixture.mix import Mixed, mix
from factory.logistic import NEVER, Head
from factory.predict.glass_box import GlassBox
from factory.predict.reasons import Explainer
from factory.programs.blocks import AcceptedProgram
from factory.students import fit_student
from tests.distill.test_mixture import material

FOLDS = np.arange(2000) % 5
LABELS = ["a", "b", "c"]


def taught(seed: int, tells: float = 1.0, **more: Any) -> tuple[Material, np.ndarray]:
    """Planted votes and vectors, and members that are students."""
    of, _ = material(seed, tells=tells, **more)
    assert of.vectors is not None
    vectors = np.asarray(of.vectors, np.float32)

    def teach(rows: Any, targets: Any) -> Fitted:
        student = fit_student("embedding", vectors[rows], targets, config={"c": 1.0})
        return Fitted(student, lambda some: student.predict_proba(vectors[some]))

    return replace(of, vectors=vectors, teach=teach), vectors


def programs(count: int, target: str | None = None) -> list[AcceptedProgram]:
    source = "# a word\ndef label(text):\n    return None"
    return [
        AcceptedProgram(number, f"{source}  # {number}", target, "python", f"p {number}") for number in range(count)
    ]


def whole(mixed: Mixed, rows: np.ndarray) -> np.ndarray:
    members = mixed.members[-1]
    return temper(np.sum([w * members[name](rows) for name, w in mixed.weights.items()], axis=0), mixed.temperature)


@pytest.fixture(scope="module")
def fitted() -> tuple[Material, np.ndarray, Mixed]:
    of, vectors = taught(0)
    contrary = of.votes.matrix()
    contrary[:, 0] = np.where(contrary[:, 0] >= 0, (contrary[:, 0] + 1) % 3, -1)  # to be retired
    of = replace(of, votes=type(of.votes).from_matrix(contrary, 3))
    return of, vectors, mix(of, FOLDS)


def boxed(folder: Path, mixed: Mixed, runnable: list[AcceptedProgram]) -> GlassBox:
    facts = {"labels": LABELS, "names": LABELS, "multi": False}
    keep(folder, [Answered(None, LABELS, list(range(8)), mixed)], runnable, facts)
    return GlassBox.at(folder)


def test_what_is_read_answers_as_the_members_do_a_retired_program_included(
    fitted: tuple[Material, np.ndarray, Mixed], tmp_path: Path
) -> None:
    of, vectors, mixed = fitted
    assert mixed.retired
    box, rows = boxed(tmp_path / "box", mixed, programs(8)), np.arange(1400, 1600)
    said = box.answer(of.votes.matrix()[rows], [""] * len(rows), vectors[rows])
    np.testing.assert_allclose(said, whole(mixed, rows), atol=1e-5)
    np.testing.assert_allclose(said[100:], mixed.probs[1500:1600], atol=1e-5)


def test_a_voter_that_cannot_be_run_abstains(fitted: tuple[Material, np.ndarray, Mixed], tmp_path: Path) -> None:
    of, vectors, mixed = fitted
    box, rows = boxed(tmp_path / "box", mixed, [p for p in programs(8) if p.number != 5]), np.arange(200)
    votes = of.votes.matrix()[rows]
    silent = votes.copy()
    silent[:, 5] = -1
    every = boxed(tmp_path / "all", mixed, programs(8))
    one = box.answer(np.delete(votes, 5, axis=1), [""] * 200, vectors[rows])
    np.testing.assert_allclose(one, every.answer(silent, [""] * 200, vectors[rows]), atol=1e-6)


def test_a_multi_task_has_a_part_for_each_label_and_reasons_for_those_that_are_answered(tmp_path: Path) -> None:
    of, vectors = taught(1)
    parts, votes = [], []
    for number, label in enumerate(LABELS[:2]):
        yes = of.votes.matrix()[:, number:8:3]
        yes = np.where(yes < 0, -1, yes == number)
        known = np.where(of.labels < 0, -1, of.labels == number)
        one = replace(of, votes=type(of.votes).from_matrix(yes, 2), labels=known)
        first = sum(v.shape[1] for v in votes)
        parts.append(Answered(label, ("no", "yes"), list(range(first, first + yes.shape[1])), mix(one, FOLDS)))
        votes.append(yes)
    runnable = [replace(p, target=part.label) for part in parts for p in programs(8) if p.number in part.voters]
    keep(tmp_path / "box", parts, runnable, {"labels": LABELS, "names": LABELS, "multi": True})
    box, rows, said = GlassBox.at(tmp_path / "box"), np.arange(60), np.concatenate(votes, axis=1)[:60]
    probs = box.answer(said, [""] * 60, vectors[rows])
    for at, part in enumerate(parts):
        np.testing.assert_allclose(probs[:, at], whole(part.mixed, rows)[:, 1], atol=1e-5)
    assert (probs[:, 2] == 0).all(), "no part answers for it"
    told = Explainer(box)(said, [""] * 60, vectors[rows], probs)
    for row, each in enumerate(told):
        wanted = {label for at, label in enumerate(LABELS[:2]) if probs[row, at] >= 0.5 or at == probs[row].argmax()}
        assert set(each["reasons"]) == wanted
    fired = next(reasons for each in told for reasons in each["reasons"].values() if reasons["programs"])
    assert fired["programs"][0]["says"] in ("a", "not a", "b", "not b")
    assert fired["programs"][0]["about"] == "a word"


def test_of_a_class_without_anchors_the_regression_says_what_the_label_model_says(
    fitted: tuple[Material, np.ndarray, Mixed], tmp_path: Path
) -> None:
    of, vectors, mixed = fitted
    last = dict(mixed.members[-1])
    head = last["logistic"].learned  # type: ignore[attr-defined]
    unseen = Head(head.weight * (np.arange(3) < 2)[:, None], np.where(np.arange(3) < 2, head.bias, NEVER), False)
    last["logistic"] = Fitted(unseen, last["logistic"], thin=(2,))
    box = boxed(tmp_path / "box", replace(mixed, members=(*mixed.members[:-1], last)), programs(8))
    said = box.parts[0].members(of.votes.matrix()[:50], [""] * 50, vectors[:50])
    np.testing.assert_allclose(said["logistic"][:, 2], said["anchored"][:, 2], atol=1e-6)
    np.testing.assert_allclose(said["logistic"].sum(axis=1), 1, atol=1e-5)


def test_the_mixture_is_ahead_of_its_student_where_texts_tell_nothing_and_not_where_they_tell_all() -> None:
    of, _ = taught(2, tells=0.0, misled=0)
    blind = compact_agreement(of, FOLDS, mix(of, FOLDS), of.teach)
    assert blind["ahead"] > 2 * blind["error"] > 0
    of, _ = taught(2, tells=3.0)
    clear = compact_agreement(of, FOLDS, mixed := mix(of, FOLDS), of.teach)
    assert clear["ahead"] < 2 * clear["error"] + 0.01
    assert clear["agreement"] + clear["ahead"] == pytest.approx(mixed.agreement["mixture"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('def label(text):\n    """words of money"""\n    return None', "words of money"),
        ("import re\n\n# question  openings\nX = 1\ndef label(text):\n    return None", "question openings"),
        ("def label(text: str) -> str | None:\n    '''\n    two lines\n    here'''\n", "two lines"),
        ("def label(text):\n    return '# no comment'", ""),
        ("# " + "x" * 300, "x" * 117 + "..."),
        ("#" * 100_000, ""),
    ],
)
def test_what_an_author_wrote_about_a_program_is_read_as_text(source: str, said: str) -> None:
    assert about(source) == said
