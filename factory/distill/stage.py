"""The verb `distill` for a warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from factory.canonical import digest
from factory.distill import read as reading
from factory.distill.curate import NOT_DRAWN, Curated, Rules
from factory.distill.mixing import mixture_of
from factory.distill.self_training import SelfTraining
from factory.distill.system import COMBINED, Plan
from factory.distill.write import forget, path_of, store, write_folder
from factory.encoders.base import Encoder
from factory.encoders.encoder import load_encoder
from factory.encoders.settings import HOW, Named
from factory.errors import InputError, nearest
from factory.extras import need
from factory.params import Call, Params, stage
from factory.predict.exported import unseen_words
from factory.result import Progress, StageResult
from factory.students.base import STUDENTS, Student, make_config, student_class
from factory.students.stored import artefacts, has_test, stored_models
from factory.task import current_card

if TYPE_CHECKING:
    from factory.students.base import Trial
    from factory.warehouse.file import Warehouse

COMPARED = ("programs_only", "synthesis_only")
"""Systems that are there to be compared on test with the others."""
MOST_SCOPE_TEXTS = 5000
"""Texts of training that scope is learned from."""


class DistillParams(Params):
    """The parameters of `distill`."""

    student: str = Field(
        "hybrid",
        description="A kind of student, or `auto`: one of `try_students` and `try_encoders`, chosen on dev for"
        " `student_dev` and by"
        " agreement with held-out labels for the others. `hybrid` learns from words and from sentence vectors together."
        " One that stands on a sentence encoder becomes `linear` where there is none, and it is said.",
    )
    encoder: Named = Field("auto", description=f"The sentence encoder: {HOW}.")
    encode_at_most: int = Field(
        20_000,
        ge=1,
        description="A student that reads vectors learns from at most so many labelled texts of the corpus, a share of each label"
        " drawn by content; only those are encoded. More texts hardly help it, and take hours on a small machine.",
    )
    try_students: list[str] = Field(
        ["hybrid", "embedding", "linear"],
        min_length=1,
        description="Kinds that `auto` tries: those that train in seconds once texts are encoded.",
    )
    try_encoders: list[Named] = Field(
        [], description="Further encoders that `auto` tries; none by default, since each encodes every text."
    )
    systems: list[
        Literal["student", "student_dev", "combined", "programs_only", "synthesis_only", "student_setfit"]
    ] = Field(
        ["student", "student_dev", "combined", "programs_only", "synthesis_only"],
        description="Which to train: `student` (dev hidden from everything), `student_dev` (label model, cut-off, share of"
        " synthetic texts and strength chosen on dev), `combined` (taught by a mixture of programs and anchors, where 50 anchors"
        " teach), `programs_only`, `synthesis_only`, and `student_setfit`, which is slow"
        " and so is not among the default ones. One whose input does not exist is absent; `programs_only` and"
        " `synthesis_only` are there to be compared, so without a `test` split they are trained only if they are named here.",
    )
    options: dict[str, Any] | None = Field(
        None, description="The student's own options (`c`, `gce`, ...); what it chooses itself by default."
    )
    setfit: dict[str, Any] | None = Field(None, description="Options of `student_setfit`; its own defaults by default.")
    confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Drop corpus texts whose best label is less probable. None by default: soft labels say their doubt.",
    )
    confidence_weight: bool = Field(
        False, description="Weight corpus texts by their confidence; off for the same reason."
    )
    drop_ties: bool = Field(
        False, description="Drop texts whose best labels are tied; off, since a tie still rules labels out."
    )
    synthetic_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of a synthetic text; 0 leaves them out. Half of a real one: they are less like what will come.",
    )
    synthetic_cap: int = Field(
        500, ge=0, description="At most so many per label, so that they never outweigh the corpus."
    )
    synthetic_agreement: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Drop a synthetic text whose own label the label model finds less probable; none by default.",
    )
    synthetic_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Label smoothing of synthetic texts: a model's text is not always what it was asked for.",
    )
    seed_weight: float = Field(1.0, ge=0, description="Weight of a seed: that of a real text.")
    balanced: bool = Field(
        False, description="Give every label the same total weight; off, so that the student learns the real shares."
    )
    unknown: Literal["no", "mask"] = Field(
        "no",
        description="A label of a `multi` task that no program votes on counts as negative in training (`no`), or"
        " is left out of"
        " the loss (`mask`). Most labels do not hold of most texts, so `no` is nearly always right.",
    )
    self_training: dict[str, Any] | None = Field(
        None,
        description="Options of self-training on texts without a label (`rounds`, `confidence`, ...); left out by default."
        " For tasks of one label per text.",
    )

    def extras(self) -> dict[str, str]:
        kinds = self.try_students if self.student == "auto" else [self.student]
        return {"setfit": "the student `setfit`"} if "setfit" in kinds or "student_setfit" in self.systems else {}

    @field_validator("student")
    @classmethod
    def _known(cls, student: str) -> str:
        if student != "auto" and student not in STUDENTS:
            raise ValueError(
                f"there is no student {student!r}{nearest(student, STUDENTS)} There are auto, {', '.join(STUDENTS)}"
            )
        return student


@stage("distill", DistillParams)
def distill(warehouse: Warehouse, params: DistillParams, call: Call) -> StageResult:
    """Train students on the soft labels of the chosen label model and on accepted synthetic texts.

    Returns:
        What was trained; skipped when every system was done already.

    Raises:
        InputError: Unknown student or option, or nothing to learn from.
    """
    student, systems, options, progress = params.student, params.systems, params.options, call.progress
    for package, what in params.extras().items():
        need(package, what)
    card = current_card(warehouse)
    classes = reading.classes_of(warehouse, card)
    says: list[str] = []
    found = load_encoder(params.encoder, warehouse)
    names = list(params.try_students) if student == "auto" else [student]
    if student == "auto" and options:
        raise InputError("`options` belong to one student", fix="Name it instead of `auto`")
    encoders = [found, *(load_encoder(name) for name in params.try_encoders if student == "auto")]
    standing = [name for name in names if student_class(name).stands_on_encoder]
    if found.folder is None and standing:
        says.append(f"{found.says}. The student is `linear` instead of `{student}`")
        names, options = ["linear"], None
    rules = Rules(
        "drop", params.confidence, params.confidence_weight, params.drop_ties, params.synthetic_weight, params.synthetic_cap,
        params.synthetic_agreement, params.seed_weight, params.balanced, params.unknown,
    )  # fmt: skip
    candidates = [
        (name, each) for name in names for each in (encoders if student_class(name).stands_on_encoder else encoders[:1])
    ]
    plan = Plan(
        warehouse, classes, found, candidates, dict(options or {}), dict(params.setfit or {}), rules,
        params.synthetic_smoothing, _self_training(params.self_training, classes.multi), params.encode_at_most,
    )  # fmt: skip
    for name in names:
        make_config(name, options)
    if "student_setfit" in systems and found.folder is not None:
        make_config("setfit", params.setfit)
    told: tuple[str, ...] = ()
    if COMBINED in params.systems:
        mixture, told = mixture_of(plan, progress, call.begin)
        plan, says = replace(plan, mixture=mixture), [*says, *told]
    done = {name: model.key for name, model in stored_models(warehouse).items()}
    trained: dict[str, Any] = {}
    kept: list[str] = []
    left: list[tuple[str, dict[str, Any], str]] = []
    for system in _wanted(warehouse, params):
        wanted = plan.config_of(system)
        if wanted is None:
            if system in done:
                with warehouse.lease() as db:
                    forget(db, system)
            continue
        key = digest(wanted)
        if done.get(system) == key and (artefacts(warehouse) / path_of(key) / "student.json").is_file():
            kept.append(system)
        else:
            left.append((system, wanted, key))
    for number, (system, wanted, key) in enumerate(left):
        progress(number, len(left), system)
        call.begin()
        trained[system] = _train(plan, system, wanted, key, progress)
        says += _lines(system, trained[system])
    if left:
        progress(len(left), len(left), "systems")
    if not trained and not kept:
        why = told[0] if told else "no soft labels, no accepted synthetic texts and no seeds"
        raise InputError(
            f"there is nothing to learn from: {why}",
            where=warehouse.path,
            fix="Run `author`, `vote` and `denoise`, or `synthesize`, first",
        )
    if not trained:
        return StageResult("distill", True, {"systems": kept}, ())
    if found.folder is not None and (standing or "student_setfit" in systems):
        says = [*(each.says for each in encoders), *says]
    return StageResult("distill", False, {"systems": [*kept, *trained], "trained": trained}, tuple(says))


def _wanted(warehouse: Warehouse, params: DistillParams) -> list[str]:
    """The systems to train: of those nobody named, none that only scores on test would be looked at for."""
    if "systems" in params.model_fields_set or has_test(warehouse):
        return list(params.systems)
    return [system for system in params.systems if system not in COMPARED]


def _train(plan: Plan, system: str, wanted: dict[str, Any], key: str, progress: Progress) -> dict[str, Any]:
    from factory.distill.choose import choose_by_agreement, choose_on_dev
    from factory.predict.scope import save_scope

    label_model, facts = plan.label_model(system), {}
    if system == "student_dev":
        choice = choose_on_dev(plan, key, progress)
        kind, encoder, label_model, options, facts = (
            choice.kind, choice.encoder, choice.label_model, choice.options, choice.facts,
        )  # fmt: skip
        rows = plan.rows(system, label_model, choice.rules, choice.barred.tolist())
    else:
        rows = plan.rows(system, label_model, plan.rules)
        kind, encoder = choose_by_agreement(plan, system, rows, key, progress)
        options = plan.options_of(system, kind)
    never_seen = [plan.classes.names[column] for column in rows.unseen]
    _need_two_labels(system, plan.classes.names, never_seen, plan.classes.multi)
    tried: list[tuple[str, Trial]] = []
    if wanted["self_training"] is not None:
        rows, rounds = plan.with_own_labels(kind, encoder, rows, options, progress)
        tried += [("self-training: held-out soft cross-entropy", trial) for trial in rounds]
    student = plan.fit(kind, encoder, rows, options, progress)
    tried += [("held-out soft cross-entropy", trial) for trial in student.trials]
    trust, scope = _trust(plan, system, student, encoder, rows, progress)
    stands = student.stands_on_encoder
    params = {
        "labels": list(plan.classes.names),
        "label_nos": list(plan.classes.numbers),
        "multi": plan.classes.multi,
        "encoder": encoder.name if stands else None,
        "encoder_key": encoder.key if stands else None,
        "encoder_settings": dict(encoder.settings) if stands else None,
        "chosen": dict(student.chosen),
        "label_model": label_model.name if label_model is not None and plan.uses(system)[0] else None,
        "rows": rows.counts(),
        "never_seen": never_seen,
        "trust": trust,
        **facts,
    }
    folder = artefacts(plan.warehouse) / path_of(key)
    write_folder(student, folder)
    save_scope(scope, folder)
    store(plan.warehouse, plan.classes, system, key, wanted, params, rows, kind, tried)
    return {
        "student": kind,
        "rows": int(rows.kept.sum()),
        "not_drawn": rows.counts().get(f"dropped: {NOT_DRAWN}", 0),
        "label_model": params["label_model"],
        "chosen": params["chosen"],
        "never_seen": never_seen,
    }


def _need_two_labels(system: str, names: Sequence[str], never_seen: Sequence[str], multi: bool) -> None:
    """Refuse to train what can give one answer alone.

    Raises:
        InputError: No kept text speaks for a second label, or in a multi task for any.
    """
    seen = [name for name in names if name not in never_seen]
    if len(seen) < (1 if multi else 2):
        only = f"only the label {seen[0]!r}" if seen else "no label"
        raise InputError(
            f"`{system}` has nothing to tell apart: its training texts have {only}",
            fix=f"Add programs, synthetic texts or seeds for {', '.join(map(repr, never_seen[:5]))}, or leave the system out of"
            " `systems`",
        )


def _trust(
    plan: Plan, system: str, student: Student, encoder: Encoder, rows: Curated, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Temperature (applied to the student), label sets and thresholds from dev for `student_dev`; scope, with arrays, for any."""
    from factory.distill import fit_trust as calibrate
    from factory.distill.fit_scope import fit_scope

    found: dict[str, Any] = {}
    if system == "student_dev":
        text_nos, gold = reading.dev_gold(plan.warehouse, plan.classes)
        inputs = plan.inputs(student.kind, encoder, text_nos, progress)
        temperature = calibrate.fit_temperature(student.predict_proba(inputs), gold, plan.classes.multi)
        if temperature != 1.0:
            student.scale_temperature(temperature)
        found = {
            "temperature": temperature,
            **calibrate.trust_on(student.predict_proba(inputs), gold, plan.classes.multi),
        }
    kept = np.flatnonzero(rows.kept)
    kept = np.sort(np.random.default_rng(len(kept)).permutation(kept)[:MOST_SCOPE_TEXTS])
    vectors = student.vectors_behind(plan.inputs(student.kind, encoder, rows.text_nos[kept], progress))
    if vectors is None:
        return found, {}
    scope, arrays = fit_scope(vectors, rows.probs[kept], plan.classes.multi)
    return {**found, **({"scope": scope} if scope else {})}, arrays


def _self_training(options: dict[str, Any] | None, multi: bool) -> SelfTraining | None:
    if options is None:
        return None
    if multi:
        raise InputError("self-training is for tasks of one label per text", fix="Leave `self_training` out")
    known = [field.name for field in fields(SelfTraining)]
    for key in options:
        if key not in known:
            raise InputError(f"`self_training` has no option `{key}`", fix=f"It has: {', '.join(known)}")
    return SelfTraining(**options)


def _lines(system: str, facts: dict[str, Any]) -> list[str]:
    source = f" on the labels of {facts['label_model']}" if facts["label_model"] else ""
    said = [f"{system}: {facts['student']} trained on {facts['rows']} texts{source}"]
    if facts["not_drawn"]:
        said.append(
            f"{system}: a share of each label was drawn, and {facts['not_drawn']:,} further labelled texts were not encoded"
            " (`distill: {encode_at_most: ...}` takes more)"
        )
    if facts["never_seen"]:
        said.append(f"warning: {system}: {unseen_words(facts['never_seen'])}")
    return said
