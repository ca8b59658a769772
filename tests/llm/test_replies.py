"""Replies as servers really write them: what is read in every form, what is cut, and what is paid for once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from factory.errors import Unanswered
from factory.llm import Answer, Ask, Asker, ask
from factory.warehouse.file import Warehouse
from tests.llm.test_server import engine, read, request, texts


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": [{"type": "text", "text": "sp"}, {"type": "text", "text": "am"}]}, "spam", None),
        ({"content": ["spam"]}, "spam", None),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "spam"}]},
         "spam", "hm"),
        ({"content": "spam", "reasoning_content": "hm"}, "spam", "hm"),
        ({"content": None, "reasoning": "hm"}, "", "hm"),
        ({"content": ""}, "", None),
    ],
)  # fmt: skip
def test_content_is_read_in_every_form(fake_server, message: Any, text: str, reasoning: str | None) -> None:
    server = fake_server(message={"role": "assistant", **message})
    (answer,) = ask(Warehouse.memory(), engine(server.url), [Ask(request("x"))], stage="t").values()
    assert isinstance(answer, Answer)
    assert (answer.text, answer.reasoning) == (text, reasoning)


@pytest.mark.parametrize(("usage", "sent"), [({"prompt_tokens": 9, "completion_tokens": 3}, 1), (False, 2)])
def test_no_content_is_an_empty_answer_where_the_model_wrote_tokens_and_none_otherwise(
    fake_server, usage: Any, sent: int
) -> None:
    server = fake_server(message={"role": "assistant", "content": None}, usage=usage)
    (outcome,) = ask(Warehouse.memory(), engine(server.url), [Ask(request("x"))], stage="t").values()
    assert server.stats()["requests"] == sent
    assert isinstance(outcome, Answer) == (sent == 1)


SPOKEN = {
    "choices": [{"message": {"role": "assistant", "content": "spam"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}
FORMS: dict[str, dict[str, Any]] = {
    "no index, no reason to finish": {"body": SPOKEN},
    "numbers as text and with a point": {"body": {**SPOKEN, "usage": {"prompt_tokens": 9.0, "completion_tokens": "1"}}},
    "usage of null": {"body": {**SPOKEN, "usage": None}},
    "a header that is not ASCII": {"body": SPOKEN, "headers": {"X-Server": "caf\u00e9"}},
    "an error of null": {"body": {**SPOKEN, "error": None}},
    "a byte order mark and blanks": {"body": "\ufeff " + json.dumps(SPOKEN) + "\n\n"},
    "no word of JSON in the type": {"body": SPOKEN, "headers": {"Content-Type": "text/plain; charset=utf-8"}},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_odd_forms_of_a_sound_reply_are_read_and_paid_for_once(fake_server, form: str) -> None:
    server = fake_server(raw=FORMS[form])
    (answer,) = ask(Warehouse.memory(), engine(server.url), [Ask(request("x"))], stage="t").values()
    assert isinstance(answer, Answer), answer
    assert answer.text == "spam"
    assert answer.usage.tokens_in > 0
    assert server.stats()["requests"] == 1


@pytest.mark.parametrize(
    ("finish", "found"), [("MAX_TOKENS", "length"), ("STOP", "stop"), ("SAFETY", "content_filter"), (None, "unknown")]
)
def test_reasons_to_finish_are_read_in_every_dialect(fake_server, finish: str | None, found: str) -> None:
    server = fake_server(finish_reason=finish)
    (answer,) = ask(Warehouse.memory(), engine(server.url), [Ask(request("x"))], stage="t").values()
    assert isinstance(answer, Answer)
    assert answer.finish_reason == found


def test_a_reply_without_end_is_not_read_to_its_end_and_not_asked_for_again(fake_server) -> None:
    server = fake_server(raw_if="text 7")
    server.control(raw={"body": " " * (6 << 20)})
    warehouse = Warehouse.memory()
    asker = Asker(warehouse, engine(server.url), "t")
    with pytest.raises(Unanswered, match=r"1 of 12 .*with more than 4 MB"):
        asker.need_all(asker.parsed(texts(), read))
    assert server.stats()["requests"] == 12


def test_an_answer_of_any_length_is_cut_and_counts_as_cut_off(fake_server) -> None:
    server = fake_server()
    server.control(reply="a " * 100_000)
    (answer,) = ask(Warehouse.memory(), engine(server.url), [Ask(request("x"))], stage="t").values()
    assert isinstance(answer, Answer)
    assert (len(answer.text), answer.finish_reason) == (1000 + 32 * 24, "length")


def test_the_bound_on_an_answer_goes_by_the_name_that_the_server_knows(fake_server) -> None:
    server = fake_server(keep_bodies=True)
    ask(
        Warehouse.memory(), engine(server.url, max_tokens_field="max_completion_tokens"), [Ask(request("x"))], stage="t"
    )
    (body,) = server.bodies()
    assert body["max_completion_tokens"] == 24
    assert "max_tokens" not in body
