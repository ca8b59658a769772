"""`annotate`: ask the model for the label of each text, for its own row in the report or as votes beside the programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from factory import prompts
from factory.annotation import choose
from factory.annotation.choose import Question
from factory.annotation.settle import settle
from factory.annotation.shots import demonstrations as shots
from factory.canonical import digest
from factory.errors import InputError
from factory.llm.adapters import find_adapter
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import plans
from factory.warehouse.tables.plans import Plan

if TYPE_CHECKING:
    from factory.llm import Asker, Budget, Engine, Failure, Parsed
    from factory.llm.request import ModelRef, Request

STAGE = "annotate"
_CHUNK = 20_000
_WHOLE = frozenset({"batch", "recorded"})


def annotate(
    warehouse: Warehouse,
    engine: Engine,
    *,
    split: str = "test",
    limit: int | None = None,
    share: float | None = None,
    texts: Literal["all", "uncovered_or_tied"] = "all",
    sample_seed: int = 0,
    as_votes: bool = False,
    demonstrations: int | None = None,
    adapter: str | None = None,
    calibrate: bool = False,
    prompt: str | None = None,
    sampling: dict[str, Any] | None = None,
    tries: int = 2,
    extend: bool = False,
    budget: Budget | None = None,
    progress: Progress = no_progress,
) -> StageResult:
    """Ask the model for the label of texts: the teacher's annotations, or a prompted labelling function's votes.

    Which texts are asked is planned once; a later run asks what is left of the plan. Texts that came later are asked only
    with `extend`.

    Args:
        warehouse: Where the texts are, and where annotations or votes go.
        engine: Whom to ask.
        split: Whose texts.
        limit: Most texts, drawn at random; None for all.
        share: Most texts as a share of the split, in (0, 1].
        texts: `all` of the split, or only those for which the accepted programs give no vote or a tie
            (`uncovered_or_tied`).
        sample_seed: Of the draw. The same texts are drawn in the same order whatever else is in the warehouse.
        as_votes: Store a prompted labelling function with its votes rather than annotations. In a `single` task the model
            may abstain; a `multi` task gets one function for each label.
        demonstrations: Gold texts per label from the split `seed` that are shown with their labels; none if not given.
        adapter: Ask this LoRA adapter from a step `tune`, with the prompt and the demonstrations that it learned with unless
            others are given.
        calibrate: Contextual calibration by the model's answers to texts without content (`single` only). Needs an engine
            that gives logprobs; without them the answers stand as they are, and the result says so.
        prompt: Another prompt of the same form.
        sampling: Over the prompt's and the engine's.
        tries: How often an answer that cannot be read is asked for, in all.
        extend: Also ask texts that came, or were freed by another `limit`, since the plan was made.
        budget: Stops before it is passed.
        progress: Called with (answers, requests, what).

    Raises:
        InputError: A parameter makes no sense here.
        Unanswered: Texts have no answer yet, through nothing that the model said. What came is stored; run again.
        EngineError: The engine cannot be asked, or answers are still pending.
    """
    from factory.llm import Asker

    card = current_card(warehouse)
    model = engine.model
    if adapter is not None:
        tuned = find_adapter(warehouse, adapter)
        model = engine.use_adapter(tuned.name, tuned.folder)
        prompt = prompt or tuned.prompt
        demonstrations = tuned.demonstrations if demonstrations is None else demonstrations
    demonstrations = demonstrations or 0
    name = prompt or _prompt_name(card, as_votes)
    asked = prompts.load(name)
    _check(card, asked, share, calibrate)
    config: dict[str, Any] = {
        "split": split, "limit": limit, "share": share, "texts": texts, "sample_seed": sample_seed,
        "as_votes": as_votes, "demonstrations": demonstrations, "calibrate": calibrate, "prompt": name,
        "sampling": {**engine.sampling, **(sampling or {})}, "structured": engine.structured, "tries": tries,
        "model": [model.name, model.revision, model.adapter],
        **({} if adapter is None else {"adapter": model.adapter}),
    }  # fmt: skip
    key = digest({"stage": STAGE, "config": config, "task": card.revision, "prompt": asked.version})
    plan = plans.find(warehouse, STAGE, key)
    if plan is not None and plan.done and not extend:
        return StageResult(STAGE, skipped=True, did=_counts(warehouse, plan), says=())
    added = 0
    if plan is None or extend:
        chosen = choose.choose(warehouse, split, texts=texts, limit=limit, share=share, seed=sample_seed)
        if plan is None:
            nulls = choose.without_content(prompts.NULL_TEXTS if calibrate else ())
            plan = plans.create(
                warehouse, STAGE, key, config, task_revision=card.revision, prompt_version=asked.version, slots=nulls
            )
        added = choose.add(warehouse, plan, chosen)
        if added == 0 and plan.done:
            return StageResult(STAGE, skipped=True, did=_counts(warehouse, plan), says=("no new texts to ask",))
    overlay = dict(config["sampling"])
    if calibrate:
        overlay = {"logprobs": True, "top_logprobs": 20, **overlay}
    asker = Asker(warehouse, engine, STAGE, budget, progress)
    asking = _Asking(card, asked, engine, model, overlay, shots(warehouse, card, demonstrations))
    found = _fill(asker, plan, asking, tries=tries)
    says = settle(warehouse, plan, card, asked, config, label_names(warehouse))
    asker.need_all(found)
    counts = _counts(warehouse, plan)
    return StageResult(STAGE, did={**counts, "planned": added}, says=(*_in_words(counts), *says, *asker.notes))


class _Asking:
    """From slots to requests, and from answers to names of labels."""

    def __init__(
        self,
        card: TaskCard,
        prompt: prompts.Prompt,
        engine: Engine,
        model: ModelRef,
        sampling: Mapping[str, Any],
        demos: Sequence[Any],
    ) -> None:
        self.card, self.prompt, self.engine, self.model = card, prompt, engine, model
        self.sampling, self.demos = sampling, demos
        self.values = prompts.card_values(card)

    def request(self, question: Question) -> Request:
        return self.prompt.request(
            {**self.values, "text": question.text},
            self.model,
            sampling=self.sampling,
            structured=self.engine.structured,
            labels=self.card.label_names,
            demos=self.demos,
        )

    def parse(self, request: Request, text: str) -> tuple[str, ...]:
        found = self.prompt.parse(text, labels=self.card.label_names)
        return () if found is None else (found,) if isinstance(found, str) else tuple(found)


def _fill(asker: Asker, plan: Plan, asking: _Asking, *, tries: int) -> list[Parsed[tuple[str, ...]] | Failure]:
    """Ask the open slots and store what became of them.

    Returns:
        What came of each.
    """
    from factory.llm import Failure, outcome_of

    every: list[Parsed[tuple[str, ...]] | Failure] = []
    for part in _parts(choose.questions(asker.warehouse, plan), asker.engine.name):
        requests = [asking.request(question) for question in part]
        wanted = [(request, 0) for request in requests]
        answers = asker.parsed(wanted, asking.parse, again=asking.prompt.ask_again, tries=tries)
        outcomes = {
            question.slot_no: outcome_of(
                found, request, detail=None if isinstance(found, Failure) else json.dumps(found.value)
            )
            for question, request, found in zip(part, requests, answers, strict=True)
        }
        with asker.warehouse.lease() as db:
            plans.decide(db, plan.plan_no, outcomes)
        every += answers
    return every


def _parts(questions: Sequence[Question], engine: str) -> Iterator[Sequence[Question]]:
    """Questions in parts that fit in memory; a batch file, or the list of what was not recorded, wants them all at once."""
    size = max(len(questions), 1) if engine in _WHOLE else _CHUNK
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


def _prompt_name(card: TaskCard, as_votes: bool) -> str:
    if card.kind == "multi":
        return "annotate_multi"
    return "prompted_vote" if as_votes else "annotate"


def _check(card: TaskCard, prompt: prompts.Prompt, share: float | None, calibrate: bool) -> None:
    wanted = "labels" if card.kind == "multi" else "label"
    if prompt.form != wanted:
        raise InputError(f"prompt {prompt.name!r} is of form {prompt.form!r}; a {card.kind} task needs {wanted!r}")
    if share is not None and not 0.0 < share <= 1.0:
        raise InputError("`share` is a share of the split, above 0 and at most 1")
    if calibrate and card.kind == "multi":
        raise InputError("`calibrate` is for tasks of kind single")


def _counts(warehouse: Warehouse, plan: Plan) -> dict[str, Any]:
    rows = warehouse.query(
        "SELECT state, coalesce(drop_reason, ''), count(*) FROM slots"
        " WHERE plan_no = ? AND spec ->> 'null' IS NULL GROUP BY ALL ORDER BY ALL",
        [plan.plan_no],
    )
    counts: dict[str, Any] = {"texts": sum(n for _, _, n in rows), "answered": 0, "open": 0, "unreadable": {}}
    for state, reason, n in rows:
        if state == "dropped":
            counts["unreadable"][reason] = n
        else:
            counts["answered" if state == "accepted" else "open"] = n
    return counts


def _in_words(counts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person reads of the counts: how many answers there are, and how many were lost to what."""
    lines = [f"{counts['answered']} of {counts['texts']} texts answered"]
    lost = counts["unreadable"]
    if lost:
        told = ", ".join(f"{n} {reason}" for reason, n in sorted(lost.items()))
        lines.append(f"{sum(lost.values())} answers cannot be used: {told}")
    return tuple(lines)
