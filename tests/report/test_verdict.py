"""The go / no-go sentence."""

from __future__ import annotations

import pytest

from factory.report.verdict import go_no_go


@pytest.mark.parametrize(
    ("systems", "paired", "extra", "decision", "words"),
    [
        ({"student": 0.9, "dev_only": 0.8}, {"dev_only": (0.04, 0.16)}, {}, "use", "beats the same student"),
        ({"student": 0.7, "dev_only": 0.8}, {"dev_only": (-0.15, -0.05)}, {}, "do not use", "surely more"),
        ({"student": 0.8, "dev_only": 0.8}, {"dev_only": (-0.05, 0.05)}, {}, "unsure", "cannot be told apart"),
        (
            {"student": 0.8, "dev_only": 0.8, "zero_shot": 0.5},
            {"dev_only": (-0.05, 0.05), "zero_shot": (0.2, 0.4)},
            {},
            "unsure",
            "cannot be told apart",
        ),
        ({"student": 0.6}, {}, {"majority_share": 0.6}, "do not use", "commonest label"),
        (
            {"student": 0.9, "zero_shot": 0.5},
            {"zero_shot": (0.3, 0.5)},
            {"label_equivalents": 200.0},
            "use",
            "200 random",
        ),
        (
            {"student": 0.9, "zero_shot": 0.5, "teacher": 0.97},
            {"zero_shot": (0.3, 0.5)},
            {},
            "use",
            "97.0 %, +7.0 points",
        ),
        ({}, {}, {}, "do not use", "no student"),
    ],
)
def test_the_sentence_follows_from_the_figures(systems, paired, extra, decision, words) -> None:  # type: ignore[no-untyped-def]
    verdict = go_no_go({name: {"accuracy": value} for name, value in systems.items()}, paired=paired, **extra)
    assert verdict.decision == decision
    assert words in verdict.sentence
    assert verdict.sentence.endswith(".")
