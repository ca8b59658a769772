"""Authoring and voting against a warehouse, with recorded answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from factory.errors import InputError
from factory.llm import EngineSettings, Pending, make_engine
from factory.programs import stage
from factory.task import load_card, register
from factory.warehouse.file import Warehouse, insert

CARD = {
    "name": "comments",
    "text": "a comment",
    "labels": {"ham": "about the song", "spam": "advertises something"},
}
TEXTS = [f"{'win a prize at site ' if i % 3 == 0 else 'great song i love it '}{i}" for i in range(120)]


def add_texts(warehouse: Warehouse, texts: list[str], split: str = "train") -> None:
    with warehouse.lease() as db:
        first = db.execute("SELECT coalesce(max(text_no) + 1, 0) FROM texts").fetchall()[0][0]
        numbers = list(range(first, first + len(texts)))
        hashes = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
        insert(
            db, "texts", {"text_no": numbers, "content_hash": hashes, "text": texts, "origin": ["corpus"] * len(texts)}
        )
        insert(
            db,
            "occurrences",
            {
                "source_no": [1] * len(texts),
                "row_no": numbers,
                "text_no": numbers,
                "split": [split] * len(texts),
                "kept": [True] * len(texts),
            },
        )


@pytest.fixture
def warehouse() -> Warehouse:
    warehouse = Warehouse.memory()
    register(warehouse, load_card(CARD))
    add_texts(warehouse, TEXTS)
    return warehouse


def fenced(source: str) -> str:
    return f"```python\n{source}\n```"


def program(word: str, label: str) -> str:
    cues = [word, *(hashlib.sha256(f"{word}{i}".encode()).hexdigest()[:12] for i in range(12))]
    return f"WORDS = {cues}\ndef label(text):\n    return '{label}' if any(w in text.lower() for w in WORDS) else None"


def add_program(warehouse: Warehouse, number: int, source: str) -> None:
    with warehouse.lease() as db:
        insert(
            db,
            "programs",
            {
                "program_no": [number],
                "program_key": [str(number)],
                "name": [f"p{number}"],
                "kind": ["python"],
                "origin": ["hand"],
                "source": [source],
                "state": ["accepted"],
            },
        )


class Recorder:
    """Answers requests with programs of its own, through an answers file."""

    def __init__(self, folder: Path, answer: Any) -> None:
        self.answers = folder / "answers.jsonl"
        self.requests = folder / "requests.jsonl"
        self.answers.write_text("")
        self.answer = answer
        self.asked = 0

    def run(self, warehouse: Warehouse, **params: Any) -> Any:
        for _ in range(8):
            engine = make_engine(
                EngineSettings(kind="recorded", answers=str(self.answers), requests=str(self.requests)), base=Path("/")
            )
            try:
                return stage.author(warehouse, engine, **params)
            except Pending:
                self._record()
        raise AssertionError("still pending after eight rounds")

    def _record(self) -> None:
        lines = [json.loads(line) for line in self.requests.read_text().splitlines()]
        with self.answers.open("a") as out:
            for line in lines:
                self.asked += 1
                text = self.answer(self.asked, line["messages"])
                out.write(json.dumps({"key": line["key"], "sample_no": line["sample_no"], "answer": text}) + "\n")


def test_accepted_programs_are_stored_with_their_lineage(warehouse: Warehouse, tmp_path: Path) -> None:
    recorder = Recorder(
        tmp_path, lambda _, m: fenced(program("win", "spam") if "for all labels" in str(m) else program("song", "ham"))
    )
    result = recorder.run(warehouse, programs=2, examples=2)
    assert result.did["accepted"] == 2
    rows = warehouse.query(
        "SELECT state, origin, plan_no, slot_no, request_key IS NOT NULL FROM programs ORDER BY program_no"
    )
    assert [row for row in rows if row[0] == "accepted"] == [
        ("accepted", "model", 1, 0, True),
        ("accepted", "model", 1, 1, True),
    ]
    again = recorder.run(warehouse, programs=2, examples=2)
    assert again.skipped
    assert warehouse.scalar("SELECT count(*) FROM programs") == len(rows)


def test_a_program_is_repaired_by_showing_the_model_its_error(warehouse: Warehouse, tmp_path: Path) -> None:
    def answer(n: int, messages: list[dict[str, str]]) -> str:
        if len(messages) <= 2:
            return fenced("import os\ndef label(text):\n    return None")
        assert "module `os` may not be imported" in messages[-1]["content"]
        return fenced(program("win" if "for all labels" in str(messages) else "song", "spam"))

    result = Recorder(tmp_path, answer).run(warehouse, programs=2, examples=2)
    assert result.did["accepted"] == 2
    assert result.did["asked"] == 2


def test_programs_that_vote_alike_or_never_are_dropped_and_the_bound_holds(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    def answer(n: int, messages: list[dict[str, str]]) -> str:
        return fenced(program("win", "spam")) if len(messages) <= 2 else fenced(program("nowhere", "spam"))

    result = Recorder(tmp_path, answer).run(warehouse, programs=3, candidates=4, examples=2)
    assert result.did["accepted"] == 1
    assert result.did["asked"] == 4
    assert result.did["refused"] == {"votes_alike": 3}
    assert "used up" in result.says[-1]


def rules(word: str, label: str) -> str:
    return json.dumps({"rules": [{"kind": "word", "value": word, "label": label}]})


def test_lists_of_rules_are_kept_as_rules_and_vote(warehouse: Warehouse, tmp_path: Path) -> None:
    def answer(_: int, messages: list[dict[str, str]]) -> str:
        return rules("win", "spam") if "for all labels" in str(messages) else rules("song", "ham")

    result = Recorder(tmp_path, answer).run(warehouse, programs=2, examples=2, form="rules")
    assert result.did["accepted"] == 2
    found = warehouse.query("SELECT kind, source, prompt_version IS NOT NULL FROM programs ORDER BY program_no")
    assert found[0] == ("rules", '{"rules":[{"kind":"word","label":"spam","value":"win"}]}', True)
    assert stage.vote(warehouse).did["votes"] == 120


def test_a_list_is_repaired_and_what_cannot_be_repaired_is_left_out(warehouse: Warehouse, tmp_path: Path) -> None:
    bad = {"kind": "regex", "value": "(?!x)y", "label": "spam"}

    def answer(_: int, messages: list[dict[str, str]]) -> str:
        if "for all labels" in str(messages):
            if len(messages) > 2:
                assert "rule 2: RE2 does not take the pattern '(?!x)y'" in messages[-1]["content"]
                assert "use `with` and `unless`" in messages[-1]["content"]
                return rules("win", "spam")
            return json.dumps({"rules": [json.loads(rules("nothing", "spam"))["rules"][0], bad]})
        return json.dumps({"rules": [json.loads(rules("song", "ham"))["rules"][0], {**bad, "label": "ham"}]})

    result = Recorder(tmp_path, answer).run(warehouse, programs=2, candidates=2, examples=2, form="rules")
    assert result.did["accepted"] == 2
    sources = dict(warehouse.query("SELECT source, detail FROM programs"))
    assert sources == {
        '{"rules":[{"kind":"word","label":"spam","value":"win"}]}': None,
        '{"rules":[{"kind":"word","label":"ham","value":"song"}]}': next(d for d in sources.values() if d),
    }
    assert "1 rules were left out: rule 2: RE2" in str(sources)


def test_both_forms_take_turns_and_vote_together(warehouse: Warehouse, tmp_path: Path) -> None:
    words = iter(["win", "song", "prize", "great"])

    def answer(_: int, messages: list[dict[str, str]]) -> str:
        word = next(words)
        label = "spam" if word in ("win", "prize") else "ham"
        return (
            rules(word + " a" if word == "win" else word, label)
            if "lists of rules" in str(messages)
            else fenced(program(word, label))
        )

    result = Recorder(tmp_path, answer).run(warehouse, programs=2, candidates=4, examples=2, form="both")
    assert result.did["accepted"] == 2
    assert {row[0] for row in warehouse.query("SELECT DISTINCT json_extract_string(spec, 'form') FROM slots")} == {
        "python",
        "rules",
    }
    assert stage.vote(warehouse).did["votes"] > 0


def test_votes_come_once_and_new_texts_and_programs_cost_their_part(warehouse: Warehouse) -> None:
    add_program(warehouse, 1, program("win", "spam"))
    first = stage.vote(warehouse, block=50)
    assert first.did["votes"] == 40
    assert stage.vote(warehouse, block=50).skipped
    add_program(warehouse, 2, program("song", "ham"))
    assert stage.vote(warehouse, block=50).did["votes"] == 80
    add_texts(warehouse, ["win again", "a new song"])
    second = stage.vote(warehouse, block=50)
    assert second.did == second.did | {"votes": 2, "texts": 2}
    assert warehouse.scalar("SELECT count(*) FROM votes") == 122
    assert warehouse.scalar("SELECT sum(n_votes) FROM vote_blocks") == 122
    assert warehouse.scalar("SELECT count(*) FROM (SELECT DISTINCT program_no, text_no FROM votes)") == 122


def test_a_deleted_vote_is_found_and_only_its_block_computed_again(warehouse: Warehouse) -> None:
    add_program(warehouse, 1, program("win", "spam"))
    stage.vote(warehouse, block=50)
    before = warehouse.query("SELECT * FROM votes ORDER BY ALL")
    with warehouse.lease() as db:
        db.execute("DELETE FROM votes WHERE text_no = 60")
    result = stage.vote(warehouse, block=50)
    assert result.did["stale_blocks"] == 1
    assert result.did["texts"] == 50
    assert warehouse.query("SELECT * FROM votes ORDER BY ALL") == before


def test_failures_are_stored_with_their_reason(warehouse: Warehouse) -> None:
    add_program(warehouse, 1, "def label(text):\n    return int(text[-1]) // (7 - int(text[-1]))")
    stage.vote(warehouse)
    rows = dict(warehouse.query("SELECT status, count(*) FROM vote_failures GROUP BY ALL"))
    assert rows["exception"] == 12
    details = {
        row[0] for row in warehouse.query("SELECT DISTINCT detail FROM vote_failures WHERE status = 'exception'")
    }
    assert details == {"ZeroDivisionError in line 2", None}


def by_hash(_: int, messages: list[dict[str, str]]) -> str:
    """A program of its own for every request, which votes on texts as no other does."""
    number = int(hashlib.sha256(str(messages).encode()).hexdigest(), 16) % 10**6
    return fenced(program(f"it {number % 90}", "ham" if number % 2 else "spam"))


def test_asked_for_more_programs_it_goes_on_from_those_there_are(warehouse: Warehouse, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, by_hash)
    first = recorder.run(warehouse, programs=4, examples=2)
    assert first.did["accepted"] == 4
    more = recorder.run(warehouse, programs=8, examples=2)
    assert more.did["accepted"] == 8, "those of the shorter plan are its own, and no copies of another's"
    assert warehouse.scalar("SELECT count(*) FROM programs WHERE state = 'accepted'") == 8
    keys = [json.loads(line)["key"] for line in recorder.answers.read_text().splitlines()]
    assert len(keys) == len(set(keys)), "what was asked is not asked again"


def test_programs_are_asked_for_one_label_and_with_the_texts_that_programs_disagree_on(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    seen: list[str] = []

    def answer(number: int, messages: list[dict[str, str]]) -> str:
        seen.append(" ".join(message["content"] for message in messages))
        return by_hash(number, messages)

    add_program(warehouse, 1, "def label(text):\n    return 'ham' if 'song' in text else None")
    add_program(
        warehouse, 2, "def label(text):\n    return 'spam' if text.endswith(' 7') or text.endswith(' 8') else None"
    )
    with warehouse.lease() as db:
        db.executemany("INSERT INTO votes VALUES (?, ?, ?)", [(1, 7, 0), (1, 8, 0), (1, 9, 0), (2, 7, 1), (2, 8, 1)])
    recorder = Recorder(tmp_path, answer)
    recorder.run(warehouse, programs=2, examples=2, labels=["spam"], show="conflicts")
    assert not any("for all labels" in text for text in seen)
    assert TEXTS[7] in seen[0]
    assert TEXTS[8] in seen[0]
    with pytest.raises(InputError, match="there is no label `spum`; did you mean `spam`"):
        recorder.run(warehouse, programs=2, labels=["spum"])
