"""200 mutations of recorded answers for each prompt, and as many of invented ones, are read right or asked again, never wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from factory import prompts
from tests.prompts import mutations, recorded
from tests.prompts.cases import CARD, CASES
from tests.prompts.mutations import Mutant

N = 200
READABLE = {
    "bare", "blanks", "other case", "quoted", "full stop", "stated", "preamble", "chatty tail", "reason", "fence", "json",
    "thoughts", "judged", "commas", "bullets", "numbered", "and", "no fence", "wrong fence", "tildes", "usage after",
    "shell before", "indented", "crlf", "same twice", "several", "lines", "no tags", "no tags, preamble", "no tags, quoted",
    "both", "said twice", "whole, preamble", "whole, chatty tail", "whole, fence", "whole, json",
}  # fmt: skip
"""Kinds that only touch the form. Most must be read; the rest is asked again."""


def mutants(name: str, source: str) -> Iterator[tuple[Sequence[str], Mutant]]:
    prompt = prompts.load(name)
    rng = random.Random(f"mutations:{name}")
    real = source == "recorded"
    if prompt.form == "label":
        pick = partial(recorded.pick_label, name) if real else mutations.labels_of
        yield from mutations.label_mutants(rng, N, prompt.file.abstain, pick)
        return
    names = mutations.TOPICS if prompt.form == "labels" else CARD.label_names
    made: Iterator[Mutant]
    if prompt.form == "labels":
        made = mutations.labels_mutants(rng, N)
    elif prompt.form == "program":
        made = mutations.program_mutants(rng, N, recorded.programs(name) if real else mutations.PROGRAMS)
    elif prompt.form == "texts":
        groups = recorded.texts(name) if real else [(text,) for text in mutations.TEXTS]
        made = mutations.texts_mutants(rng, N, prompt.file.refusal, groups)
    elif prompt.form == "cues":
        made = mutations.cues_mutants(rng, N, CASES[name]["answer"])
    else:
        schema = (prompt.file.json_schema or {}).get("json", {})
        made = mutations.json_mutants(rng, N, CASES[name]["answer"], schema.get("required", ()))
    for mutant in made:
        yield names, mutant


def read(prompt: prompts.Prompt, mutant: Mutant, labels: Sequence[str]) -> Any:
    """What the line makes of an answer: an answer that was cut off never reaches the parser."""
    if mutant.finish == "length":
        raise prompts.ParseFailure("length", "cut off")
    value = prompt.parse(mutant.answer, labels=labels)
    return "(abstain)" if value is None else value


def same(form: str, value: Any, truth: Any) -> bool:
    if form == "program":
        return bool(value.strip() == truth.strip())
    if form == "texts" and truth is not None:
        return [text.strip() for text in value] == [text.strip() for text in truth]
    return bool(value == truth)


# Of these nothing was recorded (and `author_knowledge` takes any words); the others' mutations start from real answers, too.
INVENTED_ONLY = {
    "sharpen_meanings", "author_rule_list_multi", "propose_attributes", "annotate_small", "author_rule_list_small",
    "name_cluster",
}  # fmt: skip
SOURCES = [
    (name, source)
    for name in sorted(set(CASES) - {"author_knowledge"})
    for source in ("recorded", "invented")
    if source == "invented" or name not in INVENTED_ONLY
]


def test_every_prompt_with_recorded_answers_is_tried_on_them() -> None:
    assert {name for name in CASES if not recorded.answers(name)} == INVENTED_ONLY | {"author_knowledge"}


@pytest.mark.parametrize(("name", "source"), SOURCES)
def test_no_mutation_is_read_wrong(name: str, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = prompts.load(name)
    right, again, wrong = Counter[str](), Counter[str](), []
    for labels, mutant in mutants(name, source):
        try:
            value = read(prompt, mutant, labels)
        except prompts.ParseFailure:
            again[mutant.kind] += 1
            continue
        if mutant.truth is not None and same(prompt.form, value, mutant.truth):
            right[mutant.kind] += 1
        else:
            wrong.append((mutant, value))
    form_only = sum(right[kind] for kind in READABLE)
    of = form_only + sum(again[kind] for kind in READABLE)
    with capsys.disabled():
        missed = {kind: count for kind, count in again.items() if kind in READABLE}
        print(
            f"\n{name:22} {source:8} {sum(right.values()):3} read right, {sum(again.values()):3} asked again, {len(wrong)} wrong;"
            f" of changes to the form alone {form_only}/{of} read {missed or ''}",
            end="",
        )
    assert not wrong, wrong[:5]
    assert sum(right.values()) + sum(again.values()) == N
    assert form_only >= 0.9 * of
