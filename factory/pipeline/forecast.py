"""How long this machine will compute: texts to embed at a measured rate, students to train; and what would be quicker."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.pipeline.auto.curves import first_programs

if TYPE_CHECKING:
    from factory.encoders.base import Encoder
    from factory.encoders.settings import Named
    from factory.pipeline.load import Pipeline
    from factory.pipeline.steps import Step
    from factory.warehouse.file import Warehouse

FEW = 500
"""So many texts are embedded in seconds on any machine: nothing is measured for them."""
MEASURED_S = 1.0
"""For how long the encoder is timed."""
VOTE_S = (10e-6, 50e-6)
"""Seconds for one vote of one program on one processor."""
FIT_S = (0.3e-3, 3e-3)
"""Seconds per text for a student of one layer, its choice of strength included."""
TUNING = 3.0
"""One step of tuning a body costs so many forward passes: forward, backward, update."""
TOKENS = 30_000
"""Entries of a usual vocabulary, which `static` embeds once."""
TOKENS_AT_ONCE = 10.0
"""So many tokens are embedded in the time of one text."""
WORTH_SAYING_S = 60.0
"""A quicker student is named where embedding takes longer than this."""
TUNED = {"finetune": 1, "setfit": 2}
"""Students that tune a body, and how many texts stand in one row of a batch."""


def _work(step: str, what: str, *seconds: float) -> dict[str, Any]:
    """What a step will compute: its verb, words, and seconds from the least to the most, if they can be told."""
    return {"step": step, "what": what, "seconds": list(seconds) or None}


def forecast(pipeline: Pipeline, steps: Sequence[Step], warehouse: Warehouse) -> dict[str, Any]:
    """What the steps that ask nothing will take on this machine.

    Args:
        pipeline: Synthetic texts that are still to come are counted as it wants them.
        steps: Those that have something to do, in order.

    Returns:
        `{"steps": [{"step", "what", "seconds": [low, high] or None}], "measured": words or None, "quicker": {"how", "seconds"} or
        None, "encoders": [{"name", "seconds"}]}`, the last what each encoder on the disk would take, where there are several.
    """
    found = _Forecast(pipeline, warehouse)
    work = [found.of(step) for step in steps]
    quicker = found.quicker(steps)
    return {"steps": work, "measured": found.measured, "quicker": quicker, "encoders": found.encoders()}


class _Forecast:
    """Estimates that share what was measured, and know what an earlier step will have embedded."""

    def __init__(self, pipeline: Pipeline, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.multi = pipeline.card.kind == "multi"
        self.train = self._count("split_texts WHERE split = 'train'")
        self.held = self._count("split_texts WHERE split IN ('seed', 'dev', 'test')")
        self.synthetic = self._wanted_texts(pipeline)
        self.programs = self._wanted_programs(pipeline)
        self.measured: str | None = None
        self._rates: dict[str, float] = {}
        self._embedded: dict[str, int] = {}
        self._embedding_s = 0.0

    def of(self, step: Step) -> dict[str, Any]:
        """What one step will compute."""
        params = step.params.model_dump()
        known = {"vote": self._vote, "denoise": self._denoise, "distill": self._distill}
        return known[step.verb](params) if step.verb in known else self._as_before(step.verb)

    def quicker(self, steps: Sequence[Step]) -> dict[str, Any] | None:
        """The quick way, where the slow one is slow: no vectors of texts at all."""
        if self._embedding_s < WORTH_SAYING_S:
            return None
        rate = max(self._rates.values())
        systems = sum(len(step.params.model_dump()["systems"]) for step in steps if step.verb == "distill")
        low, high = (TOKENS / TOKENS_AT_ONCE / rate + systems * each * self.train for each in FIT_S)
        return {"how": "denoise: {model: snorkel} and distill: {student: static}", "seconds": [low, high]}

    def encoders(self) -> list[dict[str, Any]]:
        """What each encoder on the disk would take for the texts that students need, the one that `auto` takes first."""
        from factory.encoders import auto
        from factory.encoders.encoder import on_this_machine
        from factory.encoders.onnx_model import has_accelerator

        there = on_this_machine()
        if len(there) < 2 or not self.train:
            return []
        found = auto.candidates(there, auto.texts_in(self.warehouse), auto.cores_here(has_accelerator()))
        return [{"name": one.name, "seconds": round(one.seconds, 1)} for one in found]

    # ------------------------------------------------------------------------------------------------------------------
    def _vote(self, _: Mapping[str, Any]) -> dict[str, Any]:
        votes = self.programs * self.train
        low, high = (votes * each / (os.cpu_count() or 1) for each in VOTE_S)
        return _work("vote", f"{self.programs} programs on {self.train:,} texts", low, high)

    def _denoise(self, params: Mapping[str, Any]) -> dict[str, Any]:
        looks = not self.multi and params["model"] in ("auto", "joint") and params["encoder"] not in (None, "none")
        if not looks or self.train > params["encode_at_most"]:
            return _work("denoise", "label models on the votes")
        seconds, words = self._embed(params["encoder"], self.train)
        return _work("denoise", f"label models on the votes and the texts{words}", *seconds)

    def _distill(self, params: Mapping[str, Any]) -> dict[str, Any]:
        from factory.students.base import student_class

        kinds = params["try_students"] if params["student"] == "auto" else [params["student"]]
        encoded = any(student_class(kind).takes != "texts" or student_class(kind).slow for kind in kinds)
        learned = min(self.train, params["encode_at_most"]) if encoded else self.train
        rows = learned + self.synthetic
        systems = len(params["systems"])
        low, high = (systems * len(kinds) * rows * each for each in FIT_S)
        words = ""
        if any(student_class(kind).stands_on_encoder for kind in kinds):
            more, words = self._embed(params["encoder"], rows + self.held)
            low, high = low + more[0], high + more[1]
        seen = sum(systems * _tuned_on(kind, params["options"], rows) for kind in kinds)
        seen += _tuned_on("setfit", params["setfit"], rows) * ("student_setfit" in params["systems"])
        if seen:
            passes = TUNING * seen / self._rate(params["encoder"])
            low, high = low + 0.5 * passes, high + 2 * passes
        if learned < self.train:
            words = f" (drawn of {self.train + self.synthetic:,}){words}"
        return _work("distill", f"up to {systems} students on up to {rows:,} texts{words}", low, high)

    def _as_before(self, verb: str) -> dict[str, Any]:
        """A step that is not estimated: what it took when it last had something to do."""
        rows = self.warehouse.query(
            "SELECT epoch(ended_at - started_at) FROM stage_runs WHERE stage = ? AND NOT skipped ORDER BY ended_at DESC LIMIT 1",
            [verb],
        )
        return _work(verb, "as last time" if rows else "", *([float(rows[0][0])] * 2 if rows else []))

    def _embed(self, named: Named, texts: int) -> tuple[tuple[float, float], str]:
        """Seconds to embed so many texts, less what is embedded already, and the words for it."""
        from factory.encoders.encoder import load_encoder

        encoder = load_encoder(named, self.warehouse)
        there = self._embedded.setdefault(encoder.key, self._count("vectors WHERE encoder_key = ?", [encoder.key]))
        missing = max(0, texts - there)
        if not missing:
            return (0.0, 0.0), ""
        self._embedded[encoder.key] = there + missing
        if missing < FEW or encoder.folder is None:
            return (1.0, 20.0), f", {missing:,} texts to embed"
        rate = self._rate(named)
        self._embedding_s += missing / rate
        return (0.8 * missing / rate, 1.5 * missing / rate), f", {missing:,} texts to embed"

    def _rate(self, named: Named) -> float:
        """Texts per second, measured once."""
        from factory.encoders.encoder import load_encoder

        encoder = load_encoder(named, self.warehouse)
        if encoder.key not in self._rates:
            rows = self.warehouse.query(
                "SELECT text FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')"
                " ORDER BY content_hash LIMIT 256"
            )
            rate = _measured(
                encoder, [text for (text,) in rows] or ["a text of usual length, as people write them"] * 32
            )
            self._rates[encoder.key] = rate
            self.measured = f"{rate:,.0f} texts/s with {encoder.name} on this machine, measured just now"
        return self._rates[encoder.key]

    def _count(self, rows: str, parameters: Sequence[Any] = ()) -> int:
        return int(self.warehouse.scalar(f"SELECT count(*) FROM {rows}", list(parameters)))

    def _wanted_texts(self, pipeline: Pipeline) -> int:
        wanted = [step.params.model_dump() for step in pipeline.steps if step.verb == "synthesize"]
        labels = len(pipeline.card.labels)
        return sum(params["per_label"] * len(params["labels"] or [None] * labels) for params in wanted)

    def _wanted_programs(self, pipeline: Pipeline) -> int:
        given = [step.params.model_dump()["programs"] for step in pipeline.steps if step.verb in ("author", "buy")]
        wanted = sum(first_programs(len(pipeline.card.labels)) if one is None else int(one) for one in given)
        return max(wanted, self._count("programs WHERE state = 'accepted'"))


def _tuned_on(kind: str, options: Mapping[str, Any] | None, rows: int) -> int:
    """How many texts the body of such a student is tuned on, each time that it is shown counted."""
    from factory.students.base import make_config

    if kind not in TUNED:
        return 0
    config = make_config(kind, options)
    return int(TUNED[kind] * min(config.max_steps * config.batch_size, getattr(config, "epochs", 1) * rows))


def _measured(encoder: Encoder, texts: Sequence[str]) -> float:
    """Texts per second: of growing parts, until they take a second or there are no more."""
    encoder.encode(texts[:4])
    size = min(16, len(texts))
    while True:
        started = time.perf_counter()
        encoder.encode(texts[:size])
        seconds = time.perf_counter() - started
        if seconds >= MEASURED_S or size == len(texts):
            return size / max(seconds, 1e-9)
        size = min(size * 2, len(texts))
