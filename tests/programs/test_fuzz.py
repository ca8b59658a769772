# ruff: noqa: E501
"""Random programs of the kinds that models write vote in the sandbox as in plain CPython, cell by cell."""

from __future__ import annotations

import random

import pytest

from factory.programs import run_programs
from tests.programs.test_fidelity import plain_vote

LABELS = ["ham", "spam"]
WORDS = [
    "win",
    "free",
    "cash",
    "song",
    "love",
    "not",
    "good",
    "great",
    "my",
    "http://x.co",
    "call",
    "12",
    "7",
    "!",
    "?",
    "WOW",
    "é",
    "ß",
    "İ",
    "K",
]
ODD = [
    "",
    " ",
    "\n",
    "win\n",
    "\x00",
    "\u00a0",
    "\u2028",
    "a" * 300,
    "not good",
    "WIN win Win",
    "\ud800",
    "e\u0301",
    "１２",
    "ﬁ",
]
PATTERNS = [
    r"\bwin\b",
    r"\d+",
    r"(?:win|free) \w+",
    r"^\w+",
    r"!$",
    r"(\w)\1",
    r"(?<!not )good",
    r"[A-Z]{2,}",
    r"\bs\w*g\b",
    r"(?m:^x)",
    r"\W{2,}",
]
CONDITIONS = [
    "any(w in t for w in {words})", "all(w not in t for w in {words})", "sum(t.count(w) for w in {words}) > {n}",
    "bool(set(t.split()) & set({words}))", "len(re.findall({pattern}, t)) > {n}", "re.search({pattern}, text, re.I) is not None",
    "(m := re.search({pattern}, t)) and len(m.group()) > {n}", "t.startswith(tuple({words}))", "len(t) % 7 == {n}",
    "sum(c.isupper() for c in text) > {n}", "Counter(t.split()).most_common(1)[0:1] != [] and Counter(t.split())[{words}[0]] > 0",
    "sorted(t.split())[:1] == [{words}[0]]", "next((w for w in t.split() if w in {words}), None) is not None",
    "{words}[0] in t and not any(x in t for x in {words}[1:])", "t.translate(TABLE).count(' ') > {n}",
    "TABLE_OF.get(t[:1], 0) > {n}", "unicodedata.normalize('NFKD', text) != text", "ratio(t) > 0.{n}",
    "max((len(list(g)) for _, g in groupby(t)), default=0) > {n}",
]  # fmt: skip
BODIES = [
    "    return {a!r} if {first} else {b} if {second} else None",
    "    score = 0\n    for w in t.split():\n        score += WEIGHTS.get(w, 0)\n    if {first}:\n        score += {n}\n"
    "    return {a!r} if score > {n} else {b} if score < 0 else None",
    "    votes = defaultdict(int)\n    if {first}:\n        votes[{a!r}] += 2\n    if {second}:\n        votes[{b}] += 1\n"
    "    best = sorted(votes.items(), key=lambda kv: (-kv[1], str(kv[0])))\n    return best[0][0] if best else None",
    "    negated = False\n    for w in t.split():\n        if w == 'not':\n            negated = True\n        elif w in WEIGHTS:\n"
    "            return {b} if negated else {a!r}\n        else:\n            negated = False\n    return {a!r} if {first} else None",
    "    match t.split():\n        case ['win', *_]:\n            return {a!r}\n        case [_, x] if {first}:\n            return {b}\n"
    "        case _:\n            return {a!r} if {second} else None",
    "    try:\n        return {b} if int(t.split()[{n}]) > 5 else {a!r}\n    except (ValueError, IndexError):\n        return {a!r} if {first} else None",
    "    for rule, name in RULES:\n        if rule(t):\n            return name\n    return {b} if {first} else None",
]  # fmt: skip
HEAD = """import re, string, unicodedata
from collections import Counter, defaultdict
from itertools import groupby
TABLE = str.maketrans('', '', string.punctuation)
TABLE_OF = {'w': 3, 'm': 1}
WEIGHTS = {'win': 2, 'free': 1, 'love': -1, 'song': -2, 'good': 1}
RULES = [(lambda t: 'http' in t, 'spam'), (re.compile('lov').search, 'ham')]


def ratio(t):
    letters = [c for c in t if c.isalpha()]
    return len(set(letters)) / len(letters) if letters else 0.0


def label(text):
    t = text.lower().strip()
"""


def a_program(rng: random.Random) -> str:
    def filled(template: str) -> str:
        words = rng.sample(WORDS, rng.randint(1, 4))
        return template.format(
            words=[w.lower() for w in words], pattern=repr(rng.choice(PATTERNS)), n=rng.randint(0, 4)
        )

    first, second = (filled(rng.choice(CONDITIONS)) for _ in range(2))
    a, b = rng.sample(LABELS, 2)
    body = rng.choice(BODIES)
    return (
        HEAD
        + body.format(
            a=a, b=repr(b) if rng.random() < 0.8 else LABELS.index(b), first=first, second=second, n=rng.randint(0, 4)
        )
        + "\n"
    )


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_vote_as_in_plain_python(seed: int) -> None:
    rng = random.Random(seed)
    sources = [a_program(rng) for _ in range(150)]
    texts = [*ODD, *(" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 12))) for _ in range(150))]
    run = run_programs(sources, texts, LABELS)
    assert run.refusals == {}
    assert not any("retired" in note for said in run.notes for note in said)
    wrong = []
    for at, source in enumerate(sources):
        kept = run.codes[:, at] <= 1
        ours = [int(vote) if ok else None for vote, ok in zip(run.votes[:, at], kept, strict=True)]
        wanted = plain_vote(source, texts, LABELS)
        wrong += [(text, o, w, source) for text, o, w in zip(texts, ours, wanted, strict=True) if o != w]
    assert wrong == []
    assert len(set(map(tuple, run.votes.T.tolist()))) > 60, "the programs are of many kinds"
