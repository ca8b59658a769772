"""What the systems of one `distill` share: what each depends on, the rows it learns from, and how it is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.decide import tie_keys
from factory.distill import read as reading
from factory.distill.curate import Candidates, Curated, Rules, as_json, curate, drawn, one_hot
from factory.distill.self_training import Pseudo, SelfTraining, self_train
from factory.encoders.base import Encoder
from factory.errors import InputError
from factory.result import Progress
from factory.students.base import Student, TextsAndVectors, fit_student, student_class
from factory.students.stored import inputs_of, texts_of
from factory.warehouse.tables.gold import gold_digest
from factory.warehouse.tables.texts import hashes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.students.base import Trial
    from factory.warehouse.file import Warehouse

VERSION = 4
"""Raised when the same input would give another student."""

COMBINED = "combined"
"""The student taught by the mixture of programs and anchors."""
WEAKER = 3.0
"""How much larger `c` is where a student learns from the mixture: its labels are of members that have not seen the text, so they
do not share the mistakes that a strong penalty is against. On unseen training anchors of TREC, emotion, amazon_counterfactual and
sst5 agreement rose by .2 to .9 points, and their likelihood everywhere; ten times added nothing."""
UNLABELLED = ("uncovered", "unsure", "tie")
"""Why a text of training was dropped that self-training and consistency training may still use."""


@dataclass(frozen=True)
class Plan:
    """What was asked for.

    Attributes:
        warehouse: Holds texts, soft labels and synthetic texts.
        classes: The labels.
        encoder: The first encoder.
        candidates: Kinds of student with their encoders, of which one is chosen; a single one if it was named.
        options: The student's own options.
        setfit: Those of `student_setfit`.
        rules: Curation.
        smoothing: Of labels of synthetic texts.
        self_training: How, or None.
        encode_at_most: Texts of the corpus that a student learns from which reads vectors, or tunes a body.
        mixture: Of programs and anchors, which `combined` learns from, or None.
    """

    warehouse: Warehouse
    classes: reading.Classes
    encoder: Encoder
    candidates: Sequence[tuple[str, Encoder]]
    options: Mapping[str, Any]
    setfit: Mapping[str, Any]
    rules: Rules
    smoothing: float
    self_training: SelfTraining | None
    encode_at_most: int = 20_000
    mixture: reading.LabelModelRow | None = None

    @cached_property
    def models(self) -> list[reading.LabelModelRow]:
        """The label models of `denoise`, the chosen one first."""
        return [model for model in reading.label_models(self.warehouse) if model.name != reading.MIXTURE]

    @property
    def chosen(self) -> reading.LabelModelRow | None:
        """The label model that was chosen without any gold of dev."""
        return self.models[0] if self.models and self.models[0].chosen else None

    def label_model(self, system: str) -> reading.LabelModelRow | None:
        """The label model that a system learns from, if it chooses none on dev."""
        return self.mixture if system == COMBINED else self.chosen

    @cached_property
    def synthetic(self) -> str:
        """A digest of the synthetic texts."""
        return reading.synthetic_digest(self.warehouse)

    @cached_property
    def seeds(self) -> str:
        """A digest of the seeds."""
        return gold_digest(self.warehouse, "seed")

    @cached_property
    def dev(self) -> str:
        """A digest of dev."""
        return gold_digest(self.warehouse, "dev")

    @cached_property
    def soft(self) -> dict[int, str]:
        """A digest of each label model's soft labels."""
        models = [*self.models, *([] if self.mixture is None else [self.mixture])]
        return {model.number: reading.soft_digest(self.warehouse, model.number) for model in models}

    def candidates_of(self, system: str) -> Sequence[tuple[str, Encoder]]:
        """The kinds of student that a system may be, with their encoders."""
        return [("setfit", self.encoder)] if system == "student_setfit" else self.candidates

    def taught_by_mixture(self) -> tuple[str, Encoder, dict[str, Any]]:
        """The first kind that `combined` may be, its encoder and its options."""
        kind, encoder = self.candidates_of(COMBINED)[0]
        c = student_class(kind).strength_for_programs if "c" not in self.options else None
        return kind, encoder, dict(self.options) if c is None else {**self.options, "c": c}

    def encodes(self, system: str) -> bool:
        """Whether a student of this system has its texts encoded, which takes time."""
        classes = [student_class(kind) for kind, _ in self.candidates_of(system)]
        return any(cls.takes != "texts" or cls.slow for cls in classes)

    def uses(self, system: str) -> tuple[bool, bool]:
        """Whether the system learns from programs and from synthetic texts, where these exist."""
        programs = self.label_model(system) is not None and system != "synthesis_only"
        synthetic = (
            not self.synthetic.startswith("0:")
            and system not in ("programs_only", COMBINED)
            and self.rules.synthetic_weight > 0
        )
        return programs, synthetic

    def strength(self, system: str, kind: str) -> float | None:
        """The strength of a student that learns from programs, unless the options name one."""
        learns_from_programs, _ = self.uses(system)
        c = student_class(kind).strength_for_programs
        if c is None or not learns_from_programs or "c" in self.options:
            return None
        return c * WEAKER if system == COMBINED else c

    def options_of(self, system: str, kind: str) -> dict[str, Any]:
        """The options of a system's student."""
        options = dict(self.setfit if system == "student_setfit" else self.options)
        c = self.strength(system, kind)
        return options if c is None else {**options, "c": c}

    def config_of(self, system: str) -> dict[str, Any] | None:
        """Everything the system's student depends on, or None if its input does not exist."""
        programs, synthetic = self.uses(system)
        if system in ("programs_only", COMBINED) and not programs:
            return None
        if system == "synthesis_only" and not synthetic:
            return None
        if system == "student_setfit" and self.encoder.folder is None:
            return None
        if not programs and not synthetic and self.seeds.startswith("0:"):
            return None
        on_dev = system == "student_dev"
        if on_dev and self.dev.startswith("0:"):
            return None
        soft: list[list[Any]] = []
        learned_from = self.label_model(system)
        if programs and learned_from is not None:
            wanted = self.models if on_dev else [learned_from]
            soft = [[model.name, model.uncovered, self.soft[model.number]] for model in wanted]
        return {
            "version": VERSION,
            "system": system,
            "candidates": [
                [kind, *([encoder.name, encoder.key] if student_class(kind).stands_on_encoder else [])]
                for kind, encoder in self.candidates_of(system)
            ],
            "options": dict(self.setfit if system == "student_setfit" else self.options),
            "strengths": [None if on_dev else self.strength(system, kind) for kind, _ in self.candidates_of(system)],
            "labels": [list(self.classes.names), list(self.classes.numbers), self.classes.multi],
            "rules": as_json(self.rules),
            "smoothing": self.smoothing,
            "encode_at_most": self.encode_at_most if programs and self.encodes(system) else None,
            "self_training": None if self.self_training is None or not programs else vars(self.self_training),
            "soft_labels": soft,
            "synthetic": self.synthetic if synthetic else None,
            "seeds": None if system == "synthesis_only" else self.seeds,
            "dev": self.dev if on_dev else None,
        }

    def rows(
        self, system: str, label_model: reading.LabelModelRow | None, rules: Rules, barred: Sequence[int] = ()
    ) -> Curated:
        """The curated rows of a system.

        Args:
            system: Which.
            label_model: Whose soft labels.
            rules: How to curate.
            barred: Texts that must not be learned from.

        Raises:
            InputError: None was kept.
        """
        programs, synthetic = self.uses(system)
        groups: list[Candidates] = []
        votes: dict[int, Any] = {}
        if system != "synthesis_only":
            seeds = reading.seed_candidates(self.warehouse, self.classes)
            groups += [seeds] if seeds is not None else []
        if programs and label_model is not None:
            groups.append(reading.corpus_candidates(self.warehouse, label_model, self.classes))
            keep = "keep" if label_model.uncovered in ("prior", "default") else "drop"
            rules = replace(rules, uncovered=keep)
        if synthetic:
            made = reading.synthetic_candidates(self.warehouse, self.classes, self.smoothing)
            groups += [made] if made is not None else []
            if label_model is not None and rules.synthetic_agreement > 0 and programs:
                votes = reading.votes_on_synthetic(self.warehouse, label_model, self.classes)
        rows = curate(groups, rules, multi=self.classes.multi, votes_on_synthetic=votes, barred=barred)
        if not self.encodes(system) or int(rows.kept.sum()) <= self.encode_at_most:
            return rows
        return drawn(rows, self.encode_at_most, self.keys(rows.text_nos), multi=self.classes.multi)

    def keys(self, text_nos: NDArray[np.int64]) -> NDArray[np.uint64]:
        """What texts are drawn by: numbers from their contents."""
        hashes = hashes_of(self.warehouse, text_nos)
        return tie_keys(hashes[number] for number in text_nos.tolist())

    def inputs(self, kind: str, encoder: Encoder, text_nos: Any, progress: Progress) -> Any:
        """Vectors for a student that takes them, texts, or both."""
        return inputs_of(self.warehouse, kind, encoder, text_nos, progress)

    def fit(
        self, kind: str, encoder: Encoder, rows: Curated, options: Mapping[str, Any], progress: Progress
    ) -> Student:
        """Train on the rows that were kept.

        Raises:
            InputError: None was.
        """
        kept = rows.kept
        if not kept.any():
            raise InputError(
                "curation kept no text to learn from",
                where=str(rows.counts()),
                fix="Loosen `confidence`, or add programs",
            )
        rest = rows.text_nos[_unlabelled(rows)] if options.get("consistency") else np.zeros(0, np.int64)
        if options.get("consistency") and not len(rest):
            options = {**options, "consistency": 0.0}  # every text of this system has a label
        return fit_student(
            kind,
            self.inputs(kind, encoder, rows.text_nos[kept], progress),
            rows.probs[kept],
            rows.weights[kept],
            config=options,
            multi=self.classes.multi,
            encoder=encoder,
            unlabelled=texts_of(self.warehouse, rest.tolist()),
            progress=progress,
        )

    def with_own_labels(
        self, kind: str, encoder: Encoder, rows: Curated, options: Mapping[str, Any], progress: Progress
    ) -> tuple[Curated, list[Trial]]:
        """Self-training: rows that were left for want of a label, with the student's own labels where these help.

        Returns:
            The rows, and each round with its loss on held-out labels.
        """
        assert self.self_training is not None
        given, left = np.flatnonzero(rows.kept), np.flatnonzero(_unlabelled(rows))
        if not len(left) or not len(given):
            return rows, []
        if len(left) > self.encode_at_most:
            left = np.sort(left[np.argsort(self.keys(rows.text_nos[left]), kind="stable")[: self.encode_at_most]])
        labelled = self.inputs(kind, encoder, rows.text_nos[given], progress)
        unlabelled = self.inputs(kind, encoder, rows.text_nos[left], progress)
        targets, weights = rows.probs[given], rows.weights[given]
        rest = texts_of(self.warehouse, rows.text_nos[left].tolist()) if options.get("consistency") else []

        def fit(learn: NDArray[np.int64], pseudo: Pseudo | None) -> Any:
            inputs, probs, mass = _take(labelled, learn), targets[learn], weights[learn]
            if pseudo is not None:
                inputs = _joined(inputs, _take(unlabelled, pseudo.rows))
                probs = np.concatenate([probs, np.eye(probs.shape[1])[pseudo.labels]])
                mass = np.concatenate([mass, np.full(len(pseudo.rows), pseudo.weight)])
            student = fit_student(
                kind, inputs, probs, mass, config=options, encoder=encoder, unlabelled=rest, progress=progress
            )
            return lambda some, *, unlabelled=False: student.predict_proba(
                _take(others if unlabelled else labelled, some)
            )

        others = unlabelled
        near = [self.inputs("embedding", encoder, rows.text_nos[some], progress) for some in (given, left)]
        pseudo, trials = self_train(fit, targets, weights, near[0], near[1], self.self_training)
        if pseudo is None:
            return rows, trials
        chosen = left[pseudo.rows]
        probs, mass = rows.probs.copy(), rows.weights.copy()
        probs[chosen] = one_hot(pseudo.labels.tolist(), probs.shape[1])
        mass[chosen] = pseudo.weight
        mine = set(chosen.tolist())
        origins = ["self_training" if at in mine else origin for at, origin in enumerate(rows.origins)]
        reasons = [None if at in mine else reason for at, reason in enumerate(rows.reasons)]
        return Curated(rows.text_nos, origins, probs, mass, reasons, rows.unseen), trials


def _unlabelled(rows: Curated) -> NDArray[np.bool_]:
    return np.array([reason in UNLABELLED for reason in rows.reasons], bool)


def _take(inputs: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(inputs, TextsAndVectors):
        return inputs.take(rows)
    return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[row] for row in rows.tolist()]


def _joined(a: Any, b: Any) -> Any:
    if isinstance(a, TextsAndVectors):
        return TextsAndVectors([*a.texts, *b.texts], np.concatenate([a.vectors, b.vectors]))
    return np.concatenate([a, b]) if isinstance(a, np.ndarray) else [*a, *b]
