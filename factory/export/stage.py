"""The verb `export` for a warehouse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from factory.canonical import digest
from factory.errors import InputError
from factory.params import Call, Params, stage
from factory.predict.glass_box import GLASS_BOX
from factory.programs.sandbox.host.pool import Sandbox
from factory.result import Progress, StageResult
from factory.students.stored import (
    StoredModel,
    encoder_of,
    has_test,
    load_student,
    same_encoder,
    stored_mixture,
    stored_model,
    stored_models,
)
from factory.task import TaskCard, current_card

if TYPE_CHECKING:
    from factory.encoders.base import Encoder
    from factory.export.spec import ExportSpec
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.labels import LabelModelRow

VERSION = 5
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
        description="Which system. `student` saw no gold of dev, so any run has it; `student_dev` is calibrated on dev;"
        " `combined` was taught by the mixture of programs and anchors; `glass_box` is that mixture with its programs, which says"
        " why; `auto` is `glass_box` where it agrees with anchors more often than `combined` by more than a standard error, else"
        " `combined`, or `student` where there is no mixture.",
    )
    sandbox: Sandbox = Field(
        "kernel",
        description="What the Python programs of a glass box run in, as of `vote`, when they are checked and timed.",
    )


@stage("export", ExportParams, second="path")
def export(warehouse: Warehouse, params: ExportParams, call: Call) -> StageResult:
    """Write a trained system into a folder: safetensors and ONNX, tokenizer, labels in order, card, manifest.

    Returns:
        `did` has `path`, `kind`, `system`, `megabytes` and `parity`; skipped when the folder holds this very export already.

    Raises:
        InputError: The system was not trained.
        ExportError: What was written disagrees with the system, or the folder holds something else.
    """
    from factory.export.choose import AUTO, choose_form
    from factory.files.manifest import manifest_digest
    from factory.predict.load import load_export
    from factory.students.speed import MOST_TEXTS, Speeds
    from factory.warehouse.file import next_no

    out, system, lines = (call.folder or Path()) / params.path, params.system, list[str]()
    if system == AUTO:
        choice = choose_form(warehouse, params.sandbox)
        system, lines = choice.system, [choice.says]
    card = current_card(warehouse)
    source = _box(warehouse) if system == GLASS_BOX else stored_model(warehouse, system)
    calibrated = CALIBRATED if CALIBRATED in stored_models(warehouse) and system != CALIBRATED else None
    tested, columns = has_test(warehouse), _text_columns(warehouse)
    asked = warehouse.scalar(
        "SELECT model FROM spend WHERE stage IN ('annotate', 'author') ORDER BY stage, requests DESC, model LIMIT 1"
    )
    known = {"model": source.key, "card": card.revision, "text": columns, "tested": tested, "calibrated": calibrated}
    known["annotator"] = asked
    key = digest({"export": VERSION, **known})
    row = warehouse.query("SELECT manifest FROM exports WHERE key = ? AND path = ?", [key, str(out)])
    if row and json.loads(row[0][0])["digest"] == manifest_digest(out):
        facts = json.loads(row[0][0])
        did = {"path": str(out), "kind": facts["kind"], "system": system, "megabytes": facts["megabytes"]}
        return StageResult("export", True, did)
    call.begin()
    sample = warehouse.query(
        "SELECT text FROM texts JOIN split_texts USING (text_no) WHERE split = 'train' ORDER BY content_hash LIMIT 64"
    )
    more = {"has_test": tested, "calibrated": calibrated, "text_columns": columns, "card": card.model_dump(mode="json")}
    more["annotator"] = asked
    manifest = _write(warehouse, source, card, more, out, [text for (text,) in sample], params.sandbox, call.progress)
    size = sum(facts["bytes"] for facts in manifest["files"].values())
    did = {"path": str(out), "kind": manifest["kind"], "system": system, "megabytes": round(size / 1e6, 1)}
    number = source.model_no if isinstance(source, StoredModel) else None
    with warehouse.lease() as db:
        db.execute("DELETE FROM exports WHERE path = ?", [str(out)])
        stored = {"digest": manifest_digest(out), "kind": did["kind"], "megabytes": did["megabytes"]}
        stored |= {} if isinstance(source, StoredModel) else {"label_model_no": source.row.number}
        db.execute(
            "INSERT INTO exports (export_no, key, model_no, kind, path, manifest) VALUES (?, ?, ?, ?, ?, ?)",
            [next_no(db, "exports", "export_no"), key, number, did["kind"], str(out), json.dumps(stored)],
        )
    Speeds(warehouse, measure=True).of(
        ["export", stored["digest"]], lambda: load_export(out, sandbox=params.sandbox).predict_proba,
        first=MOST_TEXTS if system == GLASS_BOX else 32,
    )  # fmt: skip
    lines.append(f"{system} exported to {out}: {did['kind']}, {did['megabytes']} MB, parity checked")
    return StageResult("export", False, {**did, "parity": manifest["parity"]}, tuple(lines))


@dataclass(frozen=True)
class Box:
    """The glass box of a warehouse: its label model and the folder of its members."""

    row: LabelModelRow
    folder: Path

    @property
    def key(self) -> str:
        """Identity of what it was fitted on and how."""
        return self.row.key


def _box(warehouse: Warehouse) -> Box:
    found = stored_mixture(warehouse)
    if found is None:
        raise InputError(
            "there is no mixture of programs and anchors to export as a glass box", where=warehouse.path,
            fix="Run `annotate` with `anchors: 150` (50 must teach) and `distill` with the system `combined`",
        )  # fmt: skip
    return Box(*found)


def _write(
    warehouse: Warehouse, source: StoredModel | Box, card: TaskCard, more: Mapping[str, Any], out: Path,
    sample: Sequence[str], sandbox: Sandbox, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Write a student or the glass box; the manifest."""
    if isinstance(source, Box):
        from factory.export.glass_box import write_glass_box

        spec, encoder = _spec_of_box(warehouse, source, card)
        return write_glass_box(
            source.folder, encoder, replace(spec, **more), out, sample, sandbox=sandbox, progress=progress
        )
    from factory.export.write import write_export

    spec = replace(_spec(warehouse, source, card), **more)
    return write_export(load_student(source), encoder_of(source), spec, out, sample, progress)


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
    facts |= _bought(warehouse, encoder_of(model))
    described = {name: card.label(name).description for name in model.labels}
    return ExportSpec(
        card.name, card.text, described, bool(model.params["multi"]), card.fields, model.system,
        model.params.get("trust", {}), load_scope(model.folder), facts, model.params.get("never_seen", []),
    )  # fmt: skip


def _spec_of_box(warehouse: Warehouse, box: Box, card: TaskCard) -> tuple[ExportSpec, Encoder]:
    from factory.export.spec import ExportSpec
    from factory.predict.glass_box import GlassBox

    told = GlassBox.at(box.folder).facts
    encoder = same_encoder(told["encoder"], told["encoder_key"])
    answered = {part["label"] for part in told["parts"]}
    unseen = [name for name in told["labels"] if told["multi"] and name not in answered]
    facts = {"anchors": told["anchors"], "programs": len(told["programs"]), **_bought(warehouse, encoder)}
    described = {name: card.label(name).description for name in told["labels"]}
    spec = ExportSpec(
        card.name, card.text, described, told["multi"], card.fields, GLASS_BOX, facts=facts, never_seen=unseen
    )
    return spec, encoder


def _bought(warehouse: Warehouse, encoder: Encoder | None) -> dict[str, Any]:
    """The encoder, and what was asked of models."""
    facts: dict[str, Any] = {}
    if encoder is not None and encoder.folder is not None:
        facts["encoder"] = (
            f"{encoder.name}; its weights are in this folder, so that none are fetched, under its own licence"
        )
        facts |= {"put before each text": encoder.prompt} if encoder.prompt else {}
    for verb, asked, requests, tokens_in, tokens_out in warehouse.query(
        "SELECT stage, model, sum(requests), sum(tokens_in), sum(tokens_out) FROM spend GROUP BY ALL ORDER BY ALL"
    ):
        facts[f"asked for {verb}"] = f"{requests} requests to {asked}, {tokens_in} tokens in, {tokens_out} out"
    return facts
