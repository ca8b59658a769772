"""The stage `author` against the warehouse: freeze a plan, fill its slots through the model, store every candidate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.errors import InputError
from factory.result import Progress, StageResult, no_progress
from factory.task import current_card, label_names
from factory.warehouse.file import insert, next_no
from factory.warehouse.tables.gold import seed_gold
from factory.warehouse.tables.texts import sample_texts, texts_of

if TYPE_CHECKING:
    from factory.llm import Engine
    from factory.llm.request import Request
    from factory.programs.author.loop import Candidate, Slot
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse

KNOWLEDGE = ("heuristics", "keywords", "descriptions", "examples")


def program_key(kind: str, target: str | None, source: str) -> str:
    """The identity of a program: SHA-256 of its kind, its target label and its source."""
    return digest({"kind": kind, "target": target, "source": source})


def author_programs(
    warehouse: Warehouse,
    engine: Engine,
    config: Mapping[str, Any],
    *,
    strict: bool = False,
    budget: Any = None,
    progress: Progress = no_progress,
) -> StageResult:
    """See `factory.programs.stage.author`."""
    from factory import prompts

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
    }
    key = digest({"stage": "author", **whole})
    found = warehouse.query("SELECT plan_no, done FROM plans WHERE stage = 'author' AND key = ?", [key])
    if found and found[0][1]:
        return _result(warehouse, found[0][0], config, skipped=True, says=())
    plan_no = found[0][0] if found else _freeze(warehouse, card, config, key, version)
    return _fill(warehouse, engine, card, prompt, plan_no, config, strict=strict, budget=budget, progress=progress)


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
    )
    per_slot = int(config["examples"])
    shown = _sample(warehouse, per_slot * max(1, config["variants"]), salt="examples")
    if not shown:
        raise InputError("there are no training texts", where=warehouse.path, fix="Ingest the split `train` first")
    seeds = _seed_texts(warehouse, card, int(config["seeds"]))
    with warehouse.lease() as db:
        plan_no = next_no(db, "plans", "plan_no")
        db.execute(
            "INSERT INTO plans (plan_no, stage, key, config, task_revision, prompt_version, done)"
            " VALUES (?, 'author', ?, ?, ?, ?, false)",
            [plan_no, key, json.dumps(config), card.revision, version],
        )
        specs, parents = [], []
        for slot in slots:
            first = slot.variant * per_slot
            window = [shown[(first + i) % len(shown)] for i in range(min(per_slot, len(shown)))]
            specs.append(
                json.dumps(
                    {
                        "approach": slot.approach.name,
                        "variant": slot.variant,
                        "focus": list(slot.focus),
                        "target": slot.target,
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


def _sample(warehouse: Warehouse, count: int, *, salt: str) -> list[int]:
    """Text numbers of the split `train`, drawn by the hash of their content: the same texts wherever they were ingested."""
    return [number for number, _ in sample_texts(warehouse, max(count, 1), salt)]


def _seed_texts(warehouse: Warehouse, card: TaskCard, per_label: int) -> list[tuple[int, list[str]]]:
    """Text numbers and label names of the gold seeds to show, so many for each label, in the card's order."""
    if per_label <= 0:
        return []
    names = label_names(warehouse)
    seeds = sorted(seed_gold(warehouse), key=lambda seed: seed.content_hash)
    chosen: dict[int, list[str]] = {}
    for name in card.label_names:
        number = names.index(name)
        for seed in [seed for seed in seeds if number in seed.labels][:per_label]:
            chosen.setdefault(seed.text_no, [names[i] for i in seed.labels])
    return list(chosen.items())


def _slots(warehouse: Warehouse, plan_no: int) -> list[tuple[Slot, dict[str, Any]]]:
    """The plan's slots as stored, with their specifications."""
    from factory.programs.author.loop import Slot
    from factory.programs.author.rubrics import BROAD, FOCUSED, TARGETED

    found = []
    rows = warehouse.query("SELECT slot_no, spec FROM slots WHERE plan_no = ? ORDER BY slot_no", [plan_no])
    for number, text in rows:
        spec = json.loads(text)
        table = TARGETED if spec["target"] is not None else FOCUSED if spec["focus"] else BROAD
        approach = next(rubric for rubric in table if rubric.name == spec["approach"])
        found.append((Slot(number, approach, spec["variant"], tuple(spec["focus"]), spec["target"]), spec))
    return found


# Filling --------------------------------------------------------------------------------------------------------------------
def _fill(
    warehouse: Warehouse,
    engine: Engine,
    card: TaskCard,
    prompt: Any,
    plan_no: int,
    config: Mapping[str, Any],
    *,
    strict: bool,
    budget: Any,
    progress: Progress,
) -> StageResult:
    from factory import prompts
    from factory.programs.author.loop import AuthorState, step, values_of
    from factory.programs.author.similar import plain_source

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
    knowledge = _knowledge(warehouse, engine, config, card_values, planned, shown, budget, progress)
    live = warehouse.query(
        "SELECT source FROM programs WHERE state = 'accepted' AND kind = 'python' AND plan_no IS DISTINCT FROM ?",
        [plan_no],
    )
    state = AuthorState(
        tuple(slot for slot, _ in planned),
        int(config["programs"]),
        known_sources=tuple(plain_source(row[0]) for row in live),
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
            requests.append(prompt.request(values, engine.model, structured=engine.structured, labels=names))
        answers = _ask(warehouse, engine, prompt, wanted, requests, probe, labels, config, strict, budget, progress)
        state, wanted = step(state, answers)
    _store(warehouse, plan_no, state.decided, labels, prompt.version)
    return _result(warehouse, plan_no, config, skipped=False, says=())


def _knowledge(
    warehouse: Warehouse,
    engine: Engine,
    config: Mapping[str, Any],
    card_values: Mapping[str, Any],
    planned: list[tuple[Slot, dict[str, Any]]],
    shown: Mapping[int, str],
    budget: Any,
    progress: Progress,
) -> str:
    """What the model says it knows of the labels, asked once; empty if it is not wanted or gave nothing."""
    if not config["knowledge"]:
        return ""
    from factory import prompts
    from factory.llm import ask_parsed
    from factory.llm.request import Failure

    prompt = prompts.load("author_knowledge")
    values = {**card_values, "kind": config["knowledge"], "examples": [shown[no] for no in planned[0][1]["examples"]]}
    request = prompt.request(values, engine.model, structured=engine.structured)
    found = ask_parsed(
        warehouse,
        engine,
        [(request, 0)],
        lambda _, text: str(prompt.parse(text)),
        again=prompt.ask_again,
        tries=2,
        stage="author",
        budget=budget,
        progress=progress,
    )[0]
    return "" if isinstance(found, Failure) else found.value


def _ask(
    warehouse: Warehouse,
    engine: Engine,
    prompt: Any,
    slots: list[Slot],
    requests: list[Request],
    probe: list[str],
    labels: list[str],
    config: Mapping[str, Any],
    strict: bool,
    budget: Any,
    progress: Progress,
) -> list[Candidate]:
    """Ask for a round of slots; parse, check and probe every answer, and have it repaired within bounds."""
    from factory import prompts
    from factory.llm import ask_parsed
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

    found = ask_parsed(
        warehouse,
        engine,
        [(request, 0) for request in requests],
        parse,
        again=again,
        tries=1 + int(config["repairs"]),
        stage="author",
        budget=budget,
        progress=progress,
    )
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
    found = texts_of(warehouse, numbers)
    return {number: found[number] for number in numbers}


# Writing ----------------------------------------------------------------------------------------------------------------------
def _store(warehouse: Warehouse, plan_no: int, decided: tuple[Candidate, ...], labels: list[str], version: str) -> None:
    """Programs, slots and events of a finished plan, in one transaction."""
    from factory.programs.author.loop import coverage_flag

    with warehouse.lease() as db:
        known = {
            row[0] for row in db.execute("SELECT program_key FROM programs WHERE state <> 'superseded'").fetchall()
        }
        number = next_no(db, "programs", "program_no")
        for candidate in decided:
            slot = candidate.slot
            reason, detail = candidate.drop_reason, candidate.detail
            if reason is None and candidate.votes is not None:
                detail = coverage_flag(candidate.votes)
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
            key = program_key("python", slot.target, candidate.source)
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
                    "kind": ["python"],
                    "origin": ["model"],
                    "target_label_no": [None if slot.target is None else labels.index(slot.target)],
                    "source": [candidate.source],
                    "plan_no": [plan_no],
                    "slot_no": [slot.number],
                    "request_key": [candidate.request_key],
                    "sample_no": [candidate.sample_no],
                    "prompt_version": [version],
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
