"""What computes the answers of an exported glass box, and its reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.encoders.base import Encoder
from factory.encoders.graph_model import GraphModel
from factory.encoders.hashing import HASHING, HashingEncoder
from factory.predict.glass_box import GlassBox
from factory.predict.reasons import Explainer
from factory.programs.sandbox.host.result import STATUS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.predict.predictors import Answers
    from factory.programs.sandbox.host.pool import Sandbox

LOST = ("exception", "bad value", "timeout", "memory", "crash", "retired", "rejected")


class GlassPredictor:
    """Runs the programs, encodes the texts, and mixes what the members say."""

    def __init__(self, box: GlassBox, encoder: Encoder | GraphModel, sandbox: Sandbox = "kernel") -> None:
        """A box at work.

        Args:
            box: The box.
            encoder: The one that its members were fitted with.
            sandbox: As `factory.predict.load.load_export` takes it.
        """
        self.box, self._encoder, self._sandbox = box, encoder, sandbox
        self._lost: Counter[str] = Counter()
        self._layers = ""

    @classmethod
    def of_export(
        cls, read: Callable[[str], bytes], facts: Mapping[str, Any], threads: int, sandbox: Sandbox
    ) -> GlassPredictor:
        """From an export's checked files and its `inference.json`."""
        told = facts["encoder"]
        if told["kind"] == HASHING:
            return cls(GlassBox(read), HashingEncoder(""), sandbox)
        graph, tokens = read("encoder/model.onnx"), read("encoder/tokenizer.json").decode("utf-8")
        settings = {name: told[name] for name in ("pad", "prompt", "length")}
        return cls(GlassBox(read), GraphModel(graph, tokens, threads=threads, **settings), sandbox)

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.box)

    def __call__(self, texts: Sequence[str]) -> Answers:
        """Probabilities, float32 [n, labels], and the vectors of the texts."""
        votes, vectors = self._looked(texts)
        return self.box.answer(votes, texts, vectors), vectors

    def explain(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]:
        """The same, and the reasons for each answer, objects [n]."""
        votes, vectors = self._looked(texts)
        probs = self.box.answer(votes, texts, vectors)
        reasons = np.empty(len(texts), object)
        reasons[:] = self._explainer(votes, texts, vectors, probs)
        return probs, vectors, reasons

    @property
    def notes(self) -> list[str]:
        """What a person should know of the programs' runs so far."""
        lost = ", ".join(f"{count:,} {name}" for name, count in self._lost.most_common())
        return [*([self._layers] if self._layers else []), *([f"votes of programs were lost: {lost}"] if lost else [])]

    def _looked(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        votes, run = self.box.run(texts, self._sandbox)
        ended = np.bincount(run.codes.ravel(), minlength=len(STATUS))
        self._lost.update({name: int(ended[STATUS.index(name)]) for name in LOST if ended[STATUS.index(name)]})
        if run.layers is not None and not run.layers.complete:
            self._layers = run.layers.says()
        return votes, self._encoder.encode(texts)
