"""Self-Guide (Zhao et al., COLM 2024): the model invents inputs for a label, then labels them itself, several times.

Each prompt shows the seeds as good texts and earlier inventions as poor ones, drawn anew for every slot, so that
later rounds move away from earlier ones. The label that was asked for is a wish: the label that counts is the one on
which the model's own samples agree (`loop.Check` with `relabel`). The paper then cuts every class down to the rarest;
here every label is topped up to the same number, which balances without throwing texts away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from factory.synthesis.values import Draw, Part


@dataclass
class SelfGuide:
    """The method's slots.

    Args:
        seeds: Text numbers of the gold examples, per label.
        poor: The most earlier texts to show; the number shown is drawn from 1 to this, as in the paper's code (10).
        count: Texts asked for in one answer.
        random_seed: From the configuration.
    """

    seeds: Mapping[str, Sequence[int]]
    poor: int = 10
    count: int = 1
    random_seed: int = 0
    name: str = "self_guide"

    def draw(self, label: str, first: int, count: int, written: Mapping[str, Sequence[Part]]) -> list[Draw]:
        """Any number of slots. Slots of one round with the same seeds and poor texts become samples of one request."""
        number = sorted({*self.seeds, label}).index(label)
        pool = self.seeds.get(label, ())
        earlier = list(written.get(label, ()))
        draws = []
        for slot in range(first, first + count):
            rng = np.random.default_rng([self.random_seed, 4, number, slot])
            good = [pool[at] for at in rng.permutation(len(pool))]
            shown = int(rng.integers(1, self.poor + 1)) if earlier and self.poor else 0
            poor = [earlier[at] for at in sorted(rng.permutation(len(earlier))[:shown].tolist())]
            spec = {"examples": good, "poor": [[part.slot_no, part.part_no] for part in poor], "count": self.count}
            draws.append(Draw(spec, {"demos": good}, slot))
        return draws
