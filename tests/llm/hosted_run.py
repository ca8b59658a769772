"""A process that asks six requests of a batch service, to be killed: `python hosted_run.py WAREHOUSE URL`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from factory.llm import Ask, EngineSettings, ModelRef, Outcomes, Request
from factory.llm.engines import make_engine
from factory.llm.gateway import Asker
from factory.warehouse.file import Warehouse


def asks(n: int = 6) -> list[Ask]:
    """So many requests, of two samples each."""
    return [
        Ask(
            Request(ModelRef("m"), ({"role": "user", "content": f"text {i}"},), {"max_tokens": 8}, None, "p", "v"),
            range(2),
        )
        for i in range(n)
    ]


def asker(warehouse: Warehouse, url: str, **more: object) -> Asker:
    """Asks a batch service, as a run of its own does."""
    settings = EngineSettings(kind="batch", url=url, model="m", **{"poll_s": 0.01, "patience_s": 0.3, **more})  # type: ignore[arg-type]
    return Asker(warehouse, make_engine(settings), "annotate")


def run(warehouse: Warehouse, url: str, **more: object) -> Outcomes:
    """Ask all six."""
    return asker(warehouse, url, **more).ask(asks())


if __name__ == "__main__":
    run(Warehouse.open(sys.argv[1]), sys.argv[2])
