"""The stage `author` against the warehouse: freeze a plan, fill its slots through the model, store every candidate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.errors import InputError
from factory.result import StageResult
from factory.task import current_card, label_names
from factory.warehouse.tables import plans, programs
from factory.warehouse.tables.plans import Plan
from factory.warehouse.tables.programs import NewProgram

if TYPE_CHECKING:
    from factory.llm import Asker
    from factory.llm.request import Request
    from factory.programs.author.loop import Candidate, Slot
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse

STAGE = "author"
KNOWLEDGE = ("heuristics", "keywords", "descriptions", "examples")


def author_programs(asker: Asker, config: Mapping[str, Any], *, strict: bool = False) -> StageResult:
    """See `factory.programs.stage.author`."""
    from factory import prompts

    warehouse, engine = asker.warehouse, asker.engine
    card = current_card(warehouse)
    _check(config)
    name = "author_rules" if config["form"] == "rules" else "author_program"
    prompt = prompts.load("author_program_multi" if card.kind == "multi" and name == "author_program" else name)
    version = prompt.version
    if config["knowledge"]:
        version += "+" + prompts.load("author_knowledge").version
    model = engine.model
    whole = {
        "config": dict(config),
        "card": card.revision,
        "prompt": version,
        "model": [model.name, model.revision, model.adapter],
        **({"sampling": engine.sampling} if engine.sampling else {}),
    }
    key = digest({"stage": STAGE, **whole})
    plan = plans.find(warehouse, STAGE, key)
    if plan is not None and plan.done:
        return _result(warehouse, plan.plan_no, config, skipped=True, says=())
    if plan is None:
        plan = _freeze(warehouse, card, config, key, version)
    return _fill(asker, card, prompt, plan.plan_no, config, strict=strict)


def _check(config: Mapping[str, Any]) -> None:
    for name in ("programs", "candidates", "variants", "probe"):
        if int(config[name]) < 1:
            raise InputError(f"`{name}` is at least 1", where="author")
    if config["candidates"] < config["programs"]:
        raise InputError(
            "`candidates` is less than `programs`", where="author", fix="Ask for as many candidates at least"
        )
    if config["knowledge"] not in (None, *KNOWLEDGE):
        raise InputError(
            f"unknown knowledge_kind {config['knowledge']!r}", where="author", fix=f"One of {', '.join(KNOWLEDGE)}"
        )


# The plan ---------------------------------------------------------------------------------------------------------------
def _freeze(warehouse: Warehouse, card: TaskCard, config: Mapping[str, Any], key: str, version: str) -> Plan:
    """Store the plan with every slot, and which texts each slot shows."""
    from factory.programs.author.loop import plan_slots

    slots = plan_slots(
        card.label_names,
        kind=card.kind,
        candidates=config["candidates"],
        variants=config["variants"],
        programs=config["programs"],
    )
    per_slot = int(config["examples"])
    shown = _sample(warehouse, per_slot * max(1, config["variants"]), salt="examples")
    if not shown:
        raise InputError("there are no training texts", where=warehouse.path, fix="Ingest the split `train` first")
    seeds = _seed_texts(warehouse, card, int(config["seeds"]))
    frozen = []
    for slot in slots:
        first = slot.variant * per_slot
        window = [shown[(first + i) % len(shown)] for i in range(min(per_slot, len(shown)))]
        spec = {
            "approach": slot.approach.name, "variant": slot.variant, "focus": list(slot.focus), "target": slot.target,
            "examples": window, "seeds": seeds,
        }  # fmt: skip
        frozen.append(plans.Slot(slot.number, spec, {"texts": window + [text_no for text_no, _ in seeds]}))
    return plans.create(
        warehouse, STAGE, key, config, task_revision=card.revision, prompt_version=version, slots=frozen
    )


def _sample(warehouse: Warehouse, count: int, *, salt: str) -> list[int]:
    """Text numbers of the split `train`, drawn by the hash of their content: the same texts wherever they were ingested."""
    if count <= 0:
        count = 1
    rows = warehouse.query(
        "SELECT text_no FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
        " ORDER BY sha256(? || hex(content_hash)), content_hash LIMIT ?",
        [salt, count],
    )
    return [row[0] for row in rows]


def _seed_texts(warehouse: Warehouse, card: TaskCard, per_label: int) -> list[tuple[int, list[str]]]:
    """Text numbers and label names of the gold seeds to show, so many for each label, in the card's order."""
    if per_label <= 0:
        return []
    names = label_names(warehouse)
    rows = warehouse.query(
        "SELECT g.text_no, list_sort(list(DISTINCT g.label_no)), min(hex(t.content_hash)) AS h FROM gold g"
        " JOIN texts t USING (text_no) JOIN split_texts s ON s.text_no = g.text_no AND s.split = 'seed' GROUP BY 1 ORDER BY h"
    )
    chosen: dict[int, list[str]] = {}
    for name in card.label_names:
        number = names.index(name)
        having = [row for row in rows if number in row[1]][:per_label]
        for text_no, numbers, _ in having:
            chosen.setdefault(text_no, [names[i] for i in numbers if i >= 0])
    return list(chosen.items())


def _slots(warehouse: Warehouse, plan_no: int) -> list[tuple[Slot, dict[str, Any]]]:
    """The plan's slots as stored, with their specifications."""
    from factory.programs.author.loop import Slot
    from factory.programs.author.rubrics import BROAD, FOCUSED, TARGETED

    found = []
    for slot in plans.slots(warehouse, plan_no):
        spec = dict(slot.spec)
        table = TARGETED if spec["target"] is not None else FOCUSED if spec["focus"] else BROAD
        approach = next(rubric for rubric in table if rubric.name == spec["approach"])
        found.append((Slot(slot.slot_no, approach, spec["variant"], tuple(spec["focus"]), spec["target"]), spec))
    return found


# Filling --------------------------------------------------------------------------------------------------------------------
def _fill(
    asker: Asker, card: TaskCard, prompt: Any, plan_no: int, config: Mapping[str, Any], *, strict: bool
) -> StageResult:
    from factory import prompts
    from factory.programs.author.loop import AuthorState, step, values_of
    from factory.programs.author.similar import plain_source

    warehouse, engine = asker.warehouse, asker.engine
    labels = label_names(warehouse)
    planned = _slots(warehouse, plan_no)
    spec_of = {slot.number: spec for slot, spec in planned}
    probe_texts = _texts(warehouse, _sample(warehouse, int(config["probe"]), salt="probe"))
    probe = list(probe_texts.values())
    shown = _texts(
        warehouse,
        sorted({no for spec in spec_of.values() for no in [*spec["examples"], *[s[0] for s in spec["seeds"]]]}),
    )
    card_values = prompts.card_values(card)
    knowledge = _knowledge(asker, config, card_values, planned, shown)
    known = [*programs.accepted(warehouse, kinds=("python",)), *programs.rejected_by_people(warehouse)]
    state = AuthorState(
        tuple(slot for slot, _ in planned),
        int(config["programs"]),
        known_sources=tuple(plain_source(one.source) for one in known if one.plan_no != plan_no),
    )
    state, wanted = step(state, [])
    while wanted:
        requests = []
        for slot in wanted:
            spec = spec_of[slot.number]
            values = values_of(
                slot,
                state.slots,
                card_values,
                examples=[shown[no] for no in spec["examples"]] if config["examples"] else [],
                seeds=[{"text": shown[no], "label": ", ".join(names)} for no, names in spec["seeds"]],
                knowledge=knowledge,
            )
            if config["form"] == "rules" and slot.target is not None:
                values["focus"] = values.pop("target")
            names = [slot.target] if slot.target is not None else card.label_names
            requests.append(
                prompt.request(
                    values, engine.model, sampling=engine.sampling, structured=engine.structured, labels=names
                )
            )
        answers = _ask(asker, prompt, wanted, requests, probe, labels, config, strict)
        state, wanted = step(state, answers)
    _store(warehouse, plan_no, state.decided, labels, prompt.version)
    return _result(warehouse, plan_no, config, skipped=False, says=tuple(asker.notes))


def _knowledge(
    asker: Asker,
    config: Mapping[str, Any],
    card_values: Mapping[str, Any],
    planned: list[tuple[Slot, dict[str, Any]]],
    shown: Mapping[int, str],
) -> str:
    """What the model says it knows of the labels, asked once; empty if it is not wanted or gave nothing."""
    if not config["knowledge"]:
        return ""
    from factory import prompts
    from factory.llm.request import Failure

    engine = asker.engine
    prompt = prompts.load("author_knowledge")
    values = {**card_values, "kind": config["knowledge"], "examples": [shown[no] for no in planned[0][1]["examples"]]}
    request = prompt.request(values, engine.model, sampling=engine.sampling, structured=engine.structured)
    found = asker.parsed([(request, 0)], lambda _, text: str(prompt.parse(text)), again=prompt.ask_again)
    asker.need_all(found)
    return "" if isinstance(found[0], Failure) else found[0].value


def _ask(
    asker: Asker,
    prompt: Any,
    slots: list[Slot],
    requests: list[Request],
    probe: list[str],
    labels: list[str],
    config: Mapping[str, Any],
    strict: bool,
) -> list[Candidate]:
    """Ask for a round of slots; parse, check and probe every answer, and have it repaired within bounds."""
    from factory import prompts
    from factory.llm.request import Failure
    from factory.programs.author.loop import Candidate, fault_of
    from factory.programs.sandbox.host.pool import shared_pool

    pool = shared_pool(strict)
    targets: dict[str, str | None] = {}
    for slot, request in zip(slots, requests, strict=True):
        targets[request.key] = slot.target
    last: dict[str, tuple[str, str]] = {}
    origin = {request.key: request.key for request in requests}

    def parse(request: Request, text: str) -> tuple[str, Any]:
        first = origin[request.key]
        source = _source(prompt, text, labels, targets[first])
        last[first] = (request.key, source)
        run = pool.run([source], probe, labels, target=targets[first])
        fault = fault_of(run.votes[:, 0], run.status[:, 0], run.refusals.get(0), run.notes[0])
        if fault is not None and not (config["form"] == "rules" and fault.code in ("never_votes", "constant")):
            raise prompts.ParseFailure(fault.code, fault.words)
        return source, run.votes[:, 0].copy()

    def again(request: Request, answer: str, failure: Any) -> Request:
        following: Request = prompt.ask_again(request, answer, failure)
        origin[following.key] = origin[request.key]
        return following

    wanted = [(request, 0) for request in requests]
    found = asker.parsed(wanted, parse, again=again, tries=1 + int(config["repairs"]))
    asker.need_all(found)  # programs are decided in the order of their slots: none of them before those that come first
    candidates = []
    for slot, request, outcome in zip(slots, requests, found, strict=True):
        if isinstance(outcome, Failure):
            key, source = last.get(request.key, (request.key, None))
            candidates.append(Candidate(slot, source, None, outcome.reason, outcome.detail, key, 0))
        else:
            source, votes = outcome.value
            candidates.append(
                Candidate(slot, source, votes, request_key=outcome.request_key, sample_no=outcome.sample_no)
            )
    return candidates


def _source(prompt: Any, text: str, labels: list[str], target: str | None) -> str:
    """The Python source of an answer; a list of rules becomes one.

    Raises:
        ParseFailure: There is none.
    """
    from factory import prompts
    from factory.programs.rules import rules_to_python

    if prompt.form != "json":
        return str(prompt.parse(text))
    names = labels if target is None else [target]
    source, dropped = rules_to_python(prompt.parse(text, labels=names).get("rules") or [], names, target=target)
    if source is None:
        raise prompts.ParseFailure("no_rules", "None of the rules can be used: " + "; ".join(dropped[:5]) + ".")
    return source


def _texts(warehouse: Warehouse, numbers: list[int]) -> dict[int, str]:
    """Texts by number, in the order of the numbers given."""
    rows = dict(
        warehouse.query("SELECT text_no, text FROM texts WHERE text_no IN (SELECT unnest(?::INTEGER[]))", [numbers])
    )
    return {number: rows[number] for number in numbers}


# Writing ----------------------------------------------------------------------------------------------------------------------
def _store(warehouse: Warehouse, plan_no: int, decided: tuple[Candidate, ...], labels: list[str], version: str) -> None:
    """Programs, slots and events of a finished plan, in one transaction."""
    from factory.programs.author.loop import coverage_flag

    outcomes: dict[int, plans.Outcome] = {}
    with warehouse.lease() as db:
        for candidate in decided:
            slot = candidate.slot
            reason, detail = candidate.drop_reason, candidate.detail
            if reason is None and candidate.votes is not None:
                detail = coverage_flag(candidate.votes)
            outcomes[slot.number] = (
                plans.Answered(candidate.request_key, candidate.sample_no, detail)
                if reason is None
                else plans.Dropped(reason, detail, candidate.request_key, candidate.sample_no)
            )
            if candidate.source is None:
                continue
            key = programs.program_key("python", slot.target, candidate.source)
            target_no = None if slot.target is None else labels.index(slot.target)
            new = NewProgram(
                slot.name, "python", "model", candidate.source, key, target_no=target_no, plan_no=plan_no,
                slot_no=slot.number, request_key=candidate.request_key, sample_no=candidate.sample_no,
                prompt_version=version,
            )  # fmt: skip
            programs.offer(db, new, reason=reason, detail=detail)
        never_asked = {slot.slot_no for slot in plans.slots(warehouse, plan_no)} - set(outcomes)
        plans.decide(db, plan_no, {**outcomes, **dict.fromkeys(never_asked, plans.Unused())})
        plans.finish(db, plan_no)


def _result(
    warehouse: Warehouse, plan_no: int, config: Mapping[str, Any], *, skipped: bool, says: tuple[str, ...]
) -> StageResult:
    """What the plan came to."""
    states = plans.states(warehouse, plan_no)
    accepted = sum(n for (state, _), n in states.items() if state == "accepted")
    refused = {reason or "": n for (state, reason), n in states.items() if state == "dropped"}
    asked = accepted + sum(refused.values())
    line = f"{accepted} programs accepted of {asked} asked"
    if refused:
        line += "; refused: " + ", ".join(f"{n} {reason}" for reason, n in sorted(refused.items()))
    lines = [line, *says]
    if accepted < int(config["programs"]):
        lines.append(f"{config['programs']} were wanted, and the {config['candidates']} candidates are used up")
    did = {"plan": plan_no, "wanted": config["programs"], "asked": asked, "accepted": accepted, "refused": refused}
    return StageResult("author", skipped, did, tuple(lines))
