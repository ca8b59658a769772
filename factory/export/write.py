"""Writing a student as a folder that anybody can load: safetensors and ONNX, tokenizer, labels in order, card, manifest.

The folder holds no pickle, no time and no path, so the same student gives the same bytes; it is written beside its place, checked
against the student it came from, and moved there only if both agree.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.encoder import Encoder, load_sentence_transformer
from factory.errors import ExportError
from factory.files.manifest import write_manifest
from factory.predict.load import load_export
from factory.predict.scope import save_scope
from factory.students.base import Student, write_json
from factory.students.logistic import Head

if TYPE_CHECKING:
    from numpy.typing import NDArray

ODD_TEXTS = ("", " ", "ok", "ÄÖÜ ß é — “quotes” 漢字 😀", "NUL-less\ttabs\nand lines", "word " * 400, "!!! ??? ...")
FP32_TOLERANCE = 1e-4
CLEAR_MARGIN = 0.2


@dataclass(frozen=True)
class ExportSpec:
    """What an export says about itself.

    Attributes:
        name: Of the task.
        text: What a text is.
        labels: Label name to description, in the order of the model's columns.
        multi: Whether a text may have any number of labels.
        fields: The task's fields, if its texts have several.
        system: Which system was exported.
        trust: Calibration to carry along: `temperature`, `conformal`, `abstain`, `scope`, and how many `texts` it is from.
        scope: Arrays that scope is judged by, from `factory.predict.scope.fit_scope`.
        facts: Name to value for the card: data, spend, choices.
    """

    name: str
    text: str
    labels: Mapping[str, str]
    multi: bool
    fields: Sequence[str] = ()
    system: str = "student"
    trust: Mapping[str, Any] = field(default_factory=dict)
    scope: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_export(
    student: Student, encoder: Encoder | None, spec: ExportSpec, out: Path, sample: Sequence[str]
) -> dict[str, Any]:
    """Write a student into a folder.

    Args:
        student: Any of them.
        encoder: The one it stands on, if it does.
        spec: What the export says about itself.
        out: A folder that does not exist, is empty, or holds an earlier export.
        sample: Texts that the written files are checked on, beside odd ones of our own.

    Returns:
        The manifest.

    Raises:
        ExportError: The folder holds something else, or what was written disagrees with the student.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").is_file())):
        raise ExportError("this is no earlier export, and it is not empty", where=out, fix="Name another folder")
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        kind, inference = _write_model(student, encoder, draft)
        inference |= {"kind": kind, "labels": list(spec.labels), "multi": spec.multi, "fields": list(spec.fields)}
        inference |= {"trust": dict(spec.trust)}
        write_json(draft / "inference.json", inference)
        write_json(draft / "labels.json", list(spec.labels))
        save_scope(spec.scope, draft)
        write_manifest(draft, {"kind": kind, "system": spec.system, "labels": list(spec.labels), "parity": {}})
        parity = check_parity(student, draft, kind, [*ODD_TEXTS, *sample], inference.get("max_length"))
        from factory.export.card import model_card

        (draft / "README.md").write_text(model_card(spec, kind, parity, inference), encoding="utf-8")
        manifest = write_manifest(
            draft, {"kind": kind, "system": spec.system, "labels": list(spec.labels), "parity": parity}
        )
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            os.replace(out, old)
        os.replace(draft, out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"the export cannot be written: {error.strerror}", where=out) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def check_parity(
    student: Student, folder: Path, kind: str, texts: Sequence[str], window: int | None = None
) -> dict[str, Any]:
    """Compare what was written with the student it came from.

    Args:
        student: The student in memory.
        folder: The export.
        kind: `transformer`, `hybrid`, `static` or `linear`.
        texts: What to compare on.
        window: Tokens that sentence-transformers reads of a text: longer ones are not compared with it.

    Returns:
        `{"texts", "fp32_max_difference", "int8_label_agreement", ...}`, rounded so that noise does not show.

    Raises:
        ExportError: They disagree.
    """
    wanted = student.predict_proba(list(texts))
    clear = _clear(wanted, student.multi)
    found: dict[str, Any] = {"texts": len(texts)}
    every = np.ones(len(texts), bool)
    ways = {"fp32": (every, lambda: load_export(folder, precision="fp32").predict_proba(texts))}
    if kind in ("transformer", "hybrid"):
        ways["int8"] = (every, lambda: load_export(folder, precision="int8").predict_proba(texts))
    if kind == "transformer":
        short = _one_window(folder, texts, window)
        some = [text for text, fits in zip(texts, short, strict=True) if fits]
        ways["sentence_transformers"] = (short, lambda: _by_sentence_transformers(folder, some, student.multi))
    for name, (compared, way) in ways.items():
        probs = way()
        difference = float(np.abs(probs - wanted[compared]).max())
        same = _labels(probs, student.multi) == _labels(wanted[compared], student.multi)
        if name == "int8":
            found["int8_max_difference"] = round(difference, 2)
            found["int8_label_agreement"] = round(float(same.mean()), 3)
            if not np.isfinite(probs).all() or (clear.any() and same[clear].mean() < 0.98):
                raise ExportError(
                    f"the int8 graph decides otherwise than the student in {int((~same[clear]).sum())} of"
                    f" {int(clear.sum())} clear cases",
                    where=folder,
                )
        elif not difference <= FP32_TOLERANCE:
            raise ExportError(
                f"the {name} export disagrees with the student by {difference:.2g} (at most {FP32_TOLERANCE:g})",
                where=folder,
            )
        else:
            found[f"{name}_max_difference_below"] = FP32_TOLERANCE
    return found


def _write_model(student: Student, encoder: Encoder | None, folder: Path) -> tuple[str, dict[str, Any]]:
    if student.kind == "linear":
        from safetensors.numpy import save_file

        save_file(
            {"idf": student.idf, "weight": student.head.weight, "bias": student.head.bias},  # type: ignore[attr-defined]
            str(folder / "linear.safetensors"),
        )
        write_json(folder / "terms.json", student.terms)  # type: ignore[attr-defined]
        return "linear", {"words": list(student.config.words), "characters": list(student.config.characters)}
    if student.kind == "static":
        facts: dict[str, Any] = student.write_export(folder)  # type: ignore[attr-defined]
        return "static", facts
    body = getattr(student, "body", None)
    if body is None:
        if encoder is None or encoder.folder is None:
            raise ExportError(
                "the student stands on an encoder that cannot be exported", fix="Use the student `linear`"
            )
        body = load_sentence_transformer(encoder.folder)
    head: Head = student.head  # type: ignore[attr-defined]
    if student.kind == "hybrid":
        return "hybrid", write_hybrid(body, student, folder)
    return "transformer", write_transformer(body, head, folder)


def write_hybrid(body: Any, student: Any, folder: Path) -> dict[str, Any]:
    """Write a hybrid student as ONNX graphs, its tokenizer, and its head's arrays as safetensors."""
    from factory.export.onnx_graph import write_graph, write_int8

    body = body.to("cpu").eval()
    write_graph(body, student.head, folder / "model.onnx", grams=student.grams, idf=student.idf)
    write_int8(folder / "model.onnx", folder / "model_int8.onnx")
    student.save(folder)
    (folder / "student.json").unlink()
    (folder / "tokenizer.json").write_text(_plain_tokenizer(body), encoding="utf-8")
    return {"max_length": int(body.max_seq_length or 512), "pad_id": int(body.tokenizer.pad_token_id or 0)}


def _plain_tokenizer(body: Any) -> str:
    backend = json.loads(body.tokenizer.backend_tokenizer.to_str())
    backend["truncation"] = backend["padding"] = None
    return json.dumps(backend, ensure_ascii=False, sort_keys=True)


def write_transformer(body: Any, head: Head, folder: Path) -> dict[str, Any]:
    """Write body and head as a sentence-transformers folder and as ONNX graphs.

    Returns:
        What inference needs to know: `max_length`, `pad_id`.
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    from factory.export.onnx_graph import write_graph, write_int8

    body = body.to("cpu").eval()
    write_graph(body, head, folder / "model.onnx")
    write_int8(folder / "model.onnx", folder / "model_int8.onnx")
    modules = list(body)
    if not isinstance(modules[-1], Normalize):
        modules.append(Normalize())
    k, d = head.weight.shape
    dense = Dense(in_features=d, out_features=k, bias=True, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(head.weight))
        dense.linear.bias.copy_(torch.from_numpy(head.bias))
    from sentence_transformers import SentenceTransformer

    whole = SentenceTransformer(modules=[*modules, dense], device="cpu")
    whole.max_seq_length = body.max_seq_length
    whole.save(str(folder), safe_serialization=True, create_model_card=False)
    tokenizer = body.tokenizer
    return {"max_length": int(body.max_seq_length or 512), "pad_id": int(tokenizer.pad_token_id or 0)}


def _one_window(folder: Path, texts: Sequence[str], window: int | None) -> NDArray[np.bool_]:
    from factory.encoders.windows import window_tokenizer, windows_of

    if window is None:
        return np.ones(len(texts), bool)
    tokenizer = window_tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"), window)
    return np.array([len(windows) == 1 for windows in windows_of(tokenizer, texts)])


def _by_sentence_transformers(folder: Path, texts: Sequence[str], multi: bool) -> NDArray[np.float32]:
    from factory.students.logistic import probabilities

    model = load_sentence_transformer(folder)
    return probabilities(model.encode(list(texts), show_progress_bar=False), multi)


def _clear(probs: NDArray[np.float32], multi: bool) -> NDArray[np.bool_]:
    """Where a decision is not close: texts [n], or texts and labels [n, k] for a multi task."""
    if multi or probs.shape[1] == 1:
        return np.abs(probs - 0.5) > CLEAR_MARGIN / 2 if multi else np.ones(len(probs), bool)
    top = np.sort(probs, axis=1)
    return np.asarray(top[:, -1] - top[:, -2] > CLEAR_MARGIN)


def _labels(probs: NDArray[np.float32], multi: bool) -> Any:
    return probs >= 0.5 if multi else probs.argmax(axis=1)
