"""Score against the share that is handed to the language model, for the report, with what 1,000 texts then take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory.evaluation.deferral import SHARES


def deferral_of(systems: Sequence[Mapping[str, Any]], teacher: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The curves of an evaluation; None where test has no teacher's answers, or nothing that could defer.

    Args:
        systems: Rows of the table, each with the `detail` of its record.
        teacher: That of the teacher in the summary.

    Returns:
        `shares`; `n` rows; `systems`, each with its `points` in order; `teacher`, its score on the same rows; `requests` that it
        was asked in all, and the `tokens` of 1,000 (None where nobody knows).
    """
    curves = [(row["name"], row["detail"]["deferral"]) for row in systems if row["detail"].get("deferral")]
    if not curves or teacher is None:
        return None
    spent = teacher.get("spent") or {}
    requests, tokens = spent.get("requests"), spent.get("tokens")
    return {
        "shares": list(SHARES), "n": curves[0][1]["n"], "teacher": curves[0][1]["teacher"], "requests": requests,
        "systems": [{"system": name, "points": curve["points"]} for name, curve in curves],
        "tokens": 1000 * tokens / requests if requests and tokens else None,
    }  # fmt: skip
