"""Rivals: the same student on N labels of the language model alone, and what every system's labels were bought with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from factory.evaluation.gold_students import pick, predictions_of, recipe_of, train
from factory.evaluation.systems import LabelSpace, Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse

PREFIX, ACTIVE = "teacher_labels_", "_active"
BOUGHT: Mapping[str, tuple[str, ...]] = {
    "student": ("author", "synthesize", "votes"), "student_dev": ("author", "synthesize", "votes"),
    "student_setfit": ("author", "synthesize", "votes"), "synthesis_only": ("synthesize",),
    "programs_only": ("author", "votes"), "combined": ("author", "votes", "anchors"), "mixture": ("author", "votes", "anchors"),
    "glass_box": ("author", "votes", "anchors"), "teacher": ("test",), "self_tuned": ("test",),
}  # fmt: skip
"""What a system's labels are made of; other label models are bought with the programs. `votes`, `anchors` and `test` are parts of
`annotate`."""
FREE = ("zero_shot", "dev_only", "full_gold", "human_lfs", "human_lfs_content_ties")
GROWTH = 1.5
"""How much the labels of an active draw grow from round to round: each round costs a training."""
LEAST_START = 10
"""Labels drawn at random, at least, before a student is trained to choose the others."""


@dataclass(frozen=True)
class Spent:
    """What labels were bought with.

    Attributes:
        requests, tokens_in, tokens_out: Counted or estimated, as the record has them.
        cost: As billed; None where it is not known.
    """

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0

    def __add__(self, other: Spent) -> Spent:
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        tokens = self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out
        return Spent(self.requests + other.requests, *tokens, cost)

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.tokens_in + self.tokens_out

    @property
    def as_json(self) -> dict[str, Any]:
        """As the record of an evaluation keeps it."""
        return {"tokens": self.tokens, **vars(self)}


class ModelLabel(NamedTuple):
    """What the model said of a training text: the numbers of its labels, and what the answer cost."""

    text_no: int
    labels: frozenset[int]
    spent: Spent


def size_of(system: str) -> int | None:
    """How many labels a rival learned from; None for another system.

    Example:
        >>> size_of("teacher_labels_300_active"), size_of("student")
        (300, None)
    """
    number = system.removeprefix(PREFIX).removesuffix(ACTIVE)
    return int(number) if system.startswith(PREFIX) and number.isdecimal() else None


def combination(systems: Mapping[str, Any]) -> str | None:
    """The name of the student that rivals are compared with: that of the mixture if there is one."""
    return next((name for name in ("combined", "student") if name in systems), None)


def teacher_labels(
    warehouse: Warehouse,
    inputs_of: Callable[[Encoder | None, NDArray[np.int32]], Any],
    labels: Sequence[ModelLabel],
    text_nos: NDArray[np.int32],
    hashes: Sequence[bytes],
    shape: LabelSpace,
    sizes: Sequence[int],
    tokens: int,
) -> dict[str, Predictions]:
    """The student's recipe on the model's labels of training texts alone, drawn at random and actively.

    Args:
        warehouse: Where the student is.
        inputs_of: Texts with their vectors under an encoder, or the texts alone for None, by text number.
        labels: From `model_labels`: the pool.
        text_nos: Of the texts to be predicted.
        hashes: Content hashes of these.
        shape: What labels there are.
        sizes: How many labels to learn from.
        tokens: What the combination spent: no rival has more labels than that would have bought, nor more than there are.

    Returns:
        The systems, `teacher_labels_N` and `teacher_labels_N_active` for each size and the most. Nothing is left to choose where
        N is the whole pool, and a student that takes minutes to train does not choose.
    """
    from factory.students.stored import stored_models

    models = stored_models(warehouse)
    model = models.get(combination(models) or "") or next(iter(models.values()), None)
    if model is None or not labels:
        return {}
    recipe = recipe_of(model, shape.multi)
    column = {number: at for at, number in enumerate(recipe.label_nos)}
    targets = np.zeros((len(labels), len(column)))
    for row, one in enumerate(labels):
        targets[row, [column[number] for number in one.labels if number in column]] = 1.0
    on_test = inputs_of(recipe.vectoriser, text_nos)
    learned_from = inputs_of(recipe.vectoriser, np.array([one.text_no for one in labels], np.int32))
    most = min(len(labels), affordable(labels, tokens) or len(labels))
    wanted = sorted({size for size in (*sizes, most) if size <= most})

    def kinds(rows: NDArray[np.int64]) -> int:
        return int((targets[rows].sum(axis=0) > 0).sum())

    def fitted(rows: NDArray[np.int64]) -> Any:
        return train(recipe, pick(learned_from, rows), targets[rows], np.ones(len(rows)))

    def margins(taken: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        probs = fitted(taken).predict_proba(pick(learned_from, rows))
        if shape.multi:
            return np.asarray(np.abs(probs - 0.5).min(axis=1))
        return np.asarray(np.diff(np.sort(probs, axis=1)[:, -2:], axis=1)[:, 0])

    start = max(LEAST_START, wanted[0] // 2) if wanted else 0
    while not shape.multi and start < len(labels) and kinds(np.arange(start)) < 2:
        start += 1
    draws = [(f"{PREFIX}{size}", np.arange(size)) for size in wanted]
    if not recipe.slow:
        chosen = drawn_actively(len(labels), [size for size in wanted if start < size < len(labels)], start, margins)
        draws += [(f"{PREFIX}{size}{ACTIVE}", rows) for size, rows in chosen.items()]
    found = {}
    for name, rows in draws:
        if shape.multi or kinds(rows) > 1:
            spent = sum((labels[row].spent for row in rows.tolist()), Spent())
            facts = {"labels": len(rows), "pool": len(labels), "spent": spent.as_json}
            found[name] = predictions_of(fitted(rows), recipe, on_test, hashes, shape, facts)
    return found


def drawn_actively(
    n: int, sizes: Sequence[int], start: int, margins: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
) -> dict[int, NDArray[np.int64]]:
    """Rows of a pool, chosen in rounds by margin sampling (Scheffer, Decomain, Wrobel 2001): those that a student which learned
    from the rows taken so far is least able to tell apart.

    Args:
        n: Rows of the pool, in random order.
        sizes: How many rows to take, ascending.
        start: So many are taken at random first.
        margins: Of rows taken and other rows, how sure the student that learned from the former is of each of the latter.

    Returns:
        The rows for each size; fewer are a part of more.
    """
    taken, found = np.arange(min(start, n)), {}
    for size in sizes:
        while len(taken) < size:
            rest = np.setdiff1d(np.arange(n), taken)
            more = min(size, max(len(taken) + 1, int(len(taken) * GROWTH))) - len(taken)
            taken = np.concatenate([taken, rest[np.argsort(margins(taken, rest), kind="stable")[:more]]])
        found[size] = taken[:size]
    return found


def affordable(labels: Sequence[ModelLabel], tokens: int) -> int | None:
    """How many labels so many tokens would have bought; None where nothing tells."""
    spent = sum(one.spent.tokens for one in labels)
    return int(tokens * len(labels) / spent) if tokens and spent else None


def model_labels(warehouse: Warehouse, *, but: Sequence[int] = ()) -> list[ModelLabel]:
    """What the model said of training texts, in the order in which they were drawn; texts `but` which are left out.

    Labels drawn uniformly go before anchors, of which all but the first are drawn by what programs say. Answers that are votes,
    and those of an adapter, are left out; of a text that was asked twice the first answer counts, by today's card if any did.
    """
    rows = warehouse.query(
        """WITH card AS (SELECT arg_max(revision, task_no) AS revision FROM tasks), asked AS (
               SELECT a.*, p.config ->> '$.anchors' IS NOT NULL AS anchor,
                      p.task_revision IS DISTINCT FROM card.revision AS stale
               FROM annotations a JOIN plans p USING (plan_no) CROSS JOIN card
               WHERE a.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')
               AND a.text_no NOT IN (SELECT unnest(?::INTEGER[]))
               AND p.config ->> '$.adapter' IS NULL AND a.label_no IS NOT NULL
               AND a.label_no NOT IN (SELECT label_no FROM labels WHERE NOT active)
               QUALIFY (stale, anchor, a.plan_no) = min((stale, anchor, a.plan_no)) OVER (PARTITION BY a.text_no))
           SELECT anchor, asked.plan_no, slot_no, text_no, list(label_no), any_value(coalesce(s.tokens_in, 0)),
                  any_value(coalesce(s.tokens_out, 0)), any_value(s.cost)
           FROM asked LEFT JOIN answers s USING (request_key, sample_no) GROUP BY ALL ORDER BY ALL""",
        [list(but)],
    )
    return [
        ModelLabel(
            int(text_no),
            frozenset(int(number) for number in numbers if number >= 0),
            Spent(1, tokens_in, tokens_out, cost),
        )
        for *_, text_no, numbers, tokens_in, tokens_out, cost in rows
    ]


def spent_on(warehouse: Warehouse, systems: Sequence[str]) -> dict[str, Spent]:
    """What each system's labels were bought with, by name; rivals tell of themselves."""
    parts = spent_by_part(warehouse)
    found = {}
    for name in systems:
        if size_of(name) is None:
            stages = () if name in FREE else BOUGHT.get(name, ("author", "votes"))
            found[name] = sum((parts[stage] for stage in stages if stage in parts), Spent())
    return found


def spent_by_part(warehouse: Warehouse) -> dict[str, Spent]:
    """What `author` and `synthesize` spent, and the parts of `annotate`."""
    rows = warehouse.query(
        """SELECT stage, sum(requests)::BIGINT, sum(tokens_in)::BIGINT, sum(tokens_out)::BIGINT,
                  CASE WHEN sum(cost_unknown) = 0 THEN sum(cost) END
           FROM spend WHERE stage <> 'annotate' GROUP BY stage"""
    ) + warehouse.query(
        """WITH said AS (SELECT DISTINCT s.request_key, s.sample_no,
                   CASE WHEN p.config ->> '$.split' = 'test' THEN 'test' WHEN (p.config ->> '$.as_votes')::BOOLEAN THEN 'votes'
                        WHEN p.config ->> '$.anchors' IS NOT NULL THEN 'anchors' ELSE 'labels' END AS part
               FROM slots s JOIN plans p USING (plan_no) WHERE p.stage = 'annotate' AND s.request_key IS NOT NULL)
           SELECT part, count(*), coalesce(sum(tokens_in), 0)::BIGINT, coalesce(sum(tokens_out), 0)::BIGINT,
                  CASE WHEN count(*) = count(cost) THEN sum(cost) END
           FROM said LEFT JOIN answers USING (request_key, sample_no) GROUP BY part"""
    )
    return {part: Spent(int(requests), int(into), int(out), cost) for part, requests, into, out, cost in rows}
