"""An exported student over HTTP: requests that come together are answered together. Binds to 127.0.0.1 unless told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.middleware import Middleware
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from factory.errors import FactoryError, InputError
from factory.predict.annotator import Answerer
from factory.predict.decide import Asked, Judge, sureness
from factory.predict.defer import Deferring, verdict
from factory.predict.http_limits import ImpatientProtocol, RequestLimits, hosts_of
from factory.predict.load import load_export
from factory.predict.turns import TooManyWaitError, Turns
from factory.programs.sandbox.host.pool import Sandbox
from factory.result import no_progress

MOST_TEXTS = 1024
MOST_CHARACTERS = 100_000
MOST_CHARACTERS_IN_ALL = 1_000_000
MOST_BYTES = 8_000_000
BODY_S = 30.0
"""Seconds that a request's body may take."""
SHUTDOWN_S = 2
"""Seconds that requests in flight have to end when the server is stopped."""


class Question(BaseModel):
    """Texts to label, and what is wanted beside the most probable label."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"texts": ["a first text", "another one"]}]},
    )

    texts: list[str] = Field(
        min_length=1, max_length=MOST_TEXTS,
        description=f"Up to {MOST_TEXTS:,} texts, none of them empty, of up to {MOST_CHARACTERS:,} characters each and"
        f" {MOST_CHARACTERS_IN_ALL:,} in all.",
    )  # fmt: skip
    abstain_below: float | None = Field(None, ge=0, le=1, description="No label is given below this probability.")
    target_precision: float | None = Field(
        None, gt=0, lt=1, description="No label is given below the probability from which on this share is right."
    )
    sets: float | None = Field(None, gt=0, lt=1, description="Conformal label sets with this error rate.")
    scope: float | None = Field(
        None, gt=0, lt=1, description="Share of texts like those of training that may be called out of scope."
    )
    defer_below: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Texts below this probability are deferred: no label, or the engine's if there is one.",
    )
    why: bool = Field(False, description="Reasons for each answer, as `?why=1` asks for too; for a glass box.")
    probabilities: bool = Field(True, description="Whether to send the probability of every label.")


class Answer(BaseModel):
    """What is said of one text; keys that were not asked for are left out."""

    label: str | None = Field(None, description="The most probable label of a single task; null: abstained.")
    probability: float | None = Field(None, description="Of the most probable label.")
    labels: list[str] | None = Field(None, description="The labels of a task with any number of them.")
    set: list[str] | None = Field(None, description="The conformal label set.")
    in_scope: bool | None = Field(None, description="Whether the text is like those of training.")
    scope: float | None = Field(None, description="Cosine to the nearest prototype of the training texts.")
    deferred: bool | None = Field(None, description="Whether the model is less sure than was asked for.")
    answered_by: str | None = Field(None, description="`model`, `engine` or `nobody`, where texts may be deferred.")
    why: str | None = Field(None, description="The reasons in a sentence.")
    reasons: dict[str, Any] | None = Field(None, description="Which programs fired, on what, and what the text says.")
    probabilities: dict[str, float] | None = None


class Results(BaseModel):
    """One answer for each text, in order."""

    results: list[Answer]


def make_app(
    folder: str | Path, *, precision: str = "int8", hosts: frozenset[str] | None = None, sandbox: Sandbox = "kernel",
    defer_below: float | None = None, answer: Answerer | None = None,
) -> Any:  # fmt: skip
    """The application: `POST /predict`, `GET /health`, `GET /labels`, and its OpenAPI page at `/docs`.

    Args:
        folder: An export; loaded once, when the application is made.
        precision: `fp32` or `int8`.
        hosts: Names that a request may be sent to, without a port; None allows any.
        sandbox: As `load_export` takes it.
        defer_below: Texts below this probability are deferred, unless a request says otherwise; none by default.
        answer: Who is asked for their labels; nobody by default. Where it cannot answer, nobody has.

    Raises:
        ExportError: The export cannot be used.
        InputError: `defer_below` is no probability.
    """
    from factory import __version__

    if defer_below is not None:
        Deferring(below=defer_below)
    model = load_export(folder, precision=precision, sandbox=sandbox)
    started = time.monotonic()
    counts, one_asks, faults = {"requests": 0, "texts": 0}, asyncio.Lock(), list[str]()
    turns: list[Turns] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        turns[:] = [Turns(model.answer), Turns(model.explain)]
        workers = [asyncio.create_task(each.run()) for each in turns]
        yield
        for worker in workers:
            worker.cancel()

    app = FastAPI(
        title="label-factory student", description=f"A classifier of kind `{model.kind}` with {len(model.labels)} labels.",
        version=__version__, lifespan=lifespan,
        middleware=[Middleware(RequestLimits, most_bytes=MOST_BYTES, seconds=BODY_S, hosts=hosts)],
    )  # fmt: skip
    asked_in = {"content": {"application/json": {"schema": Question.model_json_schema()}}, "required": True}
    shown: Any = {"response_model_exclude_unset": True, "openapi_extra": {"requestBody": asked_in}}

    @app.post("/predict", response_model=Results, **shown)
    async def predict(request: Request) -> dict[str, Any]:
        """Label texts: one result per text, in order."""
        question = _question(await request.body(), request.headers.get("content-type", ""))
        why = question.why or request.query_params.get("why", "").lower() in ("1", "true")
        asked = Asked(question.abstain_below, question.target_precision, question.sets, question.scope, why)
        try:
            judge = Judge(model, asked)
        except InputError as error:
            raise HTTPException(422, str(error)) from error
        try:
            probs, *behind = await _while_there(turns[why].ask(question.texts), request)
        except TooManyWaitError as error:
            raise HTTPException(503, "too many requests wait already", headers={"Retry-After": "1"}) from error
        counts["requests"] += 1
        counts["texts"] += len(question.texts)
        results = list(judge(probs, *behind))
        below = question.defer_below if question.defer_below is not None else defer_below
        if below is not None:
            unsure = Deferring(below=below).chosen(sureness(probs, model.multi))
            left = [text for text, one in zip(question.texts, unsure, strict=True) if one]
            found: list[Any] = [None] * len(left)
            if left and answer is not None:
                try:
                    async with one_asks:
                        found = await _while_there(asyncio.to_thread(answer, left, no_progress), request)
                except FactoryError as error:  # nobody has answered, and the results say so
                    faults[:] = [str(error)]
            for result, one in zip(results, unsure, strict=True):
                result |= verdict(result, model.multi, bool(one), found.pop(0) if one else None)
        if question.probabilities:
            for result, row in zip(results, probs, strict=True):
                result["probabilities"] = {n: round(float(p), 6) for n, p in zip(model.labels, row, strict=True)}
        return {"results": results}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the model is loaded, for how long, what it did, and what it carries beside probabilities."""
        trust = [name for name in ("conformal", "abstain", "scope") if model.trust.get(name)]
        seconds = round(time.monotonic() - started, 1)
        return {
            "status": "ok",
            "kind": model.kind,
            "trust": trust,
            "seconds": seconds,
            **counts,
            "engine_fault": next(iter(faults), None),
        }

    @app.get("/labels")
    async def labels() -> dict[str, Any]:
        """Label names in the order of the export, and those of which it never saw a text: it never answers them."""
        return {"labels": model.labels, "multi": model.multi, "never_seen": model.never_seen}

    return app


def _question(body: bytes, kind: str) -> Question:
    """What a request asks.

    Raises:
        HTTPException: 415 for another kind of body, 400 for what is not JSON, 413 for too much of it, 422 for the rest.
    """
    if kind.partition(";")[0].strip().lower() != "application/json":  # a page elsewhere can send other kinds unasked
        raise HTTPException(415, "send JSON, with the header Content-Type: application/json")
    try:
        value = json.loads(body, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is refused here
        question = Question.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise HTTPException(422, found) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON, or it holds half a surrogate pair or NaN") from error
    if any(len(text) > MOST_CHARACTERS for text in question.texts):
        raise HTTPException(413, f"a text has more than {MOST_CHARACTERS:,} characters")
    if sum(map(len, question.texts)) > MOST_CHARACTERS_IN_ALL:
        raise HTTPException(413, f"the texts have more than {MOST_CHARACTERS_IN_ALL:,} characters in all")
    empty = [number for number, text in enumerate(question.texts) if not text.strip()]
    if empty:
        raise HTTPException(422, f"texts[{empty[0]}] is empty ({len(empty)} of {len(question.texts)} texts are)")
    return question


def _no_constant(name: str) -> float:
    raise ValueError(name)


async def _while_there(answer: Any, request: Request) -> Any:
    """Await an answer, but no longer than somebody waits for it.

    Raises:
        HTTPException: The client has left.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, left = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise HTTPException(499, "the client has left")
        return work.result()
    finally:
        for task in (work, left):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def serve(
    model: str | Path, *, host: str = "127.0.0.1", port: int = 8080, precision: str = "int8", sandbox: Sandbox = "kernel",
    defer_below: float | None = None, answer: Answerer | None = None, told: Callable[[str], None] = lambda line: None,
) -> None:  # fmt: skip
    """Serve an export until interrupted.

    Args:
        model: An export.
        host: The address to bind to.
        port: The port; 0 takes a free one.
        precision: `fp32` or `int8`.
        sandbox: As `load_export` takes it.
        defer_below, answer: As `make_app` takes them.
        told: Called with the address when the server can be asked.

    Raises:
        InputError: The address cannot be used.
        ExportError: The export cannot be used.
    """
    app = make_app(
        model, precision=precision, hosts=hosts_of(host), sandbox=sandbox, defer_below=defer_below, answer=answer
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{host}:{port} cannot be used: {words}", fix="Choose another --port or --host") from error
    with listening:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        told(f"serving {model} on {address} (its page: {address}/docs); Ctrl-C ends it")
        config = uvicorn.Config(
            app, log_level="warning", http=ImpatientProtocol, timeout_graceful_shutdown=SHUTDOWN_S, timeout_keep_alive=5
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listening])
