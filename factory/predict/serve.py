"""An exported student over HTTP: requests that arrive together are answered together. Binds to 127.0.0.1 unless told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from factory.errors import InputError
from factory.predict.decide import Asked, Judge
from factory.predict.load import Exported, load_export

MOST_TEXTS = 1024
MOST_CHARACTERS = 100_000
GATHER_S = 0.003
"""How long the first request of a batch waits for others, in seconds."""


class Question(BaseModel):
    """Texts to label, and what is wanted beside the most probable label."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"texts": ["a first text", "another one"]}]}
    )

    texts: list[str] = Field(min_length=1, max_length=MOST_TEXTS, description="Up to 1,024 texts, none of them empty.")
    abstain_below: float | None = Field(None, ge=0, le=1, description="No label is given below this probability.")
    target_precision: float | None = Field(
        None, gt=0, lt=1, description="No label is given below the probability from which on this share is right."
    )
    sets: float | None = Field(None, gt=0, lt=1, description="Conformal label sets with this error rate.")
    scope: float | None = Field(
        None, gt=0, lt=1, description="Share of texts like those of training that may be called out of scope."
    )
    probabilities: bool = Field(True, description="Whether to send the probability of every label.")


class Answer(BaseModel):
    """What is said of one text; keys that were not asked for are left out."""

    label: str | None = Field(None, description="The most probable label of a single task; null: abstained.")
    probability: float | None = Field(None, description="Of the most probable label.")
    labels: list[str] | None = Field(None, description="The labels of a task with any number of them.")
    set: list[str] | None = Field(None, description="The conformal label set.")
    in_scope: bool | None = Field(None, description="Whether the text is like those of training.")
    scope: float | None = Field(None, description="Cosine to the nearest prototype of the training texts.")
    probabilities: dict[str, float] | None = None


class Answers(BaseModel):
    """One answer for each text, in order."""

    results: list[Answer]


class Batcher:
    """Gathers texts of concurrent requests into one call of the model, in a thread of its own."""

    def __init__(self, model: Exported, most: int = 256) -> None:
        self.model, self.most = model, most
        self.queue: asyncio.Queue[tuple[list[str], asyncio.Future[Any]]] = asyncio.Queue()

    async def ask(self, texts: list[str]) -> Any:
        """Probabilities of these texts, float32 [n, k], and the features that scope is judged on, float32 [n, d]."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self.queue.put((texts, answer))
        return await answer

    async def run(self) -> None:
        """Answer what waits, batch after batch, until cancelled."""
        while True:
            waiting = [await self.queue.get()]
            deadline = asyncio.get_running_loop().time() + GATHER_S
            while sum(len(texts) for texts, _ in waiting) < self.most:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 and self.queue.empty():
                    break
                try:
                    waiting.append(await asyncio.wait_for(self.queue.get(), max(left, 0.0)))
                except TimeoutError:
                    break
            texts = [text for some, _ in waiting for text in some]
            try:
                probs, features = await asyncio.to_thread(self.model.answer, texts)
            except Exception as error:  # each of those who asked gets it
                for _, answer in waiting:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            start = 0
            for some, answer in waiting:
                if not answer.done():
                    end = start + len(some)
                    answer.set_result((probs[start:end], features[start:end]))
                start += len(some)


def make_app(folder: str | Path, *, precision: str = "int8") -> Any:
    """The application: `POST /predict`, `GET /health`, `GET /labels`, and its OpenAPI page at `/docs`.

    Args:
        folder: An export; loaded once, when the application starts.
        precision: `fp32` or `int8`.

    Raises:
        ExportError: The export cannot be used.
    """
    from fastapi import FastAPI, HTTPException

    from factory import __version__

    model = load_export(folder, precision=precision)
    batcher = Batcher(model)
    started = time.monotonic()
    counts = {"requests": 0, "texts": 0}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(batcher.run())
        yield
        worker.cancel()

    app = FastAPI(
        title="label-factory student",
        description=f"A classifier of kind `{model.kind}` with {len(model.labels)} labels.",
        version=__version__,
        lifespan=lifespan,
    )

    @app.post("/predict", response_model=Answers, response_model_exclude_unset=True)
    async def predict(question: Question) -> dict[str, Any]:
        """Label texts: one result per text, in order."""
        if any(len(text) > MOST_CHARACTERS for text in question.texts):
            raise HTTPException(413, f"a text has more than {MOST_CHARACTERS} characters")
        empty = [number for number, text in enumerate(question.texts) if not text.strip()]
        if empty:
            raise HTTPException(422, f"texts[{empty[0]}] is empty ({len(empty)} of {len(question.texts)} texts are)")
        asked = Asked(question.abstain_below, question.target_precision, question.sets, question.scope)
        try:
            judge = Judge(model, asked)
        except InputError as error:
            raise HTTPException(422, str(error)) from error
        probs, features = await batcher.ask(question.texts)
        counts["requests"] += 1
        counts["texts"] += len(question.texts)
        results = list(judge(probs, features))
        if question.probabilities:
            for result, row in zip(results, probs, strict=True):
                result["probabilities"] = {n: round(float(p), 6) for n, p in zip(model.labels, row, strict=True)}
        return {"results": results}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the model is loaded, for how long, what it did, and what it carries beside probabilities."""
        trust = [name for name in ("conformal", "abstain", "scope") if model.trust.get(name)]
        seconds = round(time.monotonic() - started, 1)
        return {"status": "ok", "kind": model.kind, "trust": trust, "seconds": seconds, **counts}

    @app.get("/labels")
    async def labels() -> dict[str, Any]:
        """Label names in the order of the export."""
        return {"labels": model.labels, "multi": model.multi}

    return app


def serve(model: str | Path, *, host: str = "127.0.0.1", port: int = 8080, precision: str = "int8") -> None:
    """Serve an export until interrupted.

    Raises:
        InputError: The port is taken.
        ExportError: The export cannot be used.
    """
    import socket

    import uvicorn

    app = make_app(model, precision=precision)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"{host}:{port} cannot be used: {error.strerror}", fix="Choose another --port") from error
    uvicorn.run(app, host=host, port=port, log_level="warning")
