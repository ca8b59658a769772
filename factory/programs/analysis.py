"""What a label matrix says of its programs: coverage, overlaps, conflicts, accuracy, correlation, disagreements.

Column names are those of Snorkel's `LFAnalysis.lf_summary` (snorkel 0.10, `snorkel/labeling/analysis.py`) and the figures
equal its own, with intervals and correlation beside them. Arrays in, tables out; `analyse` does so for a warehouse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.programs.sandbox.host.result import vote_dtype
from factory.task import label_names
from factory.warehouse.tables.gold import dev_gold
from factory.warehouse.tables.texts import split_numbers, texts_of
from factory.warehouse.tables.votes import dense_votes

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Row:
    """One program's line of the summary.

    Attributes:
        j: Its column.
        name: Its name.
        polarity: The labels it ever gives, sorted.
        coverage: Share of texts it votes on.
        overlaps: Share of texts on which it and at least one other vote.
        conflicts: Share of texts on which it votes and at least one other votes otherwise.
        correct: Votes that agree with gold, or None without gold.
        incorrect: Votes that disagree, or None.
        accuracy: `correct / (correct + incorrect)`, 0 without any vote as Snorkel has it, or None without gold.
        low: Lower end of the accuracy's 95% Wilson interval, or None.
        high: Upper end.
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
        row: dict[str, Any] = {
            "j": self.j,
            "Polarity": list(self.polarity),
            "Coverage": self.coverage,
            "Overlaps": self.overlaps,
            "Conflicts": self.conflicts,
        }
        if self.correct is not None:
            row |= {"Correct": self.correct, "Incorrect": self.incorrect, "Emp. Acc.": self.accuracy}
        return row


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
    names = [f"lf{j}" for j in range(m)] if names is None else list(names)
    given = votes >= 0
    per_text = given.sum(axis=1)
    top = votes.max(axis=1, initial=-1)
    low = np.where(given, votes, np.iinfo(votes.dtype).max).min(axis=1, initial=np.iinfo(votes.dtype).max)
    disputed = (per_text > 1) & (low < top)
    rows = []
    for j in range(m):
        mine = given[:, j]
        overlaps = mine & (per_text > 1)
        conflicts = mine & disputed
        figures: dict[str, Any] = {}
        if gold is not None:
            judged = mine & (gold >= 0)
            right = int((votes[judged, j] == gold[judged]).sum())
            wrong = int(judged.sum()) - right
            bottom, ceiling = wilson(right, right + wrong)
            figures = {
                "correct": right,
                "incorrect": wrong,
                "accuracy": right / (right + wrong) if right + wrong else 0.0,
                "low": bottom,
                "high": ceiling,
            }
        polarity = tuple(int(value) for value in np.unique(votes[mine, j]))
        share = 1 / n if n else 0.0
        rows.append(
            Row(
                j,
                names[j],
                polarity,
                float(mine.sum() * share),
                float(overlaps.sum() * share),
                float(conflicts.sum() * share),
                **figures,
            )
        )
    return rows


def wilson(right: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval of a proportion (95% by default); (0, 1) without any trial."""
    if total == 0:
        return 0.0, 1.0
    share = right / total
    base = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / base
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / base
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def correlations(votes: np.ndarray) -> np.ndarray:
    """`[m, m]`, how alike two programs vote where both do: agreement beyond chance (Cohen's kappa), NaN without common texts."""
    m = votes.shape[1]
    result = np.full((m, m), np.nan)
    for a in range(m):
        for b in range(a, m):
            both = (votes[:, a] >= 0) & (votes[:, b] >= 0)
            total = int(both.sum())
            if not total:
                continue
            left, right = votes[both, a], votes[both, b]
            observed = float((left == right).mean())
            classes = np.union1d(left, right)
            chance = float(sum((left == k).mean() * (right == k).mean() for k in classes))
            kappa = 1.0 if chance >= 1.0 else (observed - chance) / (1 - chance)
            result[a, b] = result[b, a] = kappa
    return result


def disagreements(
    votes: np.ndarray, names: Sequence[str], *, examples: int = 3, kinds: int = 20
) -> list[tuple[str, str, int, int, int, list[int]]]:
    """Pairs of programs that contradict each other, the commonest kinds first.

    Returns:
        `(name a, name b, vote of a, vote of b, how often, indices of some texts)`.
    """
    m = votes.shape[1]
    found = []
    for a in range(m):
        for b in range(a + 1, m):
            apart = np.flatnonzero((votes[:, a] >= 0) & (votes[:, b] >= 0) & (votes[:, a] != votes[:, b]))
            if not len(apart):
                continue
            pairs = np.stack([votes[apart, a], votes[apart, b]], axis=1)
            for left, right in np.unique(pairs, axis=0):
                rows = apart[(pairs[:, 0] == left) & (pairs[:, 1] == right)]
                shown = [int(i) for i in rows[:examples]]
                found.append((names[a], names[b], int(left), int(right), len(rows), shown))
    found.sort(key=lambda item: (-item[4], item[0], item[1], item[2], item[3]))
    return found[:kinds]


# Of a warehouse --------------------------------------------------------------------------------------------------------------
def analyse(warehouse: Warehouse, *, split: str = "train", target: str | None = None) -> dict[str, Any]:
    """Summary, correlations and disagreements of the accepted programs on a split, accuracy where there is dev gold.

    Args:
        warehouse: The warehouse.
        split: Whose texts; the accuracy is measured on the split `dev` in any case.
        target: In a `multi` task, the label whose programs are meant.

    Returns:
        `rows` (columns as Snorkel's `lf_summary`, with `low` and `high`), `correlation` `[m][m]`, `disagreements`.
    """
    numbers, names, texts, votes = label_matrix(warehouse, split, target=target)
    rows = summarize(votes, names=names)
    judged: dict[int, Any] = {}
    _, _, dev_texts, dev_votes = label_matrix(warehouse, "dev", target=target)
    gold = _dev_gold(warehouse, dev_texts, target)
    if gold is not None:
        judged = {row.j: row for row in summarize(dev_votes, gold, names)}
    shown = texts_of(warehouse, texts)
    table = []
    for row in rows:
        line = row.as_snorkel() | {"program_no": numbers[row.j], "name": row.name}
        if row.j in judged:
            dev = judged[row.j]
            line |= dev.as_snorkel() | row.as_snorkel() | {"low": dev.low, "high": dev.high}
        table.append(line)
    apart = [
        {
            "a": a,
            "b": b,
            "vote_a": left,
            "vote_b": right,
            "texts": n,
            "examples": [shown[int(texts[i])] for i in rows_of],
        }
        for a, b, left, right, n, rows_of in disagreements(votes, names)
    ]
    kappa = [[None if value != value else float(value) for value in line] for line in correlations(votes)]
    return {"rows": table, "correlation": kappa, "disagreements": apart}


def label_matrix(
    warehouse: Warehouse, split: str, *, target: str | None = None
) -> tuple[list[int], list[str], np.ndarray, np.ndarray]:
    """Numbers and names of the accepted programs, the split's text numbers `[n]` and the votes `[n, m]`."""
    labels = label_names(warehouse)
    wanted = None if target is None else labels.index(target)
    programs = warehouse.query(
        "SELECT program_no, name FROM programs WHERE state = 'accepted' AND target_label_no IS NOT DISTINCT FROM ? ORDER BY 1",
        [wanted],
    )
    texts = split_numbers(warehouse, split)
    votes = dense_votes(warehouse, [number for number, _ in programs], texts).astype(vote_dtype(len(labels)))
    return [row[0] for row in programs], [row[1] for row in programs], texts, votes


def _dev_gold(warehouse: Warehouse, texts: np.ndarray, target: str | None) -> np.ndarray | None:
    """`[n]` dev gold of the texts (1 or 0 with a target), -1 where there is none; None without any."""
    gold = dev_gold(warehouse)
    if not gold:
        return None
    wanted = None if target is None else label_names(warehouse).index(target)
    of = {
        number: (min(found, default=-1) if wanted is None else int(wanted in found)) for number, found in gold.items()
    }
    return np.array([of.get(int(number), -1) for number in texts])
