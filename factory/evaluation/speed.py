"""What a million texts cost with each system: texts per second on this machine, and tokens where a model is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import FactoryError
from factory.evaluation.rivals import size_of
from factory.predict.glass_box import GLASS_BOX
from factory.students.speed import MOST_TEXTS, Speeds
from factory.warehouse.tables.labels import MIXTURE, LabelModelRow, label_models

if TYPE_CHECKING:
    from factory.students.stored import StoredModel
    from factory.warehouse.file import Warehouse

LEAST_ANSWERS = 20
"""Answers of a server that its speed is read from."""
UNKNOWN = "not measured yet: `evaluate` measures it, and `export` what it writes"


@dataclass(frozen=True)
class Cost:
    """What a system costs.

    Attributes:
        system: Its name, or `student (exported, int8)`.
        texts_per_second: Measured; None where it cannot be measured here.
        hours_per_million: Of this machine, from that.
        tokens_per_million: In and out, where a language model is asked about every text.
        money_per_million: In the engine's currency, where its price is known.
        how: What was measured, or why nothing was.
    """

    system: str
    texts_per_second: float | None
    hours_per_million: float | None
    tokens_per_million: int | None
    money_per_million: float | None
    how: str


def costs_of(warehouse: Warehouse, systems: Sequence[str], *, measure: bool = False) -> dict[str, Any]:
    """What a million texts cost with each of these systems.

    Args:
        systems: Names, as in the table of an evaluation.
        measure: Whether to run what was not measured yet; else its speed is told as unknown.

    Returns:
        `rows`, a `Cost` as a mapping for each system and its newest export that lies where it was written; `threads`, and
        `texts`, how many the speeds were measured on at most.
    """
    speeds = Speeds(warehouse, measure=measure)
    rows = [_cost(warehouse, name, speeds) for name in systems]
    at = next((number for number, row in enumerate(rows) if row.system == "student"), -1) + 1
    rows[at:at] = _exports(warehouse, speeds)
    return {"rows": [vars(row) for row in rows], "threads": speeds.threads, "texts": len(speeds.texts)}


def _cost(warehouse: Warehouse, system: str, measured: Speeds) -> Cost:
    from factory.students.stored import stored_models

    if system == "teacher":
        return _teacher(warehouse)
    models = stored_models(warehouse)
    model = models.get(system)
    if system in ("dev_only", "full_gold") or size_of(system) is not None:
        model = models.get("student") or next(iter(models.values()), None)
    model_of_votes = {row.name: row for row in label_models(warehouse)}.get(MIXTURE if system == GLASS_BOX else system)
    try:
        if model is not None:
            return _student(system, model, measured)
        if system == "zero_shot":
            return _zero_shot(system, models, measured)
        if model_of_votes is not None:
            return _programs(warehouse, system, model_of_votes, measured)
    except FactoryError as error:
        return _untold(system, f"not measured: {error.what}")
    return _untold(system, "not run here: its answers were published, or came from a file")


def _untold(system: str, why: str) -> Cost:
    return Cost(system, None, None, None, None, why)


def _at(system: str, speed: float | None, how: str) -> Cost:
    if speed is None:
        return _untold(system, UNKNOWN)
    return Cost(system, speed, float(f"{1e6 / speed / 3600:.3g}"), None, None, how)


def _student(system: str, model: StoredModel, measured: Speeds) -> Cost:
    return _at(system, measured.of_student(model), f"the {model.student} student, as it was trained")


def _zero_shot(system: str, models: Mapping[str, Any], measured: Speeds) -> Cost:
    from factory.students.stored import encoder_of

    model = models.get("student") or next(iter(models.values()))
    encoder = encoder_of(model)
    assert encoder is not None
    return _at(system, measured.of(["encoder", encoder.key], lambda: encoder.encode), encoder.name)


def _programs(warehouse: Warehouse, system: str, model: LabelModelRow, measured: Speeds) -> Cost:
    from factory.programs.blocks import accepted_programs, run_accepted

    names = dict(warehouse.query("SELECT label_no, name FROM labels ORDER BY label_no"))
    programs = accepted_programs(warehouse, list(names.values()))
    if not programs:
        return _untold(system, "there is no program to run")
    told = [[program.kind, program.source, program.target] for program in programs]

    def answer() -> Callable[[Sequence[str]], Any]:
        from factory.programs.sandbox.host.pool import shared_pool

        return lambda texts: run_accepted(shared_pool(), programs, texts, list(names.values()))

    speed = measured.of(["programs", told], answer, first=MOST_TEXTS)
    how = f"{len(programs)} programs; the label model itself costs next to nothing"
    if system.startswith("joint") or model.name == MIXTURE:  # it joins votes with vectors of the texts
        from factory.encoders.encoder import load_encoder

        encoder = load_encoder(model.config.get("encoder") or "auto")
        vectors = measured.of(["encoder", encoder.key], lambda: encoder.encode)
        how = f"{len(programs)} programs, and {encoder.name}"
        speed = None if speed is None or vectors is None else float(f"{1 / (1 / speed + 1 / vectors):.3g}")
    return _at(system, speed, how)


def _teacher(warehouse: Warehouse) -> Cost:
    rows = warehouse.query(
        """SELECT coalesce(sum(answers), 0), coalesce(sum(tokens_in + tokens_out), 0), coalesce(sum(cost), 0),
                  coalesce(sum(cost_unknown), 0)
           FROM spend WHERE stage = 'annotate'"""
    )
    answers, tokens, cost, unknown = rows[0]
    if not answers:
        return _untold("teacher", "nothing is on record of what its labels cost")
    per = 1e6 / float(answers)
    money = float(f"{float(cost) * per:.3g}") if cost else None
    how = f"one request for each text; from {int(answers):,} answers on record"
    if money is not None and unknown:
        how += f", without the cost of {int(unknown):,} calls, which is unknown"
    n, seconds = warehouse.query(
        """SELECT count(*), coalesce(epoch(max(answered_at)) - epoch(min(answered_at - to_microseconds(
                      (coalesce(latency_ms, 0) * 1000)::BIGINT))), 0)
           FROM answers JOIN requests USING (request_key) WHERE stage = 'annotate' AND origin NOT IN ('recorded', 'batch')"""
    )[0]
    speed = float(f"{n / seconds:.3g}") if n >= LEAST_ANSWERS and seconds > 0 else None
    hours = float(f"{1e6 / speed / 3600:.3g}") if speed else None
    how += (
        "; their speed from the first to the last" if speed else "; they came from a file, so their speed is not known"
    )
    return Cost("teacher", speed, hours, int(float(f"{float(tokens) * per:.3g}")), money, how)


def _exports(warehouse: Warehouse, measured: Speeds) -> list[Cost]:
    from factory.predict.load import load_export

    found = []
    for system, kind, path, manifest in warehouse.query(
        """SELECT coalesce(m.system, e.kind), e.kind, e.path, e.manifest::VARCHAR
           FROM exports e LEFT JOIN models m USING (model_no) WHERE m.model_no IS NOT NULL OR e.kind = ?
           QUALIFY row_number() OVER (PARTITION BY m.model_no ORDER BY e.export_no DESC) = 1 ORDER BY e.export_no""",
        [GLASS_BOX],
    ):
        graphs = kind in ("transformer", "hybrid")
        name = f"{system} (exported{', int8' if graphs else ''})"
        if not (Path(path) / "manifest.json").is_file():
            continue
        try:
            what = ["export", json.loads(manifest)["digest"]]
            speed = measured.of(what, lambda path=path: load_export(path).predict_proba)  # type: ignore[misc]
            how = "programs and members" if kind == GLASS_BOX else "onnxruntime" if graphs else "numpy"
            found.append(_at(name, speed, how))
        except FactoryError as error:
            found.append(_untold(name, f"not measured: {error.what}"))
    return found
