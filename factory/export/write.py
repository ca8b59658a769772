"""Writing a student as a folder that anybody can load: safetensors and ONNX, tokenizer, labels in order, card, manifest.

The folder holds no pickle, no time and no path, so the same student gives the same bytes; it is written beside its place, checked
against the student it came from, and moved there only if both agree.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory.encoders.base import Encoder
from factory.encoders.int8 import write_int8
from factory.encoders.onnx_model import CALIBRATION
from factory.encoders.torch_model import prompt_of
from factory.encoders.windows import feed_of, window_tokenizer, windows_of
from factory.errors import ExportError
from factory.export.card import model_card
from factory.export.onnx_graph import write_graph
from factory.export.parity import check_parity
from factory.export.spec import NEEDED, ExportSpec, requirements_of
from factory.export.static_graph import write_static_graph
from factory.files.exchange import take_place
from factory.files.manifest import write_manifest
from factory.logistic import Head
from factory.predict.scope import save_scope
from factory.result import Progress, no_progress
from factory.students.base import Student, write_json
from factory.students.hybrid import HybridStudent
from factory.students.linear import LinearStudent
from factory.students.static import StaticStudent

ODD_TEXTS = ("", " ", "ok", "ÄÖÜ ß é — “quotes” 漢字 😀", "NUL-less\ttabs\nand lines", "word " * 400, "!!! ??? ...")
PARTS = "parts of the export"


def write_export(
    student: Student, encoder: Encoder | None, spec: ExportSpec, out: Path, sample: Sequence[str],
    progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Write a student into a folder.

    Args:
        student: Any of them.
        encoder: The one it stands on, if it does.
        spec: What the export says about itself.
        out: A folder that does not exist, is empty, or holds an earlier export.
        sample: Texts that the written files are checked on, beside odd ones of our own; they also tell how large the numbers
            inside a graph become, which int8 needs to know.

    Returns:
        The manifest.

    Raises:
        ExportError: The folder holds something else, or what was written disagrees with the student.
    """
    texts = [*ODD_TEXTS, *sample]
    with drafted(out) as draft:
        kind, inference = _write_model(student, encoder, draft, texts, progress)
        inference |= {"kind": kind, **spec.for_inference}
        write_json(draft / "inference.json", inference)
        write_json(draft / "labels.json", list(spec.labels))
        (draft / "requirements.txt").write_text(requirements_of(NEEDED[kind]), encoding="utf-8")
        save_scope(spec.scope, draft)
        facts = {"kind": kind, "system": spec.system, "labels": list(spec.labels)}
        write_manifest(draft, {**facts, "parity": {}})
        parity = check_parity(student, draft, kind, texts, inference, progress)
        (draft / "README.md").write_text(model_card(spec, kind, parity, inference), encoding="utf-8")
        return write_manifest(draft, {**facts, "parity": parity})


@contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """A folder beside the place of an export, which takes that place once it is whole.

    Args:
        out: As `write_export` takes it.

    Raises:
        ExportError: The folder holds something else, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").is_file())):
        raise ExportError("this is not an earlier export, and it is not empty", where=out, fix="Name another folder")
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        take_place(draft, out)
    except OSError as error:
        raise ExportError(f"the export cannot be written: {error.strerror}", where=out) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_model(
    student: Student, encoder: Encoder | None, folder: Path, texts: Sequence[str], progress: Progress
) -> tuple[str, dict[str, Any]]:
    """Write what a kind of student is, and say what inference needs to know of it."""
    if isinstance(student, LinearStudent | StaticStudent | HybridStudent):
        student.save(folder)
        (folder / "student.json").unlink()
    if isinstance(student, LinearStudent):
        return "linear", {"words": list(student.config.words), "characters": list(student.config.characters)}
    if isinstance(student, StaticStudent):
        write_static_graph(student.arrays, student.multi, folder / "model.onnx")
        return "static", {"max_length": student.config.max_length}
    body = getattr(student, "body", None)
    if body is None:
        if encoder is None or encoder.folder is None:
            words = "the student stands on an encoder that cannot be exported"
            raise ExportError(words, fix="Use the student `linear`")
        body = encoder.body()
    body = body.to("cpu").eval()
    head: Head = student.head  # type: ignore[attr-defined]
    tables = (student.grams, student.idf) if isinstance(student, HybridStudent) else (None, None)
    progress(0, 3, PARTS)
    write_graph(body, head, folder / "model.onnx", grams=tables[0], idf=tables[1])
    progress(1, 3, PARTS)
    facts = {"max_length": int(body.max_seq_length or 512), "pad_id": int(body.tokenizer.pad_token_id or 0)}
    prompt = prompt_of(body)
    cutter = window_tokenizer(body.tokenizer.backend_tokenizer, facts["max_length"])
    frozen = encoder is not None and encoder.calibrated and not hasattr(student, "body")
    fitted = CALIBRATION if frozen else texts  # the int8 of a frozen encoder is that of its vectors
    feeds = [feed_of([windows], facts["pad_id"]) for windows in windows_of(cutter, [prompt + t for t in fitted])]
    write_int8(folder / "model.onnx", folder / "model_int8.onnx", feeds)
    progress(2, 3, PARTS)
    if isinstance(student, HybridStudent):
        backend = json.loads(body.tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
        tokens = json.dumps(backend, ensure_ascii=False, sort_keys=True)
        (folder / "tokenizer.json").write_text(tokens, encoding="utf-8")
    else:
        _write_sentence_transformer(body, head, folder)
    progress(3, 3, PARTS)
    return "hybrid" if isinstance(student, HybridStudent) else "transformer", {**facts, "prompt": prompt}


def _write_sentence_transformer(body: Any, head: Head, folder: Path) -> None:
    """Write body and head as a folder that sentence-transformers loads: its vectors are the logits."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    modules = list(body)
    if not isinstance(modules[-1], Normalize):
        modules.append(Normalize())
    k, d = head.weight.shape
    dense = Dense(in_features=d, out_features=k, bias=True, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(head.weight))
        dense.linear.bias.copy_(torch.from_numpy(head.bias))
    prompts = {"prompts": body.prompts, "default_prompt_name": body.default_prompt_name}
    whole = SentenceTransformer(modules=[*modules, dense], device="cpu", **prompts)
    whole.max_seq_length = body.max_seq_length
    whole.save(str(folder), safe_serialization=True, create_model_card=False)
