"""The verb `export` for a warehouse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from factory.canonical import digest
from factory.params import Call, Params, stage
from factory.result import StageResult
from factory.students.stored import StoredModel, encoder_of, has_test, load_student, stored_model, stored_models
from factory.task import TaskCard, current_card

if TYPE_CHECKING:
    from factory.export.spec import ExportSpec
    from factory.warehouse.file import Warehouse

VERSION = 4
"""Raised when the same student would give another export."""
CALIBRATED = "student_dev"
"""The system whose temperature, label sets and thresholds come from gold of dev."""


class ExportParams(Params):
    """The parameters of `export`."""

    path: Path = Field(
        Path("export"), description="The folder, relative to the run's; one that an earlier export wrote is replaced."
    )
    system: str = Field(
        "student",
        description="Which student. `student` saw no gold of dev, so any run has it; `student_dev` is calibrated on dev.",
    )


@stage("export", ExportParams, second="path")
def export(warehouse: Warehouse, params: ExportParams, call: Call) -> StageResult:
    """Write a trained system into a folder: safetensors and ONNX, tokenizer, labels in order, card, manifest.

    Returns:
        `did` has `path`, `kind`, `megabytes` and `parity`; skipped when the folder holds this very export already.

    Raises:
        InputError: The system was not trained.
        ExportError: What was written disagrees with the student, or the folder holds something else.
    """
    from factory.export.write import write_export
    from factory.files.manifest import manifest_digest
    from factory.predict.load import load_export
    from factory.students.speed import Speeds
    from factory.warehouse.file import next_no

    out, system, progress = (call.folder or Path()) / params.path, params.system, call.progress
    model = stored_model(warehouse, system)
    card = current_card(warehouse)
    calibrated = CALIBRATED if CALIBRATED in stored_models(warehouse) and system != CALIBRATED else None
    tested, columns = has_test(warehouse), _text_columns(warehouse)
    known = {"model": model.key, "card": card.revision, "text": columns, "tested": tested, "calibrated": calibrated}
    key = digest({"export": VERSION, **known})
    row = warehouse.query("SELECT manifest FROM exports WHERE key = ? AND path = ?", [key, str(out)])
    if row and json.loads(row[0][0])["digest"] == manifest_digest(out):
        facts = json.loads(row[0][0])
        return StageResult("export", True, {"path": str(out), "kind": facts["kind"], "megabytes": facts["megabytes"]})
    call.begin()
    spec = replace(_spec(warehouse, model, card), has_test=tested, calibrated=calibrated, text_columns=columns)
    sample = warehouse.query(
        "SELECT text FROM texts JOIN split_texts USING (text_no) WHERE split = 'train' ORDER BY content_hash LIMIT 64"
    )
    manifest = write_export(load_student(model), encoder_of(model), spec, out, [text for (text,) in sample], progress)
    size = sum(facts["bytes"] for facts in manifest["files"].values())
    did = {"path": str(out), "kind": manifest["kind"], "megabytes": round(size / 1e6, 1), "parity": manifest["parity"]}
    with warehouse.lease() as db:
        db.execute("DELETE FROM exports WHERE path = ?", [str(out)])
        stored = {"digest": manifest_digest(out), "kind": did["kind"], "megabytes": did["megabytes"]}
        db.execute(
            "INSERT INTO exports (export_no, key, model_no, kind, path, manifest) VALUES (?, ?, ?, ?, ?, ?)",
            [next_no(db, "exports", "export_no"), key, model.model_no, did["kind"], str(out), json.dumps(stored)],
        )
    Speeds(warehouse, measure=True).of(["export", stored["digest"]], lambda: load_export(out).predict_proba)
    says = f"{system} exported to {out}: {did['kind']}, {did['megabytes']} MB, parity checked"
    return StageResult("export", False, did, (says,))


def _text_columns(warehouse: Warehouse) -> list[list[str]]:
    """The columns that the texts were read from, those of `train` first; none for texts that came without a file."""
    rows = warehouse.query(
        "SELECT columns->'$.text' FROM sources WHERE format <> 'inline' AND split IN ('train', 'seed', 'dev')"
        " ORDER BY list_position(['train', 'seed', 'dev'], split), source_no"
    )
    return [json.loads(names) for names in dict.fromkeys(names for (names,) in rows)]


def _spec(warehouse: Warehouse, model: StoredModel, card: TaskCard) -> ExportSpec:
    from factory.export.spec import ExportSpec
    from factory.predict.scope import load_scope

    facts: dict[str, Any] = {"texts": model.params["rows"]}
    if model.params["label_model"]:
        facts["label model"] = model.params["label_model"]
    facts["student"] = {"kind": model.student, **model.params["chosen"]}
    encoder = encoder_of(model)
    if encoder is not None:
        facts["encoder"] = (
            f"{encoder.name}; its weights are in this folder, so that none are fetched, under its own licence"
        )
        facts |= {"put before each text": encoder.prompt} if encoder.prompt else {}
    for verb, asked, requests, tokens_in, tokens_out in warehouse.query(
        "SELECT stage, model, sum(requests), sum(tokens_in), sum(tokens_out) FROM spend GROUP BY ALL ORDER BY ALL"
    ):
        facts[f"asked for {verb}"] = f"{requests} requests to {asked}, {tokens_in} tokens in, {tokens_out} out"
    described = {name: card.label(name).description for name in model.labels}
    return ExportSpec(
        card.name, card.text, described, bool(model.params["multi"]), card.fields, model.system,
        model.params.get("trust", {}), load_scope(model.folder), facts, model.params.get("never_seen", []),
    )  # fmt: skip
