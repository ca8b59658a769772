"""Who may ask the studio, and that whatever a corpus or a model wrote is shown as text."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from factory.pipeline.lock import LOCK, alone_in
from factory.programs import manage
from factory.studio.app import make_app
from factory.studio.desk import Desk
from factory.studio.views import HERE
from factory.warehouse.file import Warehouse
from tests.studio.made import HOST, LABELS, TOKEN, client_of, make, post

BAD = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"
PAGES = ("/programs", "/programs/1", "/programs/new", "/texts", "/texts/0", "/report", "/card", "/run", "/try")


@pytest.fixture(scope="module")
def warehouse() -> Warehouse:
    return make()


def stranger(warehouse: Warehouse) -> TestClient:
    return TestClient(make_app(Desk(warehouse, Path("run")), token=TOKEN), base_url=HOST)


def test_nothing_is_shown_without_the_token(warehouse: Warehouse) -> None:
    client = stranger(warehouse)
    for path in (*PAGES, "/static/studio.css", "/nowhere"):
        assert client.get(path).status_code == 403
    assert client.get("/?token=wrong").status_code == 403
    assert client.get("/", headers={"cookie": "studio=wrong"}).status_code == 403
    let_in = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= set(let_in.headers["set-cookie"].split("; "))
    assert TOKEN not in let_in.headers["location"]
    assert client.get("/programs").status_code == 200


def test_another_host_is_refused_even_with_the_token(warehouse: Warehouse) -> None:
    client = client_of(warehouse)
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
        assert client.get("/programs", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:9999", "https://127.0.0.1"])
def test_a_post_from_elsewhere_changes_nothing(warehouse: Warehouse, origin: str | None) -> None:
    client = client_of(warehouse)
    headers = {} if origin is None else {"origin": origin}
    answer = client.post("/programs/decide", data={"program": "1", "what": "reject"}, headers=headers)
    assert answer.status_code == 403
    assert warehouse.scalar("SELECT state FROM programs WHERE program_no = 1") == "accepted"


def test_a_page_may_load_nothing_from_elsewhere_and_run_no_script_of_a_text(warehouse: Warehouse) -> None:
    client = client_of(warehouse)
    for path in PAGES:
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "http" not in answer.text.split("</head>")[0]
        assert "style=" not in answer.text
        assert " on" not in [part.split("=")[0] for part in answer.text.split("<")]
        assert answer.headers["referrer-policy"] == "same-origin"  # with `no-referrer` a form's Origin would be null


def test_htmx_is_the_file_that_was_published() -> None:
    found = hashlib.sha256((HERE / "static" / "htmx.min.js").read_bytes()).hexdigest()
    assert found == "71ea67185bfa8c98c39d31717c6fce5d852370fcdfd129db4543774d3145c0de"


def test_what_texts_labels_names_and_sources_hold_is_shown_as_text() -> None:
    label = f"b {BAD}"[:100]
    made = make(labels={"ham": BAD, label: BAD}, texts=[f"win {BAD} {n}" for n in range(12)], name=BAD)
    manage.add_program(
        made, f'def label(text):\n    """{BAD.replace(chr(34), "")}"""\n    return None\n', name=f"py {BAD}"
    )
    manage.reject_program(made, 2, reason=BAD, actor=BAD)
    with made.lease() as db:
        db.execute("UPDATE sources SET path = ?", [BAD])
        db.execute("INSERT INTO vote_failures VALUES (1, 0, 'exception', ?)", [BAD])
        db.execute(
            "INSERT INTO attempts (attempt_no, request_key, first_sample, last_sample, outcome, reason, engine, words)"
            " VALUES (1, 'k', 0, 0, 'failed', ?, 'server', ?)",
            [BAD, BAD],
        )
        db.execute("INSERT INTO runs VALUES (1, ?, '{}', now()::TIMESTAMP, NULL, ?)", [BAD, BAD])
    client = client_of(made, person=BAD)
    post(client, "/texts/label", text_no=0, label=label)
    places = [
        *PAGES,
        "/programs?every=1",
        "/programs/2",
        "/programs/3",
        f"/texts?label={label}",
        "/report?gold=ham&said=x",
    ]
    for path in places:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text, path
        assert "<img" not in answer.text, path
        assert "&lt;script&gt;" in answer.text, path  # at least the person's name
        assert "49" not in answer.text.replace("{{ 7 * 7 }}", "").split("<main")[0], path
    for answer in (
        client.get("/texts", params={"find": BAD}),
        client.get("/programs/new", params={"value": BAD, "label": label, "name": BAD}),
        post(client, "/programs/try", kind_of_program="python", source=BAD, name=BAD),
        post(client, "/programs/try", kind_of_program="python", source=BAD, name=BAD, part=True),
        client.get("/texts", params={"show": BAD}),
        client.get("/texts", params={"program": BAD}),
        client.get("/programs/new", params={"kind": BAD}),
        client.get(f"/{BAD}"),
    ):
        assert answer.status_code in (200, 404, 422)
        assert "<script>alert" not in answer.text
        assert "<img" not in answer.text
        assert "Traceback" not in answer.text


def test_while_another_process_is_at_work_pages_read_and_writing_is_refused_in_one_line(tmp_path: Path) -> None:
    made = make(tmp_path)
    client = client_of(made)
    (tmp_path / LOCK).write_text(str(os.getppid()))
    assert f"Process {os.getppid()} is at work on this run" in client.get("/texts").text
    with alone_in(tmp_path):
        for part in (False, True):
            refused = post(client, "/texts/label", text_no=0, label="ham", part=part)
            assert refused.status_code == 409
            assert refused.text.count('role="alert"') == 1
            assert "is at work on a run in this folder" in refused.text
        assert post(client, "/programs/decide", program="1", what="reject").status_code == 409
        assert client.get("/programs/1").status_code == 200
    assert made.scalar("SELECT count(*) FROM answer_events") == 0
    assert post(client, "/texts/label", text_no=0, label="ham").status_code == 200
    assert made.scalar("SELECT count(*) FROM answer_events") == 1


def test_what_is_no_form_and_what_is_no_page_is_said(warehouse: Warehouse) -> None:
    client = client_of(warehouse)
    assert client.post("/texts/label", json={"text_no": 1}, headers={"origin": HOST}).status_code == 415
    assert client.get("/programs/what").status_code == 404
    assert "there is no program 99" in client.get("/programs/99").text
    assert "there is no text 999" in client.get("/texts/999").text
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404
    assert set(LABELS) == {"ham", "spam"}
