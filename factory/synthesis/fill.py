"""Filling one plan: materials in, rounds asked and decided, everything stored as it is decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
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
        self, asker: Asker, card: TaskCard, plan: Plan, goal: Goal, config: Mapping[str, Any], base: Path | None
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
        given = self.goal, self.config, self.base, self.progress, self._attributes
        prepared = Preparation(self.warehouse, self.engine, self.card, *given).prepare(state)
        loop, renderer = prepared.loop, prepared.renderer
        self._saved = loop.begin(state)
        slots = [state.by_no[slot_no] for slot_no in state.open]
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
                said = f"no attributes for label {slot.label!r}: {value.reason}"
                raise InputError(said, where="synthesize.attributes")
            found[slot.label] = {str(name): [str(v) for v in items] for name, items in value.items()}
        return found

    # Asking ---------------------------------------------------------------------------------------------------------------
    def _answers(self, renderer: Renderer, state: State, slots: Sequence[Slot]) -> dict[int, Answer]:
        if not slots:
            return {}
        if slots[0].kind == "check" and self.config["label_check"] == "programs":
            return self._programs_say(state, slots)
        wanted = [
            (self._request(renderer, slot, state.by_place), slot.sample_no + at)
            for slot in slots
            for at in range(int(slot.spec.get("samples", 1)))
        ]
        values = iter(self._ask(wanted, renderer.prompt(slots[0].kind), again=False))
        answers: dict[int, Answer] = {}
        for slot in slots:
            own = list(islice(values, int(slot.spec.get("samples", 1))))
            if slot.kind == "check":
                answers[slot.slot_no] = _agreement(own, self.card.label_names)
            elif isinstance(own[0], Failure):
                answers[slot.slot_no] = Dropped(own[0].reason, own[0].detail)
            else:
                texts = list(own[0])[: max(1, 2 * self.goal.texts_per_answer)]
                answers[slot.slot_no] = texts or Dropped("empty")
        return answers

    def _ask(self, wanted: Sequence[tuple[Request, int]], prompt: Any, *, again: bool) -> list[Any]:
        found = self.asker.parsed(
            wanted, lambda _, text: prompt.parse(text, labels=self.card.label_names),
            again=prompt.ask_again if again else None, tries=2 if again else 1,
        )  # fmt: skip
        self.asker.need_all(found)  # a round is decided as a whole, in the order of its slots
        return [item if isinstance(item, Failure) else item.value for item in found]

    def _programs_say(self, state: State, slots: Sequence[Slot]) -> dict[int, Answer]:
        from factory.synthesis.votes import programs_say

        texts = [state.by_place[slot.parents["slot"], slot.parents["part"]].text for slot in slots]
        said = programs_say(self.warehouse, self.card, texts)
        return {slot.slot_no: Checked(label) for slot, label in zip(slots, said, strict=True)}

    # Storing --------------------------------------------------------------------------------------------------------------
    def _store(
        self, renderer: Renderer, before: State, state: State, slots: Sequence[Slot], answers: Mapping[int, Answer]
    ) -> None:
        by_no, by_program = before.by_no, self.config["label_check"] == "programs"
        fresh = [slot for slot in slots if slot.slot_no not in by_no]
        keys = {
            slot.slot_no: None
            if slot.kind == "check" and by_program
            else self._request(renderer, slot, state.by_place).key
            for slot in fresh
        }
        checks = {
            slot_no: (None, f"{answer.label} {answer.share:.2f}" if isinstance(answer, Checked) else "")
            for slot_no, answer in answers.items()
            if by_no[slot_no].kind == "check"
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
        dropped = [after for before, after in zip(state.parts, trimmed.parts, strict=True) if before != after]
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
    counts = Counter(value for value in said if isinstance(value, str) and value in labels).most_common(2)
    best = counts[0][1] if counts else 0
    clear = len(counts) == 1 or (len(counts) == 2 and counts[1][1] < best)
    return Checked(counts[0][0] if clear else None, best / len(said))
