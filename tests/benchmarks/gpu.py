"""Everything that a GPU makes quicker, in ten minutes on one H100 or H200, with nothing downloaded: weights are random.

    LABEL_FACTORY_VLLM_PYTHON=.../bin/python python tests/benchmarks/gpu.py [--requests 1000] [--only prefix]

vLLM in process and served beside vLLM's own benchmarks (`gpu_dispatch.py`), how much of our prompts its prefix cache holds, and
encoding, the students `finetune` and `setfit` and LoRA tuning on CUDA, the first three beside the same on the CPU. A case that
cannot run here says why. `--config tiny` and `--cpu` run the same without a GPU, to see that it works.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_dispatch
from _harness import Options, Row, Skip, case, main, row

from tests.models import write_tiny

WORDS = "what where when who why how much many is are was the a an of in on for with river city man year word name first largest"
MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}


def device(options: Options) -> str:
    """`cuda`, or `cpu` where that was asked for.

    Raises:
        Skip: There is no GPU.
    """
    import torch

    if options.extra["cpu"]:
        return "cpu"
    if not torch.cuda.is_available():
        raise Skip("no GPU here (or a torch without CUDA)")
    return "cuda"


def made_up(count: int, words: int = 12, seed: int = 0) -> list[str]:
    """Texts of random words."""
    dice, every = random.Random(seed), WORDS.split()
    return [" ".join(dice.choices(every, k=words)) for _ in range(count)]


def beside_the_cpu(name: str, where: str, run: Callable[[], float], unit: str, **sizes: Any) -> Row:
    """A rate on the GPU, and the same on the CPU as its peer (not with `--cpu`)."""
    import torch

    ours = run()
    if where == "cpu":
        return row(name, ours, unit=unit, device="cpu", **sizes)
    available = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        peer = run()
    finally:
        torch.cuda.is_available = available
    return row(
        name, ours, peer, peer_name="the same on the CPU", unit=unit, device=torch.cuda.get_device_name(0), **sizes
    )


# Prompts ------------------------------------------------------------------------------------------------------------------
PREFIX = """
import json, sys
from factory import prompts
from factory.llm import Ask, EngineSettings, make_engine, send
from factory.pipeline.load import load_pipeline
from factory.warehouse.file import Warehouse
given = json.loads(sys.argv[1])
engine = make_engine(EngineSettings(**given["settings"]))
card = load_pipeline("quickstart", {}).card
values = prompts.card_values(card)
found = {}
for name, more in given["prompts"].items():
    prompt, warehouse = prompts.load(name), Warehouse.memory()
    asks = [Ask(prompt.request({**values, **one}, engine.model, sampling={"max_tokens": 4})) for one in more]
    send(warehouse, engine, asks, stage="b")
    found[name] = warehouse.query("SELECT sum(tokens_in), sum(tokens_cached) FROM answers")[0]
print(json.dumps(found))
engine.close()
"""


@case("prefix_cache")
def prefix_cache(options: Options) -> list[Row]:
    """The share of our prompts' tokens that vLLM had in its prefix cache."""
    python = gpu_dispatch.vllm_python(options)
    texts = made_up(options.extra["requests"], 40)
    shown = [texts[at : at + 8] for at in range(0, min(len(texts), 256), 8)]
    wanted = {
        "annotate": [{"text": text} for text in texts],
        "annotate_small": [{"text": text} for text in texts],
        "author_rule_list": [{"examples": some, "approach": "Words."} for some in shown],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = gpu_dispatch.write_model(folder / "model", options.extra["config"])
        arguments = gpu_dispatch.engine_arguments(options)
        settings = {"kind": "vllm", "model": str(model), "concurrency": 256, "engine_args": arguments}
        (folder / "prefix.py").write_text(PREFIX)
        given = json.dumps({"settings": settings, "prompts": wanted})
        out = gpu_dispatch.check([python, str(folder / "prefix.py"), given], folder)
    found = json.loads(out.strip().splitlines()[-1])
    return [
        row(f"prefix_cache_{name}", (cached or 0) / tokens, unit="share", tokens=tokens, requests=len(wanted[name]))
        for name, (tokens, cached) in found.items()
    ]


# Students -----------------------------------------------------------------------------------------------------------------
def new_encoder() -> Any:
    """A random encoder of MiniLM's size; each call gives another, so that none lies on another device already."""
    from factory.encoders.encoder import load_encoder

    folder = Path(tempfile.mkdtemp(prefix="gpu-bench-"))
    return load_encoder({"path": str(write_tiny(folder, made_up(50), **MINILM)), "precision": "fp32"})


@case("encode")
def encode(options: Options) -> Row:
    where, texts = device(options), made_up(500 if options.quick else 5000, 24)

    def run() -> float:
        encoder = new_encoder()
        encoder.encode(texts[:64])
        began = time.perf_counter()
        encoder.encode(texts)
        return len(texts) / (time.perf_counter() - began)

    return beside_the_cpu("encode", where, run, "texts/s", texts=len(texts), words=24)


def student(kind: str, options: Options, sizes: dict[str, Any]) -> Row:
    """Training texts per second of one fit."""
    import numpy as np

    where, texts = device(options), made_up(64 if options.quick else 512, 24)
    targets = np.eye(4)[[at % 4 for at in range(len(texts))]]

    def run() -> float:
        from factory.students import fit_student

        encoder = new_encoder()
        began = time.perf_counter()
        fit_student(kind, texts, targets, encoder=encoder, config=sizes)
        return len(texts) / (time.perf_counter() - began)

    return beside_the_cpu(f"student_{kind}", where, run, "texts/s", texts=len(texts))


@case("student_finetune")
def finetune(options: Options) -> Row:
    return student("finetune", options, {"epochs": 1})


@case("student_setfit")
def setfit(options: Options) -> Row:
    return student("setfit", options, {})


# Tuning -------------------------------------------------------------------------------------------------------------------
@case("tune_lora")
def tune_lora(options: Options) -> Row:
    """Pairs per second of one epoch of LoRA, on a random model of one billion parameters (`--config tiny`: a tiny one)."""
    where = device(options)
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise Skip(f"{error}: install the extra `tune`") from error
    from tiny_model import build

    from factory.tuning.pairs import Pair
    from factory.tuning.train import Recipe, train_adapter

    texts = made_up(32 if options.quick else 256, 40)
    pairs = [
        Pair(({"role": "user", "content": text},), "first" if at % 2 else "second") for at, text in enumerate(texts)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build(folder / "model")
        if options.extra["config"] != "tiny":
            random_weights(folder / "model", gpu_dispatch.CONFIGS["llama-1b"])
        found = train_adapter(str(folder / "model"), pairs, folder / "adapter", Recipe(epochs=1, held_out=0.0))
    sizes = {"device": found.device, "pairs": len(pairs), "steps": found.steps, "asked_for": where}
    return row("tune_lora", len(pairs) / found.seconds, unit="pairs/s", **sizes)


def random_weights(folder: Path, config: dict[str, Any]) -> None:
    """Make the model in a folder as large as this."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    old = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**old, **config, "head_dim": config.get("head_dim", 128)}))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    model.save_pretrained(folder)


def arguments(parser: ArgumentParser) -> None:
    """What this benchmark takes beyond the others."""
    gpu_dispatch.arguments(parser)
    parser.set_defaults(requests=1000)
    parser.add_argument("--cpu", action="store_true", help="run the cases without vLLM on the CPU")


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments))
