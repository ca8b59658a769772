"""Whatever the order of stages, no accepted text is within the near-duplicate threshold of a dev or test text."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.llm.request import Request
from factory.near import THRESHOLD, jaccard, shingles
from factory.pipeline.ingest import take_in
from factory.synthesis.stage import synthesize
from factory.warehouse.file import Warehouse
from tests.synthesis.conftest import CARD, ScriptedEngine, sentence, wanted_label, writer

HELD_OUT = {
    split: [sentence(random.Random(f"{split}/{at}"), label) for at in range(2) for label in ("pets", "cars")]
    for split in ("dev", "test")
}


def parrot(request: Request, sample: int) -> str:
    """Half of its texts are held-out ones with a word changed; a few more cannot be read or are refusals."""
    rng = random.Random(f"{request.content_key}/{sample}")
    luck = rng.random()
    if luck < 0.1:
        return "no tags at all"
    if luck < 0.2:
        return "UNABLE TO WRITE"
    if luck < 0.7:
        words = rng.choice([text for texts in HELD_OUT.values() for text in texts]).split()
        words[-1] = rng.choice(["tail.", "oil!", words[-1]])
        return f"<text>{' '.join(words)}</text>"
    return f"<text>{sentence(rng, wanted_label(request))}</text>"


@pytest.mark.long
@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(["dev", "test", "few", "more", "other"]))
def test_no_text_near_dev_or_test_survives_any_order_of_stages(
    corpus: Callable[..., Warehouse], order: list[str]
) -> None:
    warehouse = corpus(train=10, seeds=1)
    for stage in order:
        if stage in HELD_OUT:
            take_in(warehouse, CARD, {stage: {"texts": HELD_OUT[stage], "labels": ["pets", "cars"] * 2}}, base=Path())
        else:
            per_label = 3 if stage == "more" else 2
            name = "other" if stage == "other" else "few_shot"
            synthesize(
                warehouse,
                ScriptedEngine(parrot),
                method="few_shot",
                name=name,
                demos=0,
                per_label=per_label,
                candidates=40,
            )
    accepted = [row[0] for row in warehouse.query("SELECT text FROM synthetic WHERE state = 'accepted'")]
    assert accepted
    for text in accepted:
        for other in (text for texts in HELD_OUT.values() for text in texts):
            assert jaccard(shingles(text), shingles(other)) < THRESHOLD
    dropped = dict(warehouse.query("SELECT drop_reason, count(*) FROM synthetic WHERE state = 'dropped' GROUP BY ALL"))
    assert dropped.get("near_held_out", 0) + dropped.get("duplicate_of_held_out", 0) > 0


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken=st.floats(0, 0.8), seed=st.integers(0, 99), per_answer=st.sampled_from([1, 3]))
def test_yields_are_exact_under_answers_that_cannot_be_read_and_refusals(
    corpus: Callable[..., Warehouse], broken: float, seed: int, per_answer: int
) -> None:
    warehouse = corpus(train=10, seeds=1)
    result = synthesize(
        warehouse, ScriptedEngine(writer(broken=broken, seed=seed)), method="few_shot", demos=0, per_label=3,
        candidates=60, texts_per_answer=per_answer,
    )  # fmt: skip
    assert result.did["accepted"] == {"cars": 3, "pets": 3}
    counts = warehouse.query(
        "SELECT label_no, count(*) FROM synthetic WHERE state = 'accepted' GROUP BY ALL ORDER BY ALL"
    )
    assert counts == [(0, 3), (1, 3)]
