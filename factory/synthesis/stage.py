"""`synthesize`: a method, a loop and an engine, tied to the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from factory.canonical import digest
from factory.corpus.decontaminate import decontaminate
from factory.errors import InputError
from factory.result import Progress, StageResult, no_progress
from factory.synthesis import store
from factory.synthesis.loop import diagnosis
from factory.synthesis.values import Goal
from factory.task import TaskCard, current_card
from factory.warehouse.tables import plans

if TYPE_CHECKING:
    from factory.llm import Engine
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.plans import Plan

METHODS = ("synthesizrr", "few_shot", "self_guide")

DEFAULT_DEMOS = {"synthesizrr": 3, "few_shot": 8, "self_guide": 3}


def synthesize(
    warehouse: Warehouse,
    engine: Engine,
    *,
    method: Literal["synthesizrr", "few_shot", "self_guide"] = "synthesizrr",
    name: str | None = None,
    per_label: int = 100,
    candidates: float = 3.0,
    labels: list[str] | None = None,
    seeds: int | Literal["all", "none"] = "all",
    demos: int | None = None,
    texts_per_answer: int = 1,
    oversample: float = 1.2,
    round_size: int | None = None,
    passages: list[dict[str, Any]] | None = None,
    passage_tokens: list[int] | None = None,
    first_passage: bool = False,
    retrieval: Literal["dense", "lexical", "hybrid"] = "dense",
    pool: int = 300,
    encoder: str = "auto",
    bands: dict[str, dict[str, Any]] | None = None,
    block: int | None = None,
    attributes: bool = False,
    style: int | None = None,
    contrast: bool = True,
    filters_off: list[str] | None = None,
    noise: list[str] | None = None,
    copy_share: float = 0.7,
    label_check: Literal["none", "programs", "model"] = "none",
    check_samples: int = 10,
    check_share: float = 0.3,
    cartography: float | None = None,
    sampling: dict[str, Any] | None = None,
    random_seed: int = 0,
    replan: int = 0,
    min_yield: float = 0.05,
    context: Any = None,
    budget: Any = None,
    progress: Progress = no_progress,
) -> StageResult:
    """Let the model write `per_label` accepted texts for every label.

    A plan is known by its configuration, the task's revision and the versions of its prompts: run again it goes on where it
    stopped, and one that is done is skipped. Raising `per_label` or `candidates` extends the same plan.

    Args:
        warehouse: Seeds (split `seed`), passages (split `train`), dev and test texts to keep clear of.
        engine: Whom to ask.
        method: `synthesizrr` rewrites retrieved passages, `few_shot` writes from examples alone, `self_guide` invents and then
            labels by itself.
        name: Tells plans of equal configuration apart, and stands in the table as the method's name.
        per_label: Accepted texts wanted per label.
        candidates: The most texts to ask for, as a multiple of `per_label`.
        labels: Only these labels.
        seeds: How many gold examples per label to use, the first in their file; `none` takes label descriptions as queries,
            and so does `all` where there is no split `seed`.
        demos: Demonstrations or examples per prompt (synthesizrr 3, few_shot 8, self_guide 3).
        texts_per_answer: Texts asked for in one answer (few_shot, self_guide).
        oversample: How many more than the expected need to ask for in one round.
        round_size: The most slots per label and round.
        passages: Outside sources to retrieve from instead of the split train: keys of an ingest source, and
            `clean: none | squeeze | usenet`.
        passage_tokens: `[minimum, budget]` of a passage in tokens; [20, 400] as in the paper for outside sources, [5, 400] for
            the split train.
        first_passage: Keep the first passage of each text alone, as the paper does.
        retrieval: By embeddings, by BM25, or by embeddings among the best `pool` of BM25: less to embed for a large corpus.
        pool: Of `hybrid`, per query.
        encoder: For embeddings.
        bands: `{demos: {...}, sources: {...}}`, each with `ranks`, `quantiles` and `similarity` (see `bands`).
        block: Prompts that share their demonstrations (synthesizrr 8), samples of one request (few_shot 4).
        attributes: Let the model first propose subtopics, registers, personas and lengths, and ask for one of each (few_shot).
        style: How many unlabelled texts of the split train to show for form and tone (3 where there are no seeds, else none).
        contrast: Whether prompts show all labels.
        filters_off: Filters to switch off, by their reason; those against dev and test cannot be.
        noise: Words that no text may contain.
        copy_share: Share of word 4-grams that stand in the passage from which a text is a copy of it.
        label_check: An independent vote on every text: by the label programs, or by the model (always, for self_guide).
        check_samples: How often the model is asked (10 in Self-Guide).
        check_share: The share of samples that must agree (.3 in Self-Guide's search).
        cartography: Keep this share of each label's texts, by training confidence (.83 in SynthesizRR); more are then written.
        sampling: Over the prompt's own (`{temperature: 0.95, top_p: 0.9}`).
        random_seed: For every draw.
        replan: Another number plans anew; the texts of the plan it replaces are dropped.
        min_yield: Accepted per text asked for below which a label is given up.
        context: The run's context (for relative paths), if there is one.
        budget: From the engine's settings.
        progress: Called with (done, total, what).

    Returns:
        Accepted and dropped counts per label and reason; for a label that fell short, a line that says why.

    Raises:
        InputError: An unknown label or filter, no seeds where the method needs them, nothing to retrieve from.
        Unanswered: Requests have no answer yet, through nothing that the model said. What came is stored; run again.
    """
    card = current_card(warehouse)
    wanted = _labels(card, labels)
    demos = DEFAULT_DEMOS[method] if demos is None else demos
    if seeds == "all" and not warehouse.scalar("SELECT count(*) FROM occurrences WHERE split = 'seed' AND kept"):
        seeds = "none"
    style = (3 if seeds == "none" else 0) if style is None else style
    if method == "self_guide":
        label_check = "model"
    if label_check == "model" and card.kind == "multi":
        raise InputError(
            "the model's label check knows tasks of kind `single` alone", fix="Use `label_check: programs`"
        )
    if method == "synthesizrr":
        texts_per_answer = 1
    goal = Goal(
        per_label=per_label,
        candidates=candidates,
        texts_per_answer=texts_per_answer,
        oversample=oversample,
        round_size=round_size,
        min_yield=min_yield,
    )
    config: dict[str, Any] = {
        "method": method, "name": name or method, "labels": wanted, "seeds": seeds, "demos": demos,
        "texts_per_answer": texts_per_answer, "round_size": round_size, "passages": passages,
        "passage_tokens": passage_tokens, "first_passage": first_passage, "retrieval": retrieval, "pool": pool,
        "encoder": encoder, "bands": bands, "block": block,
        "attributes": attributes, "style": style, "contrast": contrast, "filters_off": sorted(filters_off or []),
        "noise": noise, "copy_share": copy_share, "label_check": label_check, "check_samples": check_samples,
        "check_share": check_share, "cartography": cartography, "sampling": sampling, "random_seed": random_seed,
        "replan": replan,
        "model": {"name": engine.model.name, "revision": engine.model.revision, "adapter": engine.model.adapter},
    }  # fmt: skip
    versions = _versions(method, label_check, attributes)
    key = digest({"config": config, "task": card.revision, "prompts": versions})
    plan = plans.find(warehouse, store.STAGE, key)
    if plan is not None and plan.done and _same_goal(warehouse, plan, goal):
        decontaminate(warehouse)
        return _result(warehouse, plan, goal, skipped=True)

    from factory.llm import Asker
    from factory.synthesis.fill import Filler

    if plan is None:
        config["family"] = store.family_of(config)
        plan = plans.create(
            warehouse, store.STAGE, key, config, task_revision=card.revision, prompt_version=versions["write"]
        )
        if replan:
            store.retire_others(warehouse, plan, config["family"])
    asker = Asker(warehouse, engine, store.STAGE, budget, progress)
    Filler(asker, card, plan, goal, config, base=getattr(context, "base", None)).run()
    decontaminate(warehouse)
    plan = plans.find(warehouse, store.STAGE, key)
    assert plan is not None
    return _result(warehouse, plan, goal, skipped=False, notes=asker.notes)


def _labels(card: TaskCard, labels: Sequence[str] | None) -> list[str]:
    if labels is None:
        return card.label_names
    for label in labels:
        if label not in card.label_names:
            import difflib

            near = difflib.get_close_matches(label, card.label_names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(card.label_names)}"
            raise InputError(f"there is no label {label!r}", where="synthesize.labels", fix=hint)
    return [label for label in card.label_names if label in labels]


def _versions(method: str, label_check: str, attributes: bool) -> dict[str, str]:
    from factory.prompts import load
    from factory.synthesis.render import ATTRIBUTES_PROMPT, CHECK_PROMPT, WRITE_PROMPTS

    versions = {"write": load(WRITE_PROMPTS[method]).version}
    if label_check == "model":
        versions["check"] = load(CHECK_PROMPT).version
    if attributes:
        versions["attributes"] = load(ATTRIBUTES_PROMPT).version
    return versions


def _same_goal(warehouse: Warehouse, plan: Plan, goal: Goal) -> bool:
    outcome = plan.outcome
    return (
        outcome.get("per_label") == goal.per_label
        and outcome.get("candidates") == goal.candidates
        and outcome.get("accepted") == store.accepted_counts(warehouse, plan.plan_no)
    )


def _result(warehouse: Warehouse, plan: Plan, goal: Goal, *, skipped: bool, notes: Sequence[str] = ()) -> StageResult:
    from factory.synthesis.filters import count_reasons

    outcome: Mapping[str, Any] = plan.outcome
    reasons = [
        reason
        for reason, count in warehouse.query(
            "SELECT drop_reason, count(*) FROM synthetic WHERE plan_no = ? AND drop_reason IS NOT NULL GROUP BY ALL",
            [plan.plan_no],
        )
        for _ in range(count)
    ]
    failed = dict(
        warehouse.query(
            "SELECT drop_reason, count(*) FROM slots s WHERE plan_no = ? AND state = 'dropped' AND NOT EXISTS"
            " (FROM synthetic t WHERE t.plan_no = s.plan_no AND t.slot_no = s.slot_no) GROUP BY ALL ORDER BY ALL",
            [plan.plan_no],
        )
    )
    accepted = outcome.get("accepted", {})
    did = {
        "plan": plan.plan_no,
        "accepted": accepted,
        "dropped": count_reasons(reasons),
        "failed": failed,
        "short": outcome.get("short", {}),
        "rounds": outcome.get("rounds", 0),
        "thresholds": outcome.get("thresholds", {}),
    }
    says = [f"{sum(accepted.values())} texts accepted ({', '.join(f'{k} {v}' for k, v in accepted.items())})"]
    says += [*outcome.get("short", {}).values(), *notes]
    return StageResult("synthesize", skipped, did, tuple(says))


__all__ = ["METHODS", "diagnosis", "synthesize"]
