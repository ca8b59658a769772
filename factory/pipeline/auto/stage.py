"""The step `buy`: decide what to buy next, have the other stages ask for it, keep what came of it, until nothing promises more.

A decision is on record before anything is asked, so a run that was killed takes the same one again. What is asked for is fixed by
the numbers of all purchases so far: the stages find their plans again, and no answer is paid for twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from pydantic import Field, field_validator

from factory.canonical import digest
from factory.errors import BudgetError, InputError
from factory.evaluation.rivals import Spent, spent_by_part
from factory.llm.engines.base import Pending
from factory.params import Call, Params, stage
from factory.pipeline.auto.curves import CURVES, PROGRAMS, Kind, first_programs
from factory.pipeline.auto.decide import Bought, LabelState, State, Stop, decide
from factory.pipeline.auto.judge import judge
from factory.pipeline.auto.words import follows, forecast, in_words, too_small
from factory.pipeline.collect import Collector
from factory.pipeline.steps import make_step, stage_of
from factory.result import StageResult
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.tables import purchases
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.labels import MIXTURE, drawn_soft_labels, label_models
from factory.warehouse.tables.programs import accepted
from factory.warehouse.tables.purchases import AUDIT, FIRST, STOP, Row
from factory.warehouse.tables.texts import split_numbers
from factory.warehouse.tables.votes import conflicting_texts

if TYPE_CHECKING:
    from factory.llm.budget import Budget
    from factory.warehouse.file import Warehouse

BY_FILE = ("batch", "hosted")
"""Engines whose answers take hours: few rounds, each twice as large, and nothing that depends on an answer within a round."""
TRIPS = 3
SHARES_OF = 5000
"""Training texts whose probabilities tell the labels' shares."""
_PART = {**dict.fromkeys((FIRST, *PROGRAMS), "author"), AUDIT: "anchors", "anchors": "anchors", "texts": "synthesize"}


class BuyParams(Params):
    """The parameters of `buy`."""

    programs: int | None = Field(None, ge=1, description="Programs of the first round; by default two for each label, at"
        " least 12 and at most 48.")  # fmt: skip
    audit: int = Field(100, ge=0, description="Labels of the audit slice, asked with the first round: for estimates alone, as"
        " of `annotate`. No decision looks at them.")  # fmt: skip
    rounds: int = Field(6, ge=0, description="Most purchases after the first round. Six double the programs and bring some"
        " 300 anchors; a budget mostly ends it before. Where answers come by file or batch there are two, of twice the"
        " size.")  # fmt: skip
    kinds: list[Kind] = Field(list(get_args(Kind)), description="What may be bought after the first round; everything by"
        " default.")  # fmt: skip
    most_programs: int | None = Field(None, ge=1, description="Most programs in all; no bound by default.")
    hold_back: int = Field(0, ge=0, description="Keep the price of so many labels for later steps, such as the teacher's row of"
        " the report; none by default (`steps: auto` sets it).")  # fmt: skip
    author: dict[str, Any] = Field(
        {}, description="Parameters of `author` (and `sandbox` of `vote`); its defaults otherwise."
    )
    annotate: dict[str, Any] = Field({}, description="Parameters of `annotate`; its defaults otherwise.")
    synthesize: dict[str, Any] = Field({}, description="Parameters of `synthesize`; its defaults otherwise.")
    denoise: dict[str, Any] = Field({}, description="Parameters of `denoise`; its defaults otherwise.")
    distill: dict[str, Any] = Field({}, description="Parameters of `distill`, whose mixture is judged; its defaults otherwise."
        " The same as those of the step itself save a training.")  # fmt: skip

    @field_validator("author", "annotate", "synthesize", "denoise", "distill")
    @classmethod
    def _known(cls, given: dict[str, Any], info: Any) -> dict[str, Any]:
        try:
            make_step(str(info.field_name), given)
        except InputError as error:
            raise ValueError(error.what) from error
        return given


@stage("buy", BuyParams, asks=True, takes=("base",))
def buy(warehouse: Warehouse, params: BuyParams, call: Call) -> StageResult:
    """Decide round by round what to buy from the model, and buy it: programs, anchors, synthetic texts.

    The first round is programs and the audit slice. Each later purchase is the one with the largest expected gain for its price,
    by curves measured in the benchmarks and by what this run's purchases brought on the anchors that teach; where no difference
    is above its standard error, half goes to programs and half to anchors. It ends when nothing promises more than noise, at the
    budget, or after `rounds` purchases.

    Returns:
        `did.purchases`: what was bought, why, what was expected and what came of it; `did.stop`: why it ended.

    Raises:
        InputError: The budget is too small for the first round.
        BudgetError: The budget ended in the first round. What was answered is stored.
        Pending: Answers are to come by file or batch.
    """
    return _Buyer(warehouse, params, call, current_card(warehouse)).run()


def first_price(warehouse: Warehouse, params: BuyParams, call: Call) -> dict[str, Any]:
    """What is missing of the first round, as `factory.llm.estimate.estimate` gives it; nothing is sent."""
    from factory.llm.estimate import estimate

    noted = Collector(call.engine, rough=True)
    buyer = _Buyer(warehouse, params, replace(call, asked=noted, budget=None), current_card(warehouse))
    for row in buyer.first():
        with suppress(Pending):
            buyer.ask(row, [])
    return estimate([one for calls in noted.missing.values() for one in calls], noted)


def forecast_of(warehouse: Warehouse, params: BuyParams, call: Call) -> dict[str, Any]:
    """What the step would buy first, its price, and when it would stop, for `plan`; nothing is sent."""
    buyer = _Buyer(warehouse, params, call, current_card(warehouse))
    rows = buyer.rows()
    begun = any(row.done for row in rows)
    price = None if begun else first_price(warehouse, params, call)
    return forecast(rows or buyer.first(), price, max(buyer.bound() - len(buyer.made(rows)), 0), call.budget)


# ----------------------------------------------------------------------------------------------------------------------
@dataclass
class _Buyer:
    """One call of `buy`."""

    warehouse: Warehouse
    params: BuyParams
    call: Call
    card: TaskCard

    def run(self) -> StageResult:
        """See `buy`."""
        budget = self.call.budget
        setting = digest([self.params.model_dump(), None if budget is None else [budget.unit, budget.most]])
        rows, looking = self.rows(), isinstance(self.call.engine, Collector)
        if rows and rows[-1].kind == STOP and (looking or rows[-1].setting == setting):
            return self._result(skipped=True)
        if looking and rows and all(row.done for row in rows):
            raise Pending("the next purchase depends on what came of the last")
        if not rows:
            if budget is not None and not looking:
                self._can_begin(budget)
            purchases.put(self.warehouse, self.card.revision, self.first())
        cut = False
        while not cut:
            rows = self.rows()
            waiting = [row for row in rows if not row.done]
            if not waiting:
                found = decide(self._state(rows))
                if isinstance(found, Stop):
                    row = Row(STOP, why=found.why, setting=setting, done=True)
                    purchases.put(self.warehouse, self.card.revision, [row])
                    return self._result(skipped=False)
                unit = "tokens" if budget is None else budget.unit
                row = Row(
                    found.kind,
                    found.size,
                    found.label,
                    found.reach,
                    found.expected,
                    found.sd,
                    found.price,
                    unit,
                    found.why,
                )
                purchases.put(self.warehouse, self.card.revision, [row])
                continue
            cut = self._fill(waiting, rows)
        return self._result(skipped=False, cut=True)

    def rows(self) -> list[Row]:
        """The decisions so far."""
        return purchases.read(self.warehouse, self.card.revision)

    def first(self) -> list[Row]:
        """What is bought before anything is decided."""
        size = self.params.programs or first_programs(len(self.card.labels))
        rows = [Row(FIRST, size, why="programs come first: whatever is bought is drawn and judged with them")]
        why = "drawn uniformly, for estimates alone"
        return rows + [Row(AUDIT, self.params.audit, why=why)] * bool(self.params.audit)

    def ask(self, row: Row, before: Sequence[Row]) -> None:
        """Have the stage of a purchase ask for it."""
        told = [*before, row]

        def total(*kinds: str) -> int:
            return sum(one.size for one in told if one.kind in kinds and (one.label == row.label or one.kind == FIRST))

        by_file = self.call.engine.name in BY_FILE
        if row.kind in (FIRST, *PROGRAMS):
            kinds = (FIRST, "programs") if row.kind in (FIRST, "programs") else (row.kind,)
            given: dict[str, Any] = {"programs": total(*kinds)}
            given |= {"labels": [row.label]} if row.label else {}
            given |= {"show": "conflicts"} if row.kind == "conflict_programs" else {}
            at_once = {"candidates": given["programs"], "repairs": 0} if by_file else {}
            self._call("author", {**at_once, **self.params.author, **given})
        elif row.kind in (AUDIT, "anchors"):
            given = {"anchors": total(AUDIT, "anchors"), "audit": self.params.audit, "extend": True}
            self._call("annotate", {**({"tries": 1} if by_file else {}), **self.params.annotate, **given})
        else:
            given = {"labels": [row.label], "per_label": total("texts"), "name": "buy"}
            self._call("synthesize", {**self.params.synthesize, **given})

    # ------------------------------------------------------------------------------------------------------------------
    def _fill(self, waiting: Sequence[Row], rows: Sequence[Row]) -> bool:
        """Ask for what was decided, judge the answer since, and close it. Returns whether the budget ended before."""
        pending: list[Pending] = []
        with self._within_budget():
            for row in waiting:
                try:
                    self.ask(row, [one for one in rows if one.number < row.number])
                except Pending as error:
                    pending.append(error)
                except BudgetError:
                    if row.kind in (FIRST, AUDIT):
                        raise
                    return True
        if pending:
            then = follows(len(self.made(rows)), self.bound(), self.call.budget)
            raise Pending("; ".join(error.what for error in pending), fix=f"{pending[0].fix or ''} {then}".strip())
        if isinstance(self.call.engine, Collector):
            raise Pending("the next purchase depends on what came of the last")
        before = purchases.judged_last(self.warehouse, self.card.revision)
        self._answer()
        now = judge(self.warehouse)
        if before is None and any(one.name == MIXTURE for one in label_models(self.warehouse)):
            plain = judge(self.warehouse, mixture=False)  # the first anchors: the label model has learned from none
            before = None if plain is None else plain.right
        gain = now.gain(before) if now is not None and before is not None and len(waiting) == 1 else None
        for row in waiting:
            spent = self._spent_on(row, rows)
            told = {"requests": spent.requests, "tokens": spent.tokens, "cost": spent.cost}
            got = {} if gain is None else {"gain": gain[0], "error": gain[1]}
            purchases.close(self.warehouse, replace(row, **told, **got), None if now is None else now.right)
        return False

    def _answer(self) -> None:
        """Vote, and make the answer that is judged."""
        votes = {name: self.params.author[name] for name in ("sandbox", "strict") if name in self.params.author}
        self._call("vote", votes)
        try:
            self._call("denoise", self.params.denoise)
            if read_anchors(self.warehouse, "teach"):
                self._call("distill", {**self.params.distill, "systems": ["combined"]})
        except InputError:
            return  # no program votes, or too few anchors teach: the label model is judged, or nothing

    def _call(self, verb: str, params: Mapping[str, Any]) -> StageResult:
        step = make_step(verb, params, where="buy")
        return stage_of(verb).run(self.warehouse, step.params, self.call)

    def _prices(self) -> tuple[dict[Kind, float], float]:
        """What one of each kind takes, by what was bought so far, and what is left of the budget over all runs."""
        budget = self.call.budget
        unit = "tokens" if budget is None else budget.unit
        spent = {part: _amount(one, unit) for part, one in spent_by_part(self.warehouse).items()}
        every = purchases.read(self.warehouse)
        asked = {part: sum(row.size for row in every if _PART.get(row.kind) == part) for part in set(_PART.values())}
        each = {part: spent.get(part, 0.0) / max(size, 1) for part, size in asked.items()}
        guess = {kind: 1.0 if unit == "requests" else each["author"] * curve.price for kind, curve in CURVES.items()}
        prices = {kind: each[_PART[kind]] or guess[kind] for kind in CURVES}
        held = self.params.hold_back * prices["anchors"]
        return prices, inf if budget is None else budget.most - sum(spent.get(part, 0.0) for part in asked) - held

    def _state(self, rows: Sequence[Row]) -> State:
        """What a decision looks at."""
        now, (prices, left) = judge(self.warehouse), self._prices()
        unit = "tokens" if self.call.budget is None else self.call.budget.unit
        asked = {part: sum(row.size for row in rows if _PART.get(row.kind) == part) for part in set(_PART.values())}
        heap, teaching = len(split_numbers(self.warehouse, "train")), len(read_anchors(self.warehouse, "teach"))
        most: dict[Kind, int] = {"anchors": min(heap, self.params.annotate.get("among") or heap) - asked["anchors"]}
        if self.params.most_programs is not None:
            most |= dict.fromkeys(PROGRAMS, self.params.most_programs - asked["author"])
        most |= dict.fromkeys((kind for kind in CURVES if kind not in self.params.kinds), 0)
        names, shares = label_names(self.warehouse), self._shares()
        labels = [
            LabelState(
                name, shares.get(names.index(name), 0.0), 0.0 if now is None else now.of_label(names.index(name))[0]
            )
            for name in self.card.label_names
        ]
        bought = [
            Bought(cast("Kind", row.kind), row.size, row.reach, _in_unit(row, unit), row.gain,
                   inf if row.error is None else row.error, row.label)
            for row in rows if row.kind not in (AUDIT, STOP)
        ]  # fmt: skip
        return State(
            bought, len(accepted(self.warehouse, kinds=("python", "rules"))), teaching, labels,
            None if now is None else now.score, len(conflicting_texts(self.warehouse)) / max(heap, 1), prices, left, most,
            self.bound() - len(self.made(rows)), 2 if self.call.engine.name in BY_FILE else 1,
        )  # fmt: skip

    def _shares(self) -> dict[int, float]:
        """The labels' shares of the heap, by the label model; none known without one."""
        if not any(one.chosen for one in label_models(self.warehouse)):
            return {}
        probs = drawn_soft_labels(self.warehouse, SHARES_OF, covered=True)[0].probs
        return dict(enumerate(np.nan_to_num(probs).mean(axis=0).tolist())) if len(probs) else {}

    def made(self, rows: Sequence[Row]) -> list[Row]:
        """The purchases that were decided after the first round."""
        return [row for row in rows if row.kind not in (FIRST, AUDIT, STOP)]

    def bound(self) -> int:
        """How many of them there may be."""
        return min(self.params.rounds, TRIPS - 1) if self.call.engine.name in BY_FILE else self.params.rounds

    def _spent_on(self, row: Row, rows: Sequence[Row]) -> Spent:
        """What a purchase cost: what its stage has spent, less what earlier purchases of the stage did."""
        spent, part = spent_by_part(self.warehouse).get(_PART[row.kind], Spent()), _PART[row.kind]
        earlier = [one for one in purchases.read(self.warehouse) if one.done and _PART.get(one.kind) == part]
        known = spent.cost is not None and all(one.cost is not None for one in earlier)
        requests, tokens = (sum(getattr(one, name) or 0 for one in earlier) for name in ("requests", "tokens"))
        cost = (spent.cost or 0.0) - sum(one.cost or 0.0 for one in earlier) if known else None
        return Spent(spent.requests - requests, spent.tokens - tokens, 0, cost)

    @contextmanager
    def _within_budget(self) -> Iterator[None]:
        """Let the stages spend what is left of the budget over all runs, and not what is held back."""
        whole = self.call.budget
        if whole is None:
            yield
            return
        part = whole.part(self._prices()[1])
        self.call = replace(self.call, budget=part)
        try:
            yield
        finally:
            whole.book(part)
            self.call = replace(self.call, budget=whole)

    def _can_begin(self, budget: Budget) -> None:
        """Refuse a budget that does not pay the first round.

        Raises:
            InputError: See there.
        """
        price = first_price(self.warehouse, self.params, self.call)
        least = {
            "money": None if price["cost"] is None else price["cost"][0], "requests": price["answers"][0],
            "tokens": price["tokens_in"][0] + price["tokens_out"][0],
        }[budget.unit]  # fmt: skip
        if not budget.most or (least is not None and least > budget.most):
            raise too_small(budget, self.first(), least)

    def _result(self, *, skipped: bool, cut: bool = False) -> StageResult:
        rows = self.rows()
        stop = next((row.why for row in rows if row.kind == STOP), "the budget ended within a purchase")
        did = {"purchases": [row.as_json for row in rows if row.kind != STOP], "stop": stop, "cut": cut}
        says = [in_words(row) for row in rows if row.kind != STOP] + [f"nothing more is bought: {stop}"]
        return StageResult("buy", skipped, did, tuple(says))


def _amount(spent: Spent, unit: str) -> float:
    return float({"money": spent.cost or 0.0, "tokens": spent.tokens, "requests": spent.requests}[unit])


def _in_unit(row: Row, unit: str) -> float:
    return float({"money": row.cost, "tokens": row.tokens, "requests": row.requests}[unit] or 0.0)
