"""`annotate`: ask the model for the label of each text, for its own row in the report or as votes beside the programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from factory import prompts
from factory.annotation import plan as plans
from factory.annotation.plan import Outcome, Plan, Slot
from factory.annotation.settle import settle
from factory.annotation.shots import demonstrations as shots
from factory.canonical import digest
from factory.errors import InputError
from factory.llm.adapters import find_adapter
from factory.params import Call, Params, stage
from factory.result import Progress, StageResult
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.llm import Budget, Engine
    from factory.llm.request import ModelRef, Request

_CHUNK = 20_000
_WHOLE = frozenset({"batch", "recorded"})
_TRY_LATER = frozenset({"gave_up", "not_asked"})


class AnnotateParams(Params):
    """The parameters of `annotate`."""

    split: Literal["train", "seed", "dev", "test"] = Field(
        "test", description="Whose texts. Those of test by default: the teacher's own row in the report."
    )
    limit: int | None = Field(
        None, ge=1, description="Most texts, drawn at random; all by default. 300 give a score to within five points."
    )
    share: float | None = Field(None, gt=0, le=1, description="Most texts as a share of the split; all by default.")
    texts: Literal["all", "uncovered_or_tied"] = Field(
        "all",
        description="`all` of the split, or only those for which the accepted programs give no vote or a tie"
        " (`uncovered_or_tied`), where a vote of the model is worth most.",
    )
    sample_seed: int = Field(
        0,
        ge=0,
        description="Of the draw. The same texts are drawn in the same order whatever else is in the warehouse.",
    )
    as_votes: bool = Field(
        False,
        description="Store a prompted labelling function with its votes rather than annotations, which judge but teach nobody. In"
        " a `single` task the model may abstain; a `multi` task gets one function for each label.",
    )
    demonstrations: int | None = Field(
        None,
        ge=0,
        description="Gold texts per label from the split `seed` that are shown with their labels; none by default, as there may"
        " be none (an adapter's own number with `adapter`).",
    )
    adapter: str | None = Field(
        None,
        description="Ask this LoRA adapter from a step `tune`, with the prompt and the demonstrations that it learned with unless"
        " others are given; the model as it is by default.",
    )
    calibrate: bool = Field(
        False,
        description="Contextual calibration by the model's answers to texts without content (`single` only). Needs an engine that"
        " gives logprobs, so it is off; without them the answers stand as they are, and the result says so.",
    )
    prompt: str | None = Field(
        None, description="Another prompt of the same form; the one made for the task's kind by default."
    )
    sampling: dict[str, Any] | None = Field(
        None, description="Over the prompt's and the engine's, which ask for one answer as certain as can be."
    )
    tries: int = Field(
        2,
        ge=1,
        description="How often an answer that cannot be read is asked for, in all: a second try mends most that can be mended.",
    )
    extend: bool = Field(
        False,
        description="Also ask texts that came, or were freed by another `limit`, since the plan was made. Off, so that running"
        " again never costs more than what is open.",
    )


@stage("annotate", AnnotateParams, asks=True)
def annotate(warehouse: Warehouse, params: AnnotateParams, call: Call) -> StageResult:
    """Ask the model for the label of texts: the teacher's annotations, or a prompted labelling function's votes.

    Which texts are asked is planned once; a later run asks what is left of the plan. Texts that came later are asked only
    with `extend`.

    Raises:
        InputError: A parameter makes no sense here.
        EngineError: The engine cannot be asked, or answers are still pending.
    """
    card, engine = current_card(warehouse), call.engine
    model, prompt, demonstrations = engine.model, params.prompt, params.demonstrations
    if params.adapter is not None:
        tuned = find_adapter(warehouse, params.adapter)
        model = engine.use_adapter(tuned.name, tuned.folder)
        prompt = prompt or tuned.prompt
        demonstrations = tuned.demonstrations if demonstrations is None else demonstrations
    demonstrations = demonstrations or 0
    name = prompt or _prompt_name(card, params.as_votes)
    asked = prompts.load(name)
    _check(card, asked, params.calibrate)
    config: dict[str, Any] = {
        **params.model_dump(exclude={"adapter", "extend"}),
        "demonstrations": demonstrations,
        "prompt": name,
        "sampling": {**engine.sampling, **(params.sampling or {})},
        "structured": engine.structured,
        "model": [model.name, model.revision, model.adapter],
        **({} if params.adapter is None else {"adapter": model.adapter}),
    }
    key = digest({"stage": "annotate", "config": config, "task": card.revision, "prompt": asked.version})
    plan = plans.find(warehouse, key)
    if plan is not None and plan.done and not params.extend:
        return StageResult("annotate", skipped=True, did=_counts(warehouse, plan), says=())
    added = 0
    if plan is None or params.extend:
        chosen = plans.choose(
            warehouse, params.split, texts=params.texts, limit=params.limit, share=params.share, seed=params.sample_seed
        )
        if plan is None:
            nulls = prompts.NULL_TEXTS if params.calibrate else ()
            plan = plans.create(warehouse, key, config, card.revision, asked.version, nulls)
        added = plans.add(warehouse, plan, chosen)
        if added == 0 and plan.done:
            return StageResult("annotate", skipped=True, did=_counts(warehouse, plan), why="no new texts to ask")
    overlay = dict(config["sampling"])
    if params.calibrate:
        overlay = {"logprobs": True, "top_logprobs": 20, **overlay}
    asking = _Asking(card, asked, engine, model, overlay, shots(warehouse, card, demonstrations))
    waiting = _fill(warehouse, plan, asking, tries=params.tries, budget=call.budget, progress=call.progress)
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


def _check(card: TaskCard, prompt: prompts.Prompt, calibrate: bool) -> None:
    wanted = "labels" if card.kind == "multi" else "label"
    if prompt.form != wanted:
        raise InputError(f"prompt {prompt.name!r} is of form {prompt.form!r}; a {card.kind} task needs {wanted!r}")
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
