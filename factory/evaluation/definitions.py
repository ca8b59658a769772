"""Pairs of labels that people and the language model read differently: their answers to the same texts of the audit slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from factory.evaluation.systems import label_space
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.texts import texts_of

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

ALPHA = 0.05
"""Chance of showing any pair where the model errs at the same rate everywhere, all pairs and both tests together (Bonferroni)."""
MOST_TEXTS = 12
"""Texts of a pair that are shown."""


def read_apart(theirs: Sequence[int], people: Sequence[int], labels: int) -> list[dict[str, Any]]:
    """Pairs of labels on which the model departs from people more than chance, by exact binomial tests.

    Two things are tested of every pair: whether it takes one for the other more often than its errors on all texts would,
    spread evenly over the other labels; and whether it does so in one direction (McNemar's exact test). So a task of two labels
    shows its pair where the model leans to one side.

    Args:
        theirs: The model's label of each text.
        people: That of people.
        labels: How many there are.

    Returns:
        `{"pair", "n", "apart", "p", "rows"}`, least probable first: two label numbers, the texts that people gave either, on how
        many of them the model gave the other, the probability (corrected), and where these stand.
    """
    from scipy.stats import binom, binomtest

    wrong = sum(a != b for a, b in zip(theirs, people, strict=True))
    even = wrong / max(len(people), 1) / max(labels - 1, 1)
    tests = 2 * len(list(combinations(range(labels), 2)))
    found = []
    for pair in combinations(range(labels), 2):
        rows = [at for at, of in enumerate(people) if of in pair]
        apart = [at for at in rows if theirs[at] in pair and theirs[at] != people[at]]
        if not apart:
            continue
        first = sum(people[at] == pair[0] for at in apart)
        often = float(binom.sf(len(apart) - 1, len(rows), even))
        p = min(1.0, tests * min(often, float(binomtest(first, len(apart)).pvalue)))
        if p < ALPHA:
            found.append({"pair": pair, "n": len(rows), "apart": len(apart), "p": p, "rows": apart})
    return sorted(found, key=lambda one: (one["p"], one["pair"]))


def definitions_of(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The pairs of a `single` task's labels that people read otherwise than the model, with the texts; none in a `multi` task.

    Returns:
        `{"labels", "n", "apart", "p", "texts"}`; a text is `{"text", "people", "model"}`.
    """
    shape = label_space(warehouse)
    if shape.multi:
        return []
    said = {source: _single(warehouse, source) for source in ("model", "person")}
    both = sorted(set(said["model"]) & set(said["person"]))
    active = [number for number, on in enumerate(shape.active) if on]
    place = {number: at for at, number in enumerate(active)}
    both = [no for no in both if said["model"][no] in place and said["person"][no] in place]
    theirs, people = ([place[said[source][no]] for no in both] for source in ("model", "person"))
    names, texts = [shape.names[number] for number in active], texts_of(warehouse, both)
    found = []
    for one in read_apart(theirs, people, len(active)):
        shown = [
            {"text": texts[both[at]], "people": names[people[at]], "model": names[theirs[at]]}
            for at in one["rows"][:MOST_TEXTS]
        ]
        labels = [names[at] for at in one["pair"]]
        found.append({"labels": labels, "n": one["n"], "apart": one["apart"], "p": round(one["p"], 6), "texts": shown})
    return found


def _single(warehouse: Warehouse, source: Any) -> Mapping[int, int]:
    return {one.text_no: min(one.labels) for one in read_anchors(warehouse, "audit", source) if len(one.labels) == 1}
