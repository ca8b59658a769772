"""Tokens per second through the factory on a GPU, beside vLLM's own throughput and serving benchmarks.

    LABEL_FACTORY_VLLM_PYTHON=.../bin/python python tests/benchmarks/gpu_dispatch.py [--config llama-8b] [--requests 2000]

A full-size configuration with dummy weights, so that nothing is downloaded: in process (`kind: vllm`) beside `vllm bench
throughput`, and through a server (`kind: server`) beside `vllm bench serve`. Needs a GPU; `--config tiny` runs the same on a CPU,
to see that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from _harness import ROOT, Options, Row, Skip, case, main, row

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "llama-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 640,
    },
}
CONTEXT = 4096


def vllm_python(options: Options) -> str:
    """The Python that has vLLM, once it is clear that the case can run."""
    python = os.environ.get("LABEL_FACTORY_VLLM_PYTHON")
    if not python or not Path(python).exists():
        raise Skip("no vLLM: set LABEL_FACTORY_VLLM_PYTHON to a Python that has it")
    if options.extra["config"] != "tiny":
        code = "import torch; print(torch.cuda.is_available())"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
        if found != "True":
            raise Skip("no GPU here (or a vLLM without CUDA)")
    return python


def environment() -> dict[str, str]:
    """For vLLM: offline, quiet, and with little memory where it runs on a CPU."""
    return os.environ | {
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "PYTHONPATH": str(ROOT),
    }


def write_model(folder: Path, config: str) -> Path:
    """A folder with a configuration and a small tokenizer; the weights are made up by vLLM (`load_format: dummy`)."""
    from tiny_model import build

    build(folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    old = json.loads((folder / "config.json").read_text())
    ids = {name: old[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    new = {**LLAMA, **CONFIGS[config], **ids, "max_position_embeddings": CONTEXT, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(new))
    return folder


def engine_arguments(options: Options) -> dict[str, Any]:
    """The same for every run."""
    given: dict[str, Any] = {"load_format": "dummy", "max_model_len": CONTEXT}
    if options.extra["config"] == "tiny":
        given |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": 8192}
    return given


def as_flags(arguments: dict[str, Any]) -> list[str]:
    """Engine arguments as command line flags."""
    flags: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if value is True:
            flags.append(f"--{flag}")
        elif value is False:
            flags.append(f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(value)]
    return flags


OURS = """
import json, sys, tempfile, time
from pathlib import Path
from factory.llm import Ask, EngineSettings, Request, make_engine, send
from factory.warehouse.file import Warehouse
given = json.loads(sys.argv[1])
engine = make_engine(EngineSettings(**given["settings"]))
if hasattr(engine, "llm"):
    engine.llm
def asks(salt, n):
    words = "the quick brown fox jumps over the lazy dog and runs into the forest".split()
    for number in range(n):
        body = " ".join(words[(number * 7 + at * (1 + number % 11)) % len(words)] for at in range(given["words"]))
        text = f"{salt} {number} {body}"
        yield Ask(Request(engine.model, ({"role": "user", "content": text},), given["sampling"], prompt="b"))
def run(salt, n):
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse.open(Path(folder) / "w.duckdb")
        began = time.perf_counter()
        sent = send(warehouse, engine, asks(salt, n), stage="b")
        seconds = time.perf_counter() - began
        assert sent.answered == n, sent
        tokens = warehouse.query("SELECT sum(tokens_in), sum(tokens_out) FROM answers")[0]
    return seconds, int(tokens[0]), int(tokens[1])
if __name__ == "__main__":
    run("warm", 32)
    print(json.dumps(run("run", given["requests"])))
    engine.close()
"""


def run_ours(python: str, folder: Path, options: Options, settings: dict[str, Any]) -> tuple[float, int, int]:
    """Seconds, tokens in, tokens out."""
    script = folder / "ours.py"
    script.write_text(OURS)
    given = {
        "settings": settings,
        "requests": options.extra["requests"],
        "words": int(options.extra["input_len"] / 1.4),
        "sampling": {"temperature": 1.0, "max_tokens": options.extra["output_len"], "ignore_eos": True},
    }
    out = check([python, str(script), json.dumps(given)], folder)
    seconds, tokens_in, tokens_out = json.loads(out.strip().splitlines()[-1])
    return seconds, tokens_in, tokens_out


def check(command: list[str], folder: Path) -> str:
    """Run a command; its output."""
    done = subprocess.run(command, env=environment(), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:4]}: {done.stderr[-3000:]}")
    return done.stdout


def main_of(module: str) -> list[str]:
    """How to run one of vLLM's benchmarks, whose modules have no main of their own."""
    code = f"""
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.benchmarks.{module} import add_cli_args, main
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
    return ["-c", code]


def result(
    name: str, ours: tuple[float, int, int], theirs: tuple[float, float], peer_name: str, options: Options
) -> list[Row]:
    """Rows for output tokens and for all tokens per second."""
    seconds, tokens_in, tokens_out = ours
    sizes = {key: options.extra[key] for key in ("config", "requests", "input_len", "output_len")}
    sizes |= {"ours_tokens_in": tokens_in, "ours_tokens_out": tokens_out}
    rows = [
        row(
            f"{name}_total",
            (tokens_in + tokens_out) / seconds,
            theirs[0],
            peer_name=peer_name,
            unit="tokens/s",
            **sizes,
        )
    ]
    rows.append(
        row(
            f"{name}_requests",
            options.extra["requests"] / seconds,
            theirs[1],
            peer_name=peer_name,
            unit="requests/s",
            **sizes,
        )
    )
    return rows


@case("vllm_in_process")
def in_process(options: Options) -> list[Row]:
    python = vllm_python(options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = write_model(folder / "model", options.extra["config"])
        settings = {"kind": "vllm", "model": str(model), "concurrency": 4096, "engine_args": engine_arguments(options)}
        ours = run_ours(python, folder, options, settings)
        command = [
            python,
            *main_of("throughput"),
            "--model",
            str(model),
            "--backend",
            "vllm",
            "--dataset-name",
            "random",
        ]
        command += ["--input-len", str(options.extra["input_len"]), "--output-len", str(options.extra["output_len"])]
        command += ["--num-prompts", str(options.extra["requests"]), "--output-json", str(folder / "t.json")]
        check([*command, *as_flags(engine_arguments(options))], folder)
        theirs = json.loads((folder / "t.json").read_text())
    figures = (theirs["tokens_per_second"], theirs["requests_per_second"])
    return result("vllm_in_process", ours, figures, "vllm bench throughput", options)


@case("vllm_server")
def server(options: Options) -> list[Row]:
    python = vllm_python(options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = write_model(folder / "model", options.extra["config"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--host", "127.0.0.1"]
        command += ["--served-model-name", "dummy", "--port", str(port), "--disable-uvicorn-access-log"]
        with (folder / "server.log").open("wb") as log:
            serving = subprocess.Popen(
                [*command, *as_flags(engine_arguments(options))],
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(f"http://127.0.0.1:{port}/v1/models", serving, folder / "server.log")
            settings = {"kind": "server", "url": f"http://127.0.0.1:{port}/v1", "model": "dummy", "concurrency": 1024}
            ours = run_ours(python, folder, options, {**settings, "start": 512})
            command = [python, *main_of("serve"), "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
            command += ["--base-url", f"http://127.0.0.1:{port}", "--model", "dummy", "--tokenizer", str(model)]
            command += ["--dataset-name", "random", "--random-input-len", str(options.extra["input_len"])]
            command += ["--random-output-len", str(options.extra["output_len"]), "--ignore-eos"]
            command += ["--num-prompts", str(options.extra["requests"]), "--max-concurrency", "1024"]
            command += ["--save-result", "--result-dir", str(folder), "--result-filename", "s.json"]
            check(command, folder)
            theirs = json.loads((folder / "s.json").read_text())
        finally:
            stop(serving)
    figures = (theirs["total_token_throughput"], theirs["request_throughput"])
    return result("vllm_server", ours, figures, "vllm bench serve", options)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, patience_s: float = 900.0) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1.0)
    raise RuntimeError("vLLM did not start: " + log.read_text()[-2000:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(30)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def arguments(parser: argparse.ArgumentParser) -> None:
    """What this benchmark takes beyond the others."""
    parser.add_argument("--config", choices=sorted(CONFIGS), default="llama-8b")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--input-len", type=int, default=512, help="tokens of a prompt, about")
    parser.add_argument("--output-len", type=int, default=128, help="tokens of an answer")


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments))
