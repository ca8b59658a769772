"""`annotate`: ask the model for the label of each text, for its own row in the report or as votes beside the programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from factory import prompts
from factory.annotation import anchors, carry, choose
from factory.annotation.choose import Question
from factory.annotation.retrieve import Retrieval, Rounds
from factory.annotation.settle import settle
from factory.annotation.shots import demonstrations as shots
from factory.canonical import digest
from factory.encoders.settings import Named
from factory.errors import InputError
from factory.labels.candidates import SHOWN, is_large
from factory.labels.recall import recall_of
from factory.llm.adapters import find_adapter
from factory.llm.engines.base import BY_FILE
from factory.params import Call, Params, stage
from factory.prompts.labelling import Labelling, labelling_prompt
from factory.result import StageResult
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import plans
from factory.warehouse.tables.anchors import model_plan
from factory.warehouse.tables.plans import Plan

if TYPE_CHECKING:
    from factory.llm import Asker, Failure, Parsed

STAGE = "annotate"
_CHUNK = 20_000


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
    anchors: int | None = Field(
        None,
        ge=1,
        description="Label so many training texts as anchors, which judge the programs and teach students; none by default. The"
        " answer is forced: a text of which the model is unsure is the one that tells.",
    )
    audit: int = Field(
        100,
        ge=0,
        description="So many of the anchors, drawn uniformly, are the audit slice: for estimates alone, so nothing is trained,"
        " weighed or chosen by them. A hundred tell agreement to within ten points. The others are drawn by what the programs"
        " say of them.",
    )
    among: int | None = Field(
        None, ge=1, description="Draw anchors from the first so many texts of the random order; from all by default."
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
    candidates: int = Field(
        SHOWN,
        ge=2,
        description="Labels shown with each text where the card has more: those that a search finds for it, by embeddings and by"
        " words. In a `single` task the model may say that none of them fits, and is then asked with all. Twenty hold the right"
        " one nearly always and keep a request short.",
    )
    encoder: Named = Field(
        "auto",
        description="Whose embeddings that search takes, unrounded. Name one where answers are to be replayed elsewhere: `auto`"
        " may be another on another machine.",
    )
    see_all: int = Field(
        50,
        ge=0,
        description="So many texts of the audit slice are asked with all labels (the likeliest hundred where there are more), so"
        " that it is known how often the candidates hold the right one. Fifty tell a recall of .96 to within six points.",
    )
    calibrate: Literal["contextual", "batch"] | bool | None = Field(
        None,
        description="Take back the model's leaning towards some labels (`single` only), as its answers to texts without content"
        " show it (`contextual`, or true) or its answers to all texts asked (`batch`). Needs an engine that gives logprobs, so it"
        " is off unless the engine's `profile` is `small`, which takes `batch`; without them the answers stand as they are, and"
        " the result says so.",
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
        description="Also ask texts that came, or were freed by another `limit`, since the plan was made; with `anchors`, those"
        " bought before stay, and their number is filled up. Off, so that running again never costs more than what is open.",
    )


@stage("annotate", AnnotateParams, asks=True)
def annotate(warehouse: Warehouse, params: AnnotateParams, call: Call) -> StageResult:
    """Ask the model for the label of texts: the teacher's annotations, or a prompted labelling function's votes.

    Which texts are asked is planned once; a later run asks what is left of the plan. Texts that came later are asked only
    with `extend`.

    Raises:
        InputError: A parameter makes no sense here.
        Unanswered: Texts have no answer yet, through nothing that the model said. What came is stored; run again.
        EngineError: The engine cannot be asked, or answers are still pending.
    """
    from factory.llm import Asker

    card, engine = current_card(warehouse), call.engine
    model, prompt, demonstrations = engine.model, params.prompt, params.demonstrations
    if params.adapter is not None:
        tuned = find_adapter(warehouse, params.adapter)
        model = engine.use_adapter(tuned.name, tuned.folder)
        prompt = prompt or tuned.prompt
        demonstrations = tuned.demonstrations if demonstrations is None else demonstrations
    demonstrations = demonstrations or 0
    anchored = _anchored(params)
    many = is_large(card, params.candidates)
    name = prompt or labelling_prompt(card, as_votes=params.as_votes, among=many)
    profile = None if prompt else engine.profile
    asked = prompts.load(name, profile=profile)
    name = asked.name
    forced = (
        prompts.load(prompt or labelling_prompt(card, as_votes=params.as_votes), profile=profile) if many else asked
    )
    version = asked.version if forced is asked else f"{asked.version}+{forced.version}"
    calibrate = _calibration(params, engine.profile, single=card.kind == "single" and not many)
    _check(card, asked, bool(calibrate), many)
    among = {"candidates", "encoder", "see_all"}
    config: dict[str, Any] = {
        **params.model_dump(exclude={"adapter", "extend", "anchors", "audit", "among", *among}),
        **(params.model_dump(mode="json", include=among) if many else {}),
        **anchored,
        "demonstrations": demonstrations,
        "prompt": name,
        "sampling": {**engine.sampling, **(params.sampling or {})},
        "structured": engine.structured,
        "calibrate": calibrate,
        "model": [model.name, model.revision, model.adapter],
        **({} if params.adapter is None else {"adapter": model.adapter}),
    }
    key = digest({"stage": STAGE, "config": config, "task": card.revision, "prompt": version})
    plan = plans.find(warehouse, STAGE, key)
    if plan is not None and plan.done and (anchored or not params.extend):
        if anchored and model_plan(warehouse) != plan.plan_no:  # another plan's answers were the anchors meanwhile
            settle(warehouse, plan, card, asked, config, label_names(warehouse))
        return StageResult(STAGE, skipped=True, did=_counts(warehouse, plan), says=())
    encoder = None if engine.counting_only else params.encoder
    retrieval = Retrieval(warehouse, card, params.candidates, params.see_all, encoder, call.progress) if many else None
    specs = None if retrieval is None else retrieval.specs
    added = 0
    if plan is None or (params.extend and not anchored):
        chosen = _chosen(warehouse, params)
        if plan is None and not calibrate:
            plan = carry.over(warehouse, key, config, card, version, specs)
            chosen = [] if plan is not None and not params.extend else chosen
        if plan is None:
            nulls = choose.without_content(prompts.NULL_TEXTS if calibrate is True else ())
            plan = plans.create(
                warehouse, STAGE, key, config, task_revision=card.revision, prompt_version=version, slots=nulls
            )
        added = choose.add(warehouse, plan, chosen, specs)
        if added == 0 and plan.done:
            return StageResult(STAGE, skipped=True, did=_counts(warehouse, plan), why="no new texts to ask")
    overlay = dict(config["sampling"])
    if calibrate or (engine.profile == "small" and card.kind == "single"):
        overlay = {"logprobs": True, "top_logprobs": 20, **overlay}
    asker = Asker(warehouse, engine, STAGE, call.budget, call.progress)
    demos = shots(warehouse, card, demonstrations)
    labelling = Labelling(card, asked, model, overlay, engine.structured, demos)
    rounds = None if retrieval is None else Rounds(labelling, replace(labelling, prompt=forced), retrieval)
    found = _fill(asker, plan, labelling, rounds, tries=params.tries)
    says = settle(warehouse, plan, card, asked, config, label_names(warehouse))
    if anchored and (recall := recall_of(warehouse)) is not None:
        says = (*says, recall.words)
    asker.need_all(found)
    counts = _counts(warehouse, plan)
    return StageResult(STAGE, did={**counts, "planned": added}, says=(*_in_words(counts), *says, *asker.notes))


def _fill(
    asker: Asker, plan: Plan, labelling: Labelling, rounds: Rounds | None, *, tries: int
) -> list[Parsed[tuple[str, ...]] | Failure]:
    """Ask the open slots and store what became of them. Returns what came of each."""
    from factory.llm import Failure, outcome_of

    every: list[Parsed[tuple[str, ...]] | Failure] = []
    for part in _parts(choose.questions(asker.warehouse, plan), asker.engine.name):
        if rounds is not None:
            wanted, answers = rounds.ask(asker, part, tries)
        else:
            wanted = [labelling.request(question.text) for question in part]
            pairs = [(request, 0) for request in wanted]
            answers = asker.parsed(pairs, labelling.parse, again=labelling.prompt.ask_again, tries=tries)
        outcomes = {}
        for question, asked, found in zip(part, wanted, answers, strict=True):
            detail = None if isinstance(found, Failure) else json.dumps(found.value)
            outcomes[question.slot_no] = outcome_of(found, asked, detail=detail)
        with asker.warehouse.lease() as db:
            plans.decide(db, plan.plan_no, outcomes)
        every += answers
    return every


def _parts(questions: Sequence[Question], engine: str) -> Iterator[Sequence[Question]]:
    """Questions in parts that fit in memory; a batch file, or the list of what was not recorded, wants them all at once."""
    size = max(len(questions), 1) if engine in BY_FILE else _CHUNK
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


def _calibration(params: AnnotateParams, profile: str | None, *, single: bool) -> bool | Literal["batch"]:
    """How answers are calibrated: true by texts without content, `batch` by all answers."""
    given = params.calibrate
    if given is None:
        return "batch" if profile == "small" and single else False
    return "batch" if given == "batch" else bool(given)


def _anchored(params: AnnotateParams) -> dict[str, Any]:
    """What a plan of anchors has in its configuration beside the rest; nothing for any other plan.

    Raises:
        InputError: A parameter that says otherwise which texts are asked, or what becomes of the answers.
    """
    if params.anchors is None:
        return {}
    other = [name for name in ("limit", "share", "as_votes") if getattr(params, name)]
    other += ["texts"] * (params.texts != "all")
    if other:
        raise InputError(
            f"`anchors` says which texts are asked, and what for; `{other[0]}` says otherwise", fix="Leave one out"
        )
    if "split" in params.model_fields_set and params.split != "train":
        raise InputError(f"anchors are training texts, and `split` is {params.split}", fix="Leave `split` out")
    return {"split": "train", "anchors": params.anchors, "audit": params.audit, "among": params.among}


def _chosen(warehouse: Warehouse, params: AnnotateParams) -> list[dict[str, Any]]:
    """The texts to ask, each as its slot keeps it."""
    if params.anchors is not None:
        drawn = anchors.choose(
            warehouse,
            anchors=params.anchors,
            audit=params.audit,
            among=params.among,
            seed=params.sample_seed,
            extend=params.extend,
        )
        return [one.parents for one in drawn]
    numbers = choose.choose(
        warehouse, params.split, texts=params.texts, limit=params.limit, share=params.share, seed=params.sample_seed
    )
    return [{"text_no": number} for number in numbers]


def _check(card: TaskCard, prompt: prompts.Prompt, calibrate: bool, many: bool) -> None:
    wanted = "labels" if card.kind == "multi" else "label"
    if prompt.form != wanted:
        raise InputError(f"prompt {prompt.name!r} is of form {prompt.form!r}; a {card.kind} task needs {wanted!r}")
    if calibrate and card.kind == "multi":
        raise InputError("`calibrate` is for tasks of kind single")
    if calibrate and many:
        words = f"`calibrate` needs the same labels with every text, and the card has {len(card.labels)}"
        raise InputError(words, fix="Leave it out, or raise `candidates`")


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
