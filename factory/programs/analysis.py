"""What a label matrix says of its programs: coverage, overlaps, conflicts, accuracy, correlation, disagreements.

Column names are those of Snorkel's `LFAnalysis.lf_summary` (snorkel 0.10, `snorkel/labeling/analysis.py`) and the figures
equal its own, with intervals and correlation beside them. Arrays in, tables out; `analyse` does so for a warehouse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.intervals import wilson
from factory.label_matrix import vote_dtype
from factory.task import label_names
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.gold import dev_gold
from factory.warehouse.tables.programs import accepted
from factory.warehouse.tables.texts import split_numbers, texts_of
from factory.warehouse.tables.votes import dense_votes

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Row:
    """One program's line of the summary.

    Attributes:
        j: Its column.
        polarity: The labels it ever gives, sorted.
        coverage: Share of texts it votes on.
        overlaps: Share of texts on which it and at least one other vote.
        conflicts: Share of texts on which it votes and at least one other votes otherwise.
        correct, incorrect: Votes that agree with gold, and that do not; None without gold.
        accuracy: `correct / (correct + incorrect)`, 0 without any vote as Snorkel has it, or None without gold.
        low, high: The accuracy's 95% Wilson interval, or None.
    """

    j: int
    name: str
    polarity: tuple[int, ...]
    coverage: float
    overlaps: float
    conflicts: float
    correct: int | None = None
    incorrect: int | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None

    def as_snorkel(self) -> dict[str, Any]:
        """The columns under Snorkel's names."""
        row: dict[str, Any] = {"j": self.j, "Polarity": list(self.polarity), "Coverage": self.coverage}
        row |= {"Overlaps": self.overlaps, "Conflicts": self.conflicts}
        judged = {"Correct": self.correct, "Incorrect": self.incorrect, "Emp. Acc.": self.accuracy}
        return row | (judged if self.correct is not None else {})


def summarize(votes: np.ndarray, gold: np.ndarray | None = None, names: Sequence[str] | None = None) -> list[Row]:
    """The summary of every program.

    Args:
        votes: `[n, m]` integers, -1 abstains.
        gold: `[n]` label of each text, -1 where there is none, or None.
        names: `[m]`; `lf0`, `lf1`, ... by default.

    Example:
        >>> [row.coverage for row in summarize(np.array([[0, -1], [1, 1]]))]
        [1.0, 0.5]
    """
    n, m = votes.shape
    given = votes >= 0
    per_text = given.sum(axis=1)
    top = votes.max(axis=1, initial=-1)
    low = np.where(given, votes, np.iinfo(votes.dtype).max).min(axis=1, initial=np.iinfo(votes.dtype).max)
    disputed = (per_text > 1) & (low < top)
    rows = []
    for j in range(m):
        mine = given[:, j]
        parts = (mine, mine & (per_text > 1), mine & disputed)
        figures: list[Any] = [float(part.sum() / max(n, 1)) for part in parts]
        if gold is not None:
            judged = mine & (gold >= 0)
            right, total = int((votes[judged, j] == gold[judged]).sum()), int(judged.sum())
            figures += [
                right,
                total - right,
                right / total if total else 0.0,
                *wilson(right / total if total else 0.0, total),
            ]
        name = f"lf{j}" if names is None else names[j]
        rows.append(Row(j, name, tuple(np.unique(votes[mine, j]).tolist()), *figures))
    return rows


def correlations(votes: np.ndarray) -> np.ndarray:
    """`[m, m]`, how alike two programs vote where both do: agreement beyond chance (Cohen's kappa), NaN without common texts."""
    m = votes.shape[1]
    result = np.full((m, m), np.nan)
    for a, b in combinations_with_replacement(range(m), 2):
        both = (votes[:, a] >= 0) & (votes[:, b] >= 0)
        if not both.any():
            continue
        left, right = votes[both, a], votes[both, b]
        observed = float((left == right).mean())
        chance = float(sum((left == k).mean() * (right == k).mean() for k in np.union1d(left, right)))
        result[a, b] = result[b, a] = 1.0 if chance >= 1.0 else (observed - chance) / (1 - chance)
    return result


def disagreements(
    votes: np.ndarray, names: Sequence[str], *, examples: int = 3, kinds: int = 20
) -> list[tuple[str, str, int, int, int, list[int]]]:
    """Pairs of programs that contradict each other: `(name a, name b, vote of a, vote of b, how often, indices of some texts)`,
    the commonest first.
    """
    found = []
    for a, b in combinations(range(votes.shape[1]), 2):
        pairs = votes[:, [a, b]]
        apart = (pairs >= 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])
        for kind in np.unique(pairs[apart], axis=0):
            rows = np.flatnonzero((pairs == kind).all(axis=1))
            found.append((names[a], names[b], int(kind[0]), int(kind[1]), len(rows), rows[:examples].tolist()))
    return sorted(found, key=lambda item: (-item[4], *item[:4]))[:kinds]


@dataclass(frozen=True)
class Judged:
    """How often a program's votes are right where that is known.

    Attributes:
        right, n: Votes that agree, of all that were compared.
    """

    right: int
    n: int

    @property
    def accuracy(self) -> float | None:
        """None where nothing was compared."""
        return self.right / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% Wilson interval of `right / n`."""
        return wilson(self.right / self.n if self.n else 0.0, self.n)


def known_labels(warehouse: Warehouse) -> dict[int, frozenset[int]]:
    """What programs may be judged by when they are chosen: gold of dev, and anchors that teach; label numbers by text number.

    The audit slice is left out: it is for estimates alone.
    """
    found = {anchor.text_no: anchor.labels for anchor in read_anchors(warehouse, "teach")}
    return found | {number: frozenset(labels) for number, labels in dev_gold(warehouse).items()}


def judge(votes: np.ndarray, numbers: Sequence[int], known: Mapping[int, frozenset[int]], target: int | None) -> Judged:
    """How often the votes `[n]` of one program on texts are right; it speaks of the label `target`, or of all if that is None."""
    compared = [(int(vote), known[no]) for vote, no in zip(votes, numbers, strict=True) if vote >= 0 and no in known]
    right = sum(vote in labels if target is None else bool(vote) == (target in labels) for vote, labels in compared)
    return Judged(right, len(compared))


# Of a warehouse --------------------------------------------------------------------------------------------------------------
def analyse(warehouse: Warehouse, *, split: str = "train", target: str | None = None) -> dict[str, Any]:
    """Summary, correlations and disagreements of the accepted programs (in a `multi` task those of the label `target`) on a
    split, and their accuracy on `dev` where it has gold.

    Returns:
        `rows` (columns as Snorkel's `lf_summary`, with `low` and `high`), `correlation` `[m][m]`, `disagreements`.
    """
    numbers, names, texts, votes = label_matrix(warehouse, split, target=target)
    _, _, dev_texts, dev_votes = label_matrix(warehouse, "dev", target=target)
    gold = _dev_gold(warehouse, dev_texts, target)
    judged = [] if gold is None else summarize(dev_votes, gold, names)
    shown = texts_of(warehouse, texts)
    table = []
    for row in summarize(votes, names=names):
        line = row.as_snorkel() | {"program_no": numbers[row.j], "name": row.name}
        if judged:
            dev = judged[row.j]
            line |= dev.as_snorkel() | row.as_snorkel() | {"low": dev.low, "high": dev.high}
        table.append(line)
    keys = ("a", "b", "vote_a", "vote_b", "texts")
    apart = [
        {**dict(zip(keys, kind, strict=True)), "examples": [shown[int(texts[at])] for at in rows]}
        for *kind, rows in disagreements(votes, names)
    ]
    kappa = [[None if value != value else float(value) for value in line] for line in correlations(votes)]
    return {"rows": table, "correlation": kappa, "disagreements": apart}


def label_matrix(
    warehouse: Warehouse, split: str, *, target: str | None = None
) -> tuple[list[int], list[str], np.ndarray, np.ndarray]:
    """Numbers and names of the accepted programs, the split's text numbers `[n]` and the votes `[n, m]`."""
    labels = label_names(warehouse)
    wanted = None if target is None else labels.index(target)
    programs = [program for program in accepted(warehouse) if program.target_no == wanted]
    numbers, texts = [program.number for program in programs], split_numbers(warehouse, split)
    votes = dense_votes(warehouse, numbers, texts).astype(vote_dtype(len(labels)))
    return numbers, [program.name for program in programs], texts, votes


def _dev_gold(warehouse: Warehouse, texts: np.ndarray, target: str | None) -> np.ndarray | None:
    """`[n]` dev gold of the texts (1 or 0 with a target), -1 where there is none; None without any."""
    gold = dev_gold(warehouse)
    if not gold:
        return None
    wanted = None if target is None else label_names(warehouse).index(target)

    def value(found: tuple[int, ...] | None) -> int:
        return -1 if found is None else min(found, default=-1) if wanted is None else int(wanted in found)

    return np.array([value(gold.get(int(number))) for number in texts])
