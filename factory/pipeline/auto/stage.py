"""The step `buy`: decide what to buy next, have the other stages ask for it, keep what came of it, until nothing promises more.

A decision is on record before anything is asked, so a run that was killed takes the same one again. What is asked for is fixed by
the numbers of all purchases so far: the stages find their plans again, and no answer is paid for twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.errors import BudgetError, InputError
from factory.llm.budget import no_price
from factory.llm.engines.base import TAKES_HOURS, Pending
from factory.params import Call, stage
from factory.pipeline.auto.curves import PROGRAMS, first_programs
from factory.pipeline.auto.decide import Stop, decide
from factory.pipeline.auto.judge import judge
from factory.pipeline.auto.look import prices_of, spent_on, state_of
from factory.pipeline.auto.params import BuyParams
from factory.pipeline.auto.words import follows, forecast, in_words, least_of, pays, too_small
from factory.pipeline.collect import Collector
from factory.pipeline.steps import make_step, stage_of
from factory.result import StageResult
from factory.task import TaskCard, current_card
from factory.warehouse.tables import purchases
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.labels import MIXTURE, label_models
from factory.warehouse.tables.purchases import AUDIT, FIRST, STOP, Row

if TYPE_CHECKING:
    from factory.llm.budget import Budget
    from factory.warehouse.file import Warehouse

TRIPS = 3
"""Round trips at most where answers take hours: few, each twice as large, and nothing within one depends on another answer."""


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
    notes: list[str] = field(default_factory=list)

    def run(self) -> StageResult:
        """See `buy`."""
        budget = self.call.budget
        setting = digest([self.params.model_dump(), None if budget is None else [budget.unit, budget.most]])
        rows, looking = self.rows(), isinstance(self.call.engine, Collector)
        if rows and rows[-1].kind == STOP and (looking or rows[-1].setting == setting):
            return self._result(skipped=True)
        if looking and rows and all(row.done for row in rows):
            raise Pending("the next purchase depends on what came of the last")
        if budget is not None and not looking and not any(row.done for row in rows):
            self._can_begin(budget)
        if not rows:
            purchases.put(self.warehouse, self.card.revision, self.first())
        cut = False
        while not cut:
            rows = self.rows()
            waiting = [row for row in rows if not row.done]
            if not waiting:
                scale = 2 if self.call.engine.name in TAKES_HOURS else 1
                found = decide(
                    state_of(self.warehouse, self.params, budget, rows, self.bound() - len(self.made(rows)), scale)
                )
                if isinstance(found, Stop):
                    stopped = Row(STOP, why=found.why, setting=setting, done=True)
                    purchases.put(self.warehouse, self.card.revision, [stopped])
                    return self._result(skipped=False)
                unit = "tokens" if budget is None else budget.unit
                purchases.put(self.warehouse, self.card.revision, [Row(**vars(found), unit=unit)])
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

        by_file = self.call.engine.name in TAKES_HOURS
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
            raise Pending(
                "; ".join(error.what for error in pending),
                fix=f"{(pending[0].fix or '').rstrip('.')}. {then}".lstrip(". "),
            )
        if isinstance(self.call.engine, Collector):
            raise Pending("the next purchase depends on what came of the last")
        before: Mapping[int, float] | None = purchases.judged_last(self.warehouse, self.card.revision)
        self._answer()
        now = judge(self.warehouse)
        if before is None and any(one.name == MIXTURE for one in label_models(self.warehouse)):
            plain = judge(self.warehouse, mixture=False)  # the first anchors: the label model has learned from none
            before = None if plain is None else plain.right
        gain = now.gain(before) if now is not None and before is not None and len(waiting) == 1 else None
        for row in waiting:
            spent = spent_on(self.warehouse, row)
            by, within = (None, None) if gain is None else gain
            closed = replace(row, requests=spent.requests, tokens=spent.tokens, cost=spent.cost, gain=by, error=within)
            purchases.close(self.warehouse, closed, None if now is None else now.right)
        return False

    def _answer(self) -> None:
        """Vote, and make the answer that is judged."""
        votes = {name: value for name, value in self.params.author.items() if name in ("sandbox", "strict")}
        self._call("vote", votes)
        try:
            self._call("denoise", self.params.denoise)
            if read_anchors(self.warehouse, "teach"):
                self._call("distill", {**self.params.distill, "systems": ["combined"]})
        except InputError as error:  # no program votes, or too few anchors teach: the label model is judged, or nothing
            self.notes.append(f"not all could be judged: {error.what}")

    def _call(self, verb: str, params: Mapping[str, Any]) -> StageResult:
        step, told = make_step(verb, params, where="buy"), self.call.progress

        def progress(done: int, total: int, what: str) -> None:
            told(done, total, f"{what} ({verb})")

        return stage_of(verb).run(self.warehouse, step.params, replace(self.call, progress=progress))

    def made(self, rows: Sequence[Row]) -> list[Row]:
        """The purchases that were decided after the first round."""
        return [row for row in rows if row.kind not in (FIRST, AUDIT, STOP)]

    def bound(self) -> int:
        """How many of them there may be."""
        return min(self.params.rounds, TRIPS - 1) if self.call.engine.name in TAKES_HOURS else self.params.rounds

    @contextmanager
    def _within_budget(self) -> Iterator[None]:
        """Let the stages spend what is left of the budget over all runs, and not what is held back."""
        whole = self.call.budget
        if whole is None:
            yield
            return
        part = whole.part(prices_of(self.warehouse, whole, self.params.hold_back)[1])
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
            BudgetError: It is in money, and nobody knows a price.
        """
        least = least_of(price := first_price(self.warehouse, self.params, self.call), budget)
        if not pays(budget, least):
            raise too_small(budget, self.first(), least)
        if least is None and price["answers"][0]:
            raise no_price(self.call.engine.model.name)

    def _result(self, *, skipped: bool, cut: bool = False) -> StageResult:
        rows = self.rows()
        stop = next((row.why for row in rows if row.kind == STOP), "the budget ended within a purchase")
        did = {"purchases": [row.as_json for row in rows if row.kind != STOP], "stop": stop, "cut": cut}
        says = [in_words(row) for row in rows if row.kind != STOP] + [f"nothing more is bought: {stop}"]
        return StageResult("buy", skipped, did, (*says, *dict.fromkeys(self.notes)))
