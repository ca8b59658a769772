"""The card: what a user or a model wrote is shown as it is, and nothing is said that is not so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factory.export.card import model_card, plain
from factory.export.spec import ExportSpec
from tests.topics import SPEC

HOSTILE = "****[click](javascript:alert(1))****: <script>alert(2)</script>"


def card(spec: ExportSpec, kind: str = "linear") -> str:
    return model_card(spec, kind, {"texts": 7}, {"words": [1, 2], "characters": [0, 0]})


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a & b", "a &amp; b"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[x](http://y)", r"\[x\](http\://y)"),
        ("two\nlines\r\n# heading", "two lines # heading"),
        ("\x1b]0;title\x07name", "\\]0;title name"),
        ("`code` *bold* _it_", r"\`code\` \*bold\* \_it\_"),
        ("WWW.evil.example", r"WWW\.evil.example"),
        ("C++ 0.5 - fine", "C++ 0.5 - fine"),
    ],
)
def test_names_are_shown_as_they_are(written: str, shown: str) -> None:
    assert plain(written) == shown


def test_no_name_description_or_fact_can_write_html_or_links_into_the_card() -> None:
    spec = ExportSpec(
        HOSTILE, HOSTILE, {HOSTILE: HOSTILE, "b": "x"}, False, never_seen=[HOSTILE],
        facts={HOSTILE: {HOSTILE: HOSTILE}, "encoder": "../<b>"},
    )  # fmt: skip
    words = card(spec)
    assert "<" not in words.replace("```", "").replace("<pattern>", "")
    assert "[click]" not in words
    assert words.count(r"\[click\](javascript:alert(1))") >= 6


def test_a_run_without_a_test_split_has_no_scores_to_point_to() -> None:
    assert "had no `test` split, so nothing is known of how often it is right" in card(SPEC)
    assert "in the report" not in card(SPEC)
    assert "in the report of the run that made it" in card(replace(SPEC, has_test=True))


def test_a_system_is_named_only_where_the_run_has_it() -> None:
    assert "--system" not in card(SPEC)
    assert "--system student_dev" in card(replace(SPEC, calibrated="student_dev"))


def test_labels_that_were_never_seen_are_named_with_what_follows() -> None:
    words = card(replace(SPEC, never_seen=["money"]))
    assert "1. **money**: about money *Never seen in training: this model never answers it.*" in words
    assert "No training text had the labels money" in words
    assert "Never seen" not in card(SPEC)


@pytest.mark.parametrize("kind", ["linear", "static", "hybrid", "transformer"])
def test_the_versions_that_are_needed_are_said(kind: str) -> None:
    facts = {"words": [1, 2], "characters": [0, 0], "max_length": 256, "pad_id": 0}
    words = model_card(SPEC, kind, {}, facts)
    assert "`requirements.txt`" in words
    assert ("onnxruntime 1.18 or later" in words) == (kind != "linear")
