"""Few-shot prompting (FewGen in SynthesizRR's paper): texts written from 0, 8 or 32 examples, and from nothing else.

A block of slots shares one drawing of the examples: they are samples of one request. With `attributes` every slot has a request
of its own that asks for one value of each attribute (AttrPrompt's idea), drawn from those that the model proposed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from factory.synthesis.values import Draw, Part


@dataclass
class FewShot:
    """The method's slots.

    Args:
        seeds: Text numbers of the gold examples, per label.
        demos: Examples per prompt; 0 for none.
        count: Texts asked for in one answer.
        block: Samples of one request before the examples are drawn anew.
        attributes: Values per attribute, per label, or nothing.
        random_seed: From the configuration.
    """

    seeds: Mapping[str, Sequence[int]]
    demos: int = 8
    count: int = 1
    block: int = 4
    attributes: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    random_seed: int = 0
    name: str = "few_shot"

    def draw(self, label: str, first: int, count: int, written: Mapping[str, Sequence[Part]]) -> list[Draw]:
        """Any number of slots: a language model can always be asked again."""
        return [self._one(label, slot) for slot in range(first, first + count)]

    def _one(self, label: str, slot: int) -> Draw:
        # The slot is the sample number: two blocks that happen to draw the same examples stay apart.
        number = sorted({*self.seeds, label}).index(label)
        pool = self.seeds.get(label, ())
        block = slot if self.attributes else slot // self.block if self.demos and pool else 0
        rng = np.random.default_rng([self.random_seed, 3, number, block])
        chosen = [pool[at] for at in rng.permutation(len(pool))[: self.demos]]
        spec: dict[str, Any] = {"examples": chosen, "count": self.count}
        if self.attributes:
            spec["attributes"] = [
                f"{name}: {values[int(rng.integers(len(values)))]}"
                for name, values in sorted(self.attributes.get(label, {}).items())
                if values
            ]
        return Draw(spec, {"demos": chosen}, slot)
