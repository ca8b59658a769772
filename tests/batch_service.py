"""A local batch service of the form that OpenAI documents: files, batches, their statuses and results; in threads.

    with BatchService() as service:
        settings = EngineSettings(kind="batch", url=service.url, model="m", poll_s=0.01)

`fate` says what becomes of a line, `ends` how batches end in the order in which they are made, and `hold` where a request stands
still until the test lets it go: `upload` (nothing is kept yet), `uploaded`, `create`, `created`, `poll`, `fetch` (half is sent).
"""

from __future__ import annotations

import email
import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 2
"""Batches on a page of the list, however many are asked for."""


class BatchService:
    """The service; `key` is the one that it asks for, if any."""

    def __init__(self, *, key: str | None = None, polls: int = 1) -> None:
        self.key, self.polls = key, polls
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.ends: list[str] = []
        self.fate: Callable[[dict[str, Any]], str] = lambda line: "answer"
        self.refuse: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {}
        self.hold: str | None = None
        self.keeps_metadata = True
        self.reached, self.release = threading.Event(), threading.Event()
        self.calls: Counter[str] = Counter()
        self.keys_seen: set[str | None] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.handle(self)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> BatchService:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def submitted(self) -> Counter[str]:
        """How often each request was submitted, by `custom_id`, in batches that were made."""
        return Counter(line["custom_id"] for batch in self.batches.values() for line in self._lines(batch))

    @property
    def answered(self) -> Counter[str]:
        """How often each was answered, and so billed."""
        files = [self.files[batch["output_file_id"]] for batch in self.batches.values() if batch["output_file_id"]]
        return Counter(json.loads(line)["custom_id"] for file in files for line in file.splitlines())

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = http.rfile.read(int(http.headers.get("Content-Length") or 0))
        with suppress(OSError):  # the other end was killed
            self.keys_seen.add(http.headers.get("Authorization"))
            if self.key and http.headers.get("Authorization") != f"Bearer {self.key}":
                self._say(http, 401, {"error": {"message": "no such key", "code": "invalid_api_key"}})
                return
            url = urlsplit(http.path)
            match [http.command, *url.path.removeprefix("/v1/").split("/")]:
                case ["POST", "files"]:
                    self._upload(http, body)
                case ["POST", "batches"]:
                    self._create(http, json.loads(body))
                case ["GET", "batches"]:
                    self._list(http, parse_qs(url.query))
                case ["GET", "batches", name]:
                    self._poll(http, name)
                case ["GET", "files", name, "content"]:
                    self._content(http, name)
                case _:
                    self._say(http, 404, {"error": {"message": "no such path"}})

    # ------------------------------------------------------------------------------------------------------------------
    def _upload(self, http: BaseHTTPRequestHandler, body: bytes) -> None:
        self._at("upload")
        if self._refused(http, "upload"):
            return
        head = f"Content-Type: {http.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in email.message_from_bytes(head + body, policy=HTTP).iter_parts()  # type: ignore[attr-defined]
        }
        assert parts["purpose"] == b"batch"
        name = f"file-{len(self.files)}"
        self.files[name] = parts["file"]
        self._at("uploaded")
        self._say(http, 200, {"id": name, "object": "file", "purpose": "batch", "bytes": len(parts["file"])})

    def _create(self, http: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self._at("create")
        if self._refused(http, "create"):
            return
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        name = f"batch_{len(self.batches)}"
        batch = {"id": name, "object": "batch", "status": "validating", "input_file_id": body["input_file_id"]}
        batch |= {"output_file_id": None, "error_file_id": None, "errors": None, "polls": self.polls}
        batch["metadata"] = body.get("metadata") if self.keeps_metadata else None
        batch["end"] = self.ends.pop(0) if self.ends else "completed"
        total = self.files[body["input_file_id"]].count(b"\n")
        self.batches[name] = batch | {"request_counts": {"total": total, "completed": 0, "failed": 0}}
        self._at("created")
        if not self._refused(http, "created"):
            self._say(http, 200, self.batches[name])

    def _list(self, http: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        names = list(self.batches)[::-1]
        start = names.index(query["after"][0]) + 1 if "after" in query else 0
        rows = [self.batches[name] for name in names[start : start + PAGE]]
        self.calls["list"] += 1
        self._say(http, 200, {"object": "list", "data": rows, "has_more": len(names) > start + PAGE})

    def _poll(self, http: BaseHTTPRequestHandler, name: str) -> None:
        self._at("poll")
        if self._refused(http, "poll"):
            return
        batch = self.batches.get(name)
        if batch is None:
            self._say(http, 404, {"error": {"message": "no such batch"}})
            return
        batch["polls"] -= 1
        batch["status"] = "in_progress"
        if batch["polls"] < 0:
            batch["status"] = batch["end"]
            if batch["end"] == "failed":
                batch["errors"] = {"object": "list", "data": [{"code": "x", "message": "line 1 is not right"}]}
            elif batch["output_file_id"] is None:
                self._run(batch)
        self._say(http, 200, batch)

    def _lines(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def _run(self, batch: dict[str, Any]) -> None:
        """Put what comes of each line into the files of results."""
        found: dict[str, list[dict[str, Any]]] = {"output_file_id": [], "error_file_id": []}
        for line in self._lines(batch):
            fate, row = self.fate(line), {"id": "x", "custom_id": line["custom_id"], "response": None, "error": None}
            n = line["body"].get("n", 1)
            if fate == "answer":
                says = [
                    f"{line['body']['messages'][-1]['content']}, sample {line['body']['seed'] + i}" for i in range(n)
                ]
                choices = [
                    {"index": i, "message": {"content": text}, "finish_reason": "stop"} for i, text in enumerate(says)
                ]
                body = {"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 4}}
                found["output_file_id"].append(row | {"response": {"status_code": 200, "body": body}})
            elif fate == "error":
                body = {"error": {"message": "Internal error", "code": None}}
                found["error_file_id"].append(row | {"response": {"status_code": 500, "body": body}})
            elif fate == "expired":
                error = {"code": "batch_expired", "message": "This request could not be executed in time."}
                found["error_file_id"].append(row | {"error": error})
        for kind, rows in found.items():
            if rows:
                batch[kind] = f"file-{len(self.files)}"
                self.files[batch[kind]] = "".join(json.dumps(row) + "\n" for row in rows[::-1]).encode()
        counts = batch["request_counts"]
        counts["completed"], counts["failed"] = len(found["output_file_id"]), len(found["error_file_id"])

    def _content(self, http: BaseHTTPRequestHandler, name: str) -> None:
        if self._refused(http, "fetch"):
            return
        content = self.files[name]
        http.send_response(200)
        http.send_header("Content-Length", str(len(content)))
        http.end_headers()
        http.wfile.write(content[: len(content) // 2])
        http.wfile.flush()
        self._at("fetch")
        http.wfile.write(content[len(content) // 2 :])

    def _at(self, point: str) -> None:
        """Count, and stand still where the test wants it."""
        self.calls[point] += 1
        if self.hold == point:
            self.reached.set()
            self.release.wait(30)
            raise OSError("let go")

    def _refused(self, http: BaseHTTPRequestHandler, point: str) -> bool:
        """Refuse once, as `refuse` says: status, body, headers; status 0 hangs up."""
        if point not in self.refuse:
            return False
        status, body, headers = self.refuse.pop(point)
        http.close_connection = True
        if status:
            self._say(http, status, body, headers)
        else:
            http.connection.close()
        return True

    def _say(
        self, http: BaseHTTPRequestHandler, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(body).encode()
        http.send_response(status)
        for name, value in {
            "Content-Length": str(len(content)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            http.send_header(name, value)
        http.end_headers()
        http.wfile.write(content)
