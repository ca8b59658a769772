"""What systems say of training texts, where nobody knows better: labels, and how sure they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.rivals import combination
from factory.evaluation.systems import LabelSpace, Predictions, label_model_systems, label_space, student_systems
from factory.predict.decide import sureness
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.labels import MIXTURE, label_models
from factory.warehouse.tables.texts import hashes_of, sample_texts, texts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse

SAMPLE = 500
"""Training texts, drawn at random, on which a system's confidence is looked at: shares to within five points."""
SURE, DOUBTFUL = 0.9, 0.6
"""Confidence from which on a system is sure of a text, and below which it is in doubt."""
MOST_PAIRS, MOST_TEXTS, MOST_ASKED = 8, 3, 100


def outlook_of(warehouse: Warehouse) -> dict[str, Any] | None:
    """What the combination says of training texts that are no anchors, drawn at random; None where there is no student.

    Returns:
        `system`; `n` texts; `shares` of the labels; `sure` and `doubtful`, the shares of texts of which it is so; `pairs` of
        labels that it does not tell apart (in a `multi` task labels), with texts; `ask`, the texts of which it is least sure.
    """
    shape, sample = label_space(warehouse), beside_anchors(warehouse)
    said = heard(warehouse, np.array(list(sample), np.int32), shape) if sample else {}
    mine = combination(said)
    if mine is None:
        return None
    given, sure, texts = labels_of(said[mine]), confidence(said[mine], shape), list(sample.values())
    order = np.argsort(sure, kind="stable").tolist()
    doubt, probs = [row for row in order if sure[row] < DOUBTFUL], np.nan_to_num(np.asarray(said[mine].probs, float))
    near = np.abs(probs - 0.5).argsort(axis=1)[:, :1] if shape.multi else np.sort(np.argsort(-probs, axis=1)[:, :2])
    return {
        "system": mine, "n": len(texts), "sure": float((sure >= SURE).mean()), "doubtful": len(doubt) / len(texts),
        "shares": {name: sum(no in of for of in given) / len(texts) for no, name in enumerate(shape.names)},
        "pairs": grouped((" or ".join(shape.names[no] for no in near[row]), texts[row]) for row in doubt),
        "ask": [
            {"text": texts[row], "says": named(given[row], shape), "sure": float(sure[row])} for row in order[:MOST_ASKED]
        ],
    }  # fmt: skip


def beside_anchors(warehouse: Warehouse) -> dict[int, str]:
    """Texts by number: training texts that are no anchors, drawn at random."""
    anchors = [*read_anchors(warehouse, "audit"), *read_anchors(warehouse, "teach")]
    return dict(sample_texts(warehouse, SAMPLE, "outlook", exclude=[one.text_no for one in anchors]))


def heard(warehouse: Warehouse, text_nos: NDArray[np.int32], shape: LabelSpace) -> dict[str, Predictions]:
    """What each student, the chosen label model and the mixture say of some training texts, by the system's name."""
    found = hashes_of(warehouse, text_nos)
    hashes = [found[int(number)] for number in text_nos]
    said = student_systems(warehouse, hashes, shape, lambda encoder: inputs_of(warehouse, encoder, text_nos))
    models = label_model_systems(warehouse, text_nos, hashes, shape)
    wanted = [row.name for row in label_models(warehouse) if row.chosen or row.name == MIXTURE]
    return {**said, **{name: models[name] for name in wanted if name in models}}


def inputs_of(warehouse: Warehouse, encoder: Encoder | None, text_nos: NDArray[np.int32]) -> Any:
    """Training texts with their vectors under an encoder, or the texts alone for None."""
    from factory.encoders.vectors import vectors_of
    from factory.students.base import TextsAndVectors

    by_number = texts_of(warehouse, text_nos)
    texts = [by_number[int(number)] for number in text_nos]
    return texts if encoder is None else TextsAndVectors(texts, vectors_of(warehouse, encoder, text_nos))


def labels_of(said: Predictions) -> list[frozenset[int]]:
    """Numbers of the labels that a system gives each text."""
    if said.labels.ndim == 2:
        return [frozenset(np.flatnonzero(row).tolist()) for row in said.labels]
    return [frozenset([int(label)]) for label in said.labels]


def confidence(said: Predictions, shape: LabelSpace) -> NDArray[np.float64]:
    """How sure a system is of each text, 0 to 1: of its label, or of the label that is least clear in a `multi` task."""
    return sureness(np.nan_to_num(np.asarray(said.probs, float))[:, shape.active], shape.multi)


def named(labels: frozenset[int], shape: LabelSpace) -> str:
    """Labels in words."""
    return ", ".join(shape.names[no] for no in sorted(labels)) or "none"


def grouped(items: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """`{"labels", "n", "texts"}` of (labels in words, text), the most frequent first, with the first texts of each."""
    found: dict[str, list[str]] = defaultdict(list)
    for labels, text in items:
        found[labels].append(text)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_PAIRS]
    return [{"labels": labels, "n": len(texts), "texts": texts[:MOST_TEXTS]} for labels, texts in ordered]
