"""From slots to requests: the room that an answer is given."""

from __future__ import annotations

from typing import Any

import pytest

from factory.llm.request import ModelRef, Request
from factory.synthesis.render import Renderer
from factory.synthesis.values import Slot
from tests.synthesis.conftest import CARD


def request(count: int, longest: int = 1500, **given: Any) -> Request:
    renderer = Renderer(CARD, "few_shot", ModelRef("m"), longest=longest, **given)
    return renderer.request(Slot(0, 0, "write", "pets", {"examples": [], "count": count}), {})


def test_room_grows_with_the_number_and_the_length_of_the_texts_that_are_asked_for() -> None:
    assert request(1).sampling["max_tokens"] == 800
    assert request(5).sampling["max_tokens"] >= 5 * 1500 // 3
    assert request(1, longest=9000).sampling["max_tokens"] >= 3000
    assert request(5, longest=60).sampling["max_tokens"] == 800
    assert request(500, longest=9000).sampling["max_tokens"] == 16_000


@pytest.mark.parametrize("given", [{"sampling": {"max_tokens": 900}}, {"engine_sampling": {"max_tokens": 900}}])
def test_room_that_somebody_has_set_is_kept(given: dict[str, Any]) -> None:
    assert request(5, **given).sampling["max_tokens"] == 900


def test_no_limit_is_no_limit() -> None:
    assert "max_tokens" not in request(5, sampling={"max_tokens": None}).sampling


def test_room_is_no_part_of_what_recorded_answers_match_by() -> None:
    assert request(5).content_key == request(5, longest=60).content_key
    assert request(5).key != request(5, longest=60).key


def test_with_siblings_a_prompt_shows_these_alone_of_the_other_labels() -> None:
    def shown(**given: Any) -> str:
        return str(request(1, **given).messages[0]["content"]).split("# The other labels")[1].split("\n#")[0]

    others = [label.name for label in CARD.labels if label.name != "pets"]
    assert all(f"- {name}:" in shown() for name in others)
    assert [name for name in others if f"- {name}:" in shown(siblings={"pets": others[:1]})] == others[:1]
