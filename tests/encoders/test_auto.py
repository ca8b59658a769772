"""`auto`: the strongest encoder at hand that the texts leave time for; a choice that students stand on is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.encoders.auto import BUDGET_S, KNOWN, Texts, candidates, in_words, is_english, on_disk

ALL = dict.fromkeys(KNOWN, "")


def test_the_strongest_within_the_time_is_taken_and_the_quickest_where_none_is() -> None:
    few = candidates(ALL, Texts(2000, 20), cores=2)
    assert [one.name for one in few] == ["embeddinggemma-300m", "all-mpnet-base-v2", "all-MiniLM-L6-v2"]
    assert all(one.seconds <= BUDGET_S for one in few)
    assert candidates(ALL, Texts(40_000, 60), cores=2)[0].name == "all-MiniLM-L6-v2"
    assert candidates(ALL, Texts(30_000, 60), cores=64)[0].name == "embeddinggemma-300m", "more cores, more time"
    hopeless = candidates(ALL, Texts(10_000_000, 500), cores=1)
    assert hopeless[0].name == "all-MiniLM-L6-v2"
    assert hopeless[0].seconds > BUDGET_S


def test_texts_that_are_not_english_take_an_encoder_of_many_languages() -> None:
    german = (
        "Der Zug nach Hamburg fährt heute eine Stunde später ab.",
        "Das Essen war kalt und der Kellner unfreundlich.",
    )
    assert not is_english(german)
    assert is_english(("The train leaves an hour later today.", "The food was cold and the waiter was rude.", "12 345"))
    assert is_english(("12", "!!!"))
    pair = dict.fromkeys(("all-MiniLM-L6-v2", "embeddinggemma-300m"), "")
    assert candidates(pair, Texts(9000, 30, english=False), cores=2)[0].name == "embeddinggemma-300m"


def test_it_says_what_each_would_take() -> None:
    texts = Texts(2000, 20)
    words = in_words(candidates(ALL, texts, cores=2), texts)
    assert "2,000 texts of about 20 tokens" in words
    assert all(name in words for name in KNOWN)


def test_prepared_folders_and_the_hubs_cache_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert on_disk(packaged=False) == {}
    folder = tmp_path / "models" / "mpnet"
    snapshot = tmp_path / "hub" / "models--google--embeddinggemma-300m" / "snapshots" / "abc"
    for place in (folder, snapshot):
        place.mkdir(parents=True)
        (place / "modules.json").write_text("[]")
    found = on_disk(packaged=True)
    assert found == {
        "all-MiniLM-L6-v2": "", "all-mpnet-base-v2": str(folder), "embeddinggemma-300m": str(snapshot),
    }  # fmt: skip
