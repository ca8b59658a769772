"""The stage `author` against the warehouse: freeze a plan, fill its slots through the model, store every candidate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.errors import InputError
from factory.programs.author.knowledge import KNOWLEDGE, ask_knowledge
from factory.programs.author.material import sample, seed_texts, texts_by_number
from factory.result import Progress, StageResult, no_progress
from factory.task import current_card, label_names
from factory.warehouse.file import insert, next_no

if TYPE_CHECKING:
    from factory.llm import Engine
    from factory.llm.request import Request
    from factory.programs.author.loop import Candidate, Slot
    from factory.programs.sandbox.host.pool import Pool, Sandbox
    from factory.prompts import Prompt
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse


def program_key(kind: str, target: str | None, source: str) -> str:
    """The identity of a program: SHA-256 of its kind, its target label and its source."""
    return digest({"kind": kind, "target": target, "source": source})


def author_programs(
    warehouse: Warehouse,
    engine: Engine,
    config: Mapping[str, Any],
    *,
    strict: bool = False,
    sandbox: Sandbox = "kernel",
    budget: Any = None,
    progress: Progress = no_progress,
) -> StageResult:
    """See `factory.programs.stage.author`."""
    from factory import prompts
    from factory.programs.author.answers import prompts_of
    from factory.programs.sandbox.host.pool import shared_pool

    card = current_card(warehouse)
    _check(config)
    asking = prompts_of(str(config["form"]), card.kind)
    version = "+".join(prompt.version for prompt in asking.values())
    if config["knowledge"]:
        version += "+" + prompts.load("author_knowledge").version
    model = [engine.model.name, engine.model.revision, engine.model.adapter]
    key = digest({"stage": "author", "config": dict(config), "card": card.revision, "prompt": version, "model": model})
    found = warehouse.query("SELECT plan_no, done FROM plans WHERE stage = 'author' AND key = ?", [key])
    if found and found[0][1]:
        return _result(warehouse, found[0][0], config, skipped=True, says=())
    plan_no = found[0][0] if found else _freeze(warehouse, card, config, key, version)
    pool = shared_pool(strict, sandbox)
    return _fill(warehouse, engine, card, asking, plan_no, config, pool=pool, budget=budget, progress=progress)


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
def _freeze(warehouse: Warehouse, card: TaskCard, config: Mapping[str, Any], key: str, version: str) -> int:
    """Store the plan with every slot, and which texts each slot shows."""
    from factory.programs.author.loop import plan_slots

    slots = plan_slots(
        card.label_names,
        kind=card.kind,
        candidates=config["candidates"],
        variants=config["variants"],
        programs=config["programs"],
        form=config["form"],
        varied=config["varied"],
    )
    per_slot = int(config["examples"])
    windows = len(slots) if config["varied"] else max(1, config["variants"])
    shown = sample(warehouse, per_slot * windows, salt="examples")
    if not shown:
        raise InputError("there are no training texts", where=warehouse.path, fix="Ingest the split `train` first")
    seeds = seed_texts(warehouse, card, int(config["seeds"]))
    with warehouse.lease() as db:
        plan_no = next_no(db, "plans", "plan_no")
        db.execute(
            "INSERT INTO plans (plan_no, stage, key, config, task_revision, prompt_version, done)"
            " VALUES (?, 'author', ?, ?, ?, ?, false)",
            [plan_no, key, json.dumps(config), card.revision, version],
        )
        specs, parents = [], []
        for slot in slots:
            first = (slot.number if config["varied"] else slot.variant) * per_slot
            window = [shown[(first + i) % len(shown)] for i in range(min(per_slot, len(shown)))]
            specs.append(
                json.dumps(
                    {
                        "approach": slot.approach.name,
                        "variant": slot.variant,
                        "focus": list(slot.focus),
                        "target": slot.target,
                        "form": slot.form,
                        "examples": window,
                        "seeds": seeds,
                    }
                )
            )
            parents.append(json.dumps({"texts": window + [text_no for text_no, _ in seeds]}))
        n = len(slots)
        insert(
            db,
            "slots",
            {
                "plan_no": [plan_no] * n,
                "slot_no": [slot.number for slot in slots],
                "round": [0] * n,
                "spec": specs,
                "parents": parents,
                "state": ["open"] * n,
            },
        )
    return plan_no


def _slots(warehouse: Warehouse, plan_no: int) -> list[tuple[Slot, dict[str, Any]]]:
    """The plan's slots as stored, with their specifications."""
    from factory.programs.author.loop import Slot
    from factory.programs.author.rubrics import rubrics

    found = []
    rows = warehouse.query("SELECT slot_no, spec FROM slots WHERE plan_no = ? ORDER BY slot_no", [plan_no])
    for number, text in rows:
        spec = json.loads(text)
        scope = "targeted" if spec["target"] is not None else "focused" if spec["focus"] else "broad"
        approach = next(rubric for rubric in rubrics(scope, spec["form"]) if rubric.name == spec["approach"])
        slot = Slot(number, approach, spec["variant"], tuple(spec["focus"]), spec["target"], spec["form"])
        found.append((slot, spec))
    return found


# Filling --------------------------------------------------------------------------------------------------------------------
def _fill(
    warehouse: Warehouse,
    engine: Engine,
    card: TaskCard,
    asking: Mapping[str, Prompt],
    plan_no: int,
    config: Mapping[str, Any],
    *,
    pool: Pool,
    budget: Any,
    progress: Progress,
) -> StageResult:
    from factory import prompts
    from factory.programs.author.loop import AuthorState, step, values_of
    from factory.programs.author.similar import plain_source

    labels = label_names(warehouse)
    planned = _slots(warehouse, plan_no)
    spec_of = {slot.number: spec for slot, spec in planned}
    probe_texts = texts_by_number(warehouse, sample(warehouse, int(config["probe"]), salt="probe"))
    probe = list(probe_texts.values())
    shown = texts_by_number(
        warehouse,
        sorted({no for spec in spec_of.values() for no in [*spec["examples"], *[s[0] for s in spec["seeds"]]]}),
    )
    card_values = prompts.card_values(card)
    knowledge = ask_knowledge(warehouse, engine, config, card_values, planned, shown, budget, progress)
    live = warehouse.query(
        "SELECT source, kind FROM programs WHERE state = 'accepted' AND kind IN ('python', 'rules')"
        " AND plan_no IS DISTINCT FROM ?",
        [plan_no],
    )
    state = AuthorState(
        tuple(slot for slot, _ in planned),
        int(config["programs"]),
        known_sources=tuple(plain_source(*row) for row in live),
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
            names = [slot.target] if slot.target is not None else list(slot.focus) or card.label_names
            request = asking[slot.form].request(values, engine.model, structured=engine.structured, labels=names)
            requests.append(request)
        answers = _ask(warehouse, engine, asking, wanted, requests, probe, labels, config, pool, budget, progress)
        state, wanted = step(state, answers)
    versions = {form: prompt.version for form, prompt in asking.items()}
    _store(warehouse, plan_no, state.decided, labels, versions)
    return _result(warehouse, plan_no, config, skipped=False, says=())


def _ask(
    warehouse: Warehouse,
    engine: Engine,
    asking: Mapping[str, Prompt],
    slots: list[Slot],
    requests: list[Request],
    probe: list[str],
    labels: list[str],
    config: Mapping[str, Any],
    pool: Pool,
    budget: Any,
    progress: Progress,
) -> list[Candidate]:
    """Ask for a round of slots; parse, check and try every answer, and have it repaired within bounds."""
    from factory.llm import ask_parsed
    from factory.llm.request import Failure
    from factory.programs.author.answers import Reader
    from factory.programs.author.loop import Candidate

    slot_of = {request.key: slot for slot, request in zip(slots, requests, strict=True)}
    reader = Reader(pool, probe, labels, asking, slot_of)
    found = ask_parsed(
        warehouse,
        engine,
        [(request, 0) for request in requests],
        reader.parse,
        again=reader.again,
        tries=1 + int(config["repairs"]),
        stage="author",
        budget=budget,
        progress=progress,
    )
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
    warehouse: Warehouse, plan_no: int, decided: tuple[Candidate, ...], labels: list[str], versions: Mapping[str, str]
) -> None:
    """Programs, slots and events of a finished plan, in one transaction."""
    from factory.programs.trial import coverage_flag

    with warehouse.lease() as db:
        known = {
            row[0] for row in db.execute("SELECT program_key FROM programs WHERE state <> 'superseded'").fetchall()
        }
        number = next_no(db, "programs", "program_no")
        for candidate in decided:
            slot = candidate.slot
            reason, detail = candidate.drop_reason, candidate.detail
            if reason is None and candidate.votes is not None:
                detail = detail or coverage_flag(candidate.votes)
            accepted = reason is None
            db.execute(
                "UPDATE slots SET state = ?, drop_reason = ?, detail = ?, request_key = ?, sample_no = ?"
                " WHERE plan_no = ? AND slot_no = ?",
                [
                    "accepted" if accepted else "dropped",
                    reason,
                    detail,
                    candidate.request_key,
                    candidate.sample_no,
                    plan_no,
                    slot.number,
                ],
            )
            if candidate.source is None:
                continue
            key = program_key(slot.form, slot.target, candidate.source)
            if key in known:
                continue
            known.add(key)
            insert(
                db,
                "programs",
                {
                    "program_no": [number],
                    "program_key": [key],
                    "name": [slot.name],
                    "kind": [slot.form],
                    "origin": ["model"],
                    "target_label_no": [None if slot.target is None else labels.index(slot.target)],
                    "source": [candidate.source],
                    "plan_no": [plan_no],
                    "slot_no": [slot.number],
                    "request_key": [candidate.request_key],
                    "sample_no": [candidate.sample_no],
                    "prompt_version": [versions[slot.form]],
                    "state": ["accepted" if accepted else "rejected"],
                    "drop_reason": [reason],
                    "detail": [detail],
                },
            )
            insert(
                db,
                "program_events",
                {
                    "program_no": [number],
                    "state": ["accepted" if accepted else "rejected"],
                    "reason": [reason],
                    "actor": ["author"],
                },
            )
            number += 1
        db.execute("UPDATE plans SET done = true WHERE plan_no = ?", [plan_no])


def _result(
    warehouse: Warehouse, plan_no: int, config: Mapping[str, Any], *, skipped: bool, says: tuple[str, ...]
) -> StageResult:
    """What the plan came to."""
    rows = warehouse.query(
        "SELECT state, drop_reason, count(*) FROM slots WHERE plan_no = ? AND state <> 'open' GROUP BY ALL ORDER BY ALL",
        [plan_no],
    )
    accepted = sum(n for state, _, n in rows if state == "accepted")
    refused = {reason: n for state, reason, n in rows if state == "dropped"}
    asked = accepted + sum(refused.values())
    line = f"{accepted} programs accepted of {asked} asked"
    if refused:
        line += "; refused: " + ", ".join(f"{n} {reason}" for reason, n in sorted(refused.items()))
    lines = [line, *says]
    if accepted < int(config["programs"]):
        lines.append(f"{config['programs']} were wanted, and the {config['candidates']} candidates are used up")
    did = {"plan": plan_no, "wanted": config["programs"], "asked": asked, "accepted": accepted, "refused": refused}
    return StageResult("author", skipped, did, tuple(lines))
