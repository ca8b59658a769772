"""A real browser on the real server: a rule from a phrase, twenty texts by keys, undo, reject; what it loads, says and lacks."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.resources import shipped
from factory.task import load_card
from factory.warehouse.file import Warehouse
from tests.studio.made import make

pytestmark = pytest.mark.slow
PAGES = (
    "/programs",
    "/programs/1",
    "/programs/new?value=win&label=spam",
    "/texts",
    "/texts/40",
    "/report",
    "/card",
    "/run",
    "/try",
)


class Server:
    """`factory studio` in a process of its own."""

    def __init__(self, run: Path, *more: str) -> None:
        command = [sys.executable, "-m", "factory.cli", "studio", str(run), "--as", "Ann", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.said: list[str] = []
        self.lines = threading.Thread(target=lambda: self.said.extend(self.process.stdout or ()), daemon=True)
        self.lines.start()
        deadline = time.monotonic() + 180
        while not (found := re.search(r"http://\S+", "".join(self.said))):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)
        self.link = found[0]
        self.at = self.link.split("/?")[0]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        self.lines.join(timeout=5)
        return code


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def server(run: Warehouse) -> Iterator[Server]:
    assert run.folder is not None
    found = Server(run.folder)
    yield found
    assert found.stop() in (0, 130)
    assert "Traceback" not in "".join(found.said)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


class Seen:
    """A page, and what it complained of or asked for elsewhere."""

    def __init__(self, browser: Any, server: Server, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on(
            "console", lambda said: self.faults.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "request", lambda asked: None if asked.url.startswith(server.at) else self.faults.append(asked.url)
        )
        self.page.goto(server.link)

    def settle(self) -> None:
        self.page.wait_for_load_state("networkidle")


def until(so: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something to be so (the pages' policy lets no test evaluate strings in them)."""
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.03)


def test_a_rule_from_a_phrase_twenty_texts_by_keys_undo_and_reject(
    run: Warehouse, server: Server, browser: Any
) -> None:
    seen = Seen(browser, server)
    page = seen.page
    assert page.url == f"{server.at}/programs"
    # a rule from a phrase: mark, write, accept
    page.goto(f"{server.at}/texts/50")
    page.evaluate(
        "() => { const node = document.querySelector('#text').firstChild, range = document.createRange();"
        " range.setStart(node, 0); range.setEnd(node, 14); getSelection().removeAllRanges(); getSelection().addRange(range); }"
    )
    until(lambda: page.input_value("#phrase") == "nothing to say")
    page.select_option("form.phrase select", "ham")
    page.click("text=Write a rule")
    assert "10 of 60 texts" in page.inner_text("#tried")
    page.fill("[aria-label='Value of rule 1']", "nothing to say 3")
    until(lambda: "\n1 of 60 texts" in page.inner_text("#tried"))
    page.fill("[aria-label='Value of rule 1']", "nothing to say")
    until(lambda: "\n10 of 60 texts" in page.inner_text("#tried"))
    page.click("button.strong")
    page.wait_for_url("**/programs/3")
    assert run.query("SELECT name, kind, state FROM programs WHERE program_no = 3") == [
        ("rule-nothing-to-say", "rules", "accepted")
    ]
    # twenty texts by keys; the first is skipped
    page.goto(f"{server.at}/texts?show=open")
    page.keyboard.press("s")
    for at in range(20):
        page.keyboard.press("1" if at % 2 else "2")
    until(lambda: run.scalar("SELECT count(*) FROM answer_events") == 20)  # typed faster than the server answers
    answers = run.query("SELECT text_no, label_nos FROM answer_events WHERE annotator = 'Ann' ORDER BY text_no")
    assert answers == [(at + 1, [0 if at % 2 else 1]) for at in range(20)]
    seen.settle()
    page.keyboard.press("u")
    page.wait_for_selector("text=your last answer was taken back")
    assert run.scalar("SELECT count(DISTINCT text_no) FROM anchors WHERE source = 'person'") == 19
    # filters as they are typed
    page.fill("input[name=find]", "PRIZE")
    page.wait_for_url("**find=PRIZE**")
    assert "<b>1</b> texts" in page.inner_html("#list")  # nineteen of twenty are answered
    # reject
    page.goto(f"{server.at}/programs/3")
    page.fill("input[name=reason]", "too narrow")
    page.click("button[value=reject]")
    page.wait_for_selector(".state.rejected")
    assert run.query("SELECT state, drop_reason FROM programs WHERE program_no = 3") == [("rejected", "too narrow")]
    seen.settle()
    assert seen.faults == []


def test_no_page_complains_or_asks_elsewhere_and_all_can_be_read_without_javascript(
    server: Server, browser: Any
) -> None:
    for scheme, script in (("light", True), ("dark", False)):
        seen = Seen(browser, server, color_scheme=scheme, java_script_enabled=script)
        for path in PAGES:
            seen.page.goto(server.at + path)
            assert seen.page.inner_text("h1")
            assert seen.page.locator("nav a").count() == 6
            width = seen.page.locator("body").bounding_box()["width"]
            assert width <= 1280, path
        assert seen.faults == []
        seen.context.close()


def test_a_form_works_without_javascript(run: Warehouse, server: Server, browser: Any) -> None:
    seen = Seen(browser, server, java_script_enabled=False)
    seen.page.goto(f"{server.at}/texts?find=love+it+7")
    seen.page.click("form.answer button >> nth=0")
    assert seen.page.url.endswith("/texts?find=love+it+7")
    assert run.scalar("SELECT label_nos FROM answer_events ORDER BY action_no DESC LIMIT 1") == [0]
    seen.page.goto(f"{server.at}/programs/1")
    seen.page.fill("[aria-label='Value of rule 1']", "nothing")
    seen.page.click("button:has-text('Test')")
    assert "10 of 60 texts" in seen.page.inner_text("#tried")
    assert seen.page.input_value("[aria-label='Value of rule 1']") == "nothing"
    assert seen.faults == []


def test_no_serious_fault_of_accessibility(server: Server, browser: Any) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install axe-playwright-python"
    )
    found = []
    for scheme in ("light", "dark"):
        seen = Seen(browser, server, color_scheme=scheme, bypass_csp=True)  # axe is a script of the test
        for path in PAGES:
            seen.page.goto(server.at + path)
            for fault in axe.Axe().run(seen.page).response["violations"]:
                if fault["impact"] in ("serious", "critical"):
                    found.append((scheme, path, fault["id"], [node["html"][:120] for node in fault["nodes"][:3]]))
        seen.context.close()
    assert found == []


# A whole run -----------------------------------------------------------------------------------------------------------------
STEPS = """steps:
  - ingest: {train: {path: train.csv, text: text}, test: {path: test.csv, text: text, label: label}}
  - author: {programs: 14, varied: false, sandbox: process}
  - vote: {sandbox: process}
  - denoise: {model: majority, encoder: none}
  - distill: {student: linear, systems: [student]}
  - export: {system: student}
"""


def written(folder: Path) -> None:
    """What a person has: a file of texts, gold, and answers on record in place of a server."""
    for name in ("train.csv", "test.csv", "answers.jsonl"):
        shutil.copy(shipped("pipelines") / "quickstart" / name, folder / name)


def begin(page: Any, at: str) -> None:
    """From the first page of an empty folder to a pipeline that can be run."""
    card = load_card(shipped("pipelines") / "quickstart" / "task.yaml")
    assert page.url == f"{at}/start"
    page.fill("input[name=file]", "train.csv")
    page.fill("input[name=labels]", ", ".join(card.label_names))
    page.click("text=Begin")
    page.wait_for_url("**/card")
    page.fill("input[name=text]", card.text)
    for label in card.labels:
        page.fill(f"[aria-label='Meaning of {label.name}']", label.description)
    page.fill("[name=guidelines]", card.guidelines)
    page.click("text=Save the card")
    page.goto(f"{at}/run")
    engine = "name: shop\ntask: task.yaml\nengine: {kind: recorded, answers: answers.jsonl}\n"
    page.fill("#pipeline", engine + STEPS)
    page.click("text=Save the pipeline")


def test_from_a_file_of_texts_to_an_export_by_pages_alone(tmp_path: Path, browser: Any) -> None:
    written(tmp_path)
    server = Server(tmp_path)
    try:
        seen = Seen(browser, server)
        page = seen.page
        begin(page, server.at)
        page.click("button.strong")
        page.wait_for_selector("text=At work: process")
        page.wait_for_selector("text=it is done", timeout=240_000)
        page.goto(f"{server.at}/programs")
        assert page.locator("tbody tr").count() == 14
        page.goto(f"{server.at}/try")
        page.fill("#texts", "I was charged twice on my invoice, please refund me")
        page.click("text=Label them")
        assert page.inner_text("b.label") == "billing"
        run = Warehouse.open(tmp_path / "factory-runs" / "shop" / "shop.duckdb")
        assert run.query("SELECT status FROM runs") == [("finished",)]
        assert run.scalar("SELECT count(*) FROM lineage WHERE child_kind = 'program'") > 0
        page.goto(f"{server.at}/run")
        page.click("button.strong")
        page.wait_for_selector("text=nothing to do", timeout=60_000)
        assert seen.faults == []
    finally:
        assert server.stop() in (0, 130)
    assert "Traceback" not in "".join(server.said)
