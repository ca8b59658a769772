"""Labels are found for texts by embeddings and by words, and the same ones on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from factory.encoders.hashing import HashingEncoder
from factory.labels.groups import confusable
from factory.labels.index import LabelIndex, words_of
from factory.task import Label, TaskCard

PLACES = [f"Something about place number {number}." for number in range(30)]
ENCODER = HashingEncoder("hashed")


def label(name: str, description: str, **more: object) -> Label:
    return Label.model_validate({"name": name, "description": description, **more})


LABELS = [
    label("card_arrival", "A card that was ordered has not come.", **{"not": ["card_delivery"]}),
    label("card_delivery", "How long the post takes."),
    label("exchange_rate", "What a foreign currency costs.", aliases=["forex quote"]),
    label("close_account", "The customer leaves.", examples=["please delete everything you know of me"]),
    *(label(f"place_{number}", text) for number, text in enumerate(PLACES)),
]


def names(index: LabelIndex, text: str, count: int) -> set[str]:
    return {index.labels[at].name for at in index.candidates([text], count)[0]}


@pytest.mark.parametrize("encoder", [ENCODER, None])
def test_a_label_is_found_by_its_name_meaning_aliases_and_examples(encoder: HashingEncoder | None) -> None:
    index = LabelIndex(LABELS, encoder)
    assert "card_arrival" in names(index, "about the arrival", 3)
    assert "exchange_rate" in names(index, "what does a foreign currency cost", 3)
    assert "exchange_rate" in names(index, "any forex here", 3)
    assert "close_account" in names(index, "delete everything of me", 3)


def test_a_label_brings_along_what_its_card_says_it_is_confused_with() -> None:
    without = LabelIndex([label("card_arrival", "A card that was ordered has not come."), *LABELS[1:]], ENCODER)
    text = "ordered: it has not come"
    assert names(LabelIndex(LABELS, ENCODER), text, 2) == {"card_arrival", "card_delivery"}
    assert names(without, text, 2) != {"card_arrival", "card_delivery"}


def test_candidates_are_in_the_order_of_the_card_and_never_more_than_there_are() -> None:
    found = LabelIndex(LABELS, ENCODER).candidates(["place number 7", "the arrival of a card"], 5)
    assert found.shape == (2, 5)
    assert (np.diff(found, axis=1) > 0).all()
    assert LabelIndex(LABELS[:4], ENCODER).candidates(["a"], 20).tolist() == [[0, 1, 2, 3]]


def test_given_vectors_and_computed_ones_find_the_same_and_noise_in_the_last_bits_changes_nothing() -> None:
    index, texts = LabelIndex(LABELS, ENCODER), [*PLACES, "a card", "exchange"]
    vectors = ENCODER.encode(texts)
    noise = np.random.default_rng(0).normal(0, 1e-8, vectors.shape).astype(np.float32)
    assert (index.candidates(texts, 5, vectors) == index.candidates(texts, 5)).all()
    assert (index.candidates(texts, 5, vectors + noise) == index.candidates(texts, 5)).all()


def test_no_text_is_no_row() -> None:
    assert LabelIndex(LABELS, ENCODER).candidates([], 5).shape == (0, 5)


def test_near_labels_begin_with_those_that_the_card_names() -> None:
    near = LabelIndex(LABELS, ENCODER).near_labels(3)
    assert near[0][0] == 1
    assert all(len(others) == 3 and at not in others for at, others in enumerate(near))


def test_groups_share_all_labels_out_and_hold_what_is_near() -> None:
    groups = confusable(LabelIndex(LABELS, ENCODER).near_labels(10), 6)
    assert sorted(at for group in groups for at in group) == list(range(len(LABELS)))
    assert max(map(len, groups)) <= 6
    assert any({0, 1} <= set(group) for group in groups)


def test_names_become_words() -> None:
    assert [words_of(name) for name in ("card_arrival", "CardArrival", "comp.graphics", "reverted?")] == [
        "card arrival", "Card Arrival", "comp graphics", "reverted",
    ]  # fmt: skip


def test_a_card_says_of_what_a_label_is_no_such_thing() -> None:
    with pytest.raises(ValueError, match="no other label of the card"):
        TaskCard(name="t", text="a text", labels=(LABELS[0], label("b", "x")))


def test_a_card_without_the_new_keys_keeps_its_revision_and_one_with_them_comes_back_from_json() -> None:
    plain = TaskCard(name="t", text="a text", labels=(label("a", "x"), label("b", "y")))
    assert plain.revision == "411d2e56812a7f2420253e7b6497ebd5af918d561c2a64c1ad729631f0db40f9"
    full = TaskCard(name="t", text="a text", labels=tuple(LABELS))
    assert TaskCard.model_validate_json(full.model_dump_json()) == full
    assert full.labels[2].meaning == "What a foreign currency costs. Also called: forex quote."
