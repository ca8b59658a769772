# ruff: noqa: E501
"""Recognised programs vote exactly as plain Python does, on every text."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.programs.pool import shared_pool
from factory.programs.recognise import Applier
from factory.programs.sandbox import proxies
from factory.programs.sandbox.patterns import Unknown
from factory.programs.scanning import engine_fails
from factory.programs.tokens import once_each

pytestmark = pytest.mark.skipif(engine_fails() is not None, reason=str(engine_fails()))

LABELS = ["ham", "spam"]
HEAD = "import re\n"
PLAIN = {
    "any_word": "WORDS = ['win', 'Prize', 'a b']\ndef label(text):\n    return 'spam' if any(w in text for w in WORDS) else None",
    "any_lower": "WORDS = ('win', 'prize')\ndef label(text):\n    t = text.lower()\n    if any(w in t for w in WORDS):\n        return 1\n",
    "counts": (
        "T = {'spam': ['win', 'free', 'cash'], 'ham': ['song', 'love', 'mum']}\ndef label(text):\n    t = text.lower()\n"
        "    n = {k: sum(1 for w in v if w in t) for k, v in T.items()}\n    best = max(n, key=n.get)\n"
        "    if n[best] == 0 or list(n.values()).count(n[best]) > 1:\n        return None\n    return best"
    ),
    "first_match": (
        "RULES = [(re.compile(r'\\bwin(?:ner|s)?\\b', re.I), 'spam'), (re.compile(r'lov(e|ed)\\s+(it|you)'), 'ham'),"
        " (re.compile(r'^free'), 'spam'), (re.compile(r'\\d{3,}'), 'spam')]\n"
        "def label(text):\n    for rx, name in RULES:\n        if rx.search(text):\n            return name\n    return None"
    ),
    "findall_counts": (
        "A = re.compile(r'\\b(?:win|free|cash)\\b')\nB = re.compile(r'\\b(?:song|love)s?\\b')\ndef label(text):\n"
        "    t = text.lower()\n    a, b = len(A.findall(t)), len(B.findall(t))\n"
        "    if a > b:\n        return 'spam'\n    if b > a:\n        return 'ham'\n    return None"
    ),
    "token_set": (
        "SPAM = {'win', 'free', 'cash'}\nHAM = {'song', 'love'}\ndef label(text):\n    words = set(re.findall(r\"[a-z']+\", text.lower()))\n"
        "    s, h = len(words & SPAM), len(words & HAM)\n    return 'spam' if s > h else 'ham' if h > s else None"
    ),
    "token_sum": (
        "SPAM = {'win', 'free', 'cash'}\ndef label(text):\n    words = re.findall(r'\\w+', text.lower())\n"
        "    return 'spam' if sum(1 for w in words if w in SPAM) >= 2 else None"
    ),
    "split": "GOOD = {'love', 'song'}\ndef label(text):\n    return 'ham' if any(w in GOOD for w in text.lower().split()) else None",
    "ends": "def label(text):\n    t = text.strip().lower()\n    if not t:\n        return None\n    return 'ham' if re.match(r'i (love|am)', t) else None",
    "starts": "def label(text):\n    return 'spam' if text.startswith(('win', 'Free')) or text.endswith('!') else None",
    "count_literal": "def label(text):\n    return 'spam' if text.count('!') >= 2 and 'win' in text else None",
    "not_in": "def label(text):\n    if 'song' not in text and re.search('free', text):\n        return 'spam'\n    return None",
    "is_none": "R = re.compile('a+b')\ndef label(text):\n    return None if R.search(text) is None else 'ham'",
    "any_pattern": "P = [re.compile(p, re.IGNORECASE) for p in (r'\\bcash\\b', r'www\\.', r'http')]\ndef label(text):\n    return 'spam' if any(p.search(text) for p in P) else None",
    "weights": (
        "W = {'win': 2, 'free': 1.5, 'song': -2, 'love': -1}\ndef label(text):\n    t = text.lower()\n"
        "    s = sum(v for k, v in W.items() if k in t)\n    return 'spam' if s > 1 else 'ham' if s < -1 else None"
    ),
    "loop_score": (
        "W = [('win', 2), ('free', 1), ('song', -2)]\ndef label(text):\n    s = 0\n    for k, v in W:\n        if k in text:\n            s += v\n"
        "    return 'spam' if s > 1 else 'ham' if s < 0 else None"
    ),
    "squeezed": "RX = re.compile(r'^(?:free|win)\\b(?! cash)')\ndef label(text):\n    t = ' '.join(text.lower().split())\n    return 'spam' if RX.search(t) else 'ham' if t.rstrip(' !').endswith('song') else None",
    "padded": "def label(text):\n    t = f' {text.lower()} '\n    if len(t) < 8 or len(text.split()) > 6:\n        return None\n    return 'spam' if ' win ' in t or ' free ' in t else None",
    "cut": "def label(text):\n    head = text[:5].lower()\n    return 'ham' if head.strip() in {'i', 'song', 'love'} or head == 'i am ' else None",
    "look_ahead": "def label(text):\n    return 'ham' if re.search(r'cash(?! song)', text) else None",
    "token_loop": (
        "T = {'spam': 'win free cash', 'ham': 'song love free'}\nLOOK = {}\nfor name, words in T.items():\n    for word in words.split():\n"
        "        LOOK.setdefault(word, []).append(name)\nTOKEN = re.compile(r'[a-z]+(?:-[a-z0-9]+)*|u\\.s\\b')\n"
        "def label(text):\n    n = {}\n    for token in set(TOKEN.findall(text.lower())):\n        hit = LOOK.get(token)\n        if hit:\n"
        "            for name in hit:\n                n[name] = n.get(name, 0) + 1\n    if not n:\n        return None\n    best = max(n.values())\n"
        "    winners = [k for k in n if n[k] == best]\n    return winners[0] if len(winners) == 1 else None"
    ),
    "token_weights": (
        "W = {'win': 2, 'free': 1.5, 'song': -2, 'love': -1, 'cash': 2}\nTOKEN = re.compile(r\"[a-z][a-z']*\")\ndef label(text):\n    s = 0\n"
        "    for token in TOKEN.findall(text.lower()):\n        value = W.get(token, 0)\n        if value > 0:\n            s += value\n"
        "        elif value < 0:\n            s += value / 2\n    return 'spam' if s > 2 else 'ham' if s < 0 else None"
    ),
    "token_two_sets": (
        "A = {'win', 'free'}\nB = {'song', 'love'}\nTOKEN = re.compile(r'[a-z][a-z-]*')\ndef label(text):\n    tokens = TOKEN.findall(text.lower())\n"
        "    if not tokens:\n        return None\n    s = h = 0\n    for t in tokens:\n        if t in A:\n            s += 1\n        elif t in B:\n            h += 1\n"
        "    return 'spam' if s > h else 'ham' if h > s else None"
    ),
    "intersection": "A = {'win', 'free', 'cash'}\nT = re.compile('[a-z]+')\ndef label(text):\n    return 'spam' if len(A.intersection(T.findall(text.lower()))) > 1 else None",
    "found_counts": (
        "A = re.compile(r'\\b(?:win\\w*|free cash|cash (?:win|free)) ?')\nB = re.compile(r'(?<!free )(?:song|love)d?(?! it)')\ndef label(text):\n"
        "    t = text.lower()\n    a, b = len(A.findall(t)), len(B.findall(t)[:2])\n    return 'spam' if a > b else 'ham' if b > a else None"
    ),
    "found_distinct": "A = re.compile(r'\\b(?:win|song|free)[a-z]*\\W+\\w')\ndef label(text):\n    return 'spam' if len(set(A.findall(text))) >= 2 else None",
    "overlapping": "def label(text):\n    return 'spam' if text.count('!!') >= 2 else 'ham' if text.count('aba') else None",
    "len_list": "W = ['win', 'free', 'cash']\ndef label(text):\n    return 'spam' if len([w for w in W if w in text]) >= 2 else None",
}
NOT_PLAIN = {
    "characters": "def label(text):\n    return 'ham' if text[0:1] and text[0] == 'w' else None",
    "ratio": "def label(text):\n    return 'ham' if len(set(text)) * 2 < len(text) else None",
    "substitution": "def label(text):\n    return 'ham' if 'win' in re.sub('[aeiou]', '', text) else None",
    "every_token": "def label(text):\n    n = 0\n    for t in re.findall('[a-z]+', text):\n        n += 1\n    return 'ham' if n == 3 else None",
    "long_tokens": "def label(text):\n    return 'ham' if sum(len(t) > 3 for t in re.findall('[a-z]+', text)) > 2 else None",
    "ngrams": "def label(text):\n    w = text.split()\n    return 'ham' if ('a', 'b') in set(zip(w, w[1:])) else None",
}


def texts(count: int) -> list[str]:
    rng = random.Random(7)
    words = [
        "win",
        "wins",
        "winner",
        "free",
        "cash",
        "song",
        "songs",
        "love",
        "loved",
        "it",
        "you",
        "mum",
        "i",
        "am",
        "A",
        "b",
        "12345",
        "99",
        "www.x.com",
        "http!",
        "Prize",
        "FREE",
        "Win",
        "!",
        "!!",
        "a",
        "b",
        "ab",
        "don't",
    ]
    found = [
        "",
        " ",
        "\n",
        "win\n",
        "free\n",
        "i love it ",
        "  I love you",
        "ſong",
        "WİN win",
        "é win",
        "café winé free",
        "x\x96 win\xa0free – song",
        "naïve_win é cash",
        "٣ win é",
        "K free",
        "a\x1fb\x1cwin free",
    ]
    while len(found) < count:
        gap = rng.choice([" ", "  ", "\n", ", ", "-", "_", "\x0b"])
        found.append(gap.join(rng.choice(words) for _ in range(rng.randrange(1, 9))))
    return found


def test_every_form_is_recognised_and_votes_alike_on_every_text() -> None:
    sources = [HEAD + source for source in PLAIN.values()]
    corpus = texts(4000)
    pool = shared_pool()
    applier = Applier(pool, sources, LABELS, sample=corpus[:500])
    missing = {name: applier.why[i] for i, name in enumerate(PLAIN) if i in applier.why}
    assert missing == {}
    ours, plain = applier.run(corpus), pool.run(sources, corpus, LABELS)
    for at, name in enumerate(PLAIN):
        differ = np.flatnonzero(ours.votes[:, at] != plain.votes[:, at])
        assert [corpus[i] for i in differ[:3]] == [], name
        assert np.array_equal(ours.codes[:, at], plain.codes[:, at]), name


def test_what_is_no_plain_test_runs_as_python_and_says_so() -> None:
    sources = [HEAD + source for source in NOT_PLAIN.values()]
    corpus = texts(300)
    pool = shared_pool()
    applier = Applier(pool, sources, LABELS, sample=corpus)
    assert sorted(applier.why) == list(range(len(sources)))
    assert np.array_equal(applier.run(corpus).votes, pool.run(sources, corpus, LABELS).votes)


def test_many_chunks_give_what_plain_python_gives() -> None:
    sources = [HEAD + PLAIN["found_counts"], HEAD + NOT_PLAIN["ngrams"]]
    corpus = texts(500) * 70
    pool = shared_pool()
    ours = Applier(pool, sources, LABELS).run(corpus)
    plain = pool.run(sources, corpus[:500], LABELS)
    assert np.array_equal(ours.votes, np.tile(plain.votes, (70, 1)))


def test_what_hangs_on_the_order_of_tokens_runs_as_python_where_it_matters() -> None:
    source = (
        "import re\nLOOK = {'win': 'spam', 'song': 'ham'}\ndef label(text):\n    last = None\n"
        "    for token in re.findall('[a-z]+', text):\n        name = LOOK.get(token)\n        if name:\n            last = name\n"
        "    return last"
    )
    corpus = ["win song", "song win", "win", "song song", "x"] * 40
    pool = shared_pool()
    applier = Applier(pool, [source], LABELS)
    assert applier.recognised
    assert np.array_equal(applier.run(corpus).votes, pool.run([source], corpus, LABELS).votes)


def test_a_recognised_program_that_raises_keeps_its_status() -> None:
    source = (
        "def label(text):\n    if 'bad' in text:\n        raise ValueError\n    return 'ham' if 'win' in text else None"
    )
    corpus = ["win", "bad", "x"] * 50
    applier = Applier(shared_pool(), [source], LABELS)
    assert applier.recognised
    run = applier.run(corpus)
    assert run.status[:3, 0].tolist() == ["ok", "exception", "abstain"]


TRAPS = {
    "errors_caught": (
        "R = re.compile(r'win (\\d+)')\ndef label(text):\n    if 'ham' in text:\n        return 'ham'\n    try:\n        m = R.search(text)\n"
        "        if m and int(m.group(1)) > 5:\n            return 'spam'\n    except (AttributeError, ValueError):\n        pass\n    return None",
        ["win 9", "win 3", "ham", "x"],
    ),
    "constant_matched": (
        "def label(text):\n    match 'win' in text:\n        case True:\n            return 'spam'\n    return 'ham' if 'song' in text else None",
        ["win", "song", "x"],
    ),
    "tests_compared": (
        "def label(text):\n    hits = ['win' in text, 'now' in text]\n    if hits.count(True) >= 2:\n        return 'spam'\n"
        "    return 'ham' if hits[0] != hits[1] else None",
        ["win now", "win", "x"],
    ),
    "is_true": "def label(text):\n    return 'spam' if ('win' in text) is True else 'ham' if 'song' in text else None",
    "test_as_key": "D = {True: 'spam', False: 'ham'}\ndef label(text):\n    return D.get('win' in text) if 'x' not in text else None",
    "matches_compared": "def label(text):\n    return 'ham' if re.findall('win', text) == [] and 'song' in text else None",
    "last_token": (
        "D = {'alpha': 'spam'}\ndef label(text):\n    last = None\n    for t in re.findall('[a-z]+', text):\n        last = D.get(t)\n    return last",
        ["alpha", "alpha zzz", "zzz alpha", "zzz"],
    ),
    "three_kinds": (
        "A, B, C = {'alpha'}, {'beta'}, {'gamma'}\ndef label(text):\n    said = None\n    for t in re.findall('[a-z]+', text):\n        if t in A:\n            said = 'spam'\n"
        "        elif t in B:\n            said = 'ham'\n        elif t in C:\n            said = 'spam'\n    return said",
        ["gamma alpha zeta beta", "beta gamma", "alpha beta gamma", "beta"],
    ),
    "order_of_a_set": (
        "A, B = {'alpha', 'win'}, {'beta', 'song'}\ndef label(text):\n    for t in set(re.findall('[a-z]+', text)):\n        if t in A:\n            return 'spam'\n"
        "        if t in B:\n            return 'ham'\n    return None",
        ["alpha beta", "song win", "win beta zeta", "beta", "win"],
    ),
    "fractions_round": (
        "W = ['a1', 'b2', 'c3', 'd4', 'e5', 'f6']\ndef label(text):\n    return 'spam' if sum(0.1 for w in W if w in text) > 0.6 else None",
        ["a1 b2 c3 d4 e5 f6", "a1 b2", "x"],
    ),
    "empty_word": (
        "def label(text):\n    t = text.strip('.! ').lower()\n    return 'ham' if t in ('', 'none') else 'spam' if 'win' in t else None",
        ["...", "none", "win", "x"],
    ),
    "more_than_sixteen_bits": (
        "def label(text):\n    return 'spam' if text.count('e ') > 5000 else None",
        ["e " * 70_000, "e " * 40_000, "e e"],
    ),
}  # fmt: skip
"""Programs that could be taken for plain tests, with texts on which that would show."""


@pytest.mark.parametrize("name", TRAPS)
def test_what_only_looks_like_plain_tests_votes_as_python_does(name: str) -> None:
    trap = TRAPS[name]
    source, corpus = trap if isinstance(trap, tuple) else (trap, ["win", "song", "x", "win song"])
    pool = shared_pool()
    ours = Applier(pool, [HEAD + source], LABELS).run(corpus)  # without a sample that would have shown it
    plain = pool.run([HEAD + source], corpus, LABELS)
    assert ours.votes.tolist() == plain.votes.tolist()


@given(st.lists(st.integers(-(2**40), 2**40)))
def test_each_key_stands_once_and_they_ascend(keys: list[int]) -> None:
    assert once_each(np.array(keys, dtype=np.int64)).tolist() == sorted(set(keys))


@pytest.mark.parametrize(("pattern", "finds_tokens"), [("[a-z]+", True), ("the (?:best|worst) film", False)])
def test_whether_a_pattern_finds_tokens_is_found_out_once(
    pattern: str, finds_tokens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = proxies.token_characters
    monkeypatch.setattr(proxies, "token_characters", lambda *given: asked.append(given[0]) or real(*given))
    one = proxies.Pattern(pattern)
    for _ in range(3):
        if finds_tokens:
            assert one.tokens()[0] == pattern
        else:
            with pytest.raises(Unknown):
                one.tokens()
    assert asked == [pattern], "it takes milliseconds, and is asked of every outcome"
