"""Writing the glass box as a folder to take home: programs, members, the encoder's graph, card and manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.base import Encoder
from factory.encoders.hashing import HASHING
from factory.encoders.onnx_graph import write_body
from factory.errors import ExportError
from factory.export.glass_card import glass_card
from factory.export.parity import ALONE_TOLERANCE, FP32_TOLERANCE, MOST_ALONE, dependence
from factory.export.spec import ExportSpec, needed_by_box, requirements_of
from factory.export.write import ODD_TEXTS, PARTS, drafted
from factory.files.manifest import write_manifest
from factory.predict.glass_box import FACTS, GLASS_BOX, GlassBox
from factory.predict.glass_predictor import GlassPredictor
from factory.predict.load import load_export
from factory.result import Progress, no_progress
from factory.students.base import write_json

if TYPE_CHECKING:
    from factory.programs.sandbox.host.pool import Sandbox


def write_glass_box(
    folder: Path, encoder: Encoder, spec: ExportSpec, out: Path, sample: Sequence[str], *,
    sandbox: Sandbox = "kernel", progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Write a glass box into a folder.

    Args:
        folder: Where `distill` keeps it.
        encoder: The one that its members were fitted with.
        spec: What the export says about itself.
        out: A folder that does not exist, is empty, or holds an earlier export.
        sample: Texts that the written files are checked on, beside odd ones of our own.
        sandbox: As `load_export` takes it.
        progress: Called with (done, total, what).

    Returns:
        The manifest.

    Raises:
        ExportError: The folder holds something else, or what was written answers otherwise than the box it came from.
        SandboxError: A program is Python, and Python cannot run here.
    """
    texts = [*ODD_TEXTS, *sample]
    with drafted(out) as draft:
        progress(0, 3, PARTS)
        shutil.copytree(folder, draft, dirs_exist_ok=True)
        known = _write_encoder(encoder, draft)
        progress(1, 3, PARTS)
        write_json(draft / "inference.json", {"kind": GLASS_BOX, "encoder": known, **spec.for_inference})
        write_json(draft / "labels.json", list(spec.labels))
        box = GlassBox.at(folder)
        told = {name: value for name, value in box.facts.items() if not name.startswith("encoder")}
        write_json(draft / FACTS, told)  # where the encoder lay is nobody's business
        needed = needed_by_box(known["kind"], rules=any(program.kind == "rules" for program in box.programs))
        (draft / "requirements.txt").write_text(requirements_of(needed), encoding="utf-8")
        facts = {"kind": GLASS_BOX, "system": spec.system, "labels": list(spec.labels)}
        write_manifest(draft, {**facts, "parity": {}})
        parity = _check(GlassPredictor(box, encoder, sandbox), draft, texts, sandbox)
        progress(2, 3, PARTS)
        (draft / "README.md").write_text(glass_card(spec, box, parity, needed), encoding="utf-8")
        progress(3, 3, PARTS)
        return write_manifest(draft, {**facts, "parity": parity})


def _write_encoder(encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Write the graph of an encoder, the very one that gave its vectors where there is one, and say how it is read."""
    if encoder.folder is None:
        return {"kind": HASHING}
    (folder / "encoder").mkdir()
    place, graph, tokens = (
        encoder.graph_folder,
        folder / "encoder" / "model.onnx",
        folder / "encoder" / "tokenizer.json",
    )
    if place is not None:
        shutil.copyfile(place / "model.onnx", graph)
        shutil.copyfile(place / "tokenizer.json", tokens)
        pad = int(json.loads((place / "graph.json").read_text(encoding="utf-8"))["pad"])
    else:
        body = encoder.body().to("cpu").eval()
        write_body(body, graph)
        tokens.write_text(body.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
        pad = int(body.tokenizer.pad_token_id or 0)
    return {"kind": "graph", "pad": pad, "prompt": encoder.prompt, "length": encoder.length}


def _check(box: GlassPredictor, folder: Path, texts: Sequence[str], sandbox: Sandbox) -> dict[str, Any]:
    """Compare what was written with the box in memory, and each text's answer with the one it gets alone.

    Raises:
        ExportError: They disagree.
    """
    written = load_export(folder, sandbox=sandbox).predict_proba
    difference = float(np.abs(written(texts) - box(texts)[0]).max())
    if not difference <= FP32_TOLERANCE:
        words = f"the export disagrees with the glass box by {difference:.2g} (at most {FP32_TOLERANCE:g})"
        raise ExportError(words, where=folder)
    alone = dependence(written, texts[:MOST_ALONE])
    if not alone <= ALONE_TOLERANCE:
        words = f"the export's answer for a text depends on the texts beside it, by {alone:.2g}"
        raise ExportError(f"{words} (at most {ALONE_TOLERANCE:g})", where=folder)
    found = {"texts": len(texts), "max_difference_below": FP32_TOLERANCE, "alone_max_difference_below": ALONE_TOLERANCE}
    return found | ({"notes": "; ".join(box.notes)} if box.notes else {})
