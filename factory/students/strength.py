"""Strengths for students that learn from programs."""

from __future__ import annotations

WEAK_C = {"embedding": 1.0, "hybrid": 10.0, "linear": 10.0, "static": 10.0}
"""Strength of students that learn from programs. Agreement on held-out soft labels would choose a weaker penalty, because
held-out labels of the same programs share their mistakes: on the validation rows of three WRENCH sets 1.0 beat that choice by
0.6 to 5 points (`embedding`). `c: auto` in the options asks for the choice all the same."""
