"""Does dev say what the programs say? Cohen's kappa between the gold of dev and the majority of the votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from factory.warehouse.tables.gold import dev_gold
from factory.warehouse.tables.labels import label_models, soft_labels

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

SLIGHT = 0.2
"""Kappa below which agreement is called slight (Landis and Koch 1977)."""


@dataclass(frozen=True)
class Agreement:
    """How far dev and the votes agree.

    Attributes:
        n: Texts (multi: pairs of text and label) of dev that votes cover.
        share: Share on which they agree, 0 to 1.
        kappa: That share beyond what the two sides' class shares give by chance, -1 to 1.
    """

    n: int
    share: float
    kappa: float

    @property
    def warning(self) -> str | None:
        """What to tell a person, or None if they agree well enough."""
        if self.n < 10 or self.kappa >= SLIGHT:
            return None
        return (
            f"dev disagrees with the programs: kappa {self.kappa:.2f} on {self.n} texts (they agree on {self.share:.0%})."
            " Look at the labels of dev, and at the programs, before trusting choices made on dev"
        )


def kappa(pairs: Iterable[tuple[Hashable, Hashable, int]]) -> Agreement:
    """Cohen's kappa (1960) of a table of counts.

    Args:
        pairs: (one side's label, the other's, how often).

    Example:
        >>> kappa([(0, 0, 45), (1, 1, 45), (0, 1, 5), (1, 0, 5)])
        Agreement(n=100, share=0.9, kappa=0.8)
    """
    pairs = list(pairs)
    n = sum(count for _, _, count in pairs)
    if n == 0:
        return Agreement(0, 0.0, 0.0)
    share = sum(count for one, other, count in pairs if one == other) / n
    ones, others = Counter[Hashable](), Counter[Hashable]()
    for one, other, count in pairs:
        ones[one] += count
        others[other] += count
    chance = sum(count * others[name] for name, count in ones.items()) / (n * n)
    return Agreement(n, share, round((share - chance) / (1 - chance), 12) if chance < 1 else 1.0)


def dev_agreement(warehouse: Warehouse) -> Agreement | None:
    """Compare the gold of dev with the majority of the votes, over the texts that votes cover without a tie.

    Returns:
        None where there is no dev gold or no vote on it.
    """
    gold = dev_gold(warehouse)
    majority = max((row.number for row in label_models(warehouse) if row.name == "majority"), default=None)
    if majority is None or not gold:
        return None
    soft = soft_labels(warehouse, majority, text_nos=list(gold))
    said: Counter[tuple[int, int]] = Counter()
    if warehouse.scalar("SELECT kind FROM tasks ORDER BY task_no DESC LIMIT 1") == "multi":
        for number, probs in zip(soft.text_nos.tolist(), soft.probs, strict=True):
            clear = np.flatnonzero(~np.isnan(probs) & (probs != 0.5)).tolist()
            said.update((int(label in gold[number]), int(probs[label] > 0.5)) for label in clear)
    else:
        clear = np.flatnonzero(soft.covered & ~soft.tie).tolist()
        said.update((gold[int(soft.text_nos[at])][0], int(np.nanargmax(soft.probs[at]))) for at in clear)
    pairs = [(one, other, count) for (one, other), count in said.items()]
    return kappa(pairs) if pairs else None
