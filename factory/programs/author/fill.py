"""The stage `author` against the warehouse: freeze a plan, fill its slots through the model, store every candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.errors import InputError, nearest
from factory.labels.candidates import is_large
from factory.llm.request import Failure
from factory.programs.author.loop import AuthorState, Candidate, Slot, plan_slots, step, values_of
from factory.programs.author.many import look_at_many
from factory.programs.author.renew import renewal, slot_of
from factory.programs.author.similar import plain_source
from factory.programs.blocks import RUNNABLE
from factory.programs.sandbox.host.pool import Pool, Sandbox, shared_pool
from factory.programs.trial import coverage_flag
from factory.result import StageResult
from factory.task import current_card, label_names
from factory.warehouse.tables import plans, programs
from factory.warehouse.tables.gold import seed_gold
from factory.warehouse.tables.plans import Plan
from factory.warehouse.tables.programs import NewProgram
from factory.warehouse.tables.texts import sample_texts, texts_of
from factory.warehouse.tables.votes import conflicting_texts

if TYPE_CHECKING:
    from factory.llm import Asker
    from factory.llm.request import Request
    from factory.programs.author.answers import Reader
    from factory.prompts import Prompt
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse

STAGE = "author"


def author_programs(
    asker: Asker, config: Mapping[str, Any], *, strict: bool = False, sandbox: Sandbox = "kernel"
) -> StageResult:
    """See `factory.programs.stage.author`."""
    from factory import prompts
    from factory.programs.author.answers import prompts_of

    warehouse, engine = asker.warehouse, asker.engine
    card = current_card(warehouse)
    if config["candidates"] < config["programs"]:
        fix = "Ask for as many candidates at least"
        raise InputError("`candidates` is less than `programs`", where="author", fix=fix)
    asking = prompts_of(str(config["form"]), card.kind, engine.profile)
    version = "+".join(prompt.version for prompt in asking.values())
    if config["knowledge"]:
        version += "+" + prompts.load("author_knowledge").version
    model = engine.model
    key = digest({
        "stage": STAGE, "config": dict(config), "card": card.revision, "prompt": version,
        "model": [model.name, model.revision, model.adapter],
        **({"sampling": engine.sampling} if engine.sampling else {}),
    })  # fmt: skip
    plan = plans.find(warehouse, STAGE, key)
    if plan is not None and plan.done:
        return _result(warehouse, plan, config, skipped=True, says=())
    if plan is None:
        plan = _freeze(warehouse, card, config, key, version, counting_only=engine.counting_only)
    if not plans.slots(warehouse, plan.plan_no):  # the card changed, and no program speaks of what did
        with warehouse.lease() as db:
            plans.finish(db, plan.plan_no)
        return _result(warehouse, plan, config, skipped=True, says=())
    return _fill(asker, card, asking, plan, config, shared_pool(strict, sandbox))


# The plan ---------------------------------------------------------------------------------------------------------------
def _freeze(
    warehouse: Warehouse, card: TaskCard, config: Mapping[str, Any], key: str, version: str, *, counting_only: bool
) -> Plan:
    """Store the plan with every slot, and which texts each slot shows; after a change of the card, with those it touches."""
    labels = config.get("labels")
    unknown = next((name for name in labels or () if name not in card.label_names), None)
    if unknown is not None:
        raise InputError(f"there is no label `{unknown}`{nearest(unknown, card.label_names)}", where="author.labels")
    many = None
    if is_large(card):
        many = look_at_many(warehouse, card, None if counting_only else config["encoder"], labels)
    anew = renewal(warehouse, card, config, version)
    slots = list(anew.slots) if anew is not None else plan_slots(
        card.label_names, kind=card.kind, candidates=config["candidates"], variants=config["variants"],
        programs=config["programs"], form=config["form"], varied=config["varied"], only=labels,
        apart=None if many is None else many.groups,
    )  # fmt: skip
    per_slot = int(config["examples"])
    windows = len(slots) if config["varied"] else max(1, config["variants"])
    count = max(per_slot * windows, 1)
    shown = [] if config.get("show") != "conflicts" else conflicting_texts(warehouse, count)
    shown += [number for number, _ in sample_texts(warehouse, count - len(shown), "examples", exclude=shown)]
    if not shown:
        raise InputError("there are no training texts", where=warehouse.path, fix="Ingest the split `train` first")
    seeds = _seed_texts(warehouse, card, int(config["seeds"]))
    frozen = []
    turns: Counter[tuple[Any, ...]] = Counter()
    for slot in slots:
        first = (slot.number if config["varied"] else slot.variant) * per_slot
        window = [shown[(first + i) % len(shown)] for i in range(min(per_slot, len(shown)))]
        if many is not None and config.get("show") != "conflicts":
            near = many.window(slot, turns[slot.focus, slot.target], per_slot)
            window = list(dict.fromkeys([*near, *window]))[:per_slot]
            turns[slot.focus, slot.target] += 1
        spec = {
            "approach": slot.approach.name, "variant": slot.variant, "focus": list(slot.focus), "target": slot.target,
            "form": slot.form, "examples": window, "seeds": seeds,
            **({} if many is None else {"shown": many.shown(slot)}),
        }  # fmt: skip
        frozen.append(plans.Slot(slot.number, spec, {"texts": window + [text_no for text_no, _ in seeds]}))
    told = {"task_revision": card.revision, "prompt_version": version}
    if anew is not None:
        config = {**config, "renews": {"programs": list(anew.programs), "wanted": anew.wanted}}
    return plans.create(warehouse, STAGE, key, config, **told, slots=frozen)


def _wanted(plan: Plan, config: Mapping[str, Any]) -> int:
    """How many programs a plan is to bring."""
    return int(plan.config["renews"]["wanted"] if "renews" in plan.config else config["programs"])


def _seed_texts(warehouse: Warehouse, card: TaskCard, per_label: int) -> list[tuple[int, list[str]]]:
    """Text numbers and label names of the gold seeds to show, so many for each label, in the card's order."""
    names = label_names(warehouse)
    seeds = sorted(seed_gold(warehouse), key=lambda seed: seed.content_hash)
    chosen: dict[int, list[str]] = {}
    for number in map(names.index, card.label_names):
        for seed in [seed for seed in seeds if number in seed.labels][:per_label]:
            chosen.setdefault(seed.text_no, [names[i] for i in seed.labels])
    return list(chosen.items())


def _slots(warehouse: Warehouse, plan_no: int) -> list[tuple[Slot, dict[str, Any]]]:
    """The plan's slots as stored, with their specifications."""
    found = []
    for stored in plans.slots(warehouse, plan_no):
        spec = dict(stored.spec)
        found.append((slot_of(stored.slot_no, spec), spec))
    return found


# Filling --------------------------------------------------------------------------------------------------------------------
def _fill(
    asker: Asker, card: TaskCard, asking: Mapping[str, Prompt], plan: Plan, config: Mapping[str, Any], pool: Pool
) -> StageResult:
    from factory import prompts
    from factory.programs.author.answers import Reader, names_of

    warehouse, engine = asker.warehouse, asker.engine
    labels = label_names(warehouse)
    plan_no, replaced = plan.plan_no, plan.config.get("renews", {}).get("programs", [])
    planned = _slots(warehouse, plan_no)
    spec_of = {slot.number: spec for slot, spec in planned}
    probe = [text for _, text in sample_texts(warehouse, int(config["probe"]), "probe")]
    shown = texts_of(
        warehouse, [no for spec in spec_of.values() for no in [*spec["examples"], *[s[0] for s in spec["seeds"]]]]
    )
    card_values = prompts.card_values(card)
    kind, examples = config["knowledge"], [shown[no] for no in planned[0][1]["examples"]]
    knowledge = _knowledge(asker, kind, card_values, examples) if kind else ""
    known = [*programs.accepted(warehouse), *programs.rejected_by_people(warehouse)]
    mine = {plan_no, *plans.begun_alike(warehouse, STAGE, plan_no)}
    known = [one for one in known if one.kind in RUNNABLE and one.plan_no not in mine and one.number not in replaced]
    sources = tuple(plain_source(one.source, one.kind) for one in known)
    state = AuthorState(tuple(slot for slot, _ in planned), _wanted(plan, config), sources)
    state, wanted = step(state, [])
    while wanted:
        requests = []
        for slot in wanted:
            spec = spec_of[slot.number]
            values = values_of(
                slot, state.slots, prompts.card_values(card, spec["shown"]) if "shown" in spec else card_values,
                examples=[shown[no] for no in spec["examples"]],
                seeds=[{"text": shown[no], "label": ", ".join(names)} for no, names in spec["seeds"]], knowledge=knowledge,
                small=engine.profile == "small" and card.kind == "single",
            )  # fmt: skip
            names = names_of(slot, card.label_names, asking[slot.form])
            ask = partial(asking[slot.form].request, sampling=engine.sampling, structured=engine.structured)
            requests.append(ask(values, engine.model, labels=names))
        slot_of = {request.key: slot for slot, request in zip(wanted, requests, strict=True)}
        reader = Reader(pool, probe, labels, asking, slot_of, card.label_names)
        answers = _ask(asker, reader, wanted, requests, int(config["repairs"]))
        state, wanted = step(state, answers)
    versions = {form: prompt.version for form, prompt in asking.items()}
    _store(warehouse, plan_no, state.decided, labels, versions, replaced)
    return _result(warehouse, plan, config, skipped=False, says=tuple(asker.notes))


def _knowledge(asker: Asker, kind: str, card_values: Mapping[str, Any], examples: list[str]) -> str:
    """What the model says it knows of the labels, asked once and shown to every program's author; empty if it gave nothing."""
    from factory import prompts

    engine, prompt = asker.engine, prompts.load("author_knowledge")
    values = {**card_values, "kind": kind, "examples": examples}
    request = prompt.request(values, engine.model, sampling=engine.sampling, structured=engine.structured)
    found = asker.parsed([(request, 0)], lambda _, text: str(prompt.parse(text)), again=prompt.ask_again)
    asker.need_all(found)
    return "" if isinstance(found[0], Failure) else found[0].value


def _ask(asker: Asker, reader: Reader, slots: list[Slot], requests: list[Request], repairs: int) -> list[Candidate]:
    """Ask for a round of slots; parse, check and try every answer, and have it repaired within bounds."""
    wanted = [(request, 0) for request in requests]
    found = asker.parsed(wanted, reader.parse, again=reader.again, tries=1 + repairs, cut=reader.parse_cut)
    asker.need_all(found)  # programs are decided in the order of their slots: none of them before those that come first
    candidates = []
    for slot, request, outcome in zip(slots, requests, found, strict=True):
        if isinstance(outcome, Failure):
            candidates.append(reader.unrepaired(slot, request, outcome.reason, outcome.detail))
        else:
            key, sample_no = outcome.request_key, outcome.sample_no
            candidates.append(Candidate(slot, *outcome.value, request_key=key, sample_no=sample_no))
    return candidates


# Writing ----------------------------------------------------------------------------------------------------------------------
def _store(
    warehouse: Warehouse, plan_no: int, decided: tuple[Candidate, ...], labels: list[str], versions: Mapping[str, str],
    replaced: Sequence[int],
) -> None:  # fmt: skip
    """Programs, slots and events of a finished plan, in one transaction, with the end of those that it replaces."""
    outcomes: dict[int, plans.Outcome] = {}
    with warehouse.lease() as db:
        for number in replaced:
            programs.set_state(db, number, "superseded", "definition_changed", STAGE)
        for candidate in decided:
            slot = candidate.slot
            reason, detail = candidate.drop_reason, candidate.detail
            if reason is None and candidate.votes is not None:
                detail = detail or coverage_flag(candidate.votes)
            outcomes[slot.number] = (
                plans.Answered(candidate.request_key, candidate.sample_no, detail)
                if reason is None
                else plans.Dropped(reason, detail, candidate.request_key, candidate.sample_no)
            )
            if candidate.source is None:
                continue
            key = programs.program_key(slot.form, slot.target, candidate.source)
            target_no = None if slot.target is None else labels.index(slot.target)
            new = NewProgram(
                slot.name, slot.form, "model", candidate.source, key, target_no=target_no, plan_no=plan_no,
                slot_no=slot.number, request_key=candidate.request_key, sample_no=candidate.sample_no,
                prompt_version=versions[slot.form],
            )  # fmt: skip
            programs.offer(db, new, reason=reason, detail=detail)
        never_asked = {slot.slot_no for slot in plans.slots(warehouse, plan_no)} - set(outcomes)
        plans.decide(db, plan_no, {**outcomes, **dict.fromkeys(never_asked, plans.Unused())})
        plans.finish(db, plan_no)


def _result(
    warehouse: Warehouse, plan: Plan, config: Mapping[str, Any], *, skipped: bool, says: tuple[str, ...]
) -> StageResult:
    """What the plan came to."""
    plan_no, wanted = plan.plan_no, _wanted(plan, config)
    states = plans.states(warehouse, plan_no)
    accepted = sum(n for (state, _), n in states.items() if state == "accepted")
    refused = {reason or "": n for (state, reason), n in states.items() if state == "dropped"}
    asked = accepted + sum(refused.values())
    line = f"{accepted} programs accepted of {asked} asked"
    if refused:
        line += "; refused: " + ", ".join(f"{n} {reason}" for reason, n in sorted(refused.items()))
    lines = [line, *says]
    if accepted < wanted:
        tried = config["candidates"] if "renews" not in plan.config else sum(states.values())
        lines.append(f"{wanted} were wanted, and the {tried} candidates are used up")
    if "renews" in plan.config:
        lines.append(
            f"the card changed: {len(plan.config['renews']['programs'])} programs are written anew, the others stay"
        )
    did = {"plan": plan_no, "wanted": wanted, "asked": asked, "accepted": accepted, "refused": refused}
    return StageResult("author", skipped, did, tuple(lines))
