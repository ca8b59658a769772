"""SynthesizRR (Divekar and Durrett, EMNLP 2024): a passage like a seed is rewritten into a text of the seed's label.

Every seed is a query. Its nearest passages make demonstrations (passage -> the seed's own text), the next ones are sources. Where
the paper draws new demonstrations for each prompt, here a block of prompts of one label shares them, so that a server can reuse
their prefix. A passage is a source once in a plan, for the first slot that comes to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from factory.synthesis.values import Draw, Part


@dataclass(frozen=True)
class Query:
    """A seed, or a label's description where there are no seeds, with its passages.

    Attributes:
        label: The label it stands for.
        seed: The seed's text number, or None for a description.
        demos: Passages (text numbers) in the band of demonstrations.
        sources: Passages in the band of sources.
    """

    label: str
    seed: int | None
    demos: Sequence[int] = ()
    sources: Sequence[int] = ()


@dataclass
class SynthesizRR:
    """The method's slots, all of them drawn at the start from the configuration's seed.

    Args:
        queries: All queries; a label's in the order in which they take turns.
        demos: Demonstrations per prompt.
        block: Prompts that share their demonstrations.
        random_seed: From the configuration.
    """

    queries: Sequence[Query]
    demos: int = 3
    block: int = 8
    random_seed: int = 0
    name: str = "synthesizrr"
    _order: Mapping[str, list[Draw]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        order: dict[str, list[tuple[int | None, int]]] = {}
        queues: dict[str, list[tuple[int | None, list[int]]]] = {}
        for number, query in enumerate(self.queries):
            passages = list(query.sources)
            np.random.default_rng([self.random_seed, 1, number]).shuffle(passages)
            queues.setdefault(query.label, []).append((query.seed, passages))
        used: set[int] = set()
        while any(passages for turns in queues.values() for _, passages in turns):
            for label, turns in queues.items():
                for seed, passages in turns:
                    while passages and passages[0] in used:
                        passages.pop(0)
                    if passages:
                        used.add(passages[0])
                        order.setdefault(label, []).append((seed, passages.pop(0)))
        self._order = {
            label: self._draws(number, label, pairs) for number, (label, pairs) in enumerate(sorted(order.items()))
        }

    def _draws(self, number: int, label: str, pairs: Sequence[tuple[int | None, int]]) -> list[Draw]:
        pool = [
            (passage, query.seed)
            for query in self.queries
            if query.label == label and query.seed is not None
            for passage in query.demos
        ]
        draws = []
        for first in range(0, len(pairs), self.block):
            rng = np.random.default_rng([self.random_seed, 2, number, first // self.block])
            chosen = [pool[at] for at in rng.permutation(len(pool))[: self.demos]]
            for seed, passage in pairs[first : first + self.block]:
                spec = {"passage": passage, "demos": [list(pair) for pair in chosen]}
                parents = {"seed": seed, "passage": passage, "demos": [demo for _, demo in chosen]}
                draws.append(Draw(spec, {key: value for key, value in parents.items() if value is not None}))
        return draws

    def draw(self, label: str, first: int, count: int, written: Mapping[str, Sequence[Part]]) -> list[Draw]:
        """The next passages of the label."""
        return self._order.get(label, [])[first : first + count]
