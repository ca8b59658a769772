"""`annotate`: ask the model for the label of each text, for its own row in the report or as votes beside the programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from factory import prompts
from factory.annotation import plan as plans
from factory.annotation.plan import Outcome, Plan, Slot
from factory.annotation.settle import settle
from factory.annotation.shots import demonstrations as shots
from factory.canonical import digest
from factory.errors import InputError
from factory.llm.adapters import find_adapter
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.llm import Budget, Engine
    from factory.llm.request import ModelRef, Request

_CHUNK = 20_000
_WHOLE = frozenset({"batch", "recorded"})
_TRY_LATER = frozenset({"gave_up", "not_asked"})


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
        EngineError: The engine cannot be asked, or answers are still pending.
    """
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
    key = digest({"stage": "annotate", "config": config, "task": card.revision, "prompt": asked.version})
    plan = plans.find(warehouse, key)
    if plan is not None and plan.done and not extend:
        return StageResult("annotate", skipped=True, did=_counts(warehouse, plan), says=())
    added = 0
    if plan is None or extend:
        chosen = plans.choose(warehouse, split, texts=texts, limit=limit, share=share, seed=sample_seed)
        if plan is None:
            nulls = prompts.NULL_TEXTS if calibrate else ()
            plan = plans.create(warehouse, key, config, card.revision, asked.version, nulls)
        added = plans.add(warehouse, plan, chosen)
        if added == 0 and plan.done:
            return StageResult("annotate", skipped=True, did=_counts(warehouse, plan), says=("no new texts to ask",))
    overlay = dict(config["sampling"])
    if calibrate:
        overlay = {"logprobs": True, "top_logprobs": 20, **overlay}
    asking = _Asking(card, asked, engine, model, overlay, shots(warehouse, card, demonstrations))
    waiting = _fill(warehouse, plan, asking, tries=tries, budget=budget, progress=progress)
    says = settle(warehouse, plan, card, asked, config, label_names(warehouse))
    if waiting:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(waiting.items()))
        says = (*says, f"{sum(waiting.values())} texts have no answer yet ({reasons}): run again to ask them")
    return StageResult("annotate", did={**_counts(warehouse, plan), "planned": added}, says=says)


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

    def request(self, slot: Slot) -> Request:
        return self.prompt.request(
            {**self.values, "text": slot.text},
            self.model,
            sampling=self.sampling,
            structured=self.engine.structured,
            labels=self.card.label_names,
            demos=self.demos,
        )

    def parse(self, request: Request, text: str) -> tuple[str, ...]:
        found = self.prompt.parse(text, labels=self.card.label_names)
        return () if found is None else (found,) if isinstance(found, str) else tuple(found)


def _fill(
    warehouse: Warehouse, plan: Plan, asking: _Asking, *, tries: int, budget: Budget | None, progress: Progress
) -> Counter[str]:
    """Ask the open slots and store what became of them.

    Returns:
        How many slots stay open, by reason.
    """
    from factory.llm import ask_parsed
    from factory.llm.request import Failure

    waiting: Counter[str] = Counter()
    for part in _parts(plans.open_slots(warehouse, plan), asking.engine.name):
        requests = [asking.request(slot) for slot in part]
        answers = ask_parsed(
            warehouse,
            asking.engine,
            [(request, 0) for request in requests],
            asking.parse,
            again=asking.prompt.ask_again,
            tries=tries,
            stage="annotate",
            budget=budget,
            progress=progress,
        )
        outcomes = []
        for slot, request, found in zip(part, requests, answers, strict=True):
            if not isinstance(found, Failure):
                outcomes.append(Outcome(slot.slot_no, found.request_key, found.sample_no, found.value))
            elif found.reason in _TRY_LATER:
                waiting[found.reason] += 1
            else:
                outcomes.append(Outcome(slot.slot_no, request.key, 0, (), found.reason, found.detail))
        plans.decide(warehouse, plan, outcomes)
    return waiting


def _parts(slots: Sequence[Slot], engine: str) -> Iterator[Sequence[Slot]]:
    """Slots in parts that fit in memory; a batch file, or the list of what was not recorded, wants them all at once."""
    size = max(len(slots), 1) if engine in _WHOLE else _CHUNK
    for start in range(0, len(slots), size):
        yield slots[start : start + size]


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
