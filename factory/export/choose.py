"""`system: auto`: the compact student, or the glass box where it agrees with anchors more often beyond doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.predict.glass_box import GLASS_BOX, GlassBox
from factory.predict.glass_predictor import GlassPredictor
from factory.students.speed import MOST_TEXTS, Speeds
from factory.students.stored import same_encoder, stored_mixture, stored_models

if TYPE_CHECKING:
    from factory.programs.sandbox.host.pool import Sandbox
    from factory.warehouse.file import Warehouse

AUTO = "auto"
COMPACT = "combined"
"""The compact student that is compared with the glass box: the one that the same mixture taught."""


@dataclass(frozen=True)
class Choice:
    """What to export, and a line that says why and what the other would cost."""

    system: str
    says: str


def choose_form(warehouse: Warehouse, sandbox: Sandbox = "kernel") -> Choice:
    """Compare the two forms by their agreement with anchors that neither has seen; no gold is read.

    The compact student is taken unless the glass box is ahead by more than the standard error of the difference.

    Args:
        warehouse: Where they are.
        sandbox: Of Python programs, whose time is measured.
    """
    models, mixture = stored_models(warehouse), stored_mixture(warehouse)
    if COMPACT not in models or mixture is None:
        system = COMPACT if COMPACT in models else "student"
        return Choice(system, f"auto: {system}, since there is no mixture of programs and anchors beside it")
    row, folder = mixture
    box = GlassBox.at(folder)
    facts, known = box.facts, box.facts["compact"]
    if not known:
        kind = models[COMPACT].student
        return Choice(COMPACT, f"auto: {COMPACT}, since a student of kind `{kind}` takes too long to be cross-fitted")
    speeds = Speeds(warehouse, measure=True)
    shares = {COMPACT: known["agreement"], GLASS_BOX: known["agreement"] + known["ahead"]}
    rates = {
        COMPACT: speeds.of_student(models[COMPACT]),
        GLASS_BOX: speeds.of(["glass_box", row.key], lambda: _at_work(box, sandbox), first=MOST_TEXTS),
    }
    took, left = (GLASS_BOX, COMPACT) if known["ahead"] > known["error"] else (COMPACT, GLASS_BOX)
    says = (
        f"auto: {took}, which says what {shares[took]:.1%} of {facts['anchors']} anchors say that it has not seen, at"
        f" {_each(rates[took])} a text; {left} would say what {shares[left]:.1%} say"
        f" (glass box less compact {100 * known['ahead']:+.1f} points, standard error {100 * known['error']:.1f}), at"
        f" {_each(rates[left])} a text"
    )
    return Choice(took, says)


def _at_work(box: GlassBox, sandbox: Sandbox) -> GlassPredictor:
    return GlassPredictor(box, same_encoder(box.facts["encoder"], box.facts["encoder_key"]), sandbox)


def _each(rate: float | None) -> str:
    return "an unknown time" if rate is None else f"{1000 / rate:.2g} ms"
