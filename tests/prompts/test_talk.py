"""Ordinary texts of people are hardly ever taken for a model's talk, whatever their label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from factory import prompts
from factory.prompts.texts import parse_texts
from factory.synthesis.filters import text_filters

SETS = {
    "enron_spam": "label", "sms_spam": "label", "clinc150": "label", "imdb": "label", "banking77": "label", "agnews": "label",
    "emotion": "label", "goemotions": "labels", "trec": "coarse_label", "cr": "label", "sst2": "label", "newsgroups20": "label",
}  # fmt: skip
MULTI_LINE = {"enron_spam", "newsgroups20"}
"""Sets of e-mails: with their lists, headers and rules they cannot be told from talk where no tags stand around them."""

MOST = 2500
LIMIT = 0.005


def rows(folder: Path, column: str) -> list[tuple[str, list[str]]]:
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "train.parquet")
    name = column if column in table.column_names else next(c for c in table.column_names if "label" in c)
    texts, labels = table["text"].to_pylist(), table[name].to_pylist()
    step = max(1, len(texts) // MOST)
    pairs = list(zip(texts, labels, strict=True))[::step]
    return [(text, [str(x) for x in (own if isinstance(own, list) else [own])]) for text, own in pairs if text.strip()]


@pytest.mark.parametrize("name", SETS)
def test_human_texts_are_dropped_by_no_filter(shared_data: Path, name: str) -> None:
    check = text_filters()
    texts, dropped, untagged, refused = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for text, labels in rows(shared_data / name, SETS[name]):
        texts.update(labels)
        verdict = check(text, None)
        if verdict is not None and verdict[0] != "unreadable":
            dropped.update(labels)
        try:
            parse_texts(text)
        except prompts.ParseFailure as failure:
            untagged.update(labels)
            if failure.code == "refusal":
                refused.update(labels)
    frequent = [label for label, count in texts.items() if count >= 50]
    for label in frequent:
        # One text of a label may be anything.
        assert dropped[label] <= max(1, LIMIT * texts[label]), label
        assert refused[label] <= max(1, LIMIT * texts[label]), label
    if name not in MULTI_LINE:
        assert untagged.total() <= LIMIT * texts.total()
