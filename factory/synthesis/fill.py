"""Filling one plan: materials in, rounds asked and decided, everything stored as it is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.llm.request import Failure, Request
from factory.synthesis import store
from factory.synthesis.cartography import confidences
from factory.synthesis.loop import State, diagnosis, trim
from factory.synthesis.prepare import Attributes, Preparation
from factory.synthesis.render import Renderer
from factory.synthesis.values import Answer, Checked, Dropped, Goal, Slot
from factory.task import TaskCard
from factory.warehouse.tables import plans

if TYPE_CHECKING:
    from factory.llm import Asker
    from factory.warehouse.tables.plans import Plan


class Filler:
    """Runs the loop of one plan against the warehouse and the engine."""

    def __init__(
        self, asker: Asker, card: TaskCard, plan: Plan, goal: Goal, config: Mapping[str, Any], *, base: Path | None
    ) -> None:
        self.asker, self.card, self.plan = asker, card, plan
        self.warehouse, self.engine, self.progress = asker.warehouse, asker.engine, asker.progress
        self.goal, self.config, self.base = goal, config, base
        self._saved = State()
        self._requests: dict[int, Request] = {}

    def run(self) -> None:
        """Fill the plan until it is done."""
        state = store.load_state(self.warehouse, self.plan.plan_no)
        with self.warehouse.lease() as db:
            plans.reopen(db, self.plan.plan_no)
        preparation = Preparation(
            self.warehouse, self.engine, self.card, self.goal, self.config, self.base, self.progress, self._attributes
        )
        prepared = preparation.prepare(state)
        loop, renderer = prepared.loop, prepared.renderer
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
        self._finish(state, prepared.thresholds)

    def _attributes(self) -> Attributes:
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
                texts = list(own[0])[: max(1, 2 * self.goal.texts_per_answer)]
                answers[slot.slot_no] = texts or Dropped("empty")
        return answers

    def _ask(self, wanted: Sequence[tuple[Request, int]], prompt: Any, *, again: bool) -> list[Any]:
        names = self.card.label_names
        found = self.asker.parsed(
            wanted,
            lambda request, text: prompt.parse(text, labels=names),
            again=prompt.ask_again if again else None,
            tries=2 if again else 1,
        )
        self.asker.need_all(found)  # a round is decided as a whole, in the order of its slots
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

    def _finish(self, state: State, thresholds: Mapping[str, Any]) -> None:
        keep = self.config["cartography"]
        trimmed = state
        if keep is not None and state.accepted:
            scores = confidences(state.accepted, self.config["encoder"], self.config["random_seed"])
            trimmed = trim(state, scores, self.goal.per_label, keep)
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
                "per_label": self.goal.per_label, "candidates": self.goal.candidates, "accepted": accepted,
                "short": short, "rounds": max((slot.round for slot in state.slots), default=-1) + 1,
                "thresholds": thresholds,
            }  # fmt: skip
            plans.finish(db, self.plan.plan_no, outcome)

    def _request(self, renderer: Renderer, slot: Slot, parts: Mapping[tuple[int, int], Any]) -> Request:
        if slot.slot_no not in self._requests:
            self._requests[slot.slot_no] = renderer.request(slot, parts)
        return self._requests[slot.slot_no]


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
