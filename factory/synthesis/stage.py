"""`synthesize`: a method, a loop and an engine, tied to the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from factory.canonical import digest
from factory.encoders.settings import Named
from factory.errors import InputError
from factory.params import Call, Params, stage
from factory.result import StageResult
from factory.synthesis import store
from factory.synthesis.checks import chosen_labels, refuse_ignored
from factory.synthesis.values import Goal
from factory.task import current_card
from factory.warehouse.held_out import decontaminate
from factory.warehouse.tables import plans

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.plans import Plan

DEFAULT_DEMOS = {"synthesizrr": 3, "few_shot": 8, "self_guide": 3}


class SynthesizeParams(Params):
    """The parameters of `synthesize`."""

    method: Literal["synthesizrr", "few_shot", "self_guide"] = Field("synthesizrr", description="`synthesizrr` rewrites"
        " retrieved passages, `few_shot` writes from examples alone, `self_guide` invents and then labels by itself."
        " Rewriting real passages gives the most varied texts, and needs no seeds.")  # fmt: skip
    name: str | None = Field(None, description="Tells plans of equal configuration apart, and stands in the table as the"
        " method's name; the method by default, which is enough where a pipeline synthesizes once.")  # fmt: skip
    per_label: int = Field(100, ge=1, description="Accepted texts wanted per label. 100 show a small student each label's"
        " breadth at a modest price.")  # fmt: skip
    candidates: float = Field(3.0, gt=0, description="The most texts to ask for, as a multiple of `per_label`. Filters drop a"
        " part of what a model writes; 3 leaves room for that and bounds the cost.")  # fmt: skip
    labels: list[str] | None = Field(None, description="Only these labels; all by default.")
    seeds: Annotated[int, Field(ge=0)] | Literal["all", "none"] = Field("all", description="How many gold examples per label"
        " to use, the first in their file; `none` takes label descriptions as queries, and so does `all` where there is no"
        " split `seed`. Seeds are few, so all of them is a good default.")  # fmt: skip
    demos: int | None = Field(None, ge=0, description="Demonstrations or examples per prompt. By default what the papers use:"
        " synthesizrr 3, few_shot 8, self_guide 3.")  # fmt: skip
    texts_per_answer: int = Field(1, ge=1, description="Texts asked for in one answer (few_shot, self_guide). 1 is the most"
        " varied; 5 cost a fifth of the prompts.")  # fmt: skip
    oversample: float = Field(1.2, ge=1, description="How many more than the expected need to ask for in one round: a fifth"
        " more makes a second round rarer.")  # fmt: skip
    round_size: int | None = Field(None, ge=1, description="The most slots per label and round; as many as are needed by"
        " default, which takes the fewest rounds.")  # fmt: skip
    passages: list[dict[str, Any]] | None = Field(None, description="Outside sources to retrieve from instead of the split"
        " train: keys of an ingest source, and `clean: none | squeeze | usenet`. The training texts by default: they are the"
        " form that students will see.")  # fmt: skip
    passage_tokens: list[Annotated[int, Field(ge=0)]] | None = Field(None, min_length=2, max_length=2, description=""
        "`[minimum, budget]` of a passage in tokens; by default [20, 400] as in the paper for outside sources, [5, 400] for"
        " the split train, whose texts may be short.")  # fmt: skip
    first_passage: bool = Field(False, description="Keep the first passage of each text alone, as the paper does. Off, since"
        " later ones are as useful.")  # fmt: skip
    retrieval: Literal["dense", "lexical", "hybrid"] = Field("dense", description="By embeddings, by BM25, or by embeddings"
        " among the best `pool` of BM25. Embeddings find the best passages; `hybrid` embeds less of a large corpus.")  # fmt: skip
    pool: int = Field(300, ge=1, description="Of `hybrid`, passages per query that are embedded: enough that little is"
        " missed.")  # fmt: skip
    encoder: Named = Field("auto", description="For embeddings: a name or folder. `auto` takes the packaged one, or hashed"
        " words where there is none; texts and machine do not choose, so that prompts are the same everywhere.")  # fmt: skip
    bands: dict[str, dict[str, Any]] | None = Field(None, description="`{demos: {...}, sources: {...}}`, each with `ranks`,"
        " `quantiles` and `similarity`: which neighbours are shown. By default the nearest but for near copies.")  # fmt: skip
    block: int | None = Field(None, ge=1, description="Prompts that share their demonstrations (synthesizrr 8),"
        " samples of one request (few_shot 4): by default as many as keep a server's prefix cache useful without"
        " repeating themselves.")  # fmt: skip
    attributes: bool = Field(False, description="Let the model first propose subtopics, registers, personas and"
        " lengths, and ask for one of each (few_shot). Off: it costs two more requests per label and helps only where"
        " there are no seeds.")  # fmt: skip
    style: int | None = Field(None, ge=0, description="How many unlabelled texts of the split train to show for form and"
        " tone. By default 3 where there are no seeds, else none, since seeds show it.")  # fmt: skip
    contrast: bool = Field(True, description="Whether prompts show all labels: the model then keeps clear of the"
        " neighbours.")  # fmt: skip
    filters_off: list[str] | None = Field(None, description="Filters to switch off, by their reason; none by default. Those"
        " against dev and test cannot be.")  # fmt: skip
    noise: list[str] | None = Field(None, description="Words that no text may contain; none by default.")
    copy_share: float = Field(0.7, gt=0, le=1, description="Share of word 4-grams that stand in the passage from which a text"
        " is a copy of it. At .7 a text that keeps names and phrases of its passage passes, a near copy does not.")  # fmt: skip
    label_check: Literal["none", "programs", "model"] = Field("none", description="An independent vote on every text: by the"
        " label programs, or by the model (always, for self_guide). None by default: denoising weighs synthetic texts anyway,"
        " and a check costs requests.")  # fmt: skip
    check_samples: int = Field(10, ge=1, description="How often the model is asked about a text; 10 as in Self-Guide.")
    check_share: float = Field(0.3, gt=0, le=1, description="The share of samples that must agree; .3 as Self-Guide's search"
        " found best.")  # fmt: skip
    cartography: float | None = Field(None, gt=0, le=1, description="Keep this share of each label's texts, by training"
        " confidence (.83 in SynthesizRR); more are then written. All are kept by default, which costs the least.")  # fmt: skip
    sampling: dict[str, Any] | None = Field(None, description="Over the prompt's own (`{temperature: 0.95, top_p: 0.9}`),"
        " which is chosen for varied texts.")  # fmt: skip
    random_seed: int = Field(0, ge=0, description="For every draw; another one draws other texts from the same"
        " settings.")  # fmt: skip
    replan: int = Field(0, ge=0, description="Another number plans anew, and the texts of the plan it replaces are dropped; 0"
        " goes on with what is there.")  # fmt: skip
    min_yield: float = Field(0.05, ge=0, le=1, description="Accepted per text asked for below which a label is given up: at 1"
        " in 20 each text costs twenty.")  # fmt: skip


@stage("synthesize", SynthesizeParams, asks=True, takes=("base",))
def synthesize(warehouse: Warehouse, params: SynthesizeParams, call: Call) -> StageResult:
    """Let the model write `per_label` accepted texts for every label.

    Reads seeds (split `seed`), passages (split `train`), and dev and test texts to keep clear of. A plan is known by its
    configuration, the task's revision and the versions of its prompts: run again it goes on where it stopped, and one that is
    done is skipped. Raising `per_label` or `candidates` extends the same plan.

    Returns:
        Accepted and dropped counts per label and reason; for a label that fell short, a line that says why.

    Raises:
        InputError: An unknown label or filter, no seeds where the method needs them, nothing to retrieve from.
        Unanswered: Requests have no answer yet, through nothing that the model said. What came is stored; run again.
    """
    card = current_card(warehouse)
    method, seeds, label_check = params.method, params.seeds, params.label_check
    refuse_ignored(
        method, texts_per_answer=params.texts_per_answer > 1, attributes=params.attributes, passages=params.passages,
        bands=params.bands, passage_tokens=params.passage_tokens, first_passage=params.first_passage,
        label_check=label_check == "programs",
    )  # fmt: skip
    if seeds == "all" and not warehouse.scalar("SELECT count(*) FROM occurrences WHERE split = 'seed' AND kept"):
        seeds = "none"
    if method == "self_guide":
        label_check = "model"
    if label_check == "model" and card.kind == "multi":
        said = "the model's label check knows tasks of kind `single` alone"
        raise InputError(said, fix="Use `label_check: programs`")
    goal = Goal(
        per_label=params.per_label, candidates=params.candidates,
        texts_per_answer=1 if method == "synthesizrr" else params.texts_per_answer, oversample=params.oversample,
        round_size=params.round_size, min_yield=params.min_yield,
    )  # fmt: skip
    model = call.engine.model
    config: dict[str, Any] = {
        **params.model_dump(exclude={"per_label", "candidates", "oversample", "min_yield"}),
        "name": params.name or method, "labels": chosen_labels(card, params.labels), "seeds": seeds,
        "demos": DEFAULT_DEMOS[method] if params.demos is None else params.demos,
        "texts_per_answer": goal.texts_per_answer,
        "style": (3 if seeds == "none" else 0) if params.style is None else params.style,
        "filters_off": sorted(params.filters_off or []), "label_check": label_check,
        "model": {"name": model.name, "revision": model.revision, "adapter": model.adapter},
    }  # fmt: skip
    versions = _versions(method, label_check, params.attributes)
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
        if params.replan:
            store.retire_others(warehouse, plan, config["family"])
    asker = Asker(warehouse, call.engine, store.STAGE, call.budget, call.progress)
    Filler(asker, card, plan, goal, config, call.base).run()
    decontaminate(warehouse)
    plan = plans.find(warehouse, store.STAGE, key)
    assert plan is not None
    return _result(warehouse, plan, goal, skipped=False, notes=asker.notes)


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
    was = [plan.outcome.get(name) for name in ("per_label", "candidates", "accepted")]
    return was == [goal.per_label, goal.candidates, store.accepted_counts(warehouse, plan.plan_no)]


def _result(warehouse: Warehouse, plan: Plan, goal: Goal, *, skipped: bool, notes: Sequence[str] = ()) -> StageResult:
    from factory.synthesis.filters import count_reasons

    outcome: Mapping[str, Any] = plan.outcome
    reasons = warehouse.query("SELECT drop_reason FROM synthetic WHERE plan_no = ?", [plan.plan_no])
    failed = dict(
        warehouse.query(
            "SELECT drop_reason, count(*) FROM slots s WHERE plan_no = ? AND state = 'dropped' AND NOT EXISTS"
            " (FROM synthetic t WHERE t.plan_no = s.plan_no AND t.slot_no = s.slot_no) GROUP BY ALL ORDER BY ALL",
            [plan.plan_no],
        )
    )
    accepted = outcome.get("accepted", {})
    did = {
        "plan": plan.plan_no, "accepted": accepted, "dropped": count_reasons([reason for (reason,) in reasons]), "failed": failed,
        "short": outcome.get("short", {}), "rounds": outcome.get("rounds", 0),
        "thresholds": outcome.get("thresholds", {}),
    }  # fmt: skip
    says = [f"{sum(accepted.values())} texts accepted ({', '.join(f'{k} {v}' for k, v in accepted.items())})"]
    says += [*outcome.get("short", {}).values(), *notes]
    return StageResult("synthesize", skipped, did, tuple(says))
