from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.corpus.stage import ingest
from factory.errors import InputError
from factory.llm.request import Request
from factory.synthesis.stage import synthesize
from factory.synthesis.store import drop_parts
from factory.synthesis.values import Part
from factory.warehouse.file import Warehouse
from factory.warehouse.held_out import decontaminate
from factory.warehouse.tables.texts import add_texts
from tests.synthesis.conftest import CARD, ScriptedEngine, sentence, wanted_label, writer


def tables(warehouse: Warehouse) -> list[list[tuple]]:
    return [
        warehouse.query(
            "SELECT * EXCLUDE (plan_no) FROM synthetic ORDER BY synthetic_no",
        ),
        warehouse.query("SELECT * FROM slots ORDER BY plan_no, slot_no"),
        warehouse.query("SELECT plan_no, key, config, done FROM plans ORDER BY plan_no"),
        warehouse.query("SELECT text_no, content_hash, origin FROM texts ORDER BY text_no"),
    ]


@pytest.mark.parametrize("method", ["synthesizrr", "few_shot"])
def test_every_label_gets_exactly_what_was_asked_for(corpus: Callable[..., Warehouse], method: str) -> None:
    warehouse = corpus()
    result = synthesize(
        warehouse, ScriptedEngine(writer(broken=0.4)), method=method, per_label=6, candidates=8, retrieval="lexical"
    )
    assert result.did["accepted"] == {"cars": 6, "pets": 6}
    assert not result.skipped
    again = synthesize(
        warehouse, ScriptedEngine(writer()), method=method, per_label=6, candidates=8, retrieval="lexical"
    )
    assert again.skipped


def test_a_killed_run_ends_like_an_undisturbed_one(corpus: Callable[..., Warehouse]) -> None:
    how = {"method": "synthesizrr", "per_label": 6, "candidates": 8, "retrieval": "lexical"}
    undisturbed = corpus()
    synthesize(undisturbed, ScriptedEngine(writer(broken=0.5)), **how)
    killed = corpus()
    for stop in (0, 1, 5, 9, 14, 20):
        with pytest.raises(KeyboardInterrupt):
            synthesize(killed, ScriptedEngine(writer(broken=0.5), stop_after=stop % 4), **how)
    synthesize(killed, ScriptedEngine(writer(broken=0.5)), **how)
    assert tables(killed) == tables(undisturbed)


def test_without_seeds_the_label_descriptions_are_the_queries(corpus: Callable[..., Warehouse]) -> None:
    warehouse = corpus(seeds=0)
    result = synthesize(warehouse, ScriptedEngine(writer()), per_label=3, encoder="hashing")
    assert result.did["accepted"] == {"cars": 3, "pets": 3}
    assert warehouse.query("SELECT count(seed_text_no), count(passage_text_no) = count(*) FROM synthetic") == [
        (0, True)
    ]


def test_a_test_text_that_comes_later_takes_its_near_copies_along(corpus: Callable[..., Warehouse]) -> None:
    warehouse = corpus()
    how = {"method": "few_shot", "per_label": 4, "candidates": 10}
    synthesize(warehouse, ScriptedEngine(writer()), **how)
    victim = warehouse.query("SELECT text FROM synthetic WHERE state = 'accepted' ORDER BY synthetic_no LIMIT 1")[0][0]
    ingest(warehouse, CARD, {"test": {"texts": [victim.upper() + "!", "a test text of no concern at all"]}})
    decontaminate(warehouse)
    assert warehouse.query("SELECT state, drop_reason FROM synthetic WHERE text = ?", [victim]) == [
        ("dropped", "duplicate_of_held_out")
    ]
    again = synthesize(warehouse, ScriptedEngine(writer()), **how)
    assert again.did["accepted"] == {"cars": 4, "pets": 4}
    assert victim not in [row[0] for row in warehouse.query("SELECT text FROM synthetic WHERE state = 'accepted'")]


def accepted(n: int) -> Warehouse:
    """A warehouse with accepted synthetic texts of two plans in turn, numbered from 0, that are unlike each other."""
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        db.execute(
            "INSERT INTO synthetic (synthetic_no, plan_no, slot_no, part_no, text, label_no, method, state, prompt_version,"
            " request_key, sample_no, demo_text_nos) SELECT i, i % 2, i, 0, md5(i::VARCHAR) || ' ' || md5((-i - 1)::VARCHAR), 0,"
            f" 'few_shot', 'accepted', 'v', 'k', 0, [] FROM range({n}) t(i)"
        )
    return warehouse


def test_thousands_of_texts_are_dropped_at_once_and_no_others() -> None:
    warehouse = accepted(8000)
    parts = [Part(number, 0, "", "cars", "cartography", f"rank {number}") for number in range(0, 8000, 2)]
    with warehouse.lease() as db:
        began = time.process_time()
        drop_parts(db, 0, [*parts, Part(1, 0, "", "cars", "cartography")])  # slot 1 is of the other plan
        drop_parts(db, 0, [])
        assert time.process_time() - began < 1.5
    dropped = warehouse.query(
        "SELECT slot_no, drop_reason, detail FROM synthetic WHERE state = 'dropped' ORDER BY slot_no"
    )
    assert dropped == [(part.slot_no, "cartography", part.detail) for part in parts]


def test_every_text_that_stands_in_test_is_dropped_once() -> None:
    warehouse = accepted(300)
    with warehouse.lease() as db:
        held = [text for (text,) in db.execute("SELECT text FROM synthetic WHERE synthetic_no < 200").fetchall()]
        for number in add_texts(db, held, "ingested"):
            db.execute("INSERT INTO occurrences VALUES (0, ?, ?, 'test', true, NULL)", [number, number])
    assert decontaminate(warehouse) == 200
    assert warehouse.query(
        "SELECT count(*), min(synthetic_no), max(synthetic_no), min(detail), max(drop_reason) FROM synthetic"
        " WHERE state = 'dropped'"
    ) == [(200, 0, 199, "similarity 1.00", "duplicate_of_held_out")]
    assert decontaminate(warehouse) == 0


def test_held_out_texts_are_kept_clear_of_even_with_filters_off(corpus: Callable[..., Warehouse]) -> None:
    secret = "Kitten litter small because yesterday again vet dog hamster knows fur detail nobody leash."
    warehouse = corpus(held_out=(secret,))

    def say(request: Request, sample: int) -> str:
        return f"<text>{secret}</text>" if sample % 2 else writer()(request, sample)

    synthesize(
        warehouse, ScriptedEngine(say), method="few_shot", per_label=3, candidates=10, block=50,
        filters_off=["duplicate_of_held_out", "near_held_out", "duplicate"],
    )  # fmt: skip
    assert warehouse.query("SELECT count(*) FROM synthetic WHERE text = ? AND state = 'accepted'", [secret]) == [(0,)]
    assert warehouse.query("SELECT DISTINCT drop_reason FROM synthetic WHERE text = ?", [secret]) == [
        ("duplicate_of_held_out",)
    ]


def test_self_guide_labels_its_own_inventions_and_balances_them(corpus: Callable[..., Warehouse]) -> None:
    warehouse = corpus()

    def say(request: Request, sample: int) -> str:
        if request.prompt == "self_guide_input":
            return writer()(request, sample)
        text = request.messages[-1]["content"].lower()
        pets = sum(word in text for word in ("cat", "dog", "vet", "litter", "leash", "fur", "kitten"))
        cars = sum(word in text for word in ("engine", "brakes", "clutch", "tyres", "diesel", "oil", "garage"))
        return "pets" if pets > cars else "cars"

    result = synthesize(
        warehouse, ScriptedEngine(say), method="self_guide", per_label=5, candidates=10, round_size=4, check_samples=3
    )
    assert result.did["accepted"] == {"cars": 5, "pets": 5}
    assert result.did["rounds"] > 1
    poor = warehouse.query("SELECT count(*) FROM slots WHERE json_array_length(spec -> '$.poor') > 0")[0][0]
    assert poor > 0
    kinds = dict(warehouse.query("SELECT spec ->> '$.kind', count(*) FROM slots GROUP BY ALL"))
    assert kinds["check"] >= 10


@pytest.mark.slow
def test_a_killed_self_guide_ends_like_an_undisturbed_one(corpus: Callable[..., Warehouse]) -> None:
    def say(request: Request, sample: int) -> str:
        if request.prompt == "self_guide_input":
            return writer(broken=0.3)(request, sample)
        return "pets" if (len(request.messages[-1]["content"]) + sample) % 3 else "cars"

    how = {"method": "self_guide", "per_label": 4, "candidates": 12, "round_size": 3, "check_samples": 3}
    undisturbed = corpus()
    synthesize(undisturbed, ScriptedEngine(say), **how)
    killed = corpus()
    for stop in (2, 7, 11, 9, 5):
        try:
            synthesize(killed, ScriptedEngine(say, stop_after=stop), **how)
        except KeyboardInterrupt:
            continue
    synthesize(killed, ScriptedEngine(say), **how)
    assert tables(killed) == tables(undisturbed)


def test_asking_for_more_extends_the_same_plan(corpus: Callable[..., Warehouse]) -> None:
    warehouse = corpus()
    synthesize(warehouse, ScriptedEngine(writer()), method="few_shot", per_label=3)
    first = warehouse.query("SELECT text FROM synthetic WHERE state = 'accepted' ORDER BY synthetic_no")
    synthesize(warehouse, ScriptedEngine(writer()), method="few_shot", per_label=5)
    assert warehouse.scalar("SELECT count(*) FROM plans WHERE stage = 'synthesize'") == 1
    both = warehouse.query("SELECT text FROM synthetic WHERE state = 'accepted' ORDER BY synthetic_no")
    assert both[: len(first)] == first
    assert len(both) == 10


def test_cartography_still_gives_exact_yields(corpus: Callable[..., Warehouse]) -> None:
    warehouse = corpus()
    result = synthesize(
        warehouse,
        ScriptedEngine(writer()),
        method="few_shot",
        per_label=5,
        candidates=6,
        cartography=0.8,
        encoder="hashing",
    )
    assert result.did["accepted"] == {"cars": 5, "pets": 5}
    assert result.did["dropped"]["cartography"] == 4


def test_outside_passages_are_cut_and_named_as_parents(corpus: Callable[..., Warehouse], tmp_path: Path) -> None:
    warehouse = corpus()
    lines = [
        {"text": f"From: a@b\n\n{sentence(random.Random(at), 'cars', 30)} {sentence(random.Random(-at), 'pets', 30)}"}
        for at in range(40)
    ]
    (tmp_path / "outside.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    result = synthesize(
        warehouse, ScriptedEngine(writer()), per_label=3, retrieval="lexical", passage_tokens=[5, 40],
        passages=[{"path": str(tmp_path / "outside.jsonl"), "text": "text", "clean": "usenet"}],
        bands={"sources": {"ranks": [1, 20], "quantiles": [0, 1]}},
    )  # fmt: skip
    assert result.did["accepted"] == {"cars": 3, "pets": 3}
    rows = warehouse.query(
        "SELECT t.origin, p.source, t.text FROM synthetic s JOIN texts t ON t.text_no = s.passage_text_no"
        " JOIN passages p ON p.text_no = t.text_no"
    )
    assert {row[0] for row in rows} == {"passage"}
    assert all("a@b" not in row[2] for row in rows)


@pytest.mark.parametrize(
    ("method", "given", "taken_by"),
    [
        ("synthesizrr", {"texts_per_answer": 5}, "`few_shot` or `self_guide`"),
        ("synthesizrr", {"attributes": True}, "`few_shot`"),
        ("few_shot", {"passages": [{"path": "x.jsonl"}]}, "`synthesizrr`"),
        ("self_guide", {"bands": {"sources": {"ranks": [1, 20]}}}, "`synthesizrr`"),
        ("self_guide", {"label_check": "programs"}, "`synthesizrr` or `few_shot`"),
    ],
)
def test_a_parameter_that_the_method_would_ignore_is_refused_with_the_methods_that_take_it(
    corpus: Callable[..., Warehouse], method: str, given: dict[str, object], taken_by: str
) -> None:
    engine = ScriptedEngine(writer())
    with pytest.raises(InputError, match=f"{next(iter(given))}.*{method}.*{taken_by}") as caught:
        synthesize(corpus(), engine, method=method, per_label=3, **given)
    assert "\n" not in str(caught.value)
    assert engine.asked == 0


def test_untagged_answers_give_texts_without_their_frame_or_none(corpus: Callable[..., Warehouse]) -> None:
    def say(request: Request, sample: int) -> str:
        label, rng = wanted_label(request), random.Random(f"{request.content_key}/{sample}")
        text = sentence(rng, label)
        forms = (
            f"The user wants a message about {label}, so I mention it.\n</think>\n\n{text}",
            f"Text: {text}\nLabel: {label}",
            f"**Rewritten message:**\n\n{text}",
            f"{text}\n\nThis message is about {label} because it says so.",
            f"Okay, I need to write a message about {label}.\n\n{text}",
            json.dumps([{"text": text, "label": label}]),
            f"<text>{text}\nLabel: {label}</text>",
            f"```\n{text}\n```",
        )
        return rng.choice(forms)

    warehouse = corpus()
    result = synthesize(warehouse, ScriptedEngine(say), method="few_shot", per_label=20, candidates=10, demos=0)
    assert result.did["accepted"] == {"cars": 20, "pets": 20}
    for (text,) in warehouse.query("SELECT text FROM synthetic WHERE state = 'accepted'"):
        assert re.fullmatch(r"[A-Z][^\n:]+\.", text), text
        assert not re.search(r"\b(?:pets|cars|label|message|user)\b", text, re.IGNORECASE), text
    assert result.did["dropped"]["label_field"] > 0
    assert result.did["failed"]["ambiguous"] > 0


def test_texts_of_customers_who_are_unable_and_thankful_are_kept(corpus: Callable[..., Warehouse]) -> None:
    def say(request: Request, sample: int) -> str:
        rng = random.Random(f"{request.content_key}/{sample}")
        begin = {"pets": "I'm unable to say whether my", "cars": "Thank you for the repair of the"}[
            wanted_label(request)
        ]
        return f"<text>{begin} {sentence(rng, wanted_label(request))}</text>"

    result = synthesize(corpus(), ScriptedEngine(say), method="few_shot", per_label=6, candidates=2, demos=0)
    assert result.did["accepted"] == {"cars": 6, "pets": 6}
    assert "refusal" not in result.did["dropped"]
