"""What all tests share: the root on the path, and the folder of real data."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: more threads would only wait for each other

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("LABEL_FACTORY_CACHE", str(ROOT / ".pytest_cache" / "label-factory"))  # graphs are made once
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "llm"))

from fake_server import FakeServer  # noqa: E402
from topics import linear, static, transformer, warehouse  # noqa: E402, F401 - fixtures
from vllm_server import VllmServer, vllm_python  # noqa: E402


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets, read in place: $LABEL_FACTORY_DATA, else ../shared/data beside the checkout."""
    folder = Path(os.environ.get("LABEL_FACTORY_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "INDEX.md").exists():
        pytest.skip(f"no data sets in {folder}: set LABEL_FACTORY_DATA to their folder")
    return folder


@pytest.fixture
def fake_server() -> Iterator[Callable[..., FakeServer]]:
    """Starts local OpenAI-compatible servers: `server = fake_server(latency_s=0.1)`; they end with the test."""
    started: list[FakeServer] = []

    def start(**control: Any) -> FakeServer:
        server = FakeServer(**control)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """Ray on two processors of this machine. Skips where it is not installed."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # its servers on 127.0.0.1
    found = pytest.importorskip("ray", reason='Ray is not installed: pip install "label-factory[ray]"')
    from factory.cluster.ray import start_here

    start_here(found, num_cpus=2, object_store_memory=100 << 20)
    yield found
    found.shutdown()


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A small pipeline that has run once to its end against a local counting server (see `tests/kills/harness.py`)."""
    from tests.kills.harness import Line
    from tests.kills.server import CountingServer

    with CountingServer(latency_s=0.03) as server:
        found = Line(tmp_path_factory.mktemp("line"), server)
        found.go_undisturbed()
        yield found


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """Real vLLM on the tiny model; `vllm_server.url`, model `tiny`, LoRA adapter `mine`. Skips where there is no vLLM."""
    if vllm_python() is None:
        pytest.skip("no vLLM: set LABEL_FACTORY_VLLM_PYTHON to a Python that has it")
    server = VllmServer(tmp_path_factory.mktemp("vllm"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: exit code, stdout, stderr."""
    from factory import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["factory", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as leave:
            code = int(leave.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run
