"""The whole line on a real, very small model behind vLLM: every stage once, killed and taken up, an export, nothing asked twice.

Its scores mean little (135 million parameters): what counts is that requests are read and that the line ends with an export.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from vllm_server import VllmServer, vllm_python

from factory.pipeline.load import load_pipeline
from factory.pipeline.run import run_pipeline
from factory.resources import shipped
from factory.warehouse.file import Warehouse
from tests.models import model_folder

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1800)]

LINE = """
name: real
task: {card}
engine: {{kind: server, url: "{url}", model: tiny, profile: small, seed: null, concurrency: 16}}
steps:
  - ingest:
      train: {{path: {texts}/train.csv, text: text}}
      dev: {{path: {texts}/dev.csv, text: text, label: label}}
      test: {{path: {texts}/test.csv, text: text, label: label}}
  - author: {{programs: 4, candidates: 4, form: rules}}
  - vote: {{}}
  - synthesize: {{method: synthesizrr, seeds: none, per_label: 1}}
  - vote: {{}}
  - annotate: {{anchors: 40, audit: 15}}
  - denoise: {{model: auto}}
  - distill: {{student: embedding, systems: [student]}}
  - annotate: {{split: test, limit: 40}}
  - evaluate: {{}}
  - export: {{}}
  - report: {{}}
"""


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    folder = model_folder("smollm2")
    if vllm_python() is None:
        pytest.skip("no vLLM: set LABEL_FACTORY_VLLM_PYTHON to a Python that has it")
    server = VllmServer(tmp_path_factory.mktemp("smollm2"), model=folder, adapters={}, context=4096)
    server.start()
    yield server
    server.stop()


def test_the_line_lives_on_a_real_model_through_a_kill(smollm2: VllmServer, tmp_path: Path) -> None:
    texts = shipped("pipelines") / "quickstart"
    path, folder = tmp_path / "real.yaml", tmp_path / "run"
    path.write_text(LINE.format(card=texts / "task.yaml", url=smollm2.url, texts=texts))
    command = [sys.executable, "-m", "factory", "run", str(path), "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None and not _answers(folder):
        time.sleep(0.5)
    assert process.poll() is None, "it is killed in the middle"
    process.kill()
    process.wait()
    before = _answers(folder)
    assert before > 0
    first = run_pipeline(load_pipeline(path), folder=folder)
    assert first.export is not None
    assert (first.export / "manifest.json").is_file()
    warehouse = Warehouse.open(folder / "real.duckdb")
    stages = dict(warehouse.query("SELECT stage, count(*) FROM requests GROUP BY 1"))
    assert set(stages) == {"author", "synthesize", "annotate"}
    read = "SELECT avg((state = 'accepted')::DOUBLE) FROM slots JOIN plans USING (plan_no) WHERE stage = 'annotate'"
    assert warehouse.scalar(read) >= 0.95, "a choice of labels is always read"
    asked = warehouse.scalar("SELECT count(*) FROM attempts")
    assert run_pipeline(load_pipeline(path), folder=folder).nothing_to_do
    assert warehouse.scalar("SELECT count(*) FROM attempts") == asked


def _answers(folder: Path) -> int:
    """Answers that a run, perhaps still at work, has stored."""
    from factory.errors import FactoryError

    path = folder / "real.duckdb"
    try:
        return int(Warehouse.open(path).scalar("SELECT count(*) FROM answers")) if path.exists() else 0
    except FactoryError:
        return 0
