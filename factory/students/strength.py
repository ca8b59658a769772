"""Strengths for students that learn from programs.

At these strengths `hybrid` is ahead of `embedding` on validation rows: with recorded programs by 3.9 points (YouTube), 2.7 (SMS)
and 5.7 (TREC), with human rules by 5.7 (SMS) and 6.4 (TREC). On each it agrees more with held-out labels too, which needs no
gold: `tests/benchmarks/students.py --only ^choose_`. It can see the very words that programs vote on. So it is what `distill`
trains unless told otherwise.
"""

from __future__ import annotations

WEAK_C = {"embedding": 1.0, "hybrid": 10.0, "linear": 10.0, "static": 10.0}
"""Strength of students that learn from programs. Agreement on held-out soft labels would choose a weaker penalty, because
held-out labels of the same programs share their mistakes: on the validation rows of three WRENCH sets 1.0 beat that choice by
0.6 to 5 points (`embedding`). `c: auto` in the options asks for the choice all the same."""
