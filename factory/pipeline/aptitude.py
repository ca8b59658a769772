"""`factory engine check --aptitude`: some fifty requests on the user's own texts, and what the model is good for."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.annotation.aptitude import Aptitude, Read, looped
from factory.evaluation.agreement import kappa
from factory.pipeline.context import Context, call_step
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.llm import Asker
    from factory.llm.engines.base import Engine
    from factory.llm.request import Outcomes, Request
    from factory.pipeline.load import Pipeline
    from factory.task import TaskCard

TEXTS = 24
"""Texts that are labelled, twice."""

SEEDS = 8
LISTS = 4
"""Programs that are asked for, as lists of rules."""

SHOWN = 8
_MOST_LABELS = 20


def aptitude_of(pipeline: Pipeline) -> dict[str, Any]:
    """Try an engine on the texts of a pipeline. Nothing is stored.

    Returns:
        `{"sentence", "checks": [{"kind", "ok", "detail"}], "ok"}`: an `ok` that is false is what the model is no good for.

    Raises:
        InputError: The task lets a text have several labels, or the pipeline has no training texts.
        Unanswered: The engine cannot be asked.
    """
    from factory.errors import InputError
    from factory.llm import Asker
    from factory.warehouse.tables.texts import sample_texts

    if pipeline.card.kind == "multi" or len(pipeline.card.labels) > _MOST_LABELS:
        raise InputError(f"`--aptitude` is for cards of up to {_MOST_LABELS} labels of which a text has one")
    with tempfile.TemporaryDirectory(prefix="factory-aptitude-") as folder:
        context = Context(pipeline.card, Path(folder), pipeline.base, pipeline.engine)
        warehouse = Warehouse.open(Path(folder) / "aptitude.duckdb")
        try:
            for step in pipeline.steps:
                if step.verb == "ingest":
                    call_step(step, warehouse, context)
            texts = [text for _, text in sample_texts(warehouse, TEXTS + LISTS * SHOWN, "aptitude")]
            if not texts:
                raise InputError("there are no training texts to try the model on")
            asker = Asker(Warehouse.memory(), context.engine(), "check")
            found = _tried(asker, pipeline.card, texts, _seeds(warehouse, pipeline.card))
        finally:
            context.close()
    checks = [
        {"kind": "labels", "ok": found.labels_are != "no good", "detail": _of_labels(found)},
        {"kind": "programs", "ok": found.programs_are != "no good", "detail": _of_programs(found)},
    ]
    return {"ok": all(check["ok"] for check in checks), "sentence": found.sentence, "checks": checks}


def _seeds(warehouse: Warehouse, card: TaskCard) -> list[tuple[str, str]]:
    """Some seeds with their labels, in turn for every label."""
    from factory.task import label_names
    from factory.warehouse.tables.gold import seed_gold
    from factory.warehouse.tables.texts import texts_of

    names, gold = label_names(warehouse), seed_gold(warehouse)
    turns: Counter[int] = Counter()
    ordered = []
    for one in gold:
        turns[one.labels[0]] += 1
        ordered.append((turns[one.labels[0]], one.text_no, names[one.labels[0]]))
    chosen = sorted(ordered)[:SEEDS]
    texts = texts_of(warehouse, [number for _, number, _ in chosen]) if chosen else {}
    return [(texts[number], label) for _, number, label in chosen if label in card.label_names]


def _tried(asker: Asker, card: TaskCard, texts: Sequence[str], seeds: Sequence[tuple[str, str]]) -> Aptitude:
    engine, names = asker.engine, card.label_names
    turned = card.model_copy(update={"labels": tuple(reversed(card.labels))})
    asked = [*texts[:TEXTS], *(text for text, _ in seeds)]
    first, of_first = _labels(asker, card, asked)
    second, of_second = _labels(asker, turned, texts[:TEXTS])
    said = Counter(label for label in first[:TEXTS] if label is not None)
    read = Read(*(one + other for one, other in zip(of_first, of_second, strict=True)))
    near = _zero_shot(card, asked)
    votes, of_programs = _programs(asker, engine, card, texts)
    pairs = [(label, vote) for row in votes for label, vote in zip(first[:TEXTS], row, strict=True)]
    return Aptitude(
        read, of_programs,
        itself=agreement(first[:TEXTS], second),
        encoder=None if near is None else agreement(first[:TEXTS], near[:TEXTS]),
        shares={name: said[name] / max(said.total(), 1) for name in names},
        seeds=(sum(label == right for label, (_, right) in zip(first[TEXTS:], seeds, strict=False)), len(seeds)),
        encoder_seeds=0 if near is None else sum(a == right for a, (_, right) in zip(near[TEXTS:], seeds, strict=False)),
        votes=agreement(*zip(*pairs, strict=True)) if any(vote is not None for _, vote in pairs) else None,
        covered=sum(any(row[at] is not None for row in votes) for at in range(len(asked[:TEXTS]))) / max(len(asked[:TEXTS]), 1),
    )  # fmt: skip


def agreement(ones: Sequence[str | None], others: Sequence[str | None]) -> float:
    """Cohen's kappa over the places where both say something; 0 where there is none, or all say the same one thing."""
    pairs = [(one, other, 1) for one, other in zip(ones, others, strict=True) if one is not None and other is not None]
    return kappa(pairs).kappa if len({label for pair in pairs for label in pair[:2]}) > 1 else 0.0


def _labels(asker: Asker, card: TaskCard, texts: Sequence[str]) -> tuple[list[str | None], tuple[int, ...]]:
    """The label of each text, calibrated where the run would calibrate, and how many were read."""
    import numpy as np

    from factory import prompts
    from factory.annotation.core import calibrated, label_probabilities
    from factory.llm.request import Answer, Ask
    from factory.prompts.labelling import Labelling, labelling_prompt

    engine = asker.engine
    overlay = {**({"logprobs": True, "top_logprobs": 20} if engine.profile == "small" else {}), **engine.sampling}
    labelling = Labelling(
        card, prompts.load(labelling_prompt(card), profile=engine.profile), engine.model, overlay, engine.structured
    )
    requests = [labelling.request(text) for text in texts]
    outcomes = asker.ask([Ask(request) for request in requests])
    found: list[str | None] = []
    for request in requests:
        answer = outcomes[request.key, 0]
        label = None
        if isinstance(answer, Answer) and answer.finish_reason == "stop":
            try:
                label = next(iter(labelling.parse(request, answer.text)), None)
            except prompts.ParseFailure:
                label = None
        found.append(label)
    if engine.profile == "small":
        answers = [outcomes[request.key, 0] for request in requests]
        probs = {
            at: row for at, answer in enumerate(answers)
            if isinstance(answer, Answer) and (row := label_probabilities(answer.logprobs, card.label_names)) is not None
        }  # fmt: skip
        if probs:
            rows = np.array(list(probs.values()))
            best = calibrated(rows, rows).argmax(axis=1)
            for at, number in zip(probs, best, strict=True):
                found[at] = card.label_names[int(number)] if found[at] is not None else None
    return found, _read(requests, outcomes, sum(label is not None for label in found))


def _programs(
    asker: Asker, engine: Engine, card: TaskCard, texts: Sequence[str]
) -> tuple[list[list[str | None]], Read]:
    """The votes of some lists of rules on the texts that were labelled, and how many lists were read."""
    from factory import prompts
    from factory.llm.request import Answer, Ask
    from factory.programs.author.answers import names_of, rules_of_cues, whole_list
    from factory.programs.author.loop import plan_slots, values_of
    from factory.programs.rules import RulesRefused, usable_rules
    from factory.programs.rules.engine import RuleVoter

    names, small = card.label_names, engine.profile == "small"
    prompt = prompts.load("author_rule_list", profile=engine.profile)
    slots = plan_slots(names, kind="single", candidates=LISTS, form="rules")
    requests, labels = [], []
    for slot in slots:
        shown = texts[TEXTS + slot.number * SHOWN :][:SHOWN] or texts[:SHOWN]
        values = values_of(slot, slots, prompts.card_values(card), examples=shown, small=small)
        labels.append(names_of(slot, names, prompt))
        requests.append(
            prompt.request(
                values, engine.model, sampling=engine.sampling, structured=engine.structured, labels=labels[-1]
            )
        )
    outcomes = asker.ask([Ask(request) for request in requests])
    votes = []
    for request, of in zip(requests, labels, strict=True):
        answer = outcomes[request.key, 0]
        if not isinstance(answer, Answer):
            continue
        try:
            cut = answer.finish_reason != "stop"
            found = prompt.parse(whole_list(prompt, answer.text) if cut else answer.text, labels=of)
            found = rules_of_cues(found) if prompt.by_label else found
            rules, _ = usable_rules(found, names, None)
        except (prompts.ParseFailure, RulesRefused):
            continue
        row = RuleVoter([rules], [names]).votes(list(texts[:TEXTS]))[:, 0]
        votes.append([None if vote < 0 else names[int(vote)] for vote in row])
    return votes, Read(*_read(requests, outcomes, len(votes)))


def _read(requests: Sequence[Request], outcomes: Outcomes, read: int) -> tuple[int, ...]:
    """Asked, read, refused, looped, cut off."""
    from factory.llm.request import Answer

    answers = [outcomes[request.key, 0] for request in requests]
    texts = [answer for answer in answers if isinstance(answer, Answer)]
    refused = sum(not isinstance(answer, Answer) or answer.finish_reason == "content_filter" for answer in answers)
    return (
        len(requests), read, refused, sum(looped(answer.text) for answer in texts),
        sum(answer.finish_reason == "length" for answer in texts),
    )  # fmt: skip


def _zero_shot(card: TaskCard, texts: Sequence[str]) -> list[str] | None:
    """The label whose description is nearest to each text by the encoder that is at hand; None without a real one."""
    from factory.encoders.encoder import load_encoder
    from factory.students.zero_shot import zero_shot

    encoder = load_encoder()
    if encoder.folder is None:
        return None
    described = {label.name: label.description for label in card.labels}
    columns = zero_shot(encoder, encoder.encode(list(texts)), described)
    return [card.label_names[int(best)] for best in columns.argmax(axis=1)]


def _of_labels(found: Aptitude) -> str:
    parts = [
        found.labels.words,
        f"they agree with themselves under another order of the labels at kappa {found.itself:.2f}",
    ]
    if found.encoder is not None:
        parts.append(f"with the encoder's zero-shot at {found.encoder:.2f}")
    right, of = found.seeds
    if of:
        parts.append(f"right on {right} of {of} seeds (the encoder: {found.encoder_seeds})")
    parts.append("shares " + ", ".join(f"{name} {share:.0%}" for name, share in found.shares.items()))
    return "; ".join(parts)


def _of_programs(found: Aptitude) -> str:
    spoken = "they vote on no text" if found.votes is None else f"they agree with the labels at kappa {found.votes:.2f}"
    return f"lists of rules: {found.programs.words}; {spoken}, and cover {found.covered:.0%} of the texts"
