"""SIGKILL of a run that the studio began, and of the studio itself: pages say what is so, and nothing is lost."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from factory.pipeline.lock import alone_in
from factory.warehouse.file import Warehouse
from tests.studio.test_browser import STEPS, Server, until, written

pytestmark = pytest.mark.slow
PIPELINE = "name: shop\ntask: task.yaml\nengine: {kind: recorded, answers: answers.jsonl}\n" + STEPS


def opened(server: Server) -> httpx.Client:
    client = httpx.Client(base_url=server.at, follow_redirects=True, timeout=60, headers={"origin": server.at})
    assert client.get(server.link).status_code == 200
    return client


def at_work(client: httpx.Client) -> int | None:
    found = re.search(r"At work: process (\d+)", client.get("/run").text)
    return int(found[1]) if found else None


def test_a_run_that_is_killed_and_one_whose_studio_is_killed_are_gone_on_with(tmp_path: Path) -> None:
    from factory.resources import shipped

    written(tmp_path)
    (tmp_path / "task.yaml").write_text((shipped("pipelines") / "quickstart" / "task.yaml").read_text())
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    folder = tmp_path / "factory-runs" / "shop"
    log = folder / "studio.log"

    server = Server(tmp_path)
    client = opened(server)
    assert client.post("/run/start").status_code == 200
    until(lambda: log.is_file() and "ingest" in log.read_text())
    process = at_work(client)
    assert process is not None
    os.kill(process, signal.SIGKILL)
    until(lambda: at_work(client) is None)
    assert "it was stopped: run it again to go on" in client.get("/run").text
    texts = Warehouse.open(folder / "shop.duckdb").scalar("SELECT count(*) FROM texts")
    assert texts > 600

    assert client.post("/run/start").status_code == 200
    until(lambda: "ingest" in log.read_text())
    process = at_work(client)
    assert process is not None
    server.process.kill()
    server.process.wait()
    until(lambda: not psutil.pid_exists(process))  # a run ends with the studio that began it
    with alone_in(folder):
        pass

    server = Server(tmp_path)
    client = opened(server)
    page = client.get("/run").text
    assert "ingest" in page.split("What was begun here last")[1]
    assert client.post("/run/start").status_code == 200
    until(lambda: "it is done" in client.get("/run").text, 240)
    assert server.stop() in (0, 130)
    run = Warehouse.open(folder / "shop.duckdb")
    assert run.scalar("SELECT count(*) FROM texts") == texts
    assert run.scalar("SELECT count(*) FROM programs WHERE state = 'accepted' AND kind <> 'prompted'") == 14
    assert (folder / "export" / "manifest.json").is_file()
