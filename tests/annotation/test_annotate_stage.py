"""`annotate` against recorded answers: what is asked, what is stored, and that a second run does nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from factory import prompts
from factory.annotation.stage import annotate
from factory.llm import EngineSettings, ModelRef, Pending, make_engine
from factory.task import Label, TaskCard, register
from factory.warehouse.file import Warehouse

_MODEL = ModelRef("m")
TEXTS = ["buy now", "hello mum", "free money", "see you at six", "win a prize", "who is that"]


def card(kind: Any = "single") -> TaskCard:
    return TaskCard(
        name="t",
        kind=kind,
        text="a message",
        labels=(Label(name="ham", description="Written to a friend."), Label(name="spam", description="Advertising.")),
    )


def warehouse_with(texts: list[str], kind: str = "single", split: str = "train") -> Warehouse:
    warehouse = Warehouse.memory()
    register(warehouse, card(kind))
    add_texts(warehouse, texts, split)
    return warehouse


def add_texts(warehouse: Warehouse, texts: list[str], split: str = "train") -> None:
    with warehouse.lease() as db:
        row = db.execute("SELECT count(*) FROM texts").fetchone()
        first = 0 if row is None else row[0]
        for number, text in enumerate(texts, first):
            hashed = hashlib.sha256(text.encode()).digest()[:16]
            db.execute("INSERT INTO texts VALUES (?, ?, ?, NULL, 'corpus')", [number, hashed, text])
            db.execute("INSERT INTO occurrences VALUES (0, ?, ?, ?, true, NULL)", [number, number, split])


def recorded(tmp_path: Path, name: str, says: dict[str, str], *, kind: str = "single", **more: Any) -> Any:
    """An engine with an answer to `name` for each text."""
    prompt = prompts.load(name)
    lines = []
    for text, answer in says.items():
        messages = prompt.request({**prompts.card_values(card(kind)), "text": text}, _MODEL, **more)
        lines.append(
            {"key": messages.content_key, "sample_no": 0, "answer": answer, "date": "2026-11-22", "model": "m"}
        )
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return make_engine(EngineSettings(kind="recorded", answers=str(path), model="m"), base=tmp_path)


_RIGHT = {"buy now": "spam", "hello mum": "ham", "free money": "Spam.", "see you at six": "ham", "win a prize": "spam"}


def rows(warehouse: Warehouse) -> dict[str, Any]:
    found = warehouse.query(
        "SELECT t.text, l.name FROM annotations a JOIN texts t USING (text_no) LEFT JOIN labels l USING (label_no)"
    )
    return dict(found)


def test_every_text_gets_the_label_that_the_model_gave(tmp_path: Path) -> None:
    warehouse = warehouse_with(TEXTS[:5])
    engine = recorded(tmp_path, "annotate", _RIGHT)
    result = annotate(warehouse, engine, split="train")
    assert rows(warehouse) == {t: a.strip(".").lower() for t, a in _RIGHT.items()}
    assert result.did["answered"] == 5
    assert not result.skipped
    again = annotate(warehouse, engine, split="train")
    assert again.skipped
    assert again.did["answered"] == 5


def test_an_answer_that_cannot_be_read_is_kept_with_its_reason(tmp_path: Path) -> None:
    warehouse = warehouse_with(["buy now", "hello mum"])
    engine = recorded(tmp_path, "annotate", {"buy now": "spam", "hello mum": "Perhaps ham, perhaps spam."})
    annotate(warehouse, engine, split="train", tries=1)
    assert rows(warehouse) == {"buy now": "spam", "hello mum": None}
    assert warehouse.query("SELECT drop_reason FROM annotations WHERE label_no IS NULL") == [("ambiguous",)]
    assert warehouse.query("SELECT stage, drop_reason FROM dropped WHERE kind = 'annotation'") == [
        ("annotate", "ambiguous")
    ]


def test_missing_answers_are_pending_and_a_later_run_goes_on(tmp_path: Path) -> None:
    warehouse = warehouse_with(TEXTS[:5])
    with pytest.raises(Pending):
        annotate(warehouse, recorded(tmp_path, "annotate", dict(list(_RIGHT.items())[:2])), split="train")
    annotate(warehouse, recorded(tmp_path, "annotate", _RIGHT), split="train")
    undisturbed = warehouse_with(TEXTS[:5])
    annotate(undisturbed, recorded(tmp_path, "annotate", _RIGHT), split="train")
    everything = "SELECT * FROM annotations ORDER BY slot_no"
    assert warehouse.query(everything) == undisturbed.query(everything)


def test_a_sample_does_not_depend_on_what_else_is_there_and_grows_by_extension(tmp_path: Path) -> None:
    engine = recorded(tmp_path, "annotate", {**_RIGHT, "who is that": "ham", "later": "ham"})
    one, two = warehouse_with(TEXTS), warehouse_with(TEXTS[::-1])
    annotate(one, engine, split="train", limit=3)
    annotate(two, engine, split="train", limit=3)
    assert rows(one) == rows(two)
    whole = warehouse_with(TEXTS)
    annotate(whole, engine, split="train")
    add_texts(whole, ["later"])
    assert annotate(whole, engine, split="train").skipped
    assert annotate(whole, engine, split="train", extend=True).did["planned"] == 1
    assert rows(whole)["later"] == "ham"


def test_prompted_votes_are_for_uncovered_and_tied_texts_alone(tmp_path: Path) -> None:
    warehouse = warehouse_with(TEXTS[:5])
    with warehouse.lease() as db:
        for program_no in (1, 2):
            db.execute(
                "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state)"
                " VALUES (?, ?, 'p', 'python', 'hand', '', 'accepted')",
                [program_no, str(program_no)],
            )
        db.execute("INSERT INTO votes VALUES (1, 0, 1), (2, 0, 1), (1, 1, 0), (2, 2, 0), (1, 2, 1)")
    engine = recorded(tmp_path, "prompted_vote", {**_RIGHT, "see you at six": "unsure"})
    result = annotate(warehouse, engine, split="train", texts="uncovered_or_tied", as_votes=True)
    assert result.did["answered"] == 3
    assert warehouse.query("SELECT text_no, vote FROM votes WHERE program_no = 3 ORDER BY 1") == [(2, 1), (4, 1)]
    blocks = warehouse.query("SELECT first_text_no, last_text_no, n_texts, n_votes, counts FROM vote_blocks")
    assert [(*row[:4], json.loads(row[4])) for row in blocks] == [(2, 4, 3, 2, {"ok": 2, "abstain": 1})]
    assert warehouse.query("SELECT name, kind, state FROM programs WHERE program_no = 3") == [
        ("prompted_vote", "prompted", "accepted")
    ]
    assert warehouse.query("SELECT count(*) FROM annotations") == [(0,)]
    assert annotate(warehouse, engine, split="train", texts="uncovered_or_tied", as_votes=True).skipped


def test_at_most_a_share_of_the_split_is_asked(tmp_path: Path) -> None:
    warehouse = warehouse_with(TEXTS[:5])
    engine = recorded(tmp_path, "prompted_vote", _RIGHT)
    result = annotate(warehouse, engine, split="train", texts="uncovered_or_tied", share=0.4, as_votes=True)
    assert result.did["texts"] == 2


def test_a_multi_task_gets_labels_or_none_and_one_prompted_program_for_each_label(tmp_path: Path) -> None:
    says = {"buy now": "spam", "hello mum": "ham\nspam", "free money": "none"}
    engine = recorded(tmp_path, "annotate_multi", says, kind="multi")
    warehouse = warehouse_with(TEXTS[:3], "multi")
    annotate(warehouse, engine, split="train")
    found = warehouse.query("SELECT text_no, label_no FROM annotations ORDER BY ALL")
    assert found == [(0, 1), (1, 0), (1, 1), (2, -1)]
    annotate(warehouse, engine, split="train", as_votes=True)
    votes = warehouse.query(
        "SELECT p.target_label_no, v.text_no, v.vote FROM votes v JOIN programs p USING (program_no) ORDER BY ALL"
    )
    assert votes == [(0, 0, 0), (0, 1, 1), (0, 2, 0), (1, 0, 1), (1, 1, 1), (1, 2, 0)]


def test_seeds_are_shown_as_demonstrations(tmp_path: Path) -> None:
    warehouse = warehouse_with(["buy now"])
    add_texts(warehouse, ["our old friend", "cheap pills"], "seed")
    with warehouse.lease() as db:
        db.execute("INSERT INTO gold VALUES (0, 1, 1, 0), (0, 2, 2, 1)")
    hashed = sorted(
        [("our old friend", "ham"), ("cheap pills", "spam")], key=lambda p: hashlib.sha256(p[0].encode()).digest()
    )
    demos = [{"text": text, "label": label} for text, label in hashed]
    engine = recorded(tmp_path, "annotate", {"buy now": "spam"}, demos=demos)
    annotate(warehouse, engine, split="train", demonstrations=1)
    assert rows(warehouse) == {"buy now": "spam"}


def test_nothing_to_do_needs_no_dspy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from factory import prompts\n"
        "import factory.annotation.stage\n"
        "prompts.load('annotate').version\n"
        "assert not {'dspy', 'torch', 'pandas', 'sklearn'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parents[2])], check=True)
