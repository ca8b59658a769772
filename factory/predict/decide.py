"""What is said of a text from its probabilities: a label, none if unsure, a set of labels, whether the text is in scope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.predict.scope import limit_for, scope_scores
from factory.predict.trust import Abstain, abstention, conformal_limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.predict.exported import Exported


@dataclass(frozen=True)
class Asked:
    """What a user wants beside the most probable label.

    Attributes:
        abstain_below: No label is given below this probability, in [0, 1].
        target_precision: No label is given below the probability from which on this share of answers is right, in (0, 1).
        sets: Error rate of conformal label sets, in (0, 1).
        scope: Share of texts like those of training that may be called out of scope, in (0, 1).
        why: Whether the reasons for each answer are wanted.
    """

    abstain_below: float | None = None
    target_precision: float | None = None
    sets: float | None = None
    scope: float | None = None
    why: bool = False


class Judge:
    """Turns answers of an export into words.

    Attributes:
        columns: Name to kind (`label`, `labels`, `number`, `yes_no`, `words`, `json`) of what is said of each text.
        threshold: Below which no label is given, or None.
    """

    def __init__(self, exported: Exported, asked: Asked) -> None:
        """Look up every limit once.

        Raises:
            InputError: A rate out of range, or the export does not carry what is asked for.
        """
        for name, value in (("target precision", asked.target_precision), ("error rate of label sets", asked.sets),
                            ("share that may be called out of scope", asked.scope)):  # fmt: skip
            if value is not None and not 0 < value < 1:
                raise InputError(f"the {name} lies between 0 and 1, not {value:g}")
        if asked.abstain_below is not None and not 0 <= asked.abstain_below <= 1:
            raise InputError(f"a probability lies between 0 and 1, not {asked.abstain_below:g}", fix="Use 0.8")
        if asked.abstain_below is not None and asked.target_precision is not None:
            raise InputError("a threshold and a target precision cannot both be asked for", fix="Give one of them")
        self.labels, self.multi = exported.labels, exported.multi
        wanted = asked.target_precision
        self.threshold = asked.abstain_below if wanted is None else _threshold_for(exported, wanted)
        self._sets = None if asked.sets is None else _set_limits(exported, asked.sets)
        self._scope = None if asked.scope is None else (exported.scope_arrays, _scope_limit(exported, asked.scope))
        self.columns = {"labels": "labels"} if self.multi else {"label": "label", "probability": "number"}
        self.columns |= {} if self._sets is None else {"set": "labels"}
        self.columns |= {} if self._scope is None else {"in_scope": "yes_no", "scope": "number"}
        self.columns |= {"why": "words", "reasons": "json"} if asked.why else {}
        if asked.why:
            exported.explain([])  # which refuses where there is nothing to explain by

    def __call__(
        self, probs: NDArray[np.float32], features: NDArray[np.float32], reasons: NDArray[Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """What is said of each text, with the keys of `columns`.

        Args:
            probs: float32 [n, k].
            features: float32 [n, d], as `Exported.answer` gives them.
            reasons: Objects [n], as `Exported.explain` gives them, where they were asked for.
        """
        nearness = None
        if self._scope is not None:
            nearness = scope_scores(self._scope[0], features) if len(features) else np.zeros(0)
        for at, row in enumerate(probs):
            said: dict[str, Any]
            if self.multi:
                chosen = np.flatnonzero(row >= (0.5 if self.threshold is None else self.threshold))
                said = {"labels": [self.labels[i] for i in chosen]}
            else:
                best = int(row.argmax())
                sure = self.threshold is None or row[best] >= self.threshold
                said = {"label": self.labels[best] if sure else None, "probability": round(float(row[best]), 6)}
            if self._sets is not None:
                said["set"] = [self.labels[i] for i in np.flatnonzero(row >= self._sets - 1e-6)]
            if nearness is not None and self._scope is not None:
                said["in_scope"] = bool(nearness[at] >= self._scope[1])
                said["scope"] = round(float(nearness[at]), 6)
            yield said if reasons is None else said | reasons[at]

    def nothing(self) -> dict[str, Any]:
        """What is said of a row that has no text: the keys of `columns`, each without a value."""
        return dict.fromkeys(self.columns)

    def abstained(self, said: Mapping[str, Any]) -> bool:
        """Whether a text was given no label."""
        return not said["labels"] if self.multi else said["label"] is None


def sureness(probs: NDArray[np.floating[Any]], multi: bool) -> NDArray[np.float64]:
    """How sure probabilities [n, k] are of each text, 0 to 1: of its label, or of the least clear label in a `multi` task."""
    probs = np.asarray(probs, np.float64)
    return np.asarray(np.maximum(probs, 1 - probs).min(axis=1) if multi else probs.max(axis=1))


def _threshold_for(exported: Exported, wanted: float) -> float:
    """The lowest probability from which on the wanted share of answers is right."""
    trust = exported.trust
    if not trust.get("abstain"):
        raise InputError("this export carries no calibration for a target precision", fix=_how_to_calibrate(exported))
    found = abstention(Abstain.read(trust["abstain"]), wanted)
    if found is None:
        words = f"no threshold reaches a precision of {wanted:g} on the {trust['texts']} texts it was calibrated on"
        raise InputError(words, fix="Ask for less, or give more gold of dev")
    return found["threshold"]


def _set_limits(exported: Exported, error_rate: float) -> Any:
    """The probability that a label must have to be in the conformal set: a number, or float64 [k] for a multi task."""
    scores = exported.trust.get("conformal")
    if not scores:
        raise InputError("this export carries no calibration for label sets", fix=_how_to_calibrate(exported))
    if exported.multi:
        return np.array([conformal_limit(values, error_rate) for values in scores])
    return conformal_limit(scores, error_rate)


def _how_to_calibrate(exported: Exported) -> str:
    """What to do for calibration: only a system that the run has is named."""
    if exported.calibrated:
        return f"Export the one that has it: `factory export model RUN FOLDER --system {exported.calibrated}`"
    return "Calibration needs gold in a `dev` split: add one, run again, and export the system `student_dev`"


def _scope_limit(exported: Exported, rate: float) -> float:
    """The score below which a text is called out of scope."""
    if not exported.trust.get("scope") or not exported.scope_arrays:
        raise InputError("this export carries nothing to judge scope by", fix="Distill and export the student again")
    return limit_for(exported.trust["scope"]["scores"], rate)
