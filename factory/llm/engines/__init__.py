"""Engines, one file each. A new one is a file and a line in `ENGINES`."""

from __future__ import annotations

import importlib
from pathlib import Path

from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import BulkEngine, CallEngine, Engine, Pending
from factory.llm.settings import EngineSettings

ENGINES: dict[str, str] = {
    "server": "factory.llm.engines.server:ServerEngine",
    "vllm": "factory.llm.engines.vllm:VllmEngine",
    "batch": "factory.llm.engines.batch:BatchEngine",
    "hosted": "factory.llm.engines.hosted:HostedEngine",
    "recorded": "factory.llm.engines.recorded:RecordedEngine",
    "transformers": "factory.llm.engines.transformers:TransformersEngine",
}
"""Kind -> where its class is; the class takes `(settings, base)`. `hosted` is a `batch` that is handed to a service."""

__all__ = ["ENGINES", "BulkEngine", "Call", "CallEngine", "Engine", "Fault", "Pending", "Reply", "make_engine"]


def make_engine(settings: EngineSettings, *, base: Path | None = None) -> Engine:
    """The engine that these settings describe. Nothing is connected or loaded before the first request.

    Args:
        settings: From the pipeline's `engine:`.
        base: The folder that relative paths in the settings are relative to; the working folder by default.
    """
    module, _, name = ENGINES["hosted" if settings.hosted else settings.kind].partition(":")
    engine: Engine = getattr(importlib.import_module(module), name)(settings, base or Path())
    return engine
