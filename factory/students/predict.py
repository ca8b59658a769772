"""An exported student at work: onnxruntime and tokenizers (or numpy alone), nothing else, and nothing slow to import."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.errors import ExportError, InputError
from factory.students.tables import open_writer, read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
CHUNK = 1024
TOKENS = 4096
"""Tokens per batch: long texts go in small batches, short ones in large ones."""


class Exported:
    """An exported student.

    Attributes:
        labels: Label names in the order of the columns.
        multi: Whether a text may have any number of labels.
        kind: `transformer`, `hybrid`, `static` or `linear`.
        trust: Calibration that the export carries: `conformal`, `abstain`, `scope`.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], predictor: Any) -> None:
        self.folder = folder
        self.labels: list[str] = list(facts["labels"])
        self.multi: bool = bool(facts["multi"])
        self.kind: str = facts["kind"]
        self.fields: list[str] = list(facts.get("fields", []))
        self.trust: dict[str, Any] = dict(facts.get("trust", {}))
        self._predictor = predictor

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [n, k], in the order asked."""
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32)
        found: NDArray[np.float32] = self._predictor(texts)
        return found

    def predict(self, texts: Sequence[str]) -> list[str] | list[list[str]]:
        """The most probable label of each text; in a multi task the labels above one half."""
        probs = self.predict_proba(texts)
        if self.multi:
            return [[self.labels[i] for i in np.flatnonzero(row >= 0.5)] for row in probs]
        return [self.labels[i] for i in probs.argmax(axis=1)]


def load_export(folder: str | Path, *, precision: Literal["fp32", "int8"] | str = "int8", threads: int = 0) -> Exported:
    """Open an export. Every file that is read is checked against the manifest first; nothing in it is run as code.

    Args:
        folder: What `factory export` wrote.
        precision: `fp32` or `int8` for a transformer; other kinds have one precision.
        threads: Of onnxruntime; 0 lets it choose.

    Raises:
        ExportError: It is no export, of a newer format, or a file is missing, truncated or altered.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    facts = json.loads(_checked(folder, manifest, "inference.json"))
    if facts["kind"] == "linear":
        return Exported(folder, facts, _linear(folder, manifest, facts))
    if facts["kind"] == "static":
        return Exported(folder, facts, _static(folder, manifest, facts))
    if precision not in ("fp32", "int8"):
        raise InputError(f"there is no precision {precision!r}", fix="Use fp32 or int8")
    name = "model.onnx" if precision == "fp32" else "model_int8.onnx"
    return Exported(folder, facts, _transformer(folder, manifest, facts, name, threads))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        ExportError: There is none, or it cannot be read.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        newest = manifest["format"]
        manifest["files"]["inference.json"]["sha256"]
    except FileNotFoundError as error:
        raise ExportError("this folder is no export: it has no manifest.json", where=folder) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError("the manifest cannot be read", where=folder / "manifest.json", fix="Export again") from error
    if newest > FORMAT:
        raise ExportError(
            f"the export is of format {newest}, newer than {FORMAT}", where=folder, fix="Update label-factory"
        )
    return manifest


def verify(folder: Path) -> int:
    """Check every file of an export against its manifest.

    Returns:
        The number of files.

    Raises:
        ExportError: A file is missing, truncated, altered, or not in the manifest.
    """
    manifest = read_manifest(folder)
    for name in manifest["files"]:
        _checked(folder, manifest, name)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    extra = sorted(there - set(manifest["files"]) - {"manifest.json"})
    if extra:
        raise ExportError(f"the export holds a file that its manifest does not name: {extra[0]}", where=folder)
    return len(manifest["files"])


def predict_file(
    model: str | Path,
    file: str | Path,
    out: str | Path | None = None,
    *,
    text: str | None = None,
    precision: str = "int8",
    abstain_below: float | None = None,
    sets: float | None = None,
) -> dict[str, Any]:
    """Label a file of any size, in bounded memory.

    Args:
        model: An export.
        file: CSV, JSONL (also .gz, .zst), Parquet, or `-` for lines on stdin.
        out: CSV, JSONL or Parquet by its ending; None writes JSONL to stdout.
        text: Column of the texts; guessed otherwise.
        precision: `fp32` or `int8`.
        abstain_below: No label is given below this probability.
        sets: Error rate of conformal label sets, in (0, 1).

    Returns:
        `{"rows", "seconds", "out"}`.

    Raises:
        InputError: The file or its columns cannot be used.
        ExportError: The export cannot be used.
    """
    started = time.perf_counter()
    exported = load_export(model, precision=precision)
    limit = conformal_limit(exported, sets) if sets is not None else None
    rows = 0
    with open_writer(out, exported.labels, exported.multi, with_sets=sets is not None) as writer:
        for chunk in read_rows(file, text, exported.fields, CHUNK):
            probs = exported.predict_proba(chunk.texts)
            writer.write(chunk, list(judge(exported, probs, abstain_below, limit)), probs)
            rows += len(chunk.texts)
    seconds = time.perf_counter() - started
    return {"rows": rows, "seconds": round(seconds, 3), "out": None if out is None else str(out)}


def judge(
    exported: Exported, probs: NDArray[np.float32], abstain_below: float | None, limit: Any
) -> Iterator[dict[str, Any]]:
    """What is said of each text: `label` (or `labels`), `probability`, and `set` where asked."""
    for row in probs:
        said: dict[str, Any]
        if exported.multi:
            chosen = np.flatnonzero(row >= (0.5 if abstain_below is None else abstain_below))
            said = {"labels": [exported.labels[i] for i in chosen]}
        else:
            best = int(row.argmax())
            sure = abstain_below is None or row[best] >= abstain_below
            said = {"label": exported.labels[best] if sure else None, "probability": round(float(row[best]), 6)}
        if limit is not None:
            said["set"] = [exported.labels[i] for i in np.flatnonzero(row >= limit - 1e-9)]
        yield said


def conformal_limit(exported: Exported, error_rate: float) -> Any:
    """The probability that a label must have to be in the conformal set, or one per label for a multi task.

    Raises:
        InputError: The export carries no calibration, or the rate lies outside (0, 1).
    """
    scores = exported.trust.get("conformal")
    if not scores:
        raise InputError(
            "this export carries no calibration for label sets", fix="Train with gold of dev (student_dev)"
        )
    if not 0 < error_rate < 1:
        raise InputError("the error rate of label sets lies between 0 and 1", fix="Use --sets 0.1")

    def quantile(values: Sequence[float]) -> float:
        ordered = np.sort(np.asarray(values, np.float64))
        rank = int(np.ceil((len(ordered) + 1) * (1 - error_rate)))
        return 0.0 if rank > len(ordered) else 1.0 - float(ordered[rank - 1])

    if exported.multi:
        return np.array([quantile(values) if values else 0.0 for values in scores])
    return quantile(scores)


def _checked(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    path = folder / name
    try:
        content = path.read_bytes()
        wanted = manifest["files"][name]["sha256"]
    except (OSError, KeyError) as error:
        raise ExportError(f"the export lacks {name}", where=folder, fix="Export again") from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ExportError(
            "the file is not the one that was exported (altered or truncated)", where=path, fix="Export again"
        )
    return content


def _transformer(folder: Path, manifest: dict[str, Any], facts: dict[str, Any], name: str, threads: int) -> Any:
    graph, tokens = _checked(folder, manifest, name), _checked(folder, manifest, "tokenizer.json")
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_str(tokens.decode("utf-8"))
    tokenizer.enable_truncation(facts["max_length"])
    tokenizer.no_padding()
    pad = int(facts["pad_id"])

    def predict(texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(encoded)), key=lambda index: (len(encoded[index]), index))
        out = np.zeros((len(encoded), len(facts["labels"])), np.float32)
        start = 0
        while start < len(order):
            end, longest = start, 0
            while end < len(order):
                longest = max(len(encoded[order[end]]), 4)
                if end > start and longest * (end - start + 1) > TOKENS:
                    longest = max(len(encoded[order[end - 1]]), 4)
                    break
                end += 1
            part = order[start:end]
            ids = np.full((len(part), longest), pad, np.int64)
            mask = np.zeros_like(ids)
            for row, index in enumerate(part):
                ids[row, : len(encoded[index])] = encoded[index]
                mask[row, : len(encoded[index])] = 1
            out[part] = session.run(["probabilities"], {"input_ids": ids, "attention_mask": mask})[0]
            start = end
        return out

    return predict


def _linear(folder: Path, manifest: dict[str, Any], facts: dict[str, Any]) -> Any:
    arrays = read_safetensors(_checked(folder, manifest, "linear.safetensors"))
    terms = json.loads(_checked(folder, manifest, "terms.json"))
    columns = {term: index for index, term in enumerate(terms)}
    weight = np.ascontiguousarray(arrays["weight"].T) * arrays["idf"][:, None]
    idf2 = arrays["idf"].astype(np.float64) ** 2
    bias = arrays["bias"].astype(np.float64)
    from factory.students.terms import terms_of

    words, characters = tuple(facts["words"]), tuple(facts["characters"])

    def predict(texts: Sequence[str]) -> NDArray[np.float32]:
        logits = np.zeros((len(texts), len(bias)))
        for row, text in enumerate(texts):
            counts: dict[int, int] = {}
            for term in terms_of(text, words, characters):
                column = columns.get(term)
                if column is not None:
                    counts[column] = counts.get(column, 0) + 1
            if counts:
                held = np.fromiter(counts, np.int64, len(counts))
                values = 1.0 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))
                logits[row] = (values @ weight[held]) / np.sqrt((values**2 * idf2[held]).sum())
        return _squash(logits + bias, facts["multi"])

    return predict


def _static(folder: Path, manifest: dict[str, Any], facts: dict[str, Any]) -> Any:
    arrays = read_safetensors(_checked(folder, manifest, "static.safetensors"))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(_checked(folder, manifest, "tokenizer.json").decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    from factory.students.pooling import static_logits

    def predict(texts: Sequence[str]) -> NDArray[np.float32]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        return _squash(static_logits(arrays, ids, int(facts["max_length"])), facts["multi"])

    return predict


def _squash(logits: NDArray[np.floating[Any]], multi: bool) -> NDArray[np.float32]:
    if multi:
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -80, 80))), np.float32)
    z = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True), np.float32)


def read_safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, by numpy alone: eight bytes of header length, a JSON header, then the numbers."""
    kinds = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64, "I32": np.int32, "I8": np.int8}
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    found = {}
    for name, facts in header.items():
        if name != "__metadata__":
            first, last = facts["data_offsets"]
            kind = np.dtype(kinds[facts["dtype"]])
            flat = np.frombuffer(content, kind, count=(last - first) // kind.itemsize, offset=8 + size + first)
            found[name] = flat.reshape(facts["shape"])
    return found
