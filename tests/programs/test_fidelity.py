"""Fidelity is half of safety: ordinary programs run and vote exactly as plain CPython does, row by row."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from factory.programs import run_programs
from tests.programs.ordinary import PROGRAMS
from tests.programs.recorded import recorded_programs

LABELS = ["ham", "spam"]
REFUSED = {"complex_class": "name"}


def texts() -> list[str]:
    rng = random.Random(3)
    words = [
        "win",
        "free",
        "cash",
        "prize",
        "song",
        "love",
        "it",
        "I",
        "my",
        "we",
        "mum",
        "nice",
        "good",
        "not",
        "luck",
        "http://a.b.co",
        "call",
        "txt",
        "12345",
        "7",
        "lol",
        "haha",
        "!",
        "!!",
        "...",
        ":)",
        "Check",
        "WIN",
        "FREE",
        "été",
        "naïve",
        "ß",
        "straße",
        "winer",
        "subscribe",
        "beautiful",
        "yesterday",
        "everything",
        "&lt;b&gt;",
        "a",
        "the",
        "of",
    ]
    found = [
        "",
        " ",
        "\n",
        "a",
        "I love it.",
        "win: now",
        "7",
        "101",
        "aaaa",
        "\x00",
        "\u202e",
        "é" * 50,
        "win a",
        "i am",
        "\ud800",
    ]
    while len(found) < 400:
        found.append(" ".join(rng.choice(words) for _ in range(rng.randrange(1, 14))))
    return found


def plain_vote(source: str, corpus: list[str], labels: list[str], target: str | None = None) -> list[Any]:
    """What plain CPython says: a label's index, -1 for abstaining, or None where the vote is lost."""
    namespace: dict[str, Any] = {"__name__": "program", "print": lambda *_, **__: None}  # a terminal may refuse a text
    exec(compile(source, "<program>", "exec"), namespace)
    votes: list[Any] = []
    for text in corpus:
        try:
            vote = namespace["label"](text)
        except Exception:
            votes.append(None)
            continue
        if vote is None:
            votes.append(-1)
        elif target is not None:
            votes.append(int(vote) if vote in (True, False, -1) else None)
        elif isinstance(vote, str):
            votes.append(labels.index(vote) if vote in labels else None)
        else:
            votes.append(int(vote) if -1 <= vote < len(labels) else None)
    return votes


def test_ordinary_programs_vote_as_plain_python_does(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = texts()
    names = list(PROGRAMS)
    run = run_programs([PROGRAMS[name] for name in names], corpus, LABELS)
    refused = {names[at]: code for at, (code, _) in run.refusals.items()}
    assert refused == REFUSED
    assert len(names) >= 60
    assert 1 - len(refused) / len(names) >= 0.97
    for at, name in enumerate(names):
        if name in refused:
            continue
        wanted = plain_vote(PROGRAMS[name], corpus, LABELS)
        kept = run.codes[:, at] <= 1
        ours = [int(v) if ok else None for v, ok in zip(run.votes[:, at], kept, strict=True)]
        assert ours == wanted, name


@pytest.mark.slow
def test_recorded_programs_run_and_vote_as_plain_python_does(shared_data: Path) -> None:
    import pyarrow.parquet as pq

    from factory.task import load_card

    root = Path(__file__).parents[2] / "pipelines"
    sets = {
        "youtube": "wrench_youtube",
        "sms": "wrench_sms",
        "trec": "wrench_trec",
        "agnews": "agnews",
        "imdb": "imdb",
        "reuters": "reuters21578_90",
    }
    programs = [(name, source) for name, source in recorded_programs(root) if name in sets]
    if not programs:
        pytest.skip("no programs are recorded yet")
    refused, differing = [], []
    for name in sorted({name for name, _ in programs}):
        card = load_card(root / name / "task.yaml")
        corpus = (
            pq.read_table(shared_data / sets[name] / "train.parquet", columns=["text"]).column("text").to_pylist()[:120]
        )
        sources = [source for owner, source in programs if owner == name]
        target = card.label_names[0] if card.kind == "multi" else None
        run = run_programs(sources, corpus, card.label_names, target=target)
        for at, source in enumerate(sources):
            if at in run.refusals:
                refused.append((name, run.refusals[at]))
                continue
            wanted = plain_vote(source, corpus, card.label_names, target)
            kept = run.codes[:, at] <= 1
            if [int(v) if ok else None for v, ok in zip(run.votes[:, at], kept, strict=True)] != wanted:
                differing.append((name, at))
    share = 1 - (len(refused) + len(differing)) / len(programs)
    print(
        f"{len(programs)} recorded programs, {share:.1%} run and vote alike; refused: {refused}; differing: {differing}"
    )
    assert differing == []
    assert share >= 0.97
