"""The hub: nothing altered is pushed, and every file arrives."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from factory.errors import ExportError, InputError
from factory.export.hub import push


def test_only_an_unaltered_export_is_pushed(linear: Path, tmp_path: Path) -> None:
    import shutil

    calls: list[str] = []
    api = SimpleNamespace(
        create_repo=lambda name, **rest: calls.append(name),
        upload_folder=lambda **rest: SimpleNamespace(commit_url="https://hub/commit"),
    )
    assert push(linear, "me/topics", api=api)["url"] == "https://hub/commit"
    with pytest.raises(InputError, match="owner/name"):
        push(linear, "topics", api=api)
    copy = tmp_path / "copy"
    shutil.copytree(linear, copy)
    (copy / "extra.py").write_text("print()")
    with pytest.raises(ExportError, match="does not name"):
        push(copy, "me/topics", api=api)
    assert calls == ["me/topics"]


def test_every_file_arrives_at_the_hub_and_no_other(linear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        done = push(linear, "me/topics", api=HfApi(endpoint=address, token="hf_known"))
        with pytest.raises(InputError, match="the hub refused"):
            push(linear, "me/topics", api=HfApi(endpoint=address, token="hf_other"))
        server.shutdown()
        thread.join()
    assert private == [True]
    assert done["url"].endswith("a" * 40)
    assert arrived == {p.relative_to(linear).as_posix(): p.read_bytes() for p in linear.rglob("*") if p.is_file()}
