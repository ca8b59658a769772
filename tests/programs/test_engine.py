"""The one-pass engine finds what Python's patterns find, wherever in a text it stands; one that does not is not used."""

from __future__ import annotations

import platform
import random
import re
import re._constants as c
import re._parser as parser
import sys
from typing import Any

import pytest

from factory.programs import scanning
from factory.programs.pool import Pool
from factory.programs.recognise import Applier
from factory.resources import shipped
from tests.programs.recorded import recorded_programs

PROGRAM = (
    "import re\n"
    "A = re.compile(r'\\b(?:(?:i|we|my \\w+) (?:just |really |truly |also |still |immensely |greatly )?loved?)\\b')\n"
    "def label(text):\n    return 'spam' if A.search(text.lower()) else None"
)
WORDS = (
    "a i we my love loved the people of one reason just really mother enough on value us amazed were also still greatly"
)
MOST_SPACES = 70


def test_the_engine_is_right_where_it_is_installed() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the one-pass engine is for Linux on x86-64")
    assert scanning.engine_fails() is None


def test_a_match_is_found_at_every_place() -> None:
    rng, words = random.Random(0), WORDS.split()
    texts = [" ".join(rng.choice(words) for _ in range(rng.randint(1, 40))) for _ in range(5_000)]
    with Pool(1) as pool:
        asked = Applier(pool, [PROGRAM], ["ham", "spam"])
        assert asked.recognised or scanning.engine_fails()
        votes = asked.run(texts).votes[:, 0]
        plain = pool.run([PROGRAM], texts, ["ham", "spam"]).votes[:, 0]
    assert (plain >= 0).sum() > 500
    assert (votes == plain).all()


def test_an_engine_that_misses_a_match_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hyperscan")
    real = scanning._compiled

    class Missing:
        """Finds nothing in texts of one length."""

        def __init__(self, patterns: Any) -> None:
            self._database = real(patterns)

        def scan(self, text: bytes, **more: Any) -> None:
            if len(text) != 77:
                self._database.scan(text, **more)

    scanning.engine_fails.cache_clear()
    monkeypatch.setattr(scanning, "_compiled", Missing)
    try:
        why = scanning.engine_fails()
        assert why is not None
        assert "misses matches" in why
        with Pool(1) as pool:
            applier = Applier(pool, [PROGRAM], ["ham", "spam"])
            assert not applier.recognised
            assert applier.why == {0: why}
            assert applier.run(["we love it", "no"]).votes.tolist() == [[1], [-1]]
    finally:
        scanning.engine_fails.cache_clear()


@pytest.mark.slow
def test_what_matches_a_recorded_pattern_is_found_at_every_place() -> None:
    if why := scanning.engine_fails():
        pytest.skip(why)
    sources = [source for _, source in recorded_programs(shipped("pipelines"))]
    with Pool(2) as pool:
        learned = Applier(pool, sources, ["a", "b"]).recognised
    patterns = {
        pattern
        for one in learned.values()
        for op, some, _ in one.specs
        for pattern in (some if op in ("any", "count", "distinct") else some[:1] if op.startswith("found_") else ())
    }
    rng, looked, missed = random.Random(0), 0, []
    for pattern in sorted(patterns):
        python = re.compile(pattern.replace(r"\z", r"\Z"), re.ASCII)
        tree = parser.parse(python.pattern, re.ASCII)
        database = scanning._compiled([(pattern, True, False)])
        for _ in range(3):
            example = written(tree, rng)
            for before in rng.sample(range(MOST_SPACES), 12):
                text = "-" * before + " " + example + " -"
                if not python.search(text):
                    continue
                looked += 1
                if not _hits(database, text):
                    missed.append((pattern[:60], text))
    print(f"{len(patterns)} patterns of {len(learned)} programs, {looked} texts")
    assert looked > 10 * len(patterns)
    assert not missed


def _hits(database: Any, text: str) -> int:
    hits: list[int] = []
    database.scan(text.encode(), match_event_handler=lambda number, *_: hits.append(number))
    return len(hits)


def written(tree: Any, rng: random.Random) -> str:
    """A text that a parsed pattern probably matches."""
    out = ""
    for op, value in tree:
        if op is c.LITERAL:
            out += chr(value)
        elif op is c.IN:
            kinds = [item for item in value if item[0] is not c.NEGATE]
            if len(kinds) < len(value):
                out += next(ch for ch in "x 7" if re.match(_class(value), ch))
            else:
                kind, what = rng.choice(kinds)
                out += chr(what if kind is c.LITERAL else rng.randint(*what) if kind is c.RANGE else ord("x"))
        elif op is c.BRANCH:
            out += written(rng.choice(value[1]), rng)
        elif op is c.SUBPATTERN:
            out += written(value[3], rng)
        elif op in (c.MAX_REPEAT, c.MIN_REPEAT):
            low, high, inner = value
            for _ in range(rng.randint(low, min(int(high), low + 2))):
                out += written(inner, rng)
        elif op is c.ANY:
            out += "x"
    return out


def _class(items: Any) -> str:
    inner = "".join(
        rf"\x{what:02x}" if kind is c.LITERAL else rf"\x{what[0]:02x}-\x{what[1]:02x}" if kind is c.RANGE else ""
        for kind, what in items
    )
    return f"[^{inner}]"
