"""A folder takes the place of another: in one step where the system can, and undone where it cannot be finished."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from factory.files import exchange as exchanging
from factory.files.exchange import exchange, take_place


def folder(path: Path, words: str) -> Path:
    path.mkdir()
    (path / "a").write_text(words)
    return path


@pytest.mark.parametrize("can", [True, False], ids=["one step", "two steps"])
@pytest.mark.parametrize("there", ["nothing", "folder", "link", "file", "what a kill left"])
def test_the_new_folder_stands_and_nothing_is_left_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, can: bool
) -> None:
    if not can:
        monkeypatch.setattr(exchanging, "exchange", lambda one, other: False)
    elsewhere, place = tmp_path / "elsewhere", tmp_path / "b" / "place"
    place.parent.mkdir()
    folder(elsewhere, "precious")
    if there == "folder":
        folder(place, "old")
    elif there == "link":
        place.symlink_to(elsewhere)
    elif there == "file":
        place.write_text("old")
    elif there == "what a kill left":
        folder(place.with_name(".place.old"), "old")
    take_place(folder(place.with_name(".place.draft"), "new"), place)
    assert (place / "a").read_text() == "new"
    assert not place.is_symlink()
    assert [path.name for path in place.parent.iterdir()] == ["place"]
    assert (elsewhere / "a").read_text() == "precious"


def test_if_the_second_of_two_steps_fails_the_old_folder_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanging, "exchange", lambda one, other: False)
    place = folder(tmp_path / "place", "old")
    with pytest.raises(OSError, match="draft"):
        take_place(tmp_path / "draft", place)
    assert (place / "a").read_text() == "old"


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="only there is it one step")
def test_whoever_looks_meanwhile_always_finds_one(tmp_path: Path) -> None:
    place = folder(tmp_path / "place", "0")
    if not exchange(folder(tmp_path / "other", "x"), place):
        pytest.skip("this file system cannot exchange names")
    missing: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if not os.path.exists(place / "a"):
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(300):
        take_place(folder(tmp_path / "draft", str(number)), place)
    stop.set()
    watcher.join()
    assert not missing
    assert (place / "a").read_text() == "299"
