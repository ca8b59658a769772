"""Texts as people look for them, and how far a person is with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.task import current_card, label_names
from factory.warehouse.tables import listing, vectors
from factory.warehouse.tables.answers import answered_by
from factory.warehouse.tables.listing import SHOWS, SPLITS, Wanted

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

__all__ = ["SHOWS", "SPLITS", "Wanted", "find_near", "find_texts", "meant", "standing"]
MOST_LIKE = 200
"""Texts that a search by meaning gives."""


def find_texts(warehouse: Warehouse, wanted: Wanted, *, first: int = 0, count: int = 50) -> dict[str, Any]:
    """Texts that are wanted, with what is known of each: see `factory.warehouse.tables.listing.find_texts`.

    Raises:
        InputError: An unknown filter, split or label.
    """
    with warehouse.read():
        single = current_card(warehouse).kind == "single"
        return listing.find_texts(warehouse, wanted, label_names(warehouse), single=single, first=first, count=count)


def standing(warehouse: Warehouse, annotator: str | None, *, last: int = 20) -> dict[str, int]:
    """How far a person is: `answered` texts, and of the `last` answers, how many say `otherwise` than the label model."""
    with warehouse.read():
        single = current_card(warehouse).kind == "single"
        rows = listing.recent_answers(warehouse, annotator, last=last)
        answered = answered_by(warehouse, annotator)
    otherwise = 0
    for labels, probs in rows:
        known = {at: value for at, value in enumerate(probs) if value is not None}
        likely = {at for at, value in known.items() if value > 0.5}
        otherwise += labels != ({max(known, key=lambda at: known[at])} if single and known else likely)
    return {"answered": answered, "last": len(rows), "otherwise": otherwise}


def find_near(warehouse: Warehouse, text_no: int, *, count: int = 10) -> list[dict[str, Any]]:
    """The texts whose vectors are nearest to that of a text, as `find_texts` gives them, with their `similarity` (cosine);
    none where the text has no vector.
    """
    with warehouse.read():
        found = vectors.nearest(warehouse, vectors.of_text(warehouse, text_no), count=count, but=text_no)
        if not found:
            return []
        near = find_texts(warehouse, Wanted(split="any", among=tuple(number for number, _ in found)), count=count)
    similar = dict(found)
    return [{**text, "similarity": similar[text["text_no"]]} for text in near["texts"]]


def meant(warehouse: Warehouse, words: str, *, count: int = MOST_LIKE) -> tuple[int, ...]:
    """The numbers of texts that are near to some words in meaning, the nearest first, among those that have vectors.

    Raises:
        InputError: No text has vectors, or the encoder that made them is not at hand.
    """
    from factory.encoders.encoder import load_encoder

    keys = vectors.keys(warehouse)
    if not keys:
        fix = (
            "A step that needs vectors makes them: `distill` with an embedding student, `denoise` with the joint model"
        )
        raise InputError("no text of this run has vectors", where=warehouse.path, fix=fix)
    hashing = load_encoder("hashing", warehouse)
    for name in ("hashing", "auto") if keys[0] == hashing.key else ("auto", "hashing"):
        encoder = hashing if name == "hashing" else load_encoder(name, warehouse)
        if encoder.key in keys:
            vector = encoder.encode([words])[0]
            return tuple(number for number, _ in vectors.nearest(warehouse, (encoder.key, vector), count=count))
    raise InputError("the encoder that made the vectors of this run is not at hand", where=warehouse.path)
