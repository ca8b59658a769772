"""The verbs `distill` and `export` for a warehouse."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.canonical import digest
from factory.encoders import Encoder, load_encoder
from factory.errors import InputError
from factory.result import Progress, StageResult, no_progress
from factory.students import reading
from factory.students.base import Student, fit_student, make_config, student_class
from factory.students.curate import Candidates, Curated, Rules, as_json, curate
from factory.students.store import (
    StoredModel,
    artefacts,
    encoder_of,
    inputs_of,
    load_student,
    stored_model,
    stored_models,
)
from factory.task import TaskCard, current_card

if TYPE_CHECKING:
    from factory.students.export import ExportSpec
    from factory.warehouse import Warehouse

VERSION = 2
"""Raised when the same input would give another student."""

EXPORT_VERSION = 2

WEAK_C = {"embedding": 1.0, "hybrid": 10.0, "linear": 10.0, "static": 10.0}
"""Strength of students that learn from programs. Agreement on held-out soft labels would choose a weaker penalty, because
held-out labels of the same programs share their mistakes: on the validation rows of three WRENCH sets 1.0 beat that choice by
0.6 to 5 points (`embedding`). `c: auto` in the options asks for the choice all the same."""

MOST_SCOPE_TEXTS = 5000
"""Texts of training that scope is learned from."""

SYSTEMS = ("student", "student_dev", "programs_only", "synthesis_only", "student_setfit")
STANDARD = ("student", "student_dev", "programs_only", "synthesis_only")


def distill(
    warehouse: Warehouse,
    *,
    student: str = "embedding",
    encoder: str = "auto",
    systems: list[str] | tuple[str, ...] = STANDARD,
    options: dict[str, Any] | None = None,
    setfit: dict[str, Any] | None = None,
    confidence: float = 0.0,
    confidence_weight: bool = False,
    drop_ties: bool = False,
    synthetic_weight: float = 0.5,
    synthetic_cap: int = 500,
    synthetic_agreement: float = 0.0,
    synthetic_smoothing: float = 0.1,
    seed_weight: float = 1.0,
    balanced: bool = False,
    progress: Progress = no_progress,
) -> StageResult:
    """Train students on the soft labels of the chosen label model and on accepted synthetic texts.

    Args:
        warehouse: Holds texts, soft labels and synthetic texts.
        student: A name in `STUDENTS`. `embedding` without a sentence encoder becomes `linear`, and it is said.
        encoder: As in `load_encoder`.
        systems: Which to train: `student` (dev hidden from everything), `student_dev` (label model, cut-off, share of
            synthetic texts and strength chosen on dev), `programs_only`, `synthesis_only`, and `student_setfit`. One whose
            input does not exist is absent.
        options: The student's own options (`c`, `gce`, ...).
        setfit: Options of `student_setfit`.
        confidence: Drop corpus texts whose best label is less probable.
        confidence_weight: Weight corpus texts by their confidence.
        drop_ties: Drop texts whose best labels are tied.
        synthetic_weight: Weight of a synthetic text; 0 leaves them out.
        synthetic_cap: At most so many per label.
        synthetic_agreement: Drop a synthetic text whose own label the label model finds less probable.
        synthetic_smoothing: Label smoothing of synthetic texts, in [0, 1).
        seed_weight: Weight of a seed.
        balanced: Give every label the same total weight.
        progress: Called with (done, total, what).

    Returns:
        What was trained; skipped when every system was done already.

    Raises:
        InputError: Unknown system, student or option, or nothing to learn from.
    """
    for name in systems:
        if name not in SYSTEMS:
            raise InputError(f"there is no system {name!r}", fix=f"Known: {', '.join(SYSTEMS)}")
    card = current_card(warehouse)
    classes = reading.classes_of(warehouse, card)
    says: list[str] = []
    found = load_encoder(encoder)
    if found.folder is None and student != "linear":
        says.append(f"{found.says}. The student is `linear` instead of `{student}`")
        student, options = "linear", None
    elif student_class(student).takes != "texts" or "student_setfit" in systems:
        says.append(found.says)
    rules = Rules(
        "drop", confidence, confidence_weight, drop_ties, synthetic_weight, synthetic_cap, synthetic_agreement, seed_weight,
        balanced,
    )  # fmt: skip
    plan = _Plan(
        warehouse, classes, found, student, dict(options or {}), dict(setfit or {}), rules, synthetic_smoothing
    )
    make_config(student, options)
    if "student_setfit" in systems and found.folder is not None:
        make_config("setfit", setfit)
    done = {name: model.key for name, model in stored_models(warehouse).items()}
    trained: dict[str, Any] = {}
    kept: list[str] = []
    for number, system in enumerate(systems):
        progress(number, len(systems), system)
        wanted = plan.config_of(system)
        if wanted is None:
            if system in done:
                with warehouse.lease() as db:
                    _forget(db, system)
            continue
        key = digest(wanted)
        if done.get(system) == key and (artefacts(warehouse) / _path(key) / "student.json").is_file():
            kept.append(system)
            continue
        trained[system] = _train(plan, system, wanted, key, progress)
        says.append(_line(system, trained[system]))
    progress(len(systems), len(systems), "systems")
    if not trained and not kept:
        raise InputError(
            "there is nothing to learn from: no soft labels, no accepted synthetic texts and no seeds",
            where=warehouse.path,
            fix="Run `author`, `vote` and `denoise`, or `synthesize`, first",
        )
    if not trained:
        return StageResult("distill", True, {"systems": kept}, ())
    return StageResult("distill", False, {"systems": [*kept, *trained], "trained": trained}, tuple(says))


class _Plan:
    """What the systems of one `distill` share."""

    def __init__(
        self,
        warehouse: Warehouse,
        classes: reading.Classes,
        encoder: Encoder,
        student: str,
        options: dict[str, Any],
        setfit: dict[str, Any],
        rules: Rules,
        smoothing: float,
    ) -> None:
        self.warehouse, self.classes, self.encoder = warehouse, classes, encoder
        self.student, self.options, self.setfit = student, options, setfit
        self.rules, self.smoothing = rules, smoothing
        self.models = reading.label_models(warehouse)
        self.chosen = self.models[0] if self.models and self.models[0].chosen else None
        self.synthetic = reading.synthetic_digest(warehouse)
        self.seeds = reading.gold_digest(warehouse, "seed")
        self.dev = reading.gold_digest(warehouse, "dev")
        self.soft = {model.number: reading.soft_digest(warehouse, model.number) for model in self.models}

    def kind(self, system: str) -> str:
        return "setfit" if system == "student_setfit" else self.student

    def uses(self, system: str) -> tuple[bool, bool]:
        """Whether the system learns from programs and from synthetic texts, where these exist."""
        programs = self.chosen is not None and system != "synthesis_only"
        synthetic = (
            not self.synthetic.startswith("0:") and system != "programs_only" and self.rules.synthetic_weight > 0
        )
        return programs, synthetic

    def config_of(self, system: str) -> dict[str, Any] | None:
        """Everything the system's student depends on, or None if its input does not exist."""
        programs, synthetic = self.uses(system)
        if system == "programs_only" and not programs:
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
        kind = self.kind(system)
        needs_encoder = student_class(kind).stands_on_encoder
        soft: list[list[Any]] = []
        if programs and self.chosen is not None:
            wanted = self.models if on_dev else [self.chosen]
            soft = [[model.name, model.uncovered, self.soft[model.number]] for model in wanted]
        return {
            "version": VERSION,
            "system": system,
            "student": kind,
            "options": self.setfit if kind == "setfit" else self.options,
            "strength": WEAK_C.get(kind) if programs and not on_dev and "c" not in self.options else None,
            "encoder": [self.encoder.name, self.encoder.key] if needs_encoder else None,
            "labels": [list(self.classes.names), list(self.classes.numbers), self.classes.multi],
            "rules": as_json(self.rules),
            "smoothing": self.smoothing,
            "soft_labels": soft,
            "synthetic": self.synthetic if synthetic else None,
            "seeds": None if system == "synthesis_only" else self.seeds,
            "dev": self.dev if on_dev else None,
        }

    def rows(self, system: str, label_model: reading.LabelModelRow | None, rules: Rules, barred: Any = ()) -> Curated:
        """The curated rows of a system."""
        from dataclasses import replace

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
        return curate(groups, rules, multi=self.classes.multi, votes_on_synthetic=votes, barred=barred)

    def inputs(self, kind: str, text_nos: Any, progress: Progress) -> Any:
        """Vectors for a student that takes them, texts, or both."""
        return inputs_of(self.warehouse, kind, self.encoder, text_nos, progress)

    def fit(self, kind: str, rows: Curated, options: dict[str, Any], progress: Progress) -> Student:
        """Train on the rows that were kept."""
        kept = rows.kept
        if not kept.any():
            raise InputError(
                "curation kept no text to learn from",
                where=str(rows.counts()),
                fix="Loosen `confidence`, or add programs",
            )
        return fit_student(
            kind,
            self.inputs(kind, rows.text_nos[kept], progress),
            rows.probs[kept],
            rows.weights[kept],
            config=options,
            multi=self.classes.multi,
            encoder=self.encoder,
            progress=progress,
        )


def _train(plan: _Plan, system: str, wanted: dict[str, Any], key: str, progress: Progress) -> dict[str, Any]:
    from factory.students.scope import save_scope

    kind, options = wanted["student"], dict(wanted["options"])
    if wanted["strength"] is not None:
        options["c"] = wanted["strength"]
    label_model, facts = plan.chosen, {}
    rules = plan.rules
    barred: Any = ()
    if system == "student_dev":
        from factory.students.choose import choose_on_dev

        choice = choose_on_dev(plan, kind, options, key, progress)
        label_model, rules, options, barred, facts = (
            choice.label_model, choice.rules, choice.options, choice.barred, choice.facts,
        )  # fmt: skip
    rows = plan.rows(system, label_model, rules, barred)
    student = plan.fit(kind, rows, options, progress)
    trust, scope = _trust(plan, system, student, rows, progress)
    params = {
        "labels": list(plan.classes.names),
        "label_nos": list(plan.classes.numbers),
        "multi": plan.classes.multi,
        "encoder_key": None if wanted["encoder"] is None else wanted["encoder"][1],
        "chosen": dict(student.chosen),
        "label_model": label_model.name if label_model is not None and plan.uses(system)[0] else None,
        "rows": rows.counts(),
        "trust": trust,
        **facts,
    }
    folder = artefacts(plan.warehouse) / _path(key)
    _write_folder(student, folder)
    save_scope(scope, folder)
    _store(plan, system, key, wanted, params, rows, student)
    return {
        "student": kind,
        "rows": int(rows.kept.sum()),
        "label_model": params["label_model"],
        "chosen": params["chosen"],
    }


def _trust(
    plan: _Plan, system: str, student: Student, rows: Curated, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Temperature (applied to the student), label sets and thresholds from dev for `student_dev`; scope, with arrays, for any."""
    from factory.students import calibrate
    from factory.students.scope import features_of, fit_scope

    found: dict[str, Any] = {}
    if system == "student_dev":
        text_nos, gold = reading.dev_gold(plan.warehouse, plan.classes)
        inputs = plan.inputs(student.kind, text_nos, progress)
        temperature = calibrate.fit_temperature(student.predict_proba(inputs), gold, plan.classes.multi)
        if temperature != 1.0:
            student.cool(temperature)
        found = {
            "temperature": temperature,
            **calibrate.trust_on(student.predict_proba(inputs), gold, plan.classes.multi),
        }
    kept = np.flatnonzero(rows.kept)
    kept = np.sort(np.random.default_rng(len(kept)).permutation(kept)[:MOST_SCOPE_TEXTS])
    vectors = features_of(student, plan.inputs(student.kind, rows.text_nos[kept], progress))
    if vectors is None:
        return found, {}
    scope, arrays = fit_scope(vectors, rows.probs[kept], plan.classes.multi)
    return {**found, **({"scope": scope} if scope else {})}, arrays


def _store(
    plan: _Plan, system: str, key: str, wanted: dict[str, Any], params: dict[str, Any], rows: Curated, student: Student
) -> None:
    import pyarrow as pa

    from factory.warehouse import insert, next_no

    widened = plan.classes.widen(rows.probs)
    offsets = pa.array(np.arange(0, widened.size + 1, widened.shape[1], dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(widened.astype(np.float32).reshape(-1)))
    with plan.warehouse.lease() as db:
        _forget(db, system, keep_trials_of=key)
        model_no = next_no(db, "models", "model_no")
        db.execute(
            "INSERT INTO models (model_no, key, system, student, encoder, config, params, path)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                model_no, key, system, wanted["student"], None if wanted["encoder"] is None else wanted["encoder"][0],
                json.dumps(wanted, sort_keys=True), json.dumps(params, sort_keys=True), _path(key),
            ],
        )  # fmt: skip
        insert(
            db,
            "model_rows",
            {
                "model_no": [model_no] * len(rows.text_nos),
                "text_no": pa.array(rows.text_nos, pa.int32()),
                "origin": rows.origins,
                "probs": lists,
                "weight": pa.array(rows.weights.astype(np.float32)),
                "drop_reason": pa.array(rows.reasons, pa.string()),
            },
        )
        tried = student.trials
        if tried and system != "student_dev":
            insert(
                db,
                "trials",
                {
                    "key": [key] * len(tried),
                    "system": [system] * len(tried),
                    "trial_no": pa.array(range(1, len(tried) + 1), pa.int32()),
                    "config": [json.dumps(config) for config, _ in tried],
                    "criterion": ["held-out soft cross-entropy"] * len(tried),
                    "score": pa.array([-loss for _, loss in tried], pa.float64()),
                },
            )


def _forget(db: Any, system: str, keep_trials_of: str = "") -> None:
    db.execute("DELETE FROM model_rows WHERE model_no IN (SELECT model_no FROM models WHERE system = ?)", [system])
    db.execute("DELETE FROM models WHERE system = ?", [system])
    db.execute("DELETE FROM trials WHERE system = ? AND key <> ?", [system, keep_trials_of])


def _write_folder(student: Student, folder: Path) -> None:
    """Write a student beside its place, then move it there: a kill leaves the old folder or the new one."""
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        student.save(draft)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)
    except OSError as error:
        raise InputError(f"the student cannot be written: {error.strerror}", where=folder) from error


def _path(key: str) -> str:
    return f"models/{key[:16]}"


def _line(system: str, facts: dict[str, Any]) -> str:
    source = f" on the labels of {facts['label_model']}" if facts["label_model"] else ""
    return f"{system}: {facts['student']} trained on {facts['rows']} texts{source}"


def export(
    warehouse: Warehouse, out: str | Path, *, system: str = "student", progress: Progress = no_progress
) -> StageResult:
    """Write a trained system into a folder: safetensors and ONNX, tokenizer, labels in order, card, manifest.

    Args:
        warehouse: Holds the trained system.
        out: A folder that does not exist, is empty, or holds an earlier export.
        system: Which one.
        progress: Called with (done, total, what).

    Returns:
        `did` has `path`, `kind`, `megabytes` and `parity`; skipped when the folder holds this very export already.

    Raises:
        InputError: The system was not trained.
        ExportError: What was written disagrees with the student, or the folder holds something else.
    """
    from factory.students.export import write_export
    from factory.students.manifest import manifest_digest

    out = Path(out)
    model = stored_model(warehouse, system)
    card = current_card(warehouse)
    key = digest({"export": EXPORT_VERSION, "model": model.key, "card": card.revision})
    row = warehouse.query("SELECT manifest FROM exports WHERE key = ? AND path = ?", [key, str(out)])
    if row and json.loads(row[0][0])["digest"] == manifest_digest(out):
        facts = json.loads(row[0][0])
        return StageResult("export", True, {"path": str(out), "kind": facts["kind"], "megabytes": facts["megabytes"]})
    progress(0, 2, "the student's files")
    spec = _spec(warehouse, model, card)
    sample = warehouse.query(
        "SELECT text FROM texts JOIN split_texts USING (text_no) WHERE split = 'train' ORDER BY content_hash LIMIT 64"
    )
    progress(1, 2, "writing and checking the export")
    manifest = write_export(load_student(model), encoder_of(model), spec, out, [text for (text,) in sample])
    size = sum(facts["bytes"] for facts in manifest["files"].values())
    did = {"path": str(out), "kind": manifest["kind"], "megabytes": round(size / 1e6, 1), "parity": manifest["parity"]}
    with warehouse.lease() as db:
        from factory.warehouse import next_no

        db.execute("DELETE FROM exports WHERE path = ?", [str(out)])
        stored = {"digest": manifest_digest(out), "kind": did["kind"], "megabytes": did["megabytes"]}
        db.execute(
            "INSERT INTO exports (export_no, key, model_no, kind, path, manifest) VALUES (?, ?, ?, ?, ?, ?)",
            [next_no(db, "exports", "export_no"), key, model.model_no, did["kind"], str(out), json.dumps(stored)],
        )
    progress(2, 2, "exported")
    return StageResult(
        "export", False, did, (f"{system} exported to {out}: {did['kind']}, {did['megabytes']} MB, parity checked",)
    )


def _spec(warehouse: Warehouse, model: StoredModel, card: TaskCard) -> ExportSpec:
    from factory.students.export import ExportSpec
    from factory.students.scope import load_scope

    facts: dict[str, Any] = {"texts": model.params["rows"]}
    if model.params["label_model"]:
        facts["label model"] = model.params["label_model"]
    facts["student"] = {"kind": model.student, **model.params["chosen"]}
    if model.encoder:
        facts["encoder"] = model.encoder
    for stage, asked, requests, tokens_in, tokens_out in warehouse.query(
        "SELECT stage, model, sum(requests), sum(tokens_in), sum(tokens_out) FROM spend GROUP BY ALL ORDER BY ALL"
    ):
        facts[f"asked for {stage}"] = f"{requests} requests to {asked}, {tokens_in} tokens in, {tokens_out} out"
    described = {name: card.label(name).description for name in model.labels}
    return ExportSpec(
        card.name, card.text, described, bool(model.params["multi"]), card.fields, model.system,
        model.params.get("trust", {}), load_scope(model.folder), facts,
    )  # fmt: skip
