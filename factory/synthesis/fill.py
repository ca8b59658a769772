"""Filling one plan: materials in, rounds asked and decided, everything stored as it is decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.corpus.decontaminate import held_out_texts
from factory.errors import InputError
from factory.llm.request import Failure, Request
from factory.result import Progress
from factory.synthesis import store
from factory.synthesis.bands import DEMOS, SOURCES, band
from factory.synthesis.corpora import Cutting, passage_corpus
from factory.synthesis.few_shot import FewShot
from factory.synthesis.filters import ORDER, expected_language, length_bounds, text_filters
from factory.synthesis.judge import Judge
from factory.synthesis.loop import Check, Loop, State, diagnosis, trim
from factory.synthesis.materials import Seed, dealt, length_words, read_seeds, retrieve, sample_texts
from factory.synthesis.render import Renderer
from factory.synthesis.self_guide import SelfGuide
from factory.synthesis.synthesizrr import SynthesizRR
from factory.synthesis.values import Answer, Checked, Dropped, Goal, Method, Slot
from factory.task import TaskCard
from factory.warehouse.tables.texts import texts_of

if TYPE_CHECKING:
    from factory.llm import Engine
    from factory.warehouse.file import Warehouse

LENGTH_SAMPLE = 200
"""Unlabelled texts by which real lengths and the language are told where there are few seeds."""


class Filler:
    """Runs the loop of one plan against the warehouse and the engine."""

    def __init__(
        self,
        warehouse: Warehouse,
        engine: Engine,
        card: TaskCard,
        plan: store.Plan,
        goal: Goal,
        config: Mapping[str, Any],
        *,
        base: Path | None,
        budget: Any,
        progress: Progress,
    ) -> None:
        self.warehouse, self.engine, self.card, self.plan = warehouse, engine, card, plan
        self.goal, self.config, self.base = goal, config, base
        self.budget, self.progress = budget, progress
        self.thresholds: Mapping[str, Any] = {}
        self._saved = State()
        self._requests: dict[int, Request] = {}
        keep = config["cartography"]
        if keep is not None and not 0 < keep <= 1:
            raise InputError(
                "cartography is the share that is kept, above 0 and up to 1", where="synthesize.cartography"
            )
        unknown = [name for name in config["filters_off"] if name not in ORDER]
        if unknown:
            raise InputError(
                f"there is no filter {unknown[0]!r}",
                where="synthesize.filters_off",
                fix=f"There are {', '.join(ORDER)}",
            )

    def run(self) -> None:
        """Fill the plan until it is done."""
        state = store.load_state(self.warehouse, self.plan.plan_no)
        with self.warehouse.lease() as db:
            store.finish_plan(db, self.plan.plan_no, None)
        loop, renderer = self._prepare(state)
        self._saved = loop.begin(state)
        by_no = {slot.slot_no: slot for slot in state.slots}
        slots = [by_no[slot_no] for slot_no in state.open]
        while True:
            answers = self._answers(renderer, state, slots)
            before = state
            state, slots = loop.step(state, answers)
            self._store(renderer, before, state, slots, answers)
            if state.finished:
                break
        self._finish(loop, state)

    # Materials ------------------------------------------------------------------------------------------------------------
    def _prepare(self, state: State) -> tuple[Loop, Renderer]:
        config = self.config
        labels: list[str] = config["labels"]
        seeds = self._seeds(labels)
        flat = [seed for label in labels for seed in seeds[label]]
        real = [seed.text for seed in flat]
        if len(real) < 8:
            real += sample_texts(
                self.warehouse, LENGTH_SAMPLE, config["random_seed"], exclude=[s.text_no for s in flat]
            )
        method = self._method(seeds, state)
        texts = {seed.text_no: seed.text for seed in flat}
        passages: dict[int, str] = {}
        if isinstance(method, SynthesizRR):
            named = {number for query in method.queries for number in (*query.sources, *query.demos)}
            named |= {slot.parents["passage"] for slot in state.slots if "passage" in slot.parents}
            passages = texts_of(self.warehouse, sorted(named))
        used = {
            number
            for slot in state.slots
            for number in (*slot.parents.get("demos", ()), *slot.spec.get("examples", ()))
        }
        texts |= texts_of(self.warehouse, sorted(used - set(texts))) | passages
        renderer = Renderer(
            self.card,
            config["method"],
            self.engine.model,
            structured=self.engine.structured,
            texts=texts,
            length=length_words(real),
            style=sample_texts(
                self.warehouse, config["style"], config["random_seed"], exclude=[s.text_no for s in flat]
            ),
            contrast=config["contrast"],
            demonstrations=_interleaved(seeds, 3) if config["label_check"] == "model" else (),
            sampling=config["sampling"],
            engine_sampling=self.engine.sampling,
        )
        judge = Judge(
            held_out=held_out_texts(self.warehouse),
            seeds=[seed.text for seed in flat],
            check_text=text_filters(
                noise_words=config["noise"] or (),
                bounds=length_bounds(real),
                expected=expected_language(real[:50]),
                copy_share=config["copy_share"],
            ),
            exempt=config["filters_off"],
        )
        check = None
        if config["label_check"] == "model":
            relabel = config["method"] == "self_guide"
            check = Check(config["check_samples"], config["check_share"], relabel, "drop")
        elif config["label_check"] == "programs":
            check = Check()
        keep = config["cartography"]
        goal = self.goal if keep is None else _enlarged(self.goal, keep)
        return Loop(method, goal, labels, judge, passages=passages, check=check), renderer

    def _seeds(self, labels: Sequence[str]) -> dict[str, list[Seed]]:
        wanted, method = self.config["seeds"], self.config["method"]
        if wanted == "none":
            return {label: [] for label in labels}
        seeds = read_seeds(self.warehouse, labels, None if wanted == "all" else int(wanted))
        bare = [label for label in labels if not seeds[label]]
        needs = method == "synthesizrr" or self.config["demos"] > 0
        if bare and needs:
            raise InputError(
                f"label {bare[0]!r} has no seed",
                where="synthesize",
                fix="Ingest a split `seed` with examples of it, or say `seeds: none`",
            )
        return seeds

    def _method(self, seeds: Mapping[str, Sequence[Seed]], state: State) -> Method:
        config = self.config
        name, demos, random_seed = config["method"], config["demos"], config["random_seed"]
        numbers = {label: [seed.text_no for seed in found] for label, found in seeds.items()}
        if name == "self_guide":
            return SelfGuide(
                {label: found[:demos] for label, found in numbers.items()},
                count=config["texts_per_answer"],
                random_seed=random_seed,
            )
        if name == "few_shot":
            attributes = self._attributes(state) if config["attributes"] else {}
            return FewShot(
                numbers, demos, config["texts_per_answer"], config["block"] or 4, attributes, random_seed=random_seed
            )
        return SynthesizRR(self._queries(seeds), demos, config["block"] or 8, random_seed)

    def _queries(self, seeds: Mapping[str, Sequence[Seed]]) -> Sequence[Any]:
        from factory.prompts import writing_values

        config = self.config
        outside = config["passages"]
        least, most = config["passage_tokens"] or ((20, 400) if outside else (5, 400))
        corpus = passage_corpus(
            self.warehouse,
            outside,
            Cutting(most, least, config["first_passage"]),
            base=self.base,
            progress=self.progress,
        )
        queries: list[tuple[str, int | None, str]] = []
        for label in config["labels"]:
            queries += [(label, seed.text_no, seed.text) for seed in seeds[label]]
            if not seeds[label]:
                described = writing_values(self.card, label)
                queries.append((label, None, f"{described['label']}: {described['meaning']}"))
        try:
            bands = config["bands"] or {}
            demos, sources = band(bands.get("demos"), DEMOS), band(bands.get("sources"), SOURCES)
            if set(bands) - {"demos", "sources"}:
                raise ValueError("bands are `demos` and `sources`")
        except ValueError as error:
            raise InputError(str(error), where="synthesize.bands") from error
        if not any(seeds.values()) and not config["bands"]:
            sources = band({"ranks": [1, max(50, int(self.goal.budget * 1.5))]}, SOURCES)
        exclude = [seed.text_no for some in seeds.values() for seed in some]
        if self.engine.rough:
            return dealt(queries, corpus, demos=demos, sources=sources, exclude=exclude)
        encoder = None
        if config["retrieval"] != "lexical":
            from factory.encoders.encoder import load_encoder

            encoder = load_encoder(config["encoder"])
        found = retrieve(
            self.warehouse, queries, corpus, how=config["retrieval"], encoder=encoder, demos=demos, sources=sources,
            exclude=exclude, pool=config["pool"], progress=self.progress,
        )  # fmt: skip
        self.thresholds = found.thresholds
        return found.queries

    def _attributes(self, state: State) -> dict[str, Mapping[str, Sequence[str]]]:
        """The values of attributes that the model proposes for each label: one request each, asked before any other."""
        renderer = Renderer(
            self.card, self.config["method"], self.engine.model, structured=self.engine.structured,
            engine_sampling=self.engine.sampling,
        )  # fmt: skip
        prompt = renderer.prompt("attributes")
        slots = [Slot(-1, 0, "attributes", label, {"count": 12}) for label in self.config["labels"]]
        values = self._ask([(renderer.request(slot, {}), 0) for slot in slots], prompt, again=True)
        found: dict[str, Mapping[str, Sequence[str]]] = {}
        for slot, value in zip(slots, values, strict=True):
            if isinstance(value, Failure):
                raise InputError(
                    f"no attributes for label {slot.label!r}: {value.reason}", where="synthesize.attributes"
                )
            found[slot.label] = {str(name): [str(v) for v in items] for name, items in value.items()}
        return found

    # Asking ---------------------------------------------------------------------------------------------------------------
    def _answers(self, renderer: Renderer, state: State, slots: Sequence[Slot]) -> dict[int, Answer]:
        if not slots:
            return {}
        if slots[0].kind == "check" and self.config["label_check"] == "programs":
            return self._programs_say(state, slots)
        parts = {(part.slot_no, part.part_no): part for part in (*state.parts, *state.pending)}
        wanted: list[tuple[Request, int]] = []
        spans = []
        for slot in slots:
            samples = range(slot.sample_no, slot.sample_no + int(slot.spec.get("samples", 1)))
            request = self._request(renderer, slot, parts)
            wanted += [(request, sample) for sample in samples]
            spans.append(len(samples))
        values = self._ask(wanted, renderer.prompt(slots[0].kind), again=False)
        answers: dict[int, Answer] = {}
        at = 0
        for slot, span in zip(slots, spans, strict=True):
            own = values[at : at + span]
            at += span
            if slot.kind == "check":
                answers[slot.slot_no] = _agreement(own, self.card.label_names)
            elif isinstance(own[0], Failure):
                answers[slot.slot_no] = Dropped(own[0].reason, own[0].detail)
            else:
                answers[slot.slot_no] = list(own[0])[: max(1, 2 * self.goal.texts_per_answer)]
        return answers

    def _ask(self, wanted: Sequence[tuple[Request, int]], prompt: Any, *, again: bool) -> list[Any]:
        from factory.llm import ask_parsed

        names = self.card.label_names
        found = ask_parsed(
            self.warehouse,
            self.engine,
            wanted,
            lambda request, text: prompt.parse(text, labels=names),
            again=prompt.ask_again if again else None,
            tries=2 if again else 1,
            stage=store.STAGE,
            budget=self.budget,
            progress=self.progress,
        )
        return [item if isinstance(item, Failure) else item.value for item in found]

    def _programs_say(self, state: State, slots: Sequence[Slot]) -> dict[int, Answer]:
        from factory.synthesis.votes import programs_say

        pending = {(part.slot_no, part.part_no): part.text for part in state.pending}
        texts = [pending[slot.parents["slot"], slot.parents["part"]] for slot in slots]
        said = programs_say(self.warehouse, self.card, texts)
        return {slot.slot_no: Checked(label) for slot, label in zip(slots, said, strict=True)}

    # Storing --------------------------------------------------------------------------------------------------------------
    def _store(
        self, renderer: Renderer, before: State, state: State, slots: Sequence[Slot], answers: Mapping[int, Answer]
    ) -> None:
        known = {slot.slot_no for slot in before.slots}
        fresh = [slot for slot in slots if slot.slot_no not in known]
        parts = {(part.slot_no, part.part_no): part for part in (*state.parts, *state.pending)}
        by_program = self.config["label_check"] == "programs"
        keys = {
            slot.slot_no: None if slot.kind == "check" and by_program else self._request(renderer, slot, parts).key
            for slot in fresh
        }
        by_no = {slot.slot_no: slot for slot in before.slots}
        checks = {
            slot_no: (None, _words(answer)) for slot_no, answer in answers.items() if by_no[slot_no].kind == "check"
        }
        numbers = dict(self.warehouse.query("SELECT name, label_no FROM labels"))
        with self.warehouse.lease() as db:
            if not state.pending:
                store.save_round(
                    db, self.plan.plan_no, state, self._saved, method=self.config["name"],
                    prompt_version=renderer.prompt("write").version, label_nos=numbers, checks=checks,
                )  # fmt: skip
                self._saved = state
            store.save_slots(db, self.plan.plan_no, fresh, keys)

    def _finish(self, loop: Loop, state: State) -> None:
        keep = self.config["cartography"]
        trimmed = state
        if keep is not None and state.accepted:
            trimmed = trim(state, self._confidences(state), self.goal.per_label, keep)
        dropped = [
            after
            for before, after in zip(state.parts, trimmed.parts, strict=True)
            if before.drop_reason != after.drop_reason
        ]
        with self.warehouse.lease() as db:
            store.drop_parts(db, self.plan.plan_no, dropped)
            accepted = store.accepted_counts(self.warehouse, self.plan.plan_no)
            short = {
                label: diagnosis(trimmed, label, self.goal)
                for label in self.config["labels"]
                if accepted.get(label, 0) < self.goal.per_label
            }
            outcome = {
                "per_label": self.goal.per_label,
                "candidates": self.goal.candidates,
                "accepted": accepted,
                "short": short,
                "rounds": max((slot.round for slot in state.slots), default=-1) + 1,
                "thresholds": self.thresholds,
            }
            store.finish_plan(db, self.plan.plan_no, outcome)

    def _confidences(self, state: State) -> dict[tuple[int, int], float]:
        from factory.encoders.encoder import load_encoder
        from factory.synthesis.cartography import cartography

        parts = state.accepted
        names = sorted({part.label for part in parts})
        vectors = load_encoder(self.config["encoder"]).encode([part.text for part in parts])
        found = cartography(
            vectors, [names.index(part.label) for part in parts], len(names), self.config["random_seed"]
        )
        return {(part.slot_no, part.part_no): float(score) for part, score in zip(parts, found.confidence, strict=True)}

    def _request(self, renderer: Renderer, slot: Slot, parts: Mapping[tuple[int, int], Any]) -> Request:
        if slot.slot_no not in self._requests:
            self._requests[slot.slot_no] = renderer.request(slot, parts)
        return self._requests[slot.slot_no]


def _enlarged(goal: Goal, keep: float) -> Goal:
    """What must be accepted so that the share `keep` of it is what was asked for."""
    per_label = math.ceil(round(goal.per_label / keep, 6))
    return replace(goal, per_label=per_label, candidates=goal.candidates * goal.per_label / per_label)


def _interleaved(seeds: Mapping[str, Sequence[Seed]], most: int) -> list[tuple[str, str]]:
    """`(text, label)`, one of each label in turn, at most `most` of each."""
    return [
        (found[turn].text, found[turn].label) for turn in range(most) for found in seeds.values() if turn < len(found)
    ]


def _agreement(said: Sequence[Any], labels: Sequence[str]) -> Checked:
    """The label most samples give, and the share of all samples that give it. A tie is undecided."""
    counts = {label: sum(value == label for value in said) for label in labels}
    best = max(counts.values())
    winners = [label for label in labels if counts[label] == best]
    if best == 0 or len(winners) > 1:
        return Checked(None, best / len(said))
    return Checked(winners[0], best / len(said))


def _words(answer: Answer) -> str:
    return f"{answer.label} {answer.share:.2f}" if isinstance(answer, Checked) else ""
