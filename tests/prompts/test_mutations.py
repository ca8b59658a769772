"""Criterion 5 of asking: 200 mutations of real answers for each prompt are read right or asked again, never read wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from factory import prompts
from tests.prompts import mutations
from tests.prompts.cases import CARD, CASES
from tests.prompts.mutations import Mutant

N = 200
READABLE = {
    "bare", "blanks", "other case", "quoted", "full stop", "stated", "preamble", "chatty tail", "reason", "fence", "json",
    "thoughts", "judged", "commas", "bullets", "numbered", "and", "no fence", "wrong fence", "tildes", "usage after",
    "shell before", "indented", "crlf", "same twice", "several", "lines", "no tags", "no tags, preamble", "no tags, quoted",
    "both", "said twice",
}  # fmt: skip
"""Kinds that only touch the form. Most must be read; the rest is asked again."""


def mutants(name: str) -> Iterator[tuple[Sequence[str], Mutant]]:
    prompt = prompts.load(name)
    rng = random.Random(f"mutations:{name}")
    if prompt.form == "label":
        yield from mutations.label_mutants(rng, N, prompt.file.abstain)
        return
    names = mutations.TOPICS if prompt.form == "labels" else CARD.label_names
    made: Iterator[Mutant]
    if prompt.form == "labels":
        made = mutations.labels_mutants(rng, N)
    elif prompt.form == "program":
        made = mutations.program_mutants(rng, N)
    elif prompt.form == "texts":
        made = mutations.texts_mutants(rng, N, prompt.file.refusal)
    else:
        made = mutations.json_mutants(rng, N, CASES[name]["answer"])
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


@pytest.mark.parametrize("name", [name for name in sorted(CASES) if CASES[name] and name != "author_knowledge"])
def test_no_mutation_is_read_wrong(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = prompts.load(name)
    right, again, wrong = Counter[str](), Counter[str](), []
    for labels, mutant in mutants(name):
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
            f"\n{name:22} {sum(right.values()):3} read right, {sum(again.values()):3} asked again, {len(wrong)} wrong;"
            f" of changes to the form alone {form_only}/{of} read {missed or ''}",
            end="",
        )
    assert not wrong, wrong[:5]
    assert sum(right.values()) + sum(again.values()) == N
    assert form_only >= 0.9 * of
