"""An exported student at work: opening it, asking it, labelling files of any size."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.errors import ExportError, FactoryError, InputError
from factory.files.base import ReadOptions
from factory.files.manifest import checked, read_manifest
from factory.files.records import Chunk, TextFile, open_texts
from factory.files.write import check_output, open_writer
from factory.predict.decide import Asked, Judge
from factory.predict.exported import Exported
from factory.predict.glass_box import GLASS_BOX
from factory.predict.glass_predictor import GlassPredictor
from factory.predict.predictors import make_predictor
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.predict.predictors import Predictor
    from factory.programs.sandbox.host.pool import Sandbox

    Answered = tuple[Chunk, list[dict[str, Any]], NDArray[np.float32]]

CHUNK = 1024
GRAPHS = {"fp32": "model.onnx", "int8": "model_int8.onnx"}


def load_export(
    folder: str | Path, *, precision: Literal["fp32", "int8"] | str = "int8", threads: int = 0,
    sandbox: Sandbox = "kernel",
) -> Exported:  # fmt: skip
    """Open an export. Every file that is read is checked against the manifest first; nothing in it is run as code.

    Args:
        folder: What `factory export` wrote.
        precision: `fp32` or `int8` for kinds with graphs; the others have one precision.
        threads: Of onnxruntime; 0 lets it choose.
        sandbox: What the Python programs of a glass box may run in off Linux, where the kernel cannot seal them: `process`.

    Raises:
        ExportError: It is no export, of another format, or a file is missing, truncated or altered.
        InputError: There is no such precision.
    """
    folder = Path(folder)
    if precision not in GRAPHS:
        raise InputError(f"there is no precision {precision!r}", fix="Use fp32 or int8")
    try:
        manifest = read_manifest(folder)
        facts = json.loads(checked(folder, manifest, "inference.json"))
        read = partial(checked, folder, manifest)
        if facts["kind"] == GLASS_BOX:
            predictor: Predictor = GlassPredictor.of_export(read, facts, threads, sandbox)
        else:
            predictor = make_predictor(read, facts, graph=GRAPHS[precision], threads=threads)
        return Exported(folder, manifest, facts, predictor)
    except FactoryError:
        raise
    except Exception as error:  # onnxruntime and tokenizers have no base of their own for what they cannot read
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(f"the export cannot be used: {words}", where=folder, fix="Export again") from error


def predict_file(
    model: str | Path, file: str | Path, out: str | Path | None = None, *, text: str | None = None,
    format: str = "auto", encoding: str | None = None, delimiter: str | None = None, force: bool = False,
    precision: str = "int8", abstain_below: float | None = None, target_precision: float | None = None,
    sets: float | None = None, scope: float | None = None, why: bool = False, sandbox: Sandbox = "kernel",
    progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Label a file of any size, in bounded memory. Of a row without a text nothing is said: no label, no probability.

    Args:
        model: An export.
        file: CSV, JSONL, JSON, a text per line (also .gz, .zst), Parquet, or `-` for lines on stdin; read as `ingest` reads.
        out: CSV, JSONL or Parquet by its ending; None writes JSONL to stdout.
        text: Column of the texts; by default the one that the training texts were in, or guessed if that is not known.
        format: As of a source of `ingest`; by default the one that the name says.
        encoding: Of a text file, UTF-8 unless told or marked.
        delimiter: Of a CSV file, guessed unless told.
        force: Whether `out` may replace a file that is not an earlier output.
        precision: `fp32` or `int8`.
        abstain_below: No label is given below this probability.
        target_precision: No label is given below the probability from which so many answers are right.
        sets: Error rate of conformal label sets, in (0, 1).
        scope: Share of texts like those of training that may be called out of scope, in (0, 1).
        why: Whether to give the reasons for each answer, as `factory.predict.reasons` describes them: a sentence in the column
            `why`, and `reasons` as JSON. For a glass box.
        sandbox: As `load_export` takes it.
        progress: Told how many lines (or rows) are done.

    Returns:
        `{"rows", "no_text", "seconds", "out", "read", "never_seen", "abstained", "out_of_scope"}`, the last two where they were
        asked for; `read` says which column was taken and what was guessed.

    Raises:
        InputError: The file or its columns cannot be used, or the export does not carry what was asked for.
        ExportError: The export cannot be used.
    """
    started = time.perf_counter()
    if out is not None:
        check_output(Path(out), inputs=[Path(file)], force=force)  # said before the export is opened
    asked = Asked(abstain_below, target_precision, sets, scope, why)
    labeller = Labeller(model, asked, text=text, precision=precision, sandbox=sandbox)
    options = ReadOptions(Path(file), format=format, encoding=encoding, delimiter=delimiter)
    counts = labeller.label(options, out, force=force, progress=progress)
    return {
        "rows": counts.pop("rows"), "no_text": counts.pop("no_text"), "seconds": round(time.perf_counter() - started, 3),
        "out": None if out is None else str(out), "read": list(labeller.said), "never_seen": labeller.never_seen, **counts,
    }  # fmt: skip


class Labeller:
    """An export, opened once, that labels files one after the other.

    Attributes:
        exported: The export.
        said: Which columns the texts of the last file were in, what was guessed, and what was amiss with programs.
        never_seen: Labels that no training text spoke for.
        labels: In the order of the probabilities.
        multi: Whether a text may have any number of labels.
        columns: What is said of each text, as of `Judge`.
    """

    def __init__(
        self, model: str | Path, asked: Asked, *, text: str | None = None, precision: str = "int8", threads: int = 0,
        sandbox: Sandbox = "kernel",
    ) -> None:  # fmt: skip
        """Open the export, as `load_export` does.

        Args:
            model: An export.
            asked: What is wanted beside the most probable label.
            text: Column of the texts, or None.
            precision: `fp32` or `int8`.
            threads: Of onnxruntime; 0 lets it choose.
            sandbox: As `load_export` takes it.

        Raises:
            InputError: The export does not carry what was asked for.
            ExportError: The export cannot be used.
        """
        self.exported = load_export(model, precision=precision, threads=threads, sandbox=sandbox)
        self._judge = Judge(self.exported, asked)
        self._answer = self.exported.explain if asked.why else self.exported.answer
        self._text, self._scope = text, asked.scope is not None
        self.said: tuple[str, ...] = ()
        self.never_seen, self.labels, self.multi = self.exported.never_seen, self.exported.labels, self.exported.multi
        self.columns = self._judge.columns

    def label(
        self, options: ReadOptions, out: str | Path | None, *, mark: str | None = None, force: bool = False,
        progress: Progress = no_progress,
    ) -> dict[str, int]:  # fmt: skip
        """Label one file.

        Args:
            options: The file, and how it is read.
            out: As `predict_file` takes it.
            mark: What a Parquet file shall say that it was made from.
            force: As `predict_file` takes it.
            progress: Told how many lines (or rows) are done.

        Returns:
            `{"rows", "no_text", "abstained", "out_of_scope"}`, the last two where they were asked for.

        Raises:
            InputError: The file or its columns cannot be used.
        """
        rows = without = abstained = outside = 0
        judge, texts = self._judge, self.open(options)
        with open_writer(
            out, self.labels, judge.columns, texts.source.columns, mark=mark, inputs=[options.path], force=force
        ) as writer:
            for chunk, said, probs in self._answered(texts, progress):
                writer.write(chunk, said, probs)
                there = ~np.isnan(probs[:, 0])
                rows += len(there)
                without += int((~there).sum())
                abstained += sum(judge.abstained(words) for words, one in zip(said, there, strict=True) if one)
                outside += sum(words.get("in_scope") is False for words in said)
        found = {"rows": rows, "no_text": without}
        if judge.threshold is not None:
            found["abstained"] = abstained
        if self._scope:
            found["out_of_scope"] = outside
        return found

    def open(self, options: ReadOptions) -> TextFile:
        """The file with its texts; `said` tells how it is read."""
        texts = open_texts(options, self._text, self.exported.fields, self.exported.text_columns)
        self.said = (texts.words, *texts.source.says)
        return texts

    def chunks(self, texts: TextFile) -> Iterator[Chunk]:
        """Its rows, as `rows` has them."""
        return texts.chunks(CHUNK)

    def rows(self, options: ReadOptions, progress: Progress = no_progress) -> Iterator[Answered]:
        """A file's rows a chunk at a time, what is said of each, and probabilities [n, k], NaN where there is no text.

        Raises:
            InputError: The file or its columns cannot be used.
        """
        return self._answered(self.open(options), progress)

    def _answered(self, texts: TextFile, progress: Progress) -> Iterator[Answered]:
        total = 0 if progress is no_progress else texts.extent()
        for chunk in self.chunks(texts):
            there = np.array([bool(text) for text in chunk.texts], dtype=bool)
            some, *behind = self._answer([text for text in chunk.texts if text])
            words_of = self._judge(some, *behind)
            said = [next(words_of) if one else self._judge.nothing() for one in there]
            probs = np.full((len(there), len(self.labels)), np.nan, np.float32)
            probs[there] = some
            yield chunk, said, probs
            progress(chunk.end, total, texts.counted_in)
        self.said += tuple(self.exported.notes)
