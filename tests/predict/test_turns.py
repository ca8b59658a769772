"""Requests in turns: everyone gets their own answers, small ones first, and nobody's work is done for nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
import pytest

from factory.predict import turns
from factory.predict.turns import MOST_WAITING, TooManyWaitError, Turns


class Model:
    """Says how long each text is; takes so many seconds for a text, and keeps what it was asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.asked, self.broken = seconds, [], False
        self.at_work = threading.Event()
        self.asked: list[list[str]]

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        self.at_work.set()
        self.asked.append(list(texts))
        time.sleep(self.seconds * len(texts))
        if self.broken:
            raise RuntimeError("broken")
        sizes = np.array([[len(text)] for text in texts], np.float32)
        return sizes, -sizes


def run(model: Model, *questions: Any) -> list[Any]:
    """Ask at once; each question is texts, or a function of the turns."""

    async def main() -> list[Any]:
        work = Turns(model)
        worker = asyncio.create_task(work.run())
        asked: list[Coroutine[Any, Any, Any]] = [
            question(work) if callable(question) else work.ask(question) for question in questions
        ]
        found = await asyncio.gather(*asked, return_exceptions=True)
        worker.cancel()
        return list(found)

    return asyncio.run(main())


def test_every_request_gets_its_own_answers_in_its_order() -> None:
    model = Model()
    questions = [["a" * (1 + (request * 7 + at) % 50) for at in range(request)] for request in range(1, 40)]
    for texts, (sizes, features) in zip(questions, run(model, *questions), strict=True):
        assert sizes[:, 0].tolist() == [len(text) for text in texts]
        assert features[:, 0].tolist() == [-len(text) for text in texts]
    assert len(model.asked) < len(questions), "requests that come together are answered together"


def test_a_piece_of_work_is_bounded_by_texts_and_by_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_TEXTS", 4)
    monkeypatch.setattr(turns, "MOST_CHARACTERS", 10)
    model = Model()
    run(model, ["a"] * 9, ["b" * 25, "b" * 6, "b" * 6])
    for piece in model.asked:
        assert len(piece) <= 4
        assert len(piece) == 1 or sum(map(len, piece)) <= 10
    assert sorted(text for piece in model.asked for text in piece) == sorted(["a"] * 9 + ["b" * 25, "b" * 6, "b" * 6])


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    model = Model(0.0002)
    done: dict[str, float] = {}

    def ask(name: str, texts: list[str]) -> Any:
        async def asked(work: Turns) -> None:
            await asyncio.sleep(0 if name == "large" else 0.05)
            await work.ask(texts)
            done[name] = time.monotonic()

        return asked

    run(model, ask("large", ["x" * 400] * 4000), ask("small", ["y"]))
    assert done["small"] < done["large"]
    at = next(number for number, piece in enumerate(model.asked) if "y" in piece)
    assert at < len(model.asked) / 2


def test_what_nobody_waits_for_any_more_is_left_undone() -> None:
    model = Model(0.0005)

    async def leaves(work: Turns) -> None:
        task = asyncio.create_task(work.ask(["x" * 1000] * 1000))
        await asyncio.to_thread(model.at_work.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await work.ask(["y"])

    run(model, leaves)
    assert sum(map(len, model.asked)) < 100


def test_an_error_of_the_model_reaches_each_who_asked_and_the_next_is_answered() -> None:
    model = Model()
    model.broken = True

    async def later(work: Turns) -> Any:
        await asyncio.sleep(0.1)
        model.broken = False
        return await work.ask(["abc"])

    first, second, third = run(model, ["a"], ["b"], later)
    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert third[0].tolist() == [[3.0]]


def test_only_so_many_may_wait() -> None:
    found = run(Model(), *[["a"]] * (MOST_WAITING + 3))
    assert sum(isinstance(answer, TooManyWaitError) for answer in found) == 3
