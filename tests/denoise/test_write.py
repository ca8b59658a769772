"""Label models are written block by block, seen all at once, and gone on with after a stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory.denoise import solve
from factory.denoise import write as storing
from factory.denoise.stage import denoise
from factory.spread import done_by
from factory.warehouse.file import Warehouse
from tests.corpus.test_reader import travelled
from tests.denoise.test_stage import VOTES, make

SEEN = (
    "SELECT label_model_no, name, text_no, probs, covered, tie, chosen FROM soft_labels"
    " JOIN label_models USING (label_model_no) ORDER BY ALL"
)


class Stopped(Exception):
    """Stands for a kill."""


def stop_at(moment: int) -> Any:
    """A progress callback that stops the run when the n-th block is about to be written."""
    blocks = iter(range(moment + 1))

    def progress(done: int, total: int, what: str) -> None:
        if what.startswith("texts labelled") and next(blocks) == moment:
            raise Stopped

    return progress


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "WRITE_ROWS", 2)


@pytest.mark.parametrize("moment", [0, 1, 2, 3, 5])
def test_a_stopped_run_shows_the_old_labels_and_ends_equal_to_an_undisturbed_one(moment: int) -> None:
    stopped, undisturbed = make(VOTES, ["a", "b"]), make(VOTES, ["a", "b"])
    for warehouse in (stopped, undisturbed):
        denoise(warehouse, model="snorkel")
        with warehouse.lease() as db:
            db.execute("INSERT INTO votes VALUES (1, 4, 1)")
    before = stopped.query(SEEN)
    with pytest.raises(Stopped):
        denoise(stopped, model="snorkel", progress=stop_at(moment))
    assert stopped.query(SEEN) == before
    denoise(stopped, model="snorkel")
    denoise(undisturbed, model="snorkel")
    assert stopped.query(SEEN) == undisturbed.query(SEEN)
    assert stopped.query("SELECT * FROM soft_labels ORDER BY ALL") == undisturbed.query(
        "SELECT * FROM soft_labels ORDER BY ALL"
    )
    assert stopped.scalar("SELECT count(*) FROM label_drafts") == 0


def written(warehouse: Warehouse) -> int:
    return int(warehouse.scalar("SELECT count(*) FROM soft_labels"))


def test_blocks_that_were_written_are_not_written_again() -> None:
    warehouse = make(VOTES, ["a", "b"])
    with pytest.raises(Stopped):
        denoise(warehouse, model="snorkel", progress=stop_at(4))
    assert written(warehouse) == 8
    seen = []
    denoise(warehouse, model="snorkel", progress=lambda done, total, what: seen.append((done, total, what)))
    assert [(done, total) for done, total, what in seen if what.startswith("texts labelled by snorkel")] == [
        (2, 6),
        (4, 6),
    ]
    assert written(warehouse) == 12


def test_blocks_of_another_configuration_are_thrown_away() -> None:
    warehouse = make(VOTES, ["a", "b"])
    with pytest.raises(Stopped):
        denoise(warehouse, model="snorkel", progress=stop_at(4))
    denoise(warehouse, model="snorkel", uncovered="prior", balance=[0.8, 0.2])
    found = warehouse.query("SELECT probs FROM soft_labels WHERE text_no = 4")
    assert [row[0] for row in found] == [[pytest.approx(0.8), pytest.approx(0.2)]] * 2
    assert written(warehouse) == 2 * len(VOTES)


def test_what_is_written_is_what_the_model_says_whatever_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    votes = np.where(rng.random((101, 4)) < 0.3, -1, rng.integers(0, 3, (101, 4)))
    found = []
    for rows in (7, 1000):
        monkeypatch.setattr(storing, "WRITE_ROWS", rows)
        warehouse = make(votes, ["a", "b", "c"])
        denoise(warehouse)
        found.append(warehouse.query(SEEN))
    assert found[0] == found[1]


@pytest.mark.parametrize("model", ["auto", "joint"])
def test_probabilities_of_parts_that_another_machine_gave_are_those_given_here(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    votes = np.where(rng.random((101, 4)) < 0.3, -1, rng.integers(0, 3, (101, 4)))
    here, there = make(votes, ["a", "b", "c"]), make(votes, ["a", "b", "c"])
    encoder = "hashing" if model == "joint" else "none"
    monkeypatch.setattr(solve, "PART", 16)
    denoise(here, model=model, encoder=encoder)
    counts: list[int] = []

    def elsewhere(work: Any, items: Any, count: int, ahead: int) -> Any:
        counts.append(count)
        return travelled(work, items, count, ahead)

    with done_by(elsewhere):
        denoise(there, model=model, encoder=encoder)
    assert max(counts) == (7 if model == "joint" else -(-len(np.unique(votes, axis=0)) // 16))
    assert there.query(SEEN) == here.query(SEEN)
    monkeypatch.undo()
    whole = make(votes, ["a", "b", "c"])
    denoise(whole, model=model, encoder=encoder)
    said, undivided = (np.array([row[3] for row in found.query(SEEN)]) for found in (here, whole))
    assert np.allclose(said, undivided, atol=1e-6), "parts change no more than last bits"
