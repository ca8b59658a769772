"""What is stored of fitted label models, and storing it block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.decide import Uncovered, decide, fill_uncovered
from factory.denoise.solve import ALWAYS, Solved
from factory.result import Progress
from factory.task import TaskCard
from factory.warehouse.tables import labels as label_table
from factory.warehouse.tables.texts import Texts

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

WRITE_ROWS = 500_000


@dataclass(frozen=True)
class Planned:
    """A label model that is to be stored.

    Attributes:
        name: Under which.
        models: The model of each problem.
        systems: The students that it is for.
        reason: Why.
    """

    name: str
    models: tuple[str, ...]
    systems: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Filling:
    """What texts without votes get.

    Attributes:
        rule: As `factory.denoise.decide.fill_uncovered` takes it.
        default: Label number of the default label, or None.
    """

    rule: Uncovered
    default: int | None


def plan_models(solved: Sequence[Solved]) -> list[Planned]:
    """Majority, snorkel, and whatever else is chosen."""
    wanted: dict[tuple[str, ...], Planned] = {}
    for name in ALWAYS:
        if any(name in part.models for part in solved):
            models = tuple(name if name in part.models else "majority" for part in solved)
            wanted.setdefault(models, Planned(name, models, (), "always stored, to compare with"))
    for system in ("student", "student_dev"):
        if system not in solved[0].choices:
            continue
        models = tuple(part.choices[system][0] for part in solved)
        reason = "; ".join(dict.fromkeys(part.choices[system][1].reason for part in solved))
        name = models[0] if len(set(models)) == 1 else "mixed"
        old = wanted.get(models, Planned(name, models, (), ""))
        wanted[models] = Planned(old.name, models, (*old.systems, system), reason)
    return list(wanted.values())


def store(
    warehouse: Warehouse, texts: Texts, solved: Sequence[Solved], planned: Sequence[Planned], card: TaskCard,
    names: Sequence[str], *, key: str, config: Mapping[str, Any], filling: Filling, progress: Progress,
) -> dict[str, float]:  # fmt: skip
    """Write the probabilities of every text by every planned model, a block of texts in a transaction of its own.

    The last transaction makes them visible and takes those of earlier votes away; what a student learned from stays in
    `model_rows`. Killed before that, the same call goes on after the last block written: what it writes follows from the votes
    alone.

    Returns:
        How sure each model is of covered train texts, by name: 0 where all labels are alike, 1 where one has everything (the
        mean over problems).
    """
    covered = covered_texts(solved, len(texts.numbers))
    first, total = label_table.begin(warehouse, key), len(texts.numbers)
    sure: dict[str, float] = {}
    for at, model in enumerate(planned):
        tables = [_table(part, name, filling) for part, name in zip(solved, model.models, strict=True)]
        sure[model.name] = _sureness(tables, texts)
        written = label_table.written(warehouse, first + at)
        for start in range(written, total, WRITE_ROWS):
            progress(start, total, f"texts labelled by {model.name} ({at + 1} of {len(planned)} label models)")
            block = slice(start, start + WRITE_ROWS)
            probs, known, tie = _rows(solved, tables, block, card, names, filling.rule)
            numbers = texts.numbers[block].astype(np.int32)
            label_table.put_block(warehouse, first + at, numbers, probs, known, covered[block], tie)
    fresh = []
    for model in planned:
        told = zip(solved, model.models, strict=True)
        params = {part.problem.title: _params(part, name, model) for part, name in told}
        settings = {**config, "models": list(model.models)}
        fresh.append(label_table.NewLabelModel(key, model.name, model.systems, model.reason, settings, params))
    label_table.publish(warehouse, first, fresh)
    return sure


def covered_texts(solved: Sequence[Solved], texts: int) -> np.ndarray:
    """bool [texts]: whether anything votes on them in any problem."""
    covered = np.zeros(texts, bool)
    for part in solved:
        covered |= part.votes.covered[part.pattern]
    return covered


def _params(part: Solved, name: str, model: Planned) -> dict[str, Any]:
    """What a model learned, what it was compared with, and on dev its reliability."""
    found = {**part.models[name].params(), "refused": dict(part.refused)}
    if model.systems:
        found["scores"] = dict(part.choices[model.systems[-1]][1].scores)
    if part.reliability and "student_dev" in model.systems:
        found["reliability"] = dict(part.reliability)
    return found


@dataclass(frozen=True)
class _Table:
    """Probabilities [rows, classes], ties and coverage [rows] of one problem by one model, and the row of every text."""

    probs: np.ndarray
    ties: np.ndarray
    covered: np.ndarray
    row: np.ndarray


def _table(part: Solved, name: str, filling: Filling) -> _Table:
    probs, votes, row = part.table(name)
    if part.problem.label is None:
        fallback = None if filling.default is None else part.problem.class_of[filling.default]
    else:
        fallback = 0  # multi: silence means that the label does not apply
    covered = votes.covered
    probs = fill_uncovered(probs, covered, filling.rule, prior=part.problem.shares, default=fallback)
    _, ties = decide(probs, np.zeros(len(probs), np.uint64))
    return _Table(probs, ties & covered, covered, row)


def _sureness(tables: Sequence[_Table], texts: Texts) -> float:
    """See `store`; 1 where nothing is covered."""
    found = []
    for table in tables:
        weight = np.bincount(table.row[texts.train], minlength=len(table.probs)) * table.covered
        if weight.any():
            k = table.probs.shape[1]
            found.append((float(table.probs.max(axis=1) @ weight / weight.sum()) - 1 / k) / (1 - 1 / k))
    return float(np.mean(found)) if found else 1.0


def _rows(
    solved: Sequence[Solved], tables: Sequence[_Table], part_of: slice, card: TaskCard, names: Sequence[str],
    rule: Uncovered,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:  # fmt: skip
    """`probs` [rows, label numbers], which entries are known (None: all), and ties, for a range of texts."""
    if card.kind == "single":
        pattern = tables[0].row[part_of]
        wide = np.zeros((len(pattern), len(names)), np.float32)
        class_of = solved[0].problem.class_of
        wide[:, sorted(class_of, key=lambda number: class_of[number])] = tables[0].probs[pattern]
        return wide, None, tables[0].ties[pattern]
    rows = len(solved[0].pattern[part_of])
    wide, known = np.zeros((rows, len(names)), np.float32), np.zeros((rows, len(names)), bool)
    tie = np.zeros(rows, bool)
    silent_known = rule in ("prior", "default")
    for part, table in zip(solved, tables, strict=True):
        pattern, label = table.row[part_of], part.problem.label
        wide[:, label] = table.probs[pattern, 1]
        known[:, label] = (table.covered[pattern] | silent_known) if part.problem.voters else False
        tie |= table.ties[pattern]
    return wide, known, tie
