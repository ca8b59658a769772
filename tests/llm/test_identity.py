"""The identity of requests, frozen: a change here orphans every stored and recorded answer."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.canonical import canonical_json, canonical_strings
from factory.llm import Message, ModelRef, Request
from factory.llm.calls import Call, calls_of, runs

MESSAGES: tuple[Message, ...] = (
    {"role": "system", "content": "Say a label."},
    {"role": "user", "content": 'Grüße, 世界 🌍 "quoted"\n'},
)
JSON = {"type": "object", "properties": {"a": {"type": "string"}}}
REQUESTS = {
    "plain": Request(ModelRef("m"), MESSAGES),
    "sampling": Request(ModelRef("m"), MESSAGES, {"temperature": 0.70, "max_tokens": 16, "stop": ["\n"]}),
    "revision": Request(ModelRef("org/m", "abc"), MESSAGES, {"temperature": 0.0}),
    "adapter": Request(ModelRef("org/m", "abc", "lora"), MESSAGES, {"temperature": 0}),
    "choice": Request(ModelRef("m"), MESSAGES, {}, {"choice": ["a", "b"]}),
    "json": Request(ModelRef("m"), MESSAGES, {}, {"json": JSON}),
}
GOLDEN = {
    "plain": (
        "52975042568d6c644c8a986c6ca907b97493bf073fda525925c238217e6ef08d",
        "d719ac67dafb58a885b8285b74069e96110c7d825fb054959c4c883c11a23286",
    ),
    "sampling": (
        "d8d292a051022e8d295464996fce667a81a5f7acda3cb98c70411e0c4e51fc91",
        "d719ac67dafb58a885b8285b74069e96110c7d825fb054959c4c883c11a23286",
    ),
    "revision": (
        "b03b527acee36381c7d9927a6ed7d5338cf76e95b60849283b0b4f7af8c165ac",
        "d719ac67dafb58a885b8285b74069e96110c7d825fb054959c4c883c11a23286",
    ),
    "adapter": (
        "22408e45c2247b5dba8517fb1f1b02add41ab421b250496f4c33319b61b4583f",
        "d719ac67dafb58a885b8285b74069e96110c7d825fb054959c4c883c11a23286",
    ),
    "choice": (
        "72e1abc8671886c9daaf4a60c6d459133b372a678fbe0585af41e2dd12bef652",
        "aae1d27fe68f0bbddef25aa538a581b10e6b4f7b21aee811010ee80258d71365",
    ),
    "json": (
        "d9c90dcbf27f380c2da6b7587b2ea5816155d6862f605b43a747aca04e6f0976",
        "acd4b0be87f25290f3514c47410207f95dfecb3a94f8b7c6ddb5d1075fbd4a57",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_keys_are_frozen(name: str) -> None:
    assert (REQUESTS[name].key, REQUESTS[name].content_key) == GOLDEN[name]


def test_the_key_is_the_hash_of_the_documented_json() -> None:
    text = (
        '{"adapter":null,"messages":[{"content":"hi","role":"user"}],"model":"m","revision":null,'
        '"sampling":{"max_tokens":16,"temperature":0.7},"schema":null}'
    )
    request = Request(ModelRef("m"), ({"role": "user", "content": "hi"},), {"temperature": 0.7, "max_tokens": 16})
    assert request.key == hashlib.sha256(text.encode()).hexdigest()


@given(st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": st.text()})))
def test_messages_have_the_same_canonical_bytes_by_the_short_way(rows: list[dict[str, str]]) -> None:
    assert canonical_strings(rows) == canonical_json(rows)


@pytest.mark.parametrize("code", [*range(0x20), 0x22, 0x2F, 0x5C, 0x7F, 0x80, 0x2028, 0xFEFF, 0xFFFF, 0x1F600])
def test_every_character_that_json_may_escape_has_the_same_canonical_bytes(code: int) -> None:
    rows = [{"role": "user", "content": f"a{chr(code)}b"}]
    assert canonical_strings(rows) == canonical_json(rows)


@pytest.mark.parametrize("rows", [[{"a": 1}], [{"ä": "x", "\U0001f600": "y"}]])
def test_what_is_no_text_under_an_ascii_name_takes_the_long_way(rows: list[dict[str, str]]) -> None:
    assert canonical_strings(rows) == canonical_json(rows)


def test_a_lone_surrogate_has_no_identity() -> None:
    with pytest.raises(ValueError):
        canonical_strings([{"role": "user", "content": "\ud800"}])


def test_the_prompts_name_and_version_are_no_part_of_it() -> None:
    plain = REQUESTS["plain"]
    assert Request(plain.model, plain.messages, prompt="annotate", prompt_version="7").key == plain.key


def test_the_content_key_leaves_model_and_sampling_out() -> None:
    other = Request(ModelRef("another", "r", "a"), MESSAGES, {"temperature": 1.0})
    assert other.content_key == REQUESTS["plain"].content_key
    assert other.key != REQUESTS["plain"].key


@pytest.mark.parametrize("name", ["seed", "n"])
def test_sampling_holds_neither_seed_nor_n(name: str) -> None:
    with pytest.raises(ValueError, match="numbered"):
        Request(ModelRef("m"), MESSAGES, {name: 1})


def test_a_batch_line_is_called_by_request_and_samples() -> None:
    assert Call(REQUESTS["plain"], 2, 5).custom_id == f"{REQUESTS['plain'].key}:2-5"


@given(st.sets(st.integers(0, 200)), st.integers(1, 9))
def test_calls_cover_the_samples_once(samples: set[int], most: int) -> None:
    calls = calls_of(REQUESTS["sampling"], samples, max_n=most)
    asked = [sample for call in calls for sample in range(call.first, call.last + 1)]
    assert sorted(asked) == sorted(samples)
    assert all(call.n <= most for call in calls)
    assert len(runs(samples)) <= len(calls) or not samples
